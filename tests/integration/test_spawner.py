"""The spawner as a process: forks, exits, signals, adoption, the end of a host."""

import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from device_servers.core.wire_server import WireServer
from device_servers.supervisor.spawner import RESTART_MAX_S, SHARES_S, STABLE_S, failures_in_a_row, restart_wait_s
from device_servers.supervisor.spawner_client import SpawnerClient, SpawnerError, SpawnerGone
from tests.support import Process, TangoDatabase, wait_until
from tests.support_device import BenchWire

SLEEPER = "tests.sleeper"
ARCHIVER_LEVEL = 3
MORE_THAN_A_SOCKET_HOLDS = 320


class Host:
    """A run directory with its spawner."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.socket = run / "spawner.sock"
        self.process = self.start()

    def start(self) -> Process:
        """Start a spawner and wait until it answers."""
        log = self.run / "spawner.log"
        process = Process([sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(self.run)], log)
        wait_until(
            lambda: process.popen.poll() is not None or self.connect().close() is None, 20, "the spawner answers"
        )
        assert process.popen.poll() is None, process.output
        return process

    def connect(self) -> SpawnerClient:
        """A connection."""
        return SpawnerClient(self.socket)

    def fork(self, name: str, *argv: str, level: int = 2) -> int:
        """Fork a sleeper; return its pid once it says that it is ready."""
        log = self.run / "logs" / f"{name.replace('/', '_')}.log"
        before = log.read_text().count("ready") if log.exists() else 0
        client = self.connect()
        pid = client.fork(name=name, module=SLEEPER, argv=argv, env={"WHO": name}, log=str(log), level=level)
        client.close()
        wait_until(lambda: log.exists() and log.read_text().count("ready") > before, 10, f"{name} is ready")
        return pid

    def identity(self) -> str:
        """Which run of the host it is."""
        client = self.connect()
        client.children()
        client.close()
        return client.run

    def log(self, name: str) -> str:
        """What a child wrote."""
        return (self.run / "logs" / f"{name}.log").read_text()

    def kept(self) -> dict[str, Any]:
        """What the spawner keeps on disk of its children."""
        return json.loads((self.run / "state.json").read_text())["children"]


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie too: its parent may be gone)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A spawner that is ended with everything it has started."""
    found = Host(tmp_path / "run")
    yield found
    pids = [child["pid"] for child in found.kept().values()]
    found.process.stop()
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


def one_exit(client: SpawnerClient) -> dict[str, Any]:
    """The next exit."""
    return wait_until(lambda: client.exits(0.1), 10, "an exit")[0]


def test_a_child_has_its_environment_log_session_and_name(host: Host) -> None:
    """It is a process of its own, in a session of its own, with what the request says."""
    pid = host.fork("a", "--say", "hello")
    assert "ready a hello" in host.log("a")
    assert os.getsid(pid) == pid
    assert psutil.Process(pid).cmdline()[0] == f"python -m {SLEEPER} --say hello"
    assert host.kept()["a"]["pid"] == pid


def test_exit_codes_and_signals_are_told_at_once(host: Host) -> None:
    """A code and a signal, each with what it cost."""
    client = host.connect()
    host.fork("a", "--exit", "3")
    event = one_exit(client)
    assert (event["name"], event["code"], event["signal"], event["unknown"]) == ("a", 3, None, False)
    assert event["utime_s"] >= 0
    pid = host.fork("b")
    os.kill(pid, signal.SIGKILL)
    event = one_exit(client)
    assert (event["pid"], event["code"], event["signal"]) == (pid, None, 9)
    client.close()


def test_an_exit_is_kept_until_somebody_acknowledges_it(host: Host) -> None:
    """A supervisor that was away when a child ended learns how, once."""
    host.fork("a", "--exit", "7")
    wait_until(lambda: "a" not in host.kept(), 10, "it has ended")
    for _ in range(2):
        client = host.connect()
        client.children()
        (event,) = client.exits(0.2)
        assert event["code"] == 7
        client.close()
    client = host.connect()
    client.acknowledge("a", event["pid"])
    client.children()
    assert client.exits(0.1) == []
    client.close()


def test_an_acknowledged_exit_takes_no_later_one_with_it(host: Host) -> None:
    """A server ended again before its first exit was acknowledged: the second one is still kept."""
    first, client = host.fork("a", "--exit", "7"), host.connect()
    wait_until(lambda: "a" not in host.kept(), 10, "it has ended")
    host.fork("a", "--exit", "8")
    wait_until(lambda: "a" not in host.kept(), 10, "it has ended again")
    client.acknowledge("a", first)
    client.close()
    client = host.connect()
    client.children()
    assert [event["code"] for event in client.exits(0.2)] == [8]
    client.close()


def test_a_client_that_does_not_read_is_sent_away_and_finds_every_exit_afterwards(host: Host) -> None:
    """More exits than a socket holds: it cannot have seen them all, so it has to come again and ask."""
    idle, client = host.connect(), host.connect()
    log, names = str(host.run / "logs" / "many.log"), {f"c{n}" for n in range(MORE_THAN_A_SOCKET_HOLDS)}
    for name in names:
        client.fork(name=name, module="no_such_module", argv=[], env={}, log=log, level=2)
    ended: set[str] = set()
    wait_until(lambda: ended.update(event["name"] for event in client.exits(0.1)) or ended == names, 60, "all ended")
    client.close()
    with pytest.raises(SpawnerGone):
        idle.exits(0.0)
    idle.close()
    client = host.connect()
    assert client.children() == []
    assert {event["name"] for event in client.exits(0.0)} == names
    client.close()


def test_signals_reach_a_child_by_name(host: Host) -> None:
    """A signal to one that has ended is no error."""
    client = host.connect()
    host.fork("a")
    client.signal("a", signal.SIGTERM)
    assert one_exit(client)["code"] == 0
    client.signal("a", signal.SIGTERM)
    client.close()


def test_no_signal_is_lost_around_the_fork(host: Host) -> None:
    """Children that get SIGTERM as soon as they exist all end."""
    client = host.connect()
    for n in range(50):
        client.fork(
            name=f"c{n}", module=SLEEPER, argv=["--default"], env={}, log=str(host.run / "logs" / "many.log"), level=2
        )
        client.signal(f"c{n}", signal.SIGTERM)
    ended: set[str] = set()
    wait_until(lambda: ended.update(event["name"] for event in client.exits(0.1)) or len(ended) == 50, 20, "all ended")
    client.close()


def test_a_request_that_cannot_be_is_refused_in_words(host: Host) -> None:
    """A second child of the same name, an unknown request, no JSON: the spawner answers and lives."""
    host.fork("a")
    client = host.connect()
    with pytest.raises(SpawnerError, match="runs already"):
        client.fork(name="a", module=SLEEPER, argv=[], env={}, log=str(host.run / "x.log"), level=2)
    client.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(host.socket))
        for message in (b"nonsense", b'{"op": "dance", "id": 1}', b'{"op": "fork"}'):
            raw.send(message)
            assert "error" in json.loads(raw.recv(65536))
    assert host.process.popen.poll() is None


def test_the_list_has_every_child_however_many(host: Host) -> None:
    """The list comes in pages."""
    client = host.connect()
    for n in range(120):
        client.fork(
            name=f"c{n:03}",
            module=SLEEPER,
            argv=["--default"],
            env={},
            log=str(host.run / "logs" / "many.log"),
            level=2,
        )
    assert [child["name"] for child in client.children()] == [f"c{n:03}" for n in range(120)]
    for n in range(120):
        client.signal(f"c{n:03}", signal.SIGKILL)
    client.close()


def test_only_the_owner_may_use_the_socket_and_there_is_one_spawner(host: Host) -> None:
    """Mode 0600; a second spawner of the same run directory says so and leaves."""
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((host.run / "state.json").stat().st_mode) == 0o600
    second = Process(
        [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(host.run)], host.run / "second.log"
    )
    wait_until(lambda: second.popen.poll() is not None, 20, "the second has left")
    assert second.popen.returncode == 1
    assert "runs already" in second.output


def test_the_spawner_has_one_thread_and_no_library_that_starts_any(host: Host) -> None:
    """A process that forks must be single-threaded."""
    host.fork("a")
    assert psutil.Process(host.process.pid).num_threads() == 1


def test_children_outlive_a_killed_spawner_and_the_next_one_adopts_them(host: Host) -> None:
    """Their later exit is unknown, and never taken for success."""
    pid = host.fork("a")
    host.process.kill()
    assert not gone(pid)
    host.process = host.start()
    client = host.connect()
    assert [(child["name"], child["pid"]) for child in client.children()] == [("a", pid)]
    client.signal("a", signal.SIGTERM)
    event = one_exit(client)
    assert (event["name"], event["unknown"], event["code"]) == ("a", True, None)
    client.close()


def test_a_run_of_the_host_lasts_as_long_as_anything_of_it_lives(host: Host) -> None:
    """A spawner that adopts goes on with it; one that finds nothing begins another."""
    pid = host.fork("a")
    runs = [host.identity()]
    host.process.kill()
    host.process = host.start()
    runs.append(host.identity())
    host.process.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), 10, "it has ended")
    host.process = host.start()
    runs.append(host.identity())
    assert runs[0] == runs[1] != runs[2]


def test_adopted_children_end_with_their_spawner(host: Host) -> None:
    """SIGTERM to a spawner takes what it adopted like what it forked, the stubborn too."""
    pids = [host.fork("a"), host.fork("stubborn", "--stubborn")]
    host.process.kill()
    host.process = host.start()
    began_s = time.monotonic()
    assert host.process.stop() == 0
    assert time.monotonic() - began_s < 5.0
    assert all(gone(pid) for pid in pids)


def test_a_child_that_is_on_no_record_does_not_run(tmp_path: Path) -> None:
    """The spawner was killed after the fork, before the child's pid was on disk: the child ends, and did nothing."""
    request = {"name": "a", "module": SLEEPER, "argv": [], "env": {"WHO": "a"}, "log": str(tmp_path / "a.log")}
    code = (
        "import json, os, sys; from device_servers.supervisor.spawner import become;"
        "go, let_go = os.pipe(); os.close(let_go); become(json.loads(sys.argv[1]), go)"
    )
    child = Process([sys.executable, "-c", code, json.dumps(request)], tmp_path / "child.log")
    wait_until(lambda: child.popen.poll() is not None, 20, "it has ended")
    assert child.popen.returncode == 1
    assert "on record" in child.output
    assert not (tmp_path / "a.log").exists()


def test_a_disk_that_takes_nothing_ends_no_spawner(host: Host) -> None:
    """Who the children are cannot be written: they are forked, told and ended all the same."""
    (host.run / "state.json.new").mkdir()
    client = host.connect()
    pid = host.fork("a")
    os.kill(pid, signal.SIGKILL)
    assert one_exit(client)["signal"] == 9
    client.close()
    assert "state.json not written" in host.process.output
    (host.run / "state.json.new").rmdir()


@pytest.mark.parametrize("what_differs", ["start", "boot"])
def test_a_pid_that_was_given_to_another_process_is_not_adopted(host: Host, what_differs: str) -> None:
    """Same number, another start, or another boot (from which a start counts): it is somebody else's."""
    pid = host.fork("a")
    host.process.kill()
    state = json.loads((host.run / "state.json").read_text())
    if what_differs == "start":
        state["children"]["a"]["started"] -= 1
    else:
        state["boot"] = "11111111-2222-3333-4444-555555555555"
    (host.run / "state.json").write_text(json.dumps(state))
    host.process = host.start()
    client = host.connect()
    assert client.children() == []
    client.close()
    os.kill(pid, signal.SIGKILL)


def test_what_has_level_0_is_started_again_by_the_spawner_itself(host: Host) -> None:
    """The supervisor and the database need nobody to restart them."""
    pid = host.fork("a", level=0)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: host.kept().get("a", {}).get("pid") not in (None, pid), 10, "it runs again")
    assert host.log("a").count("ready") >= 1


@pytest.mark.parametrize("others_live", [True, False])
def test_what_has_level_0_and_ended_with_the_spawner_is_started_where_the_host_goes_on(
    host: Host, others_live: bool
) -> None:
    """The database was killed with the spawner: the next one starts it where servers live, and only there."""
    database, server = host.fork("database", level=0), host.fork("server")
    host.process.kill()
    for pid in (database,) if others_live else (database, server):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(database) and (others_live or gone(server)), 10, "they have ended")
    host.process = host.start()
    client = host.connect()
    assert {child["name"] for child in client.children()} == ({"database", "server"} if others_live else set())
    client.close()


def test_a_child_of_level_0_that_always_fails_is_started_more_and_more_seldom() -> None:
    """The wait doubles up to its longest, however often it failed, and starts over once it has stayed up."""
    assert [failures_in_a_row(7, ran_s) for ran_s in (0.1, STABLE_S, STABLE_S + 0.1)] == [8, 8, 0]
    assert [restart_wait_s(failures) for failures in (0, 1, 2)] == [0.05, 0.1, 0.2]
    assert restart_wait_s(100_000) == RESTART_MAX_S


def test_the_end_takes_all_children_by_level_and_kills_the_stubborn(host: Host) -> None:
    """What others need goes last, after the stubborn one of these was killed; all within five seconds."""
    pids = [host.fork(name, level=level) for name, level in (("low", 1), ("middle", 2), ("high", 3))]
    pids.append(host.fork("stubborn", "--stubborn", level=2))
    began_s = time.monotonic()
    assert host.process.stop() == 0
    assert time.monotonic() - began_s < 5.0
    assert all(gone(pid) for pid in pids)
    times = {name: float(host.log(name).split("ended ")[1]) for name in ("low", "middle", "high")}
    assert max(times["high"], times["middle"]) < began_s + 1.0 < times["low"]
    assert not host.socket.exists()


def test_instruments_are_made_safe_at_once_when_the_host_ends(
    host: Host, database: TangoDatabase, tmp_path: Path
) -> None:
    """Whatever else takes its time: supervisor and archiver do not end, and the database is frozen."""
    line, safe = WireServer(BenchWire(), pty=tmp_path / "bench", baud=115200), tmp_path / "safe"
    line.start()
    devices = {"test/bench/1": "Bench", "test/plain/1": "Plain", "stream/bench/t": "Stream"}
    database.register("Bench/t", devices, {"test/bench/1": {"connection": line.address, "safe_file": safe}})
    host.fork("Supervisor/here", "--stubborn", level=0)
    host.fork("Archiver/1", "--stubborn", level=3)
    client, log, environment = host.connect(), host.run / "logs" / "bench.log", {"TANGO_HOST": database.tango_host}
    client.fork(name="Bench/t", module="tests.support_device", argv=["t"], env=environment, log=str(log), level=2)
    client.close()
    wait_until(lambda: str(database.device("test/bench/1").state()) == "ON", 20, "the instrument is ON")
    assert database.process is not None
    database.process.send_signal(signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        assert host.process.stop() == 0
        assert time.monotonic() - began_s < 5.0
    finally:
        database.process.send_signal(signal.SIGCONT)
        line.stop()
    (safe_s,) = map(float, safe.read_text().splitlines())
    assert safe_s - began_s < SHARES_S[ARCHIVER_LEVEL]  # nobody was waited for before
