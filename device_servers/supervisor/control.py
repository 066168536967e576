"""Carries out what the fleet decides: talks to spawner, database and servers. One thread owns all of it.

Calls that may hang (a ping, the database) are made by a few helper threads, never by the control thread. What a turn of
that thread cannot do because the spawner is gone stays in `_due` until another spawner is there.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false
# (pytango's stubs are not complete)

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import tango

from bandoneon.logging import get_logger
from bandoneon.site.reach import address, reach
from bandoneon.tangolink.proxy import sentence
from device_servers.supervisor.fleet import HISTORY_KEPT, Action, Fleet, Now, Registered, details
from device_servers.supervisor.health import Answer, Health
from device_servers.supervisor.hosted import hosted_servers
from device_servers.supervisor.logs import Logs
from device_servers.supervisor.report import History, Memory, Reporter
from device_servers.supervisor.spawner_client import DATABASE, SpawnerClient, SpawnerError, SpawnerGone

READY_EVERY_S: Final = 0.05
HEALTH_EVERY_S: Final = 1.0
REPORT_EVERY_S: Final = 1.0
TURN_S: Final = 0.05
DATABASE_EVERY_S: Final = 1.0
DATABASE_HUNG_AFTER: Final = 3
"""So many times in a row it is asked in vain before it is killed: 9 s with the time each question takes."""

SPAWNER_EVERY_S: Final = 3.0
"""Another spawner is started at most so often; it takes a second or two until one answers."""

HELPERS: Final = 8

ON_CHANGE: Final = frozenset({"history", "Servers", "RunningServers", "StoppedServers", "HostState"})
"""What is published, with State and Status, when something happened; `report` and `log_lines` have their own rhythm."""


class Control:
    """The control thread of a host's supervisor. What others read of it is replaced as a whole, never changed."""

    def __init__(self, run: Path, host: str, publish: Callable[[Set[str]], bool]) -> None:
        self.host = host
        self.logs = Logs(run / "logs")
        self.report = "[]"
        self.states: dict[str, str] = {}
        self.levels: dict[str, int] = {}
        self.last_event = ""
        self.history: tuple[str, ...] = ()
        self.log_records: tuple[str, ...] = ()
        self._run_dir = run
        self._publish = publish
        self._fleet = Fleet()
        self._kept = History(run / f"history-{host}.jsonl")
        self._memory = Memory(run / f"memory-{host}.json")
        self._health = Health()
        self._reporter = Reporter(run / "report.json", self.logs, self._health.ill)
        self._log = get_logger(device=f"tango/admin/{host}")
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="health")
        # the spawner
        self._spawner: SpawnerClient | None = None
        self._successor: subprocess.Popen[bytes] | None = None
        self._successor_s = -SPAWNER_EVERY_S
        self._spawner_problem = ""
        self._due: deque[Action] = deque()
        self._missed: dict[str, dict[str, Any]] = {}
        self._seen: deque[tuple[str, int]] = deque()
        # the database
        self._reread = True
        self._reading = False
        self._registered: list[Registered] | None = None
        self._database_problem = ""
        self._database_silence = ""
        # what is told
        self._checked_s: dict[str, float] = {}
        self._report_s = 0.0
        self._told_problem = ""
        self._untold: deque[str] = deque(maxlen=HISTORY_KEPT)
        self._stale: set[str] = set()

    @property
    def problem(self) -> str:
        """What keeps it from supervising, "" = nothing."""
        return "\n".join(filter(None, (self._spawner_problem, self._database_silence or self._database_problem)))

    def begin(self) -> None:
        """Start the threads."""
        if not self._thread.is_alive():
            self._thread.start()
            threading.Thread(target=self._watch_database, name="database", daemon=True).start()

    def end(self) -> None:
        """Stop supervising; the servers run on."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._helpers.shutdown(wait=False, cancel_futures=True)

    def ask(self, what: str, server: str) -> None:
        """Let the control thread `start`, `stop`, `restart` or `kill` a server, soon.

        That somebody stopped a server is on disk before this returns, so that no later supervisor starts it. Raises
        OSError when it cannot be written; what was asked is done all the same.
        """

        def act() -> None:
            fleet, now = self._fleet, this_moment()
            if server not in fleet.servers:
                return
            match what:
                case "start":
                    self._due += fleet.start(server, now)
                case "stop":
                    self._due += fleet.stop(server, now)
                case "restart":
                    self._due += fleet.restart(server, now)
                case _:
                    self._due += fleet.stop(server, now, kill=True)

        self._asked.put(act)
        self._memory.note_stopped(server, stopped=what in ("stop", "kill"))

    def reread(self) -> None:
        """Read the database again, soon."""

        def act() -> None:
            self._reread = True

        self._asked.put(act)

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            try:
                self._fleet.history.extend(self._kept.read())
                self.history = tuple(self._fleet.history)
                self.last_event = self.history[-1] if self.history else ""
                while not self._stopping.is_set():
                    self._turn()
            except Exception as error:  # noqa: BLE001  the next supervisor, which the spawner starts, adopts the servers
                self._log.critical("supervision failed", reason=repr(error), exc_info=True)
                os._exit(1)
            if self._spawner is not None:
                self._spawner.close()

    def _turn(self) -> None:
        """Take what came, do what is due, tell what happened, ask who is due to be asked."""
        self._read_when_asked()
        try:
            self._serve(self._spawner or self._connect())
        except SpawnerGone as error:
            self._lost_spawner(error)
        self._check_health()
        self._tell()

    def _serve(self, spawner: SpawnerClient) -> None:
        for event in spawner.exits(TURN_S):
            self._take_exit(event)
        with contextlib.suppress(queue.Empty):
            while True:
                self._asked.get_nowait()()
        if self._registered is not None:
            self._register(spawner, self._registered)
        self._due += self._fleet.tick(this_moment())
        while self._due:
            self._carry_out(spawner, self._due[0])
            self._due.popleft()
        # what happened is on disk before the spawner forgets it
        self._keep_history()
        while self._seen:
            spawner.acknowledge(*self._seen[0])
            self._seen.popleft()

    def _take_exit(self, event: dict[str, Any]) -> None:
        """An exit of a server that is not known (yet) is kept until the database has been read."""
        name = event["name"]
        if name not in self._fleet.servers:
            self._missed[name] = event
            return
        self._due += self._fleet.exited(name, event, Now(time.monotonic(), event["at_ns"] / 1e9))
        self._seen.append((name, event["pid"]))

    def _carry_out(self, spawner: SpawnerClient, action: Action) -> None:
        if action.what == "signal":
            spawner.signal(action.name, action.number)
            return
        if not self._fleet.awaits_fork(action.name):
            return
        server = self._fleet.servers[action.name].registered
        try:
            pid = spawner.fork(
                name=server.name,
                module="device_servers",
                argv=server.name.split("/", 1),
                env={**os.environ, **dict(server.env)},
                log=str(self.logs.path(server.name)),
                level=server.level,
            )
        except SpawnerGone:
            raise
        except SpawnerError as error:
            # it exists already when a spawner forked it and was lost before it could say so
            pid = next((int(child["pid"]) for child in spawner.children() if child["name"] == server.name), None)
            if pid is None:
                self._fleet.not_forked(server.name, str(error), this_moment())
                return
        self._fleet.forked(server.name, pid, this_moment())

    def _connect(self) -> SpawnerClient:
        """Connect to the spawner; one that is new may lack children that ended while there was none."""
        spawner = SpawnerClient(self._run_dir / "spawner.sock")
        living = {child["name"]: int(child["pid"]) for child in spawner.children()}
        for event in spawner.exits(0.0):
            self._take_exit(event)
        self._due += self._fleet.compare(living, this_moment())
        if self._fleet.servers:
            self._memory.begin(spawner.run, lived_through=True)
        self._spawner, self._spawner_problem = spawner, ""
        return spawner

    def _lost_spawner(self, error: SpawnerGone) -> None:
        """Connect again with the next turn; where nobody listens, start another spawner. The servers live on."""
        if self._spawner is not None:
            self._log.error("spawner lost", reason=str(error))
            self._spawner.close()
            self._spawner = None
            return
        starting = self._successor is not None and self._successor.poll() is None
        if not starting and time.monotonic() - self._successor_s >= SPAWNER_EVERY_S:
            self._successor_s = time.monotonic()
            try:
                self._successor = self._start_spawner()
                self._spawner_problem = f"{error}; another one is being started"
            except OSError as failure:
                self._spawner_problem = f"{error}, and none can be started, which is tried again: {failure}"
        self._stopping.wait(TURN_S)

    def _start_spawner(self) -> subprocess.Popen[bytes]:
        log = self._run_dir / "logs" / "spawner.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(self._run_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def _read_when_asked(self) -> None:
        if self._reread and not self._reading:
            self._reread, self._reading = False, True
            self._helpers.submit(self._read_database)

    def _read_database(self) -> None:
        """In a helper thread: ask the database which servers belong to this host; try again until it answers."""
        with tango.EnsureOmniThread():
            while not self._stopping.is_set():
                try:
                    registered = hosted_servers(self.host, self._log)
                    break
                except tango.DevFailed as error:
                    self._database_problem = sentence(error, "the Tango database")
                except Exception as error:  # noqa: BLE001  an entry nobody foresaw: who mends it need not restart us
                    self._database_problem = f"an entry of the Tango database cannot be understood: {error!r}"
                self._stopping.wait(DATABASE_EVERY_S)
            else:
                return

        def act() -> None:
            self._registered, self._reading, self._database_problem = registered, False, ""

        self._asked.put(act)

    def _watch_database(self) -> None:
        """In a thread of its own: note when the database does not answer; let one of this host that hangs be killed.

        The spawner, whose child an embedded database is, starts it again. No Tango: it takes ten seconds for this.
        """
        silent = 0
        while not self._stopping.wait(DATABASE_EVERY_S):
            tango_host = os.environ["TANGO_HOST"]
            found = {reach(address(one)) for one in tango_host.split(",")}
            self._database_silence = "" if "answers" in found else f"the Tango database at {tango_host} does not answer"
            silent = silent + 1 if found == {"silent"} else 0
            if silent == DATABASE_HUNG_AFTER:
                silent = 0
                self._asked.put(self._kill_database)

    def _kill_database(self) -> None:
        self._log.error("the Tango database hangs", reason="it is killed if it is one of this host")
        self._due.append(Action("signal", DATABASE, signal.SIGKILL))

    def _register(self, spawner: SpawnerClient, registered: list[Registered]) -> None:
        """Take over the database's servers. What runs is adopted, how others ended meanwhile is noted."""
        running = {child["name"]: (int(child["pid"]), child["started_ns"] / 1e9) for child in spawner.children()}
        for event in spawner.exits(0.0):
            self._take_exit(event)
        if not self._fleet.servers:
            self._memory.begin(spawner.run, lived_through=False)
        kept = self._memory.servers
        self._due += self._fleet.register(registered, running, self._missed, kept, this_moment())
        self._seen += [(name, event["pid"]) for name, event in self._missed.items()]
        self._missed, self._registered = {}, None

    def _check_health(self) -> None:
        """Let helper threads call the servers that are due."""
        now_s = time.monotonic()
        for server in self._fleet.servers.values():
            if server.pid is None or server.state not in ("starting", "running"):
                continue
            every_s = READY_EVERY_S if server.state == "starting" else HEALTH_EVERY_S
            if now_s - self._checked_s.get(server.name, 0.0) >= every_s:
                self._checked_s[server.name] = float("inf")  # until the answer is there
                self._helpers.submit(self._check, server.name, server.pid, server.registered.devices)

    def _check(self, name: str, pid: int, devices: tuple[str, ...]) -> None:
        """In a helper thread: does a server answer, with the process we know, and do its devices?"""
        answer = Answer.UNKNOWN
        with tango.EnsureOmniThread():
            try:
                answer = self._health.check(name, pid, devices)
            finally:
                now = this_moment()

                def act() -> None:
                    self._checked_s[name] = time.monotonic()
                    match answer:
                        case Answer.UNKNOWN:
                            self._fleet.unsaid(name)
                        case Answer.SILENT:
                            self._due += self._fleet.unanswered(name, pid, now)
                        case _:
                            complete = answer is Answer.READY
                            self._due += self._fleet.answered(name, pid, now, complete=complete)

                self._asked.put(act)

    def _keep_history(self) -> None:
        new = self._fleet.take_news()
        if not new:
            return
        for record in new:
            getattr(self._log, record["level"])(f"{record['server']}: {record['what']}", reason=details(record))
        self._memory.note_exits(self._fleet.servers.values())
        lines = list(self._fleet.history)[-len(new) :]
        self._untold += lines
        self.history = tuple(self._fleet.history)
        self._stale |= ON_CHANGE
        self._kept.append(lines)

    def _tell(self) -> None:
        """Publish what changed. What cannot be now, since a client's call holds the device, stays for later."""
        self._keep_history()
        servers = self._fleet.servers.values()
        states = {server.name: server.state for server in servers}
        now_s = time.monotonic()
        changed = states != self.states or self.problem != self._told_problem
        if changed or now_s >= self._report_s:
            self._report_s = now_s + REPORT_EVERY_S
            self.levels = {server.name: server.registered.level for server in servers}
            self.states, self._told_problem = dict(states), self.problem
            self.report = self._reporter.make(servers, self.problem)
            self._stale |= {"report", *(ON_CHANGE if changed else ())}
            if self.logs.follow([*states, f"Supervisor/{self.host}"]):
                self.log_records = tuple(self.logs.records)
                self._stale.add("log_lines")
        while self._untold:
            self.last_event = self._untold[0]
            if not self._publish({"last_event"}):
                return
            self._untold.popleft()
        if self._stale and self._publish(self._stale):
            self._stale.clear()


def this_moment() -> Now:
    """Return the present moment, by both clocks."""
    return Now(time.monotonic(), time.time())
