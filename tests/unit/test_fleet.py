"""The servers of a host as a state machine: no process, no clock."""

import json
import random
import signal
from typing import Any

import pytest
import tango

from bandoneon.tangolink import server as server_side
from device_servers.supervisor.fleet import (
    EXIT_DATABASE_UNREACHABLE,
    HUNG_AFTER,
    KILL_AFTER_S,
    LEVEL_TIMEOUT_S,
    RETRY_S,
    START_TIMEOUT_S,
    Action,
    Fleet,
    Kept,
    Now,
    Registered,
    describe_exit,
    details,
)
from device_servers.supervisor.health import Answer, judge
from device_servers.supervisor.policy import Policy

METER, BENCH, ARCHIVER = "Meter/1", "Bench/1", "Archiver/1"
SERVERS = [
    Registered(METER, ("lab/meter/1",), 2, Policy(max_restarts=2)),
    Registered(BENCH, ("lab/bench/1",), 1, Policy()),
    Registered(ARCHIVER, ("archive/x/1",), 3, Policy()),
]


def exit_of(pid: int, *, code: int | None = None, number: int | None = None) -> dict[str, Any]:
    """An exit as the spawner tells it."""
    return {"pid": pid, "code": code, "signal": number, "core": False, "unknown": code is None and number is None}


def forks(actions: list[Action]) -> list[str]:
    """Which servers are to be forked."""
    return [action.name for action in actions if action.what == "fork"]


def at(seconds: float) -> Now:
    """The moment so many seconds after a start, while nobody sets the clock."""
    return Now(seconds, 1.7e9 + seconds)


class Host:
    """A fleet whose forks succeed at once, with pids that count up."""

    def __init__(self, *registered: Registered) -> None:
        self.fleet = Fleet(random.Random(1))
        self.pids = 100
        self.carry_out(self.fleet.register(registered or SERVERS, {}, {}, {}, at(0.0)), 0.0)

    def carry_out(self, actions: list[Action], now_s: float) -> list[Action]:
        """Fork what is to be forked; return the actions."""
        for name in forks(actions):
            self.pids += 1
            self.fleet.forked(name, self.pids, at(now_s))
        return actions

    def ready(self, name: str, now_s: float) -> None:
        """A server answers."""
        pid = self.fleet.servers[name].pid
        assert pid is not None
        self.carry_out(self.fleet.answered(name, pid, at(now_s)), now_s)

    def all_run(self) -> "Host":
        """Every server answers, level by level."""
        for name in (BENCH, METER, ARCHIVER):
            self.ready(name, 1.0)
        return self

    def die(self, name: str, now_s: float, *, code: int | None = None, number: int | None = None) -> list[Action]:
        """A server's process ends."""
        pid = self.fleet.servers[name].pid
        assert pid is not None
        return self.carry_out(self.fleet.exited(name, exit_of(pid, code=code, number=number), at(now_s)), now_s)

    def state(self, name: str) -> str:
        """A server's state."""
        return self.fleet.servers[name].state

    def history(self) -> list[dict[str, Any]]:
        """What was recorded."""
        return [json.loads(line) for line in self.fleet.history]


def test_levels_start_one_after_the_other() -> None:
    """The second level starts when the first one runs, the third when the second does."""
    host = Host()
    assert (host.state(BENCH), host.state(METER), host.state(ARCHIVER)) == ("starting", "stopped", "stopped")
    host.ready(BENCH, 1.0)
    assert (host.state(METER), host.state(ARCHIVER)) == ("starting", "stopped")
    host.ready(METER, 2.0)
    assert host.state(ARCHIVER) == "starting"


def test_a_level_that_does_not_come_up_does_not_hold_up_the_rest_for_ever() -> None:
    """After a while the next level starts all the same."""
    host = Host()
    assert host.fleet.tick(at(LEVEL_TIMEOUT_S - 0.1)) == []
    assert forks(host.carry_out(host.fleet.tick(at(LEVEL_TIMEOUT_S)), LEVEL_TIMEOUT_S)) == [METER]


def test_a_server_that_dies_is_started_again_and_the_history_says_how_it_ended() -> None:
    """The restart is immediate and counted; the exit's signal is on record, as an error."""
    host = Host().all_run()
    assert forks(host.die(METER, 100.0, number=9)) == [METER]
    server = host.fleet.servers[METER]
    assert (server.state, server.restarts, server.last_exit) == ("starting", 1, "signal 9 (SIGKILL)")
    assert [(line["signal"], line["level"]) for line in host.history() if line["what"] == "exit"] == [(9, "error")]


def test_a_server_that_dies_every_time_backs_off_and_is_given_up_loudly() -> None:
    """Two restarts are allowed here; others are not touched; somebody's start gives it a new chance."""
    host = Host().all_run()
    assert forks(host.die(METER, 10.0, code=1)) == [METER]
    assert host.die(METER, 10.1, code=1) == []
    assert host.state(METER) == "backing_off"
    again_s = host.fleet.servers[METER].again_s
    assert again_s is not None
    assert forks(host.carry_out(host.fleet.tick(at(again_s)), again_s)) == [METER]
    assert host.die(METER, again_s + 0.1, code=1) == []
    assert host.state(METER) == "given_up"
    assert host.history()[-1]["level"] == "error"
    assert host.state(BENCH) == host.state(ARCHIVER) == "running"
    assert host.fleet.tick(at(1e6)) == []
    assert forks(host.carry_out(host.fleet.start(METER, at(1e6)), 1e6)) == [METER]


def test_a_start_that_fails_for_want_of_a_database_is_waited_for_and_not_counted() -> None:
    """However often it happens it is never given up."""
    host = Host().all_run()
    now_s = 10.0
    host.die(METER, now_s, number=9)
    for _ in range(20):
        host.die(METER, now_s, code=EXIT_DATABASE_UNREACHABLE)
        assert host.state(METER) == "backing_off"
        now_s += 1.0
        host.carry_out(host.fleet.tick(at(now_s)), now_s)
    host.ready(METER, now_s)
    server = host.fleet.servers[METER]
    assert (server.state, server.restarts, server.last_exit) == ("running", 1, "signal 9 (SIGKILL)")
    assert [line["what"] for line in host.history() if line["server"] == METER][-2:] == ["not started", "ready"]


def test_the_exit_status_for_that_is_the_servers_own() -> None:
    """A server that finds no database leaves with what the fleet waits for."""
    assert server_side.EXIT_DATABASE_UNREACHABLE == EXIT_DATABASE_UNREACHABLE


def test_a_running_server_that_leaves_with_that_status_has_failed() -> None:
    """Only a start is waited for."""
    host = Host().all_run()
    assert forks(host.die(METER, 10.0, code=EXIT_DATABASE_UNREACHABLE)) == [METER]
    assert host.fleet.servers[METER].restarts == 1


def test_a_stop_that_is_asked_for_is_no_failure() -> None:
    """SIGTERM, then stopped; it stays so."""
    host = Host().all_run()
    assert host.fleet.stop(METER, at(5.0)) == [Action("signal", METER, signal.SIGTERM)]
    assert host.die(METER, 5.5, code=0) == []
    assert host.state(METER) == "stopped"
    assert host.fleet.tick(at(1e6)) == []


def test_a_server_that_does_not_end_is_killed() -> None:
    """SIGKILL follows when the time is over."""
    host = Host().all_run()
    host.fleet.stop(METER, at(5.0))
    host.fleet.stop(METER, at(8.0))  # asking again does not give it more time
    assert host.fleet.tick(at(5.0 + KILL_AFTER_S - 0.1)) == []
    assert host.fleet.tick(at(5.0 + KILL_AFTER_S)) == [Action("signal", METER, signal.SIGKILL)]
    assert host.fleet.tick(at(5.0 + KILL_AFTER_S + 1)) == []


def test_a_hard_kill_is_at_once_and_final() -> None:
    """SIGKILL without SIGTERM, and the server stays stopped."""
    host = Host().all_run()
    assert host.fleet.stop(METER, at(5.0), kill=True) == [Action("signal", METER, signal.SIGKILL)]
    host.die(METER, 5.1, number=9)
    assert host.state(METER) == "stopped"


def test_a_restart_that_is_asked_for_starts_again_after_the_end() -> None:
    """It is not counted as a failure."""
    host = Host().all_run()
    host.fleet.restart(METER, at(5.0))
    assert forks(host.die(METER, 5.5, code=0)) == [METER]
    assert host.fleet.servers[METER].restarts == 0
    host.fleet.stop(METER, at(6.0))
    host.fleet.start(METER, at(6.1))
    assert forks(host.die(METER, 6.5, code=0)) == [METER]


def test_a_server_that_hangs_is_ended_and_started_again() -> None:
    """Some calls without an answer in a row, and only in a row; then SIGTERM, SIGKILL, and again."""
    host = Host().all_run()
    pid = host.fleet.servers[METER].pid
    assert pid is not None
    for _ in range(HUNG_AFTER - 1):
        assert host.fleet.unanswered(METER, pid, at(5.0)) == []
    host.fleet.answered(METER, pid, at(6.0))
    for _ in range(HUNG_AFTER - 1):
        assert host.fleet.unanswered(METER, pid, at(7.0)) == []
    assert host.fleet.unanswered(METER, pid, at(8.0)) == [Action("signal", METER, signal.SIGTERM)]
    assert host.state(METER) == "hung"
    assert host.fleet.tick(at(8.0 + KILL_AFTER_S)) == [Action("signal", METER, signal.SIGKILL)]
    assert forks(host.die(METER, 13.0, number=9)) == [METER]


def test_what_lives_is_adopted_and_not_started_twice() -> None:
    """A new supervisor finds servers of an earlier one: they are asked, not forked."""
    fleet = Fleet(random.Random(1))
    actions = fleet.register(SERVERS, {METER: (77, 1.0), BENCH: (78, 1.0)}, {}, {}, at(50.0))
    assert forks(actions) == []
    fleet.answered(BENCH, 78, at(50.1))
    assert forks(fleet.answered(METER, 77, at(50.2))) == [ARCHIVER]
    assert fleet.servers[METER].state == "running"
    # it runs since it was started, whoever found it since
    assert fleet.servers[METER].since_wall_s == 1.0
    assert [json.loads(line)["what"] for line in fleet.history][:2] == ["adopted", "adopted"]


def test_an_exit_that_nobody_saw_is_known_afterwards() -> None:
    """A server ended while no supervisor was there: how is on record, and it is started."""
    fleet = Fleet(random.Random(1))
    actions = fleet.register(SERVERS[1:2], {}, {BENCH: exit_of(9, number=11)}, {}, at(50.0))
    assert forks(actions) == [BENCH]
    assert fleet.servers[BENCH].last_exit == "signal 11 (SIGSEGV)"


def test_another_spawner_that_lacks_a_child_means_an_unknown_exit() -> None:
    """It ended while no spawner was there: its exit is unknown, never 0, and it is started again."""
    host = Host().all_run()
    living = {name: server.pid for name, server in host.fleet.servers.items() if name != METER and server.pid}
    actions = host.carry_out(host.fleet.compare(living, at(60.0)), 60.0)
    assert forks(actions) == [METER]
    assert host.fleet.servers[METER].last_exit == "unknown"


def test_the_exit_of_an_earlier_process_changes_nothing() -> None:
    """An event about a pid that is not the server's is old news."""
    host = Host().all_run()
    assert host.fleet.exited(METER, exit_of(1, code=1), at(5.0)) == []
    assert host.fleet.exited("Nobody/1", exit_of(1, code=1), at(5.0)) == []
    assert host.state(METER) == "running"
    pid = host.fleet.servers[METER].pid
    assert pid is not None
    host.fleet.stop(METER, at(6.0))
    host.die(METER, 7.0, code=0)
    assert host.fleet.exited(METER, exit_of(pid, code=0), at(8.0)) == []  # told twice
    assert host.fleet.answered(METER, pid, at(8.0)) == host.fleet.unanswered(METER, pid, at(8.0)) == []
    assert host.state(METER) == "stopped"


def test_what_the_database_no_longer_has_is_stopped_and_what_is_new_started() -> None:
    """Reading the database again changes only what changed there."""
    host = Host().all_run()
    new = Registered("New/1", (), 2, Policy())
    actions = host.fleet.register([*SERVERS[1:], new], {}, {}, {}, at(70.0))
    assert Action("signal", METER, signal.SIGTERM) in actions
    assert forks(host.carry_out(actions, 70.0)) == ["New/1"]
    assert host.state(METER) == "stopping"
    assert host.die(METER, 71.0, code=0) == []
    assert METER not in host.fleet.servers


def test_what_comes_back_to_the_database_while_it_ends_is_started_again() -> None:
    """Deleted and registered again within its last seconds: it runs in the end. Only asked for: it does not."""
    for asked, again in ((False, True), (True, False)):
        host = Host().all_run()
        host.fleet.register(SERVERS[1:], {}, {}, {}, at(70.0))
        if asked:
            host.fleet.start(METER, at(70.1))
            host.fleet.restart(METER, at(70.2))
        else:
            host.fleet.register(SERVERS, {}, {}, {}, at(70.1))
        assert forks(host.die(METER, 70.5, code=0)) == ([METER] if again else [])
        assert (METER in host.fleet.servers) is again


def test_exits_are_told_in_words() -> None:
    """Code, signal, core dump, unknown."""
    assert describe_exit(exit_of(1, code=3)) == "code 3"
    assert describe_exit({**exit_of(1, number=11), "core": True}) == "signal 11 (SIGSEGV), core dumped"
    assert describe_exit(exit_of(1, number=35)) == "signal 35"
    assert describe_exit(exit_of(1)) == "unknown"


def test_a_line_of_history_has_something_to_say_beside_its_event() -> None:
    """How it ended, why, or after how long."""
    assert details({"how": "code 1"}) == "code 1"
    assert details({"reason": "too often"}) == "too often"
    assert details({"after_s": 0.4}) == "after 0.4 s"
    assert details({}) == ""


def test_a_server_started_by_hand_before_its_turn_is_not_started_twice() -> None:
    """Somebody starts a server whose level has not come yet, twice in a row."""
    host = Host()
    assert forks(host.carry_out(host.fleet.start(METER, at(1.0)), 1.0)) == [METER]
    assert host.fleet.start(METER, at(1.1)) == []
    host.ready(BENCH, 2.0)
    assert host.fleet.servers[METER].pid == 102
    host.ready(METER, 3.0)
    assert host.state(ARCHIVER) == "starting"


def test_a_start_that_is_taken_back_before_its_process_exists_does_not_happen() -> None:
    """While the spawner is away actions wait; a stop meanwhile makes the fork of before void."""
    fleet = Fleet(random.Random(1))
    assert forks(fleet.register(SERVERS[1:2], {}, {}, {}, at(0.0))) == [BENCH]
    assert fleet.awaits_fork(BENCH)
    assert fleet.start(BENCH, at(0.5)) == []
    fleet.stop(BENCH, at(1.0))
    assert not fleet.awaits_fork(BENCH)
    assert not fleet.awaits_fork("Nobody/1")


def test_a_process_that_cannot_be_made_is_tried_again_and_not_counted() -> None:
    """The history has the reason once."""
    fleet = Fleet(random.Random(1))
    fleet.register(SERVERS[1:2], {}, {}, {}, at(0.0))
    for n in range(10):
        fleet.not_forked(BENCH, "no memory", at(float(n)))
        assert forks(fleet.tick(at(n + RETRY_S))) == [BENCH]
    assert fleet.servers[BENCH].restarts == 0
    assert [record["what"] for record in fleet.take_news()] == ["start", "not started"]


def test_a_server_that_hangs_in_its_start_is_ended_too() -> None:
    """Registered, but without an answer for long; while nothing can be said (no database) the time does not count."""
    host = Host()
    pid = host.fleet.servers[BENCH].pid
    assert pid is not None
    for n in range(1000):
        assert host.fleet.unanswered(BENCH, pid, at(n * START_TIMEOUT_S / 1000)) == []
    host.fleet.unsaid(BENCH)
    began_s = START_TIMEOUT_S
    assert host.fleet.unanswered(BENCH, pid, at(began_s)) == []
    assert host.fleet.unanswered(BENCH, pid, at(began_s + 1)) == []
    asked = host.fleet.unanswered(BENCH, pid, at(began_s + START_TIMEOUT_S))
    assert asked == [Action("signal", BENCH, signal.SIGTERM)]
    assert host.state(BENCH) == "hung"


def test_a_hang_is_a_failure_however_the_server_ends() -> None:
    """A transient server that hung and then left with 0 on SIGTERM is started again; one that left by itself is not."""
    for hung in (True, False):
        host = Host(Registered(BENCH, (), 1, Policy("transient")))
        host.ready(BENCH, 1.0)
        pid = host.fleet.servers[BENCH].pid
        assert pid is not None
        for _ in range(HUNG_AFTER if hung else 0):
            host.fleet.unanswered(BENCH, pid, at(5.0))
        assert forks(host.die(BENCH, 6.0, code=0)) == ([BENCH] if hung else [])
        assert host.state(BENCH) == ("starting" if hung else "stopped")


def test_the_level_above_adopted_servers_that_do_not_answer_starts_all_the_same() -> None:
    """A new supervisor finds a level that lives but hangs; the next one waits only so long."""
    fleet = Fleet(random.Random(1))
    assert forks(fleet.register(SERVERS[:2], {BENCH: (78, 1.0)}, {}, {}, at(50.0))) == []
    assert forks(fleet.tick(at(50.0 + LEVEL_TIMEOUT_S))) == [METER]


def test_a_clock_that_is_set_changes_nothing_that_is_decided() -> None:
    """Back-off, SIGKILL and window go by the monotonic clock; only what is told has the new time."""
    host = Host().all_run()
    host.die(METER, 10.0, code=1)
    host.die(METER, 10.1, code=1)
    assert host.state(METER) == "backing_off"
    an_hour_back = Now(11.0, at(11.0).wall_s - 3600.0)
    assert forks(host.fleet.tick(an_hour_back)) == [METER]
    assert host.fleet.servers[METER].since_wall_s == an_hour_back.wall_s
    host.fleet.stop(BENCH, an_hour_back)
    an_hour_on = Now(11.1, at(11.1).wall_s + 3600.0)
    assert host.fleet.tick(an_hour_on) == []
    assert host.history()[-1]["time_ns"] == round(an_hour_back.wall_s * 1e9)


def test_a_server_runs_once_each_of_its_devices_has_been_tried() -> None:
    """It answers while a device is in INIT or not there: it is starting, which is no hang, and never for ever."""
    host = Host()
    pid = host.fleet.servers[BENCH].pid
    assert pid is not None
    host.fleet.answered(BENCH, pid, at(1.0), complete=False)
    assert host.state(BENCH) == "starting"
    host.fleet.answered(BENCH, pid, at(0.9 + START_TIMEOUT_S), complete=False)
    assert host.state(BENCH) == "starting"
    host.fleet.answered(BENCH, pid, at(1.0 + START_TIMEOUT_S), complete=False)
    assert host.state(BENCH) == "running"
    host.die(BENCH, 100.0, code=1)
    pid = host.fleet.servers[BENCH].pid
    assert pid is not None
    host.fleet.answered(BENCH, pid, at(100.5), complete=False)  # another start has its own time
    assert host.state(BENCH) == "starting"
    host.fleet.answered(BENCH, pid, at(100.6))
    host.fleet.answered(BENCH, pid, at(100.7), complete=False)  # Init of a running device
    assert host.state(BENCH) == "running"


def test_a_stop_is_on_record_whatever_state_the_server_is_in() -> None:
    """Also of one that backs off or was given up: somebody did not want it to run."""
    host = Host().all_run()
    host.die(METER, 10.0, code=1)
    host.die(METER, 10.1, code=1)
    for state in ("backing_off", "given_up"):
        assert host.state(METER) == state
        host.fleet.take_news()
        host.fleet.stop(METER, at(11.0))
        assert [record["what"] for record in host.fleet.take_news()] == ["stop asked for"]
        assert host.state(METER) == "stopped"
        host.fleet.servers[METER].state = "given_up"


def test_what_somebody_stopped_stays_so_when_the_supervisor_is_replaced() -> None:
    """Nobody starts it; if it still lives, since the supervisor ended in the middle of it, it is stopped now."""
    kept = {METER: Kept(stopped=True, restarts=3, last_exit="code 1"), ARCHIVER: Kept(restarts=1)}
    fleet = Fleet(random.Random(1))
    assert fleet.register(SERVERS, {BENCH: (78, 1.0)}, {}, kept, at(50.0)) == []
    assert forks(fleet.answered(BENCH, 78, at(50.1))) == [ARCHIVER]
    assert fleet.servers[METER].state == "stopped"
    fleet = Fleet(random.Random(1))
    actions = fleet.register(SERVERS[:2], {BENCH: (78, 1.0), METER: (79, 1.0)}, {}, kept, at(50.0))
    assert actions == [Action("signal", METER, signal.SIGTERM)]
    assert fleet.exited(METER, exit_of(79, code=0), at(51.0)) == []
    assert fleet.servers[METER].state == "stopped"


def test_restarts_and_the_last_exit_outlive_a_supervisor() -> None:
    """What the report says of the past does not begin anew."""
    fleet = Fleet(random.Random(1))
    fleet.register(SERVERS, {METER: (79, 1.0)}, {}, {METER: Kept(False, 3, "code 1")}, at(50.0))
    assert (fleet.servers[METER].restarts, fleet.servers[METER].last_exit) == (3, "code 1")


CORBA = ("API_CorbaException", "TRANSIENT CORBA system exception: TRANSIENT_CallTimedout")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([CORBA, ("API_DeviceTimedOut", "Timeout (3000 mS) exceeded on device dserver/meter/1")], Answer.SILENT),
        ([CORBA, ("API_CantConnectToDevice", "Failed to connect to device dserver/meter/1")], Answer.SILENT),
        ([CORBA, ("API_CantConnectToDatabase", "Failed to connect to database on host db")], Answer.UNKNOWN),
        ([CORBA, ("API_CommandFailed", "Failed to execute command_inout on device sys/database/2")], Answer.UNKNOWN),
        ([("API_CantConnectToDevice", "The connection request was delayed.")], Answer.UNKNOWN),
        ([("API_DeviceNotExported", "Device lab/meter/1 is not exported")], Answer.STARTING),
        ([("PyDs_PythonError", "ZeroDivisionError: division by zero"), ("API_CommandFailed", "State")], Answer.READY),
    ],
)
def test_only_a_server_that_did_not_answer_in_time_is_silent(entries: list[tuple[str, str]], expected: Answer) -> None:
    """A database that does not answer says nothing; an error that the server sends is an answer."""
    errors = []
    for reason, text in entries:
        error = tango.DevError()
        error.reason, error.desc, error.origin = reason, text, "test"
        errors.append(error)
    assert judge(tango.DevFailed(*errors)) is expected
