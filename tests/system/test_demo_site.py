"""The demonstration site as a person uses it: one command up, values, files, faults."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until
from tests.system.conftest import Site

POWER = "lab/power/1/power"
HALF_WAVE_PLATE = "lab/rotator/1"


def archived_rows(site: Site, attribute: str, start: str, stop: str) -> int:
    """How many rows of `attribute` are archived in a closed interval."""
    text = site.text("query", attribute, "--start", start, "--stop", stop, "--format", "csv")
    return len(text.splitlines()) - 1


def moment(attribute_time: object) -> str:
    """A Tango time stamp as the command line takes it."""
    seconds = attribute_time.tv_sec  # type: ignore[attr-defined]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{attribute_time.tv_usec:06d}Z"  # type: ignore[attr-defined]


def seconds(text: str) -> float:
    """A time as `query` prints it, in s since 1970."""
    return datetime.fromisoformat(text).timestamp()


def test_every_server_is_running_after_up(site: Site) -> None:
    """`status --json` lists every server of the site as running, and the site as ready."""
    status = site.status()
    assert status["ready"]
    assert {server["state"] for server in status["servers"]} == {"running"}
    names = {server["name"].partition("/")[0] for server in status["servers"]}
    assert {"Newport1830C", "ElliptecBus", "Simulator", "Archiver", "Projector"} <= names


def test_read_prints_value_and_unit(site: Site) -> None:
    """`read` prints a number and its unit."""
    line = site.text("read", POWER)
    assert " W" in line
    assert json.loads(site.text("read", POWER, "--json"))


def test_a_second_up_changes_nothing(site: Site) -> None:
    """`up` of a site that is up says so and restarts nothing."""
    before = site.pids()
    site.text("up", "deploy/site.yaml", "--detach", "--data", str(site.data))
    assert site.pids() == before


def test_archived_rows_equal_the_growth_of_poll_count(site: Site) -> None:
    """Over 30 s of polling every reading of the power is archived, none twice."""
    device = site.device("lab/power/1")
    first = device.read_attribute("poll_count")
    wait_until(
        lambda: device.read_attribute("poll_count").time.totime() > first.time.totime() + 30, 60, "30 s of polling"
    )
    last = device.read_attribute("poll_count")
    start = moment(first.time)
    stop = moment(last.time)
    grown = last.value - first.value
    assert grown > 200
    wait_until(
        lambda: archived_rows(site, POWER, start, stop) - 1 == grown,
        15,
        f"{grown} rows archived, there are {archived_rows(site, POWER, start, stop) - 1}",
    )


def test_power_follows_the_half_wave_plate(site: Site) -> None:
    """Turning the half-wave plate by 45 degrees takes the power from its maximum to next to nothing."""
    rotator, meter = site.device(HALF_WAVE_PLATE), site.device("lab/power/1")
    powers = {}
    for angle in (0.0, 22.5, 45.0):
        rotator.write_attribute("position", angle)
        assert str(rotator.read_attribute("State").value) == "MOVING"
        wait_until(lambda: str(rotator.State()) == "ON", 15, "the move ended")
        settled = time.time() + 2.0  # the meter averages up to 16 samples
        wait_until(lambda settled=settled: meter.read_attribute("power").time.totime() > settled, 10, "a fresh reading")
        powers[angle] = meter.read_attribute("power").value
    assert powers[22.5] == pytest.approx(powers[0.0] / 2, rel=0.1)
    assert powers[45.0] < powers[0.0] / 50


def test_a_killed_server_is_back_and_its_outage_is_one_gap(site: Site) -> None:
    """After kill -9 it is polled and archived again, the outage is one gap row, the history says signal 9."""
    name = "Newport1830C/lab_power_1"
    before = site.server(name)
    killed = time.time()
    os.kill(before["pid"], signal.SIGKILL)

    def polled_again() -> bool:
        return site.device("lab/power/1").read_attribute("power").time.totime() > killed

    wait_until(polled_again, 10, "the power meter is polled again")

    def runs_again() -> dict[str, Any] | None:
        server = site.server(name)
        return server if server["restarts"] > before["restarts"] and server["state"] == "running" else None

    after = wait_until(runs_again, 10, "it runs, and is counted")
    assert "signal 9" in after["last_exit"]

    def rows() -> list[dict[str, Any]]:
        text = site.text("query", POWER, "--last", "60s", "--gaps", "--format", "json")
        return [row for row in json.loads(text) if row["until"] is None or seconds(row["until"]) > killed]

    def gaps() -> list[dict[str, Any]]:
        return [row for row in rows() if row["quality"] == "GAP"]

    (gap,) = wait_until(gaps, 15, "the gap is archived")
    assert gap["cause"] in ("server_down", "restart")
    assert seconds(gap["until"]) - seconds(gap["time"]) < 2
    later = seconds(gap["until"]) + 2
    wait_until(lambda: any(seconds(row["time"]) > later for row in rows()), 15, "two more seconds are archived")
    assert [one for one in gaps() if seconds(one["time"]) < later] == [gap]
    history = "\n".join(site.device("tango/admin/local").read_attribute("history").value)
    assert "signal 9" in history


def test_hdf5_is_readable_while_live_and_plainly_after_a_crash(site: Site) -> None:
    """A foreign process reads the live file with swmr=True, at most 15 s behind, and plainly after a crash."""
    reader = (
        "import h5py, sys, time\n"
        "file = h5py.File(sys.argv[1], 'r', swmr=sys.argv[2] == 'live')\n"
        "data = file['entry/power']\n"
        "assert len(data['value']) == len(data['time']) == len(data['quality']) > 0\n"
        "print(data['value'].attrs['units'], time.time() - data['time'][-1] / 1e9)\n"
    )

    def newest() -> Path:
        return max((site.data / "hdf5/lab/power/1").glob("*.h5"), key=lambda path: path.stat().st_mtime)

    def read(how: str) -> tuple[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", reader, str(newest()), how], capture_output=True, text=True, check=True
        )
        unit, age = done.stdout.split()
        return unit, float(age)

    unit, age_s = wait_until(lambda: read("live"), 20, "the file has rows")
    assert unit == "W"
    assert age_s < 15
    projector = next(name for name in site.pids() if name.startswith("Projector"))
    finished = newest()
    os.kill(site.pids()[projector], signal.SIGKILL)

    def plain() -> bool:
        subprocess.run([sys.executable, "-c", reader, str(finished), "plain"], capture_output=True, check=True)
        return True

    assert wait_until(plain, 5, "the finished file opens plainly")


def test_the_journal_verifies(site: Site) -> None:
    """`archive verify` finds every commit of the live journal intact."""
    site.text("archive", "verify")


def test_status_and_help_are_quick(site: Site) -> None:
    """The two commands a person types most load nothing heavy."""
    for arguments in (["status", "--json"], ["--help"]):
        code = (
            f"import sys; sys.argv = ['bandoneon', *{arguments!r}]\n"
            "import atexit\n"
            "atexit.register(lambda: print('HEAVY', [name for name in ('polars', 'pyarrow', 'h5py', 'taurus', 'PyQt6')"
            " if name in sys.modules], file=sys.stderr))\n"
            "import runpy; runpy.run_module('bandoneon', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=site.environment, capture_output=True, text=True, check=False
        )
        assert "HEAVY []" in done.stderr
