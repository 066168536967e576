"""The window's link to Tango, against a real server that is killed, started again and stopped from answering."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gui.linked import Linked
from tests.integration.conftest import BenchServer, bench, start_bench
from tests.support import TangoDatabase, wait_until

__all__ = ["bench"]

BENCH = "test/bench/1"


@pytest.fixture
def linked(bench: BenchServer) -> Iterator[Linked]:
    """A link that listens to the bench instrument."""
    with Linked(bench.database.tango_host) as running:
        for attribute in ("State", "value", "setting"):
            running.ask("want", BENCH, attribute)
        running.wait_value("value")
        yield running


def test_readings_follow_their_attributes(bench: BenchServer, linked: Linked) -> None:
    """State is its name, a value that changes is followed, and the set-point comes with the reading."""
    linked.wait_value("State", "ON")
    linked.wait_value("setting", 5)
    bench.device.write_attribute("setting", 42)
    linked.wait_value("setting", 42)
    assert linked.ask()["readings"]["setting"]["set"] == 42


def test_an_attribute_is_listened_to_whenever_it_is_wanted(linked: Linked) -> None:
    """Also long after the others of its device."""
    linked.ask("want", BENCH, "poll_count")
    linked.wait_value("poll_count")


def test_an_attribute_that_is_not_there_keeps_no_other_waiting(linked: Linked) -> None:
    """It stays without a value."""
    linked.ask("want", BENCH, "beauty")
    linked.ask("want", BENCH, "identity")
    linked.wait_value("identity", "Bench A1")
    assert linked.ask()["readings"]["beauty"]["value"] is None


def test_what_an_instrument_that_is_away_last_said_is_not_valid(bench: BenchServer, linked: Linked) -> None:
    """Also an enumeration: taurus fails to decode one that has no value."""
    linked.ask("want", BENCH, "parity")
    linked.wait_value("parity", "ODD")
    bench.line.fault = "silent"
    for attribute in ("value", "parity"):
        wait_until(
            lambda name=attribute: linked.ask()["readings"][name]["quality"] == "INVALID", 5, f"{attribute} is away"
        )
    assert linked.ask()["readings"]["parity"]["value"] == "ODD"
    bench.line.fault = None
    linked.wait_value("parity", "ODD")


def test_commands_and_writes_reach_the_device_and_their_errors_come_back(bench: BenchServer, linked: Linked) -> None:
    """What the device refuses is told in its own words."""
    linked.ask("write", BENCH, "setting", 7)
    assert linked.wait_answer("setting") == ""
    assert bench.wire.setting == 7
    linked.ask("command", BENCH, "Stop", None)
    assert linked.wait_answer("Stop") == ""
    assert bench.wire.stops == 1
    linked.ask("command", BENCH, "Move", 0.1)
    assert linked.wait_answer("Move") == ""
    linked.ask("write", BENCH, "setting", 101)
    wait_until(lambda: "above the maximum" in linked.wait_answer("setting"), 5, "the refusal is told")


def test_a_killed_server_is_heard_again_as_soon_as_it_is_back(bench: BenchServer, linked: Linked) -> None:
    """Tango's own recovery would take 8 to 18 s; and commands work at once."""
    bench.process.kill()
    bench.process = start_bench(bench.database, bench.environment)
    bench.wait_for("ON")
    linked.wait_value("value", after_s=time.time(), timeout_s=5)
    linked.ask("write", BENCH, "setting", 8)
    assert linked.wait_answer("setting") == ""


def test_a_server_that_hangs_does_not_hold_up_the_window(bench: BenchServer, linked: Linked) -> None:
    """Neither the watch that looks for it nor a command it does not answer, and it is heard again when it goes on."""
    linked.ask("forget")
    bench.process.send_signal(signal.SIGSTOP)
    try:
        linked.ask("command", BENCH, "Stop", None)
        assert "its server hangs" in linked.wait_answer("Stop", timeout_s=20)
        stall_s = linked.ask()["stall_s"]
    finally:
        bench.process.send_signal(signal.SIGCONT)
    linked.wait_value("value", after_s=time.time())
    # with the interpreter locked it would be 1 to 3 s
    assert stall_s < 0.7


def test_a_device_whose_server_does_not_run_is_heard_when_it_comes(bench: BenchServer) -> None:
    """A command meanwhile fails at once, with a sentence."""
    bench.process.stop()
    with Linked(bench.database.tango_host) as linked:
        linked.ask("want", BENCH, "value")
        wait_until(lambda: linked.ask()["devices"], 5, "the database has answered")
        linked.ask("command", BENCH, "Stop", None)
        assert linked.wait_answer("Stop").startswith(f"{BENCH} has not answered yet")
        bench.process = start_bench(bench.database, bench.environment)
        linked.wait_value("value")


def test_without_a_database_the_link_says_so_and_goes_on(tmp_path: Path) -> None:
    """Once it answers the devices are known."""
    database = TangoDatabase(tmp_path / "database")
    with Linked(database.tango_host) as linked:
        wait_until(lambda: linked.ask()["database_error"], 10, "the link says that the database does not answer")
        with database:
            wait_until(lambda: linked.ask()["devices"] is not None, 10, "the devices are known")
