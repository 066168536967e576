"""The supervisor with a real spawner, database and servers: what dies comes back, whoever dies."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import tango

from device_servers.supervisor.health import Answer
from device_servers.supervisor.spawner_client import SpawnerClient
from tests.support import REPOSITORY, Process, TangoDatabase, wait_until

FIRST, SECOND, THIRD, BAD = "Simulator/first", "Simulator/second", "Simulator/third", "Nonsense/bad"
METER = "Newport1830C/meter"


class Host:
    """A supervised host `here` with two simulators."""

    def __init__(self, database: TangoDatabase, run: Path) -> None:
        self.database = database
        self.run = run
        self.environment = {
            "TANGO_HOST": database.tango_host,
            "BANDONEON_RUN_DIR": str(run),
            "BANDONEON_HOST": "here",
            "BANDONEON_SITE": "test",
        }
        self.register("Supervisor/here", {"tango/admin/here": "Supervisor"}, {}, level=0)
        database.register("Foreign/1", {"test/foreign/1": "Foreign"})  # somebody else's, without a host or a level
        database.register("Stray/1", {"test/stray/1": "Stray"})  # by hand: without a host, a mode and a level
        self.register(FIRST, {"test/sim/1": "Simulator"}, {"model": "newport_1830c", "pty": run / "pty" / "1"})
        self.register(SECOND, {"test/sim/2": "Simulator"}, {"model": "ell14", "pty": run / "pty" / "2"})
        self.spawner = Process(
            [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(run), "--host", "here"],
            run / "spawner.log",
            self.environment,
        )
        database.wait_for_device("tango/admin/here", timeout_s=30)
        self.supervisor = database.device("tango/admin/here")

    def register(self, server: str, devices: dict[str, str], properties: dict[str, object], level: int = 1) -> None:
        """Register a server for this host as a site does."""
        self.database.register(server, devices, dict.fromkeys(devices, properties))
        database = tango.Database("127.0.0.1", self.database.port)
        info = tango.DbServerInfo()
        info.name, info.host, info.mode, info.level = server, "here", int(level > 0), level
        database.put_server_info(info)
        database.put_device_property(f"dserver/{server}", {"host": ["here"]})

    def forget(self, server: str) -> None:
        """Take a server out of the database."""
        database = tango.Database("127.0.0.1", self.database.port)
        database.delete_server(server)
        database.delete_device_property(f"dserver/{server}", "host")

    def policy(self, server: str, **properties: object) -> None:
        """Give a server a policy."""
        database = tango.Database("127.0.0.1", self.database.port)
        database.put_device_property(f"dserver/{server}", {key: [str(value)] for key, value in properties.items()})

    def report(self) -> dict[str, dict[str, Any]]:
        """The supervisor's report, by server."""
        return {server["name"]: server for server in json.loads(self.supervisor.read_attribute("report").value)}

    def wait_for(self, server: str, state: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until a server is in a state; return its report."""
        wait_until(lambda: self.report()[server]["state"] == state, timeout_s, f"{server} is {state}")
        return self.report()[server]

    def history(self, server: str) -> list[dict[str, Any]]:
        """What happened to a server."""
        lines = [json.loads(line) for line in self.supervisor.read_attribute("history").value]
        return [line for line in lines if line["server"] == server]

    def kill_supervisor(self) -> int:
        """Kill the supervisor; return the pid it had."""
        pid = json.loads((self.run / "state.json").read_text())["children"]["Supervisor/here"]["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    def another_spawner(self) -> bool:
        """Whether a spawner answers that has the servers."""
        with contextlib.closing(SpawnerClient(self.run / "spawner.sock")) as client:
            return {child["name"] for child in client.children()} >= set(self.report())

    def another_spawner_answers(self) -> bool:
        """Whether a spawner answers that is not the first one."""
        with contextlib.closing(SpawnerClient(self.run / "spawner.sock")) as client:
            client.children()
        return json.loads((self.run / "state.json").read_text())["spawner"] != self.spawner.pid

    def supervisor_is_back(self, before: int) -> bool:
        """Whether another supervisor answers and knows its servers."""
        pid = json.loads((self.run / "state.json").read_text())["children"]["Supervisor/here"]["pid"]
        return pid != before and FIRST in self.report()


@pytest.fixture
def host(database: TangoDatabase, tmp_path: Path) -> Iterator[Host]:
    """A host whose servers run."""
    found = Host(database, tmp_path / "run")
    try:
        for server in (FIRST, SECOND):
            found.wait_for(server, "running")
        yield found
    finally:
        children = json.loads((found.run / "state.json").read_text())
        found.spawner.stop()
        for pid in [children["spawner"], *(child["pid"] for child in children["children"].values())]:
            if psutil.pid_exists(pid) and pid != found.spawner.pid:
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda pid=pid: not psutil.pid_exists(pid), 10, f"{pid} has ended")


def test_a_killed_server_runs_again_and_the_history_says_signal_9(host: Host) -> None:
    """Another process, one restart, the signal in words and as a number, also as an event; the other is not touched."""
    before, other = host.report()[FIRST], host.report()[SECOND]["pid"]
    told: list[str] = []
    event = host.supervisor.subscribe_event(
        "last_event",
        tango.EventType.ARCHIVE_EVENT,
        lambda event: told.append("" if event.err else event.attr_value.value),
    )
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: host.report()[FIRST]["pid"] not in (None, before["pid"]), 10, "it is another process")
    after = host.wait_for(FIRST, "running")
    assert (after["restarts"], after["last_exit"]) == (1, "signal 9 (SIGKILL)")
    assert [line["signal"] for line in host.history(FIRST) if line["what"] == "exit"] == [9]
    wait_until(lambda: '"ready"' in told[-1], 10, "the last event is told")
    events = [json.loads(line) for line in told[1:]]
    assert [(line["server"], line["what"]) for line in events] == [
        (FIRST, "exit"),
        (FIRST, "restart"),
        (FIRST, "ready"),
    ]
    assert events[0]["signal"] == 9
    host.supervisor.unsubscribe_event(event)
    assert host.report()[SECOND]["pid"] == other
    assert host.database.device("test/sim/1").ping() >= 0


def test_a_server_that_dies_at_once_every_time_is_given_up_loudly(host: Host) -> None:
    """Back-off, then given up: State is ALARM, Status and report say why with its last words; others run on."""
    host.register(BAD, {"test/nonsense/1": "Nonsense"}, {})  # there is no such class: it ends at once
    host.policy(BAD, max_restarts=2, backoff_s=0.05)
    host.supervisor.command_inout("UpdateServersInfo")
    wait_until(lambda: BAD in host.report(), 10, "it is known")
    bad = host.wait_for(BAD, "given_up", 30)
    assert bad["restarts"] == 2
    assert bad["last_exit"] == "code 2"
    assert "there is no server class Nonsense here" in bad["last_lines"][-1]
    wait_until(lambda: str(host.supervisor.state()) == "ALARM", 5, "the supervisor is in ALARM")
    assert f"{BAD} is given up" in host.supervisor.status()
    assert host.report()[FIRST]["state"] == host.report()[SECOND]["state"] == "running"
    host.forget(BAD)


def test_servers_are_stopped_started_restarted_and_killed_on_demand(host: Host) -> None:
    """As Starter's clients ask for it; none of these counts as a failure."""
    host.supervisor.command_inout("DevStop", FIRST)
    assert host.wait_for(FIRST, "stopped")["pid"] is None
    assert FIRST in host.supervisor.command_inout("DevGetStopServers", True)
    host.supervisor.command_inout("DevStart", FIRST)
    first = host.wait_for(FIRST, "running")
    host.supervisor.command_inout("DevRestart", FIRST)
    wait_until(lambda: host.report()[FIRST]["pid"] not in (None, first["pid"]), 10, "it is another process")
    host.wait_for(FIRST, "running")
    host.supervisor.command_inout("HardKillServer", FIRST)
    assert host.wait_for(FIRST, "stopped")["last_exit"] == "signal 9 (SIGKILL)"
    host.supervisor.command_inout("DevStart", FIRST)
    assert host.wait_for(FIRST, "running")["restarts"] == 0
    assert "ready" in host.supervisor.command_inout("DevReadLog", FIRST)
    with pytest.raises(tango.DevFailed, match="there is no server Nobody/1"):
        host.supervisor.command_inout("DevStop", "Nobody/1")


def test_a_killed_supervisor_interrupts_nothing_and_knows_what_it_missed(host: Host) -> None:
    """The servers keep their processes; one that ended meanwhile has its exit code on record and runs again."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    before = host.kill_supervisor()
    wait_until(lambda: host.supervisor_is_back(before), 20, "another supervisor answers")
    assert {name: host.wait_for(name, "running")["pid"] for name in pids} == pids
    before = host.kill_supervisor()
    os.kill(pids[FIRST], signal.SIGSEGV)
    wait_until(lambda: host.supervisor_is_back(before), 20, "another supervisor answers")
    wait_until(lambda: host.report()[FIRST]["pid"] not in (None, pids[FIRST]), 10, "it is another process")
    assert host.wait_for(FIRST, "running")["last_exit"].startswith("signal 11")
    assert host.report()[SECOND]["pid"] == pids[SECOND]


def test_what_was_stopped_stays_so_when_the_supervisor_is_killed(host: Host) -> None:
    """A server that somebody stopped is not started by the next supervisor, until somebody asks for it."""
    host.supervisor.command_inout("DevStop", FIRST)
    host.wait_for(FIRST, "stopped")
    before = host.kill_supervisor()
    wait_until(lambda: host.supervisor_is_back(before), 20, "another supervisor answers")
    host.wait_for(SECOND, "running")
    assert host.report()[FIRST]["state"] == "stopped"
    host.supervisor.command_inout("DevStart", FIRST)
    host.wait_for(FIRST, "running")


def test_everything_that_was_stopped_stays_so_when_supervisor_and_spawner_are_replaced(host: Host) -> None:
    """Nothing of the servers lives, and yet the host has not been started anew; what the report tells is kept too."""
    os.kill(host.report()[FIRST]["pid"], signal.SIGKILL)
    wait_until(lambda: host.report()[FIRST]["restarts"] == 1, 10, "it is started again")
    host.wait_for(FIRST, "running")
    for server in (FIRST, SECOND):
        host.supervisor.command_inout("DevStop", server)
        host.wait_for(server, "stopped")
    host.spawner.kill()
    wait_until(host.another_spawner_answers, 20, "another spawner answers")
    wait_until(lambda: "stopped" in host.supervisor.status(), 10, "the supervisor has found it")
    before = host.kill_supervisor()
    wait_until(lambda: host.supervisor_is_back(before), 20, "another supervisor answers")
    assert [host.report()[server]["state"] for server in (FIRST, SECOND)] == ["stopped", "stopped"]
    assert (host.report()[FIRST]["restarts"], host.report()[FIRST]["last_exit"]) == (1, "code 0")


def test_a_log_with_any_text_can_be_read(host: Host) -> None:
    """Tango carries latin-1: the rest becomes a question mark, and the call does not fail."""
    with (host.run / "logs" / "Simulator_first.log").open("a", encoding="utf-8") as log:
        log.write("10 µA → 5 Ω\n")
    assert "10 µA ? 5 ?" in host.supervisor.command_inout("DevReadLog", FIRST)


def test_an_entry_of_the_database_that_makes_no_sense_is_a_problem_until_it_is_mended(host: Host) -> None:
    """The supervisor is in ALARM, says why, tries again by itself and keeps the servers running."""
    host.register(THIRD, {"test/sim/3": "Simulator"}, {"model": "ell14", "pty": host.run / "pty" / "3"})
    database = tango.Database("127.0.0.1", host.database.port)
    database.command_inout("DbPutServerInfo", [THIRD, "here", "1", "high"])
    host.supervisor.command_inout("UpdateServersInfo")
    wait_until(lambda: str(host.supervisor.state()) == "ALARM", 10, "the supervisor is in ALARM")
    assert "cannot be understood" in host.supervisor.status()
    assert "high" in host.supervisor.status()
    assert host.report()[FIRST]["state"] == "running"
    host.forget(THIRD)
    wait_until(lambda: str(host.supervisor.state()) == "ON", 10, "nothing is wrong any more")


def test_a_spawner_that_cannot_be_started_is_a_problem_and_tried_again(host: Host) -> None:
    """The supervisor does not end with it: there would be nobody to start either."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    (host.run / "logs" / "spawner.log").mkdir()
    host.spawner.kill()
    wait_until(lambda: "none can be started" in host.supervisor.status(), 10, "the problem is told")
    assert str(host.supervisor.state()) == "ALARM"
    (host.run / "logs" / "spawner.log").rmdir()
    wait_until(host.another_spawner, 20, "another spawner has adopted the servers")
    wait_until(lambda: str(host.supervisor.state()) == "ON", 10, "nothing is wrong any more")
    assert {name: server["pid"] for name, server in host.report().items()} == pids


def test_a_running_server_has_no_device_that_has_not_been_tried(host: Host) -> None:
    """An instrument whose line does not answer is tried before its server counts as running."""
    host.database.device("test/sim/1").fault = "SILENT"
    connection = host.database.device("test/sim/1").read_attribute("address").value
    host.register(METER, {"test/meter/1": "Newport1830C"}, {"connection": connection}, level=2)
    host.supervisor.command_inout("UpdateServersInfo")
    wait_until(lambda: METER in host.report(), 10, "it is known")
    host.wait_for(METER, "running", 30)
    assert str(host.database.device("test/meter/1").state()) == "UNKNOWN"
    host.forget(METER)


def test_the_database_is_followed_when_somebody_says_so(host: Host) -> None:
    """A new server is started, one that is gone from the database is stopped and forgotten, others keep running."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    host.register(THIRD, {"test/sim/3": "Simulator"}, {"model": "ell14", "pty": host.run / "pty" / "3"}, level=2)
    host.supervisor.command_inout("UpdateServersInfo")
    wait_until(lambda: THIRD in host.report(), 10, "it is known")
    pid = host.wait_for(THIRD, "running")["pid"]
    host.forget(THIRD)
    host.supervisor.command_inout("UpdateServersInfo")
    wait_until(lambda: THIRD not in host.report(), 10, "it is forgotten")
    assert not psutil.pid_exists(pid)
    assert {name: server["pid"] for name, server in host.report().items()} == pids


def test_a_killed_spawner_is_replaced_by_one_that_adopts(host: Host) -> None:
    """Servers and supervisor live on; the supervisor starts another spawner; a later exit is seen again."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    host.spawner.kill()
    wait_until(host.another_spawner, 20, "another spawner has adopted the servers")
    assert {name: server["pid"] for name, server in host.report().items()} == pids
    os.kill(pids[FIRST], signal.SIGKILL)
    wait_until(lambda: host.report()[FIRST]["pid"] not in (None, pids[FIRST]), 20, "it is another process")
    assert host.wait_for(FIRST, "running")["last_exit"] == "unknown"
    assert host.report()[SECOND]["pid"] == pids[SECOND]
    wait_until(lambda: host.supervisor.status() == "2 servers are running.", 5, "nothing is wrong any more")


def test_a_server_that_ends_while_there_is_no_spawner_is_started_again(host: Host) -> None:
    """How it ended is unknown, and never taken for success; what is asked for meanwhile is done afterwards."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    host.spawner.kill()
    os.kill(pids[FIRST], signal.SIGTERM)  # it leaves with 0
    host.supervisor.command_inout("DevRestart", SECOND)
    for name in pids:
        wait_until(lambda name=name: host.report()[name]["pid"] not in (None, pids[name]), 20, f"{name} is new")
        assert host.wait_for(name, "running")["last_exit"] == "unknown"
    assert host.report()[FIRST]["restarts"] == 1
    assert host.report()[SECOND]["restarts"] == 0


def test_a_frozen_database_is_not_taken_for_failing_servers(host: Host) -> None:
    """Nobody restarts a server that runs; the start of one that died meanwhile is waited for, and not counted."""
    pids = {name: server["pid"] for name, server in host.report().items()}
    host.policy(SECOND, max_restarts=1)
    host.supervisor.command_inout("UpdateServersInfo")
    assert host.database.process is not None
    host.database.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(pids[SECOND], signal.SIGKILL)
        wait_until(lambda: "not started" in [line["what"] for line in host.history(SECOND)], 60, "a start has failed")
        assert host.report()[FIRST]["pid"] == pids[FIRST]
    finally:
        host.database.process.send_signal(signal.SIGCONT)
    assert host.wait_for(SECOND, "running", 60)["restarts"] == 1
    first = host.wait_for(FIRST, "running")
    assert (first["pid"], first["restarts"]) == (pids[FIRST], 0)
    assert "hangs" not in [line["what"] for line in host.history(FIRST)]


def test_a_start_that_a_full_database_refuses_is_waited_for(host: Host) -> None:
    """Whoever frees the disk need not start anything: no such start is counted, and the report says what is wrong."""
    host.policy(SECOND, max_restarts=1)
    host.supervisor.command_inout("UpdateServersInfo")
    with contextlib.closing(sqlite3.connect(host.database.directory / "database.sqlite")) as full:
        full.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON device BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
        os.kill(host.report()[SECOND]["pid"], signal.SIGKILL)
        wait_until(lambda: "not started" in [line["what"] for line in host.history(SECOND)], 20, "a start has failed")
        assert "database or disk is full" in host.wait_for(SECOND, "backing_off")["last_lines"][-1]
        full.execute("DROP TRIGGER full")
    assert host.wait_for(SECOND, "running")["restarts"] == 1


def test_a_frozen_server_is_found_hung_and_started_again(host: Host) -> None:
    """SIGSTOP: some unanswered calls, then SIGTERM, SIGKILL and a new process."""
    pid = host.report()[FIRST]["pid"]
    os.kill(pid, signal.SIGSTOP)
    host.wait_for(FIRST, "hung", 30)
    wait_until(lambda: host.report()[FIRST]["pid"] not in (None, pid), 30, "it is another process")
    host.wait_for(FIRST, "running")
    assert "hangs" in [line["what"] for line in host.history(FIRST)]
    assert host.report()[SECOND]["restarts"] == 0


class Asker:
    """A `Health` in a process of its own: Tango keeps the first database that a process asked for good."""

    CODE = (
        "import json, sys\n"
        "from device_servers.supervisor.health import Health\n"
        "health = Health()\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps([health.check(*json.loads(line)).name, health.ill]), flush=True)\n"
    )

    def __init__(self, tango_host: str) -> None:
        self.ill: dict[str, list[str]] = {}
        self._popen = subprocess.Popen(
            [sys.executable, "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TANGO_HOST": tango_host},
        )

    def check(self, name: str, pid: int, devices: tuple[str, ...]) -> Answer:
        """What `Health.check` returns; `ill` is which devices need a person afterwards."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        print(json.dumps([name, pid, devices]), file=self._popen.stdin, flush=True)
        answer, self.ill = json.loads(self._popen.stdout.readline())
        return Answer[answer]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.communicate(timeout=10)


class TestHealth:
    """Asking a real server whose devices are told what to say."""

    @pytest.fixture
    def server(self, database: TangoDatabase) -> Iterator[Process]:
        """Its first device is in INIT; its second one is of a kind that fails when it is asked."""
        devices = {"test/moody/1": "Moody", "test/moody/2": "Moody"}
        database.register("Moody/1", devices)
        with Process(
            [sys.executable, "-m", "tests.moody_server", "1"],
            database.directory / "moody.log",
            {"TANGO_HOST": database.tango_host},
        ) as process:
            database.wait_for_device("test/moody/2", process)
            known = tango.Database("127.0.0.1", database.port)
            # the admin device is the last to be exported
            wait_until(
                lambda: known.get_device_info("dserver/Moody/1").pid == process.pid, 10, "the server is exported whole"
            )
            yield process

    @pytest.fixture
    def health(self, database: TangoDatabase) -> Iterator[Asker]:
        """A `Health` of its own."""
        with Asker(database.tango_host) as asker:
            yield asker

    def test_a_server_is_starting_while_a_device_is_in_init(
        self, database: TangoDatabase, server: Process, health: Asker
    ) -> None:
        """And ready once none is."""
        devices = ("test/moody/1", "test/moody/2")
        assert health.check("Moody/1", server.pid, devices) is Answer.STARTING
        for name in devices:
            database.device(name).command_inout("Be", "ON")
        assert health.check("Moody/1", server.pid, devices) is Answer.READY
        assert health.check("Moody/1", server.pid + 1, devices) is Answer.UNKNOWN

    def test_a_device_that_needs_a_person_says_why(
        self, database: TangoDatabase, server: Process, health: Asker
    ) -> None:
        """Its State and Status are kept, until it is well."""
        name = "test/moody/1"
        database.device(name).command_inout("Be", "ALARM")
        assert health.check("Moody/1", server.pid, (name,)) is Answer.READY
        assert health.ill == {name: ["ALARM", "Feels ALARM."]}
        database.device(name).command_inout("Be", "ON")
        health.check("Moody/1", server.pid, (name,))
        assert health.ill == {}

    def test_an_error_of_a_device_is_an_answer(self, database: TangoDatabase, server: Process, health: Asker) -> None:
        """The server is there; what is wrong with the device is the device's to tell."""
        database.device("test/moody/1").command_inout("Be", "out of sorts")
        assert health.check("Moody/1", server.pid, ("test/moody/1",)) is Answer.READY

    def test_a_device_that_the_server_does_not_export_is_not_there_yet(
        self, database: TangoDatabase, server: Process, health: Asker
    ) -> None:
        """Registered after the server's start, or not even registered: no hang, and not the end of asking."""
        database.register("Moody/1", {"test/moody/3": "Moody"})
        database.device("test/moody/1").command_inout("Be", "ON")
        for name in ("test/moody/3", "test/moody/nowhere"):
            wait_until(
                lambda name=name: health.check("Moody/1", server.pid, ("test/moody/1", name)) is Answer.STARTING,
                5,
                f"{name} is missed",
            )

    def test_a_frozen_server_is_silent(self, server: Process, health: Asker) -> None:
        """Also when one of its devices has never been there."""
        health.check("Moody/1", server.pid, ("test/moody/nowhere", "test/moody/1"))
        server.send_signal(signal.SIGSTOP)
        assert health.check("Moody/1", server.pid, ("test/moody/nowhere", "test/moody/1")) is Answer.SILENT
        server.send_signal(signal.SIGCONT)
