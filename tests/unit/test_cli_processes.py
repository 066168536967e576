"""Processes and logs of a site, seen from outside."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandoneon.cli.processes import TAIL_BYTES, Process, claim_port, end, follow, spawners, tail
from bandoneon.site.running import RunningSite
from device_servers.supervisor.spawner import start_ticks
from tests import support
from tests.support import wait_until


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[support.Process]:
    """A process that does nothing."""
    with support.Process([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log") as running:
        yield running


def known(running: support.Process) -> Process:
    """The process as the command line knows it."""
    started = start_ticks(running.pid)
    assert started is not None
    return Process("sleeper", running.pid, started)


def test_a_number_with_another_owner_gets_no_signal(sleeper: support.Process) -> None:
    """A process that started at another time is not the one that is known: it is not signalled nor waited for."""
    other = known(sleeper)._replace(started=1)
    assert not other.lives
    other.send(signal.SIGKILL)
    assert end([other], 5.0) == []
    assert sleeper.popen.poll() is None


def test_one_that_has_gone_does_not_keep_the_others_from_ending(sleeper: support.Process) -> None:
    """Each gets its signal, also a stopped one."""
    sleeper.send_signal(signal.SIGSTOP)
    gone = Process("gone", 2**22 - 1, 1)
    gone.send(signal.SIGTERM)
    assert end([gone, known(sleeper)], 5.0) == []
    assert sleeper.popen.wait(5) == -signal.SIGTERM


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """And named."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    with support.Process([sys.executable, "-c", code], tmp_path / "log") as stubborn:
        wait_until(lambda: "ready" in stubborn.output, 5, "it ignores SIGTERM")
        process = known(stubborn)
        assert end([process], 0.1) == [process]
        assert stubborn.popen.wait(5) == -signal.SIGKILL


def test_a_spawner_is_found_before_it_listens(tmp_path: Path) -> None:
    """By its command line, from its first moment; that of another run directory is another site's."""
    run = tmp_path / "one"
    command = [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(run)]
    with support.Process(command, tmp_path / "log") as spawner:
        site = RunningSite("one", "127.0.0.1:1", tmp_path, run)
        wait_until(lambda: [one.pid for one in spawners(site)] == [spawner.pid], 5, "it is found")
        wait_until(site.socket.exists, 10, "it listens")
        assert [one.pid for one in spawners(site)] == [spawner.pid]
        assert spawners(RunningSite("two", "127.0.0.1:1", tmp_path, tmp_path / "two")) == []


def test_a_tail_is_the_last_lines_of_a_file_of_any_size(tmp_path: Path) -> None:
    """No more than its end is read, and it begins with a whole line."""
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    assert tail(log, 2) == ("line 99998\nline 99999\n", log.stat().st_size)
    text, _ = tail(log, 10**6)
    assert len(text) <= TAIL_BYTES
    assert text.startswith("line ")
    log.write_text("one\ntwo")
    assert tail(log, 1) == ("two", 7)
    log.write_text("")
    assert tail(log, 1) == ("", 0)


def test_what_is_appended_between_tail_and_follow_is_not_lost(tmp_path: Path) -> None:
    """Following goes on at the offset where the tail ended; letters of several bytes stay whole."""
    log = tmp_path / "log"
    log.write_text("one\n")
    _, offset = tail(log, 40)
    with log.open("ab") as more:
        more.write(b"two \xc2")
    texts = follow(log, offset)
    assert next(texts) == "two "
    with log.open("ab") as more:
        more.write(b"\xb5W\n")
    assert next(texts) == "µW\n"
    new = tmp_path / "new"
    new.write_text("three\n")
    os.replace(new, log)
    assert next(texts) == "three\n"
    texts.close()


def test_a_port_is_claimed_by_one_at_a_time() -> None:
    """Two sites that are brought up at the same moment get ports of their own, though neither database listens yet."""
    first = claim_port()
    assert first is not None
    with first.claim:
        assert claim_port(first.number) is None
    again = claim_port(first.number)
    assert again is not None
    again.claim.close()
