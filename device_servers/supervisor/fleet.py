"""The servers of a host as a state machine: events and time in, actions out. No process, no Tango, no clock.

stopped ─start─▶ starting ─answers─▶ running ─▶ (exit) ─▶ backing_off ─▶ starting …
                                        │                     └─ too often ─▶ given_up
                                        └─ does not answer ─▶ hung ─▶ (killed, exit) ─▶ …
"""

import json
import random
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from device_servers.supervisor.policy import Past, Policy, decide

State = Literal["stopped", "starting", "running", "stopping", "backing_off", "given_up", "hung", "unknown"]

EXIT_DATABASE_UNREACHABLE: Final = 75
"""Exit status of a server whose start failed at the database, which is away or full: waited for, not counted."""

RETRY_S: Final = 0.5
"""Such a start, and one whose process could not be made, is tried again after so long."""

KILL_AFTER_S: Final = 4.5
"""A server has so long after SIGTERM; then SIGKILL. It leaves by itself after 4 s."""

LEVEL_TIMEOUT_S: Final = 10.0
"""The next level starts when all servers of the one before run, or after so long."""

HUNG_AFTER: Final = 3
"""So many unanswered calls in a row mean that a running server hangs."""

START_TIMEOUT_S: Final = 30.0
"""A server that is registered but does not answer for so long after that hangs in its start.

One that answers, but has a device in INIT or one that it does not export, for so long counts as running.
"""

HISTORY_KEPT: Final = 500


class Now(NamedTuple):
    """A moment: `monotonic_s` decides; `wall_s` (since 1970) is only told, since somebody may set the clock."""

    monotonic_s: float
    wall_s: float


class Registered(NamedTuple):
    """A server of this host as the database has it."""

    name: str
    devices: tuple[str, ...]
    level: int
    policy: Policy
    env: tuple[tuple[str, str], ...] = ()
    """What its process gets beside the supervisor's own environment."""


class Kept(NamedTuple):
    """What outlives a supervisor of a server: whether somebody stopped it, and what the report says of its past."""

    stopped: bool = False
    restarts: int = 0
    last_exit: str = ""


class Action(NamedTuple):
    """What has to be done: `fork` a server or send it signal `number`."""

    what: Literal["fork", "signal"]
    name: str
    number: int = 0


@dataclass
class Server:
    """One server and what is known of it. Times are monotonic but for `since_wall_s`, in s since 1970."""

    registered: Registered
    state: State = "stopped"
    pid: int | None = None
    since_wall_s: float = 0.0
    """When it got into its state."""
    started_s: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    past: Past = field(default_factory=Past)
    not_started: str = ""
    """Why its start is tried again and again, when the reason is outside the server."""
    again_s: float | None = None
    """When it is started again."""
    kill_s: float | None = None
    """When SIGKILL follows SIGTERM."""
    silent: int = 0
    """How many calls in a row it did not answer."""
    silent_s: float = 0.0
    """When the first of them was."""
    incomplete_s: float | None = None
    """When it first answered in this start without all of its devices."""
    adopted: bool = False
    """Whether an earlier supervisor started it and it has not answered this one yet."""
    then_start: bool = False
    """Whether it is started again as soon as it has ended: a restart that somebody asked for."""
    gone: bool = False
    """Whether the database has it no longer: it is forgotten as soon as it has ended."""

    @property
    def name(self) -> str:
        """`Class/instance`."""
        return self.registered.name


class Fleet:
    """All servers of a host. Every method takes the moment and returns what has to be done."""

    def __init__(self, jitter: random.Random | None = None) -> None:
        self.servers: dict[str, Server] = {}
        self.history: deque[str] = deque(maxlen=HISTORY_KEPT)
        """Starts, exits, decisions: JSON lines {time_ns, server, what, …}, oldest first."""
        self._news: list[dict[str, Any]] = []
        self._jitter = jitter or random.Random()
        self._waiting: set[str] = set()
        self._level_since_s: float | None = None

    def take_news(self) -> list[dict[str, Any]]:
        """Return what was recorded since the last call."""
        news, self._news = self._news, []
        return news

    def register(
        self,
        registered: Sequence[Registered],
        running: Mapping[str, tuple[int, float]],
        missed: Mapping[str, Mapping[str, Any]],
        kept: Mapping[str, Kept],
        now: Now,
    ) -> list[Action]:
        """Take over what the database says: new servers start, those that are gone from it are stopped.

        `running` has pid and start (in s since 1970) of what lives already: an earlier supervisor started it, and it is
        adopted. `missed` is how others ended while no supervisor was there, `kept` what was known of them before.
        What somebody stopped stays so.
        """
        wanted = {server.name: server for server in registered}
        actions: list[Action] = []
        for server in [server for name, server in self.servers.items() if name not in wanted]:
            if not server.gone:
                self._record(server, now, "no longer in the database")
                actions += self._end(server, now)
                server.gone = True
                self._forget(server.name)
        for name, one in wanted.items():
            known = self.servers.get(name)
            if known is None:
                actions += self._add(one, running.get(name), missed.get(name), kept.get(name, Kept()), now)
                continue
            known.registered = one
            if known.gone:
                known.gone, known.then_start = False, True
        if self._waiting and self._level_since_s is None:
            self._level_since_s = now.monotonic_s
        return actions + self.tick(now)

    def _add(
        self,
        registered: Registered,
        running: tuple[int, float] | None,
        missed: Mapping[str, Any] | None,
        kept: Kept,
        now: Now,
    ) -> list[Action]:
        server = Server(registered, since_wall_s=now.wall_s, restarts=kept.restarts, last_exit=kept.last_exit)
        self.servers[registered.name] = server
        if missed is not None:
            self._note_exit(server, missed, now, asked_for=kept.stopped)
        if running is None:
            if not kept.stopped:
                self._waiting.add(registered.name)
            return []
        server.pid, started_wall_s = running
        server.adopted = True
        server.started_s = now.monotonic_s - (now.wall_s - started_wall_s)
        self._enter(server, "starting", Now(server.started_s, started_wall_s))
        # the supervisor that was asked to stop it ended before it had done so
        return self.stop(registered.name, now) if kept.stopped else []

    def _forget(self, name: str) -> None:
        """Drop a server that the database has no longer and that has ended."""
        if self.servers[name].gone and self.servers[name].pid is None:
            del self.servers[name]

    def compare(self, living: Mapping[str, int], now: Now) -> list[Action]:
        """Another spawner is there, with these pids: how servers ended that it does not have is unknown."""
        actions: list[Action] = []
        for server in list(self.servers.values()):
            if server.pid is not None and living.get(server.name) != server.pid:
                actions += self.exited(server.name, {"pid": server.pid, "unknown": True}, now)
        return actions

    def start(self, name: str, now: Now) -> list[Action]:
        """Somebody wants a server to run: its past is forgiven."""
        server = self.servers[name]
        if server.state == "stopping":
            server.then_start = not server.gone
            return []
        if server.pid is not None or server.state == "starting":
            return []
        server.past = Past()
        return self._fork(server, now, "start asked for")

    def stop(self, name: str, now: Now, *, kill: bool = False) -> list[Action]:
        """Somebody wants a server to end; `kill`: at once."""
        server = self.servers[name]
        self._record(server, now, "kill asked for" if kill else "stop asked for")
        return self._end(server, now, kill=kill)

    def _end(self, server: Server, now: Now, *, kill: bool = False) -> list[Action]:
        self._waiting.discard(server.name)
        server.again_s, server.then_start = None, False
        if server.pid is None:
            self._enter(server, "stopped", now)
            return []
        if kill:
            server.kill_s = None
        elif server.state != "stopping" or server.kill_s is None:
            # asking again does not give it more time
            server.kill_s = now.monotonic_s + KILL_AFTER_S
        self._enter(server, "stopping", now)
        return [Action("signal", server.name, signal.SIGKILL if kill else signal.SIGTERM)]

    def restart(self, name: str, now: Now) -> list[Action]:
        """Somebody wants a server to end and to start again."""
        server = self.servers[name]
        if server.pid is None:
            return self.start(name, now)
        actions = self.stop(name, now)
        server.then_start = not server.gone
        server.past = Past()
        return actions

    def forked(self, name: str, pid: int, now: Now) -> None:
        """A server's process exists."""
        server = self.servers[name]
        server.pid, server.started_s = pid, now.monotonic_s

    def awaits_fork(self, name: str) -> bool:
        """Whether a server that was to be forked still is: meanwhile somebody may have stopped it."""
        server = self.servers.get(name)
        return server is not None and server.pid is None and server.state == "starting"

    def not_forked(self, name: str, reason: str, now: Now) -> None:
        """A server's process could not be made; it is tried again."""
        self._retry(self.servers[name], reason, now)

    def exited(self, name: str, exit_event: Mapping[str, Any], now: Now) -> list[Action]:
        """A server's process has ended. Old news, of another process than the one that is known, changes nothing."""
        server = self.servers.get(name)
        if server is None or server.pid is None or server.pid != exit_event["pid"]:
            return []
        server.pid, server.kill_s = None, None
        before = server.state
        if before == "starting" and exit_event.get("code") == EXIT_DATABASE_UNREACHABLE:
            self._retry(server, "the Tango database does not answer or cannot write", now)
            return []
        self._note_exit(server, exit_event, now, asked_for=before == "stopping")
        if before == "stopping":
            if server.then_start:
                server.then_start = False
                return self._fork(server, now, "restart asked for")
            self._enter(server, "stopped", now)
            self._forget(name)
            return []
        return self._after_end(server, now, failed=before == "hung" or exit_event.get("code") != 0)

    def _retry(self, server: Server, reason: str, now: Now) -> None:
        """Try a start again soon that failed for a reason outside the server; the history names a reason once."""
        if server.not_started != reason:
            server.not_started = reason
            self._record(server, now, "not started", level="warning", reason=reason)
        server.again_s = now.monotonic_s + RETRY_S
        self._enter(server, "backing_off", now)

    def _note_exit(self, server: Server, exit_event: Mapping[str, Any], now: Now, *, asked_for: bool) -> None:
        server.last_exit = describe_exit(exit_event)
        level = "info" if asked_for or exit_event.get("code") == 0 else "error"
        numbers = {key: exit_event[key] for key in ("pid", "code", "signal") if exit_event.get(key) is not None}
        self._record(server, now, "exit", level=level, how=server.last_exit, **numbers)

    def _after_end(self, server: Server, now: Now, *, failed: bool) -> list[Action]:
        decision = decide(
            server.registered.policy,
            server.past,
            failed=failed,
            ran_s=now.monotonic_s - server.started_s,
            now_s=now.monotonic_s,
            jitter=self._jitter.random(),
        )
        server.past, server.not_started = decision.past, ""
        if decision.given_up:
            policy = server.registered.policy
            reason = f"{policy.max_restarts} restarts within {policy.window_s:g} s"
            self._record(server, now, "given up", level="error", reason=reason)
            self._enter(server, "given_up", now)
            return []
        if decision.again_after_s is None:
            self._enter(server, "stopped", now)
            return []
        server.restarts += 1
        server.again_s = now.monotonic_s + decision.again_after_s
        self._enter(server, "backing_off", now)
        return self.tick(now)

    def answered(self, name: str, pid: int, now: Now, *, complete: bool = True) -> list[Action]:
        """A server with process `pid` answered its calls; `complete`: none of its devices is in INIT or missing."""
        server = self.servers.get(name)
        if server is None or server.pid != pid:
            return []
        server.silent = 0
        if server.state != "starting":
            return []
        if not complete:
            if server.incomplete_s is None:
                server.incomplete_s = now.monotonic_s
            if now.monotonic_s - server.incomplete_s < START_TIMEOUT_S:
                return []
        server.not_started = ""
        if server.adopted:  # it runs since it was started, and not since this supervisor asked it
            self._enter(server, "running", Now(now.monotonic_s, server.since_wall_s))
            self._record(server, now, "adopted", pid=pid)
        else:
            self._enter(server, "running", now)
            self._record(server, now, "ready", pid=pid, after_s=round(now.monotonic_s - server.started_s, 3))
        return self.tick(now)

    def unsaid(self, name: str) -> None:
        """Whether a server answers cannot be said, for one because the database does not: nothing counts so far."""
        if name in self.servers:
            self.servers[name].silent = 0

    def unanswered(self, name: str, pid: int, now: Now) -> list[Action]:
        """A server did not answer a call in time."""
        server = self.servers.get(name)
        if server is None or server.pid != pid or server.state not in ("starting", "running"):
            return []
        if server.silent == 0:
            server.silent_s = now.monotonic_s
        server.silent += 1
        patience_s = START_TIMEOUT_S if server.state == "starting" else 0.0
        if server.silent < HUNG_AFTER or now.monotonic_s - server.silent_s < patience_s:
            return []
        self._record(server, now, "hangs", level="error", pid=pid)
        self._enter(server, "hung", now)
        server.kill_s = now.monotonic_s + KILL_AFTER_S
        return [Action("signal", name, signal.SIGTERM)]

    def tick(self, now: Now) -> list[Action]:
        """Do what is due: restarts after a back-off, SIGKILL after SIGTERM, the next level."""
        actions: list[Action] = []
        for server in self.servers.values():
            if server.again_s is not None and now.monotonic_s >= server.again_s:
                actions += self._fork(server, now, "" if server.not_started else "restart")
            if server.kill_s is not None and now.monotonic_s >= server.kill_s:
                server.kill_s = None
                self._record(server, now, "killed: it did not end by itself", level="error")
                actions.append(Action("signal", server.name, signal.SIGKILL))
        return actions + self._start_levels(now)

    def _start_levels(self, now: Now) -> list[Action]:
        """Start the lowest level that waits, once the levels below it run."""
        actions: list[Action] = []
        while self._waiting:
            level = min(self.servers[name].registered.level for name in self._waiting)
            below = [server for server in self.servers.values() if server.registered.level < level]
            late = self._level_since_s is not None and now.monotonic_s - self._level_since_s >= LEVEL_TIMEOUT_S
            if any(server.state in ("starting", "backing_off") for server in below) and not late:
                return actions
            self._level_since_s = now.monotonic_s
            for name in sorted(name for name in self._waiting if self.servers[name].registered.level == level):
                actions += self._fork(self.servers[name], now, "start")
        self._level_since_s = None
        return actions

    def _fork(self, server: Server, now: Now, why: str) -> list[Action]:
        server.again_s, server.silent, server.incomplete_s, server.adopted = None, 0, None, False
        self._waiting.discard(server.name)
        if why:
            self._record(server, now, why)
        self._enter(server, "starting", now)
        return [Action("fork", server.name)]

    def _enter(self, server: Server, state: State, now: Now) -> None:
        if server.state != state:
            server.state, server.since_wall_s = state, now.wall_s

    def _record(self, server: Server, now: Now, what: str, *, level: str = "info", **more: object) -> None:
        line = {"time_ns": round(now.wall_s * 1e9), "server": server.name, "what": what, "level": level, **more}
        self.history.append(json.dumps(line))
        self._news.append(line)


def describe_exit(event: Mapping[str, Any]) -> str:
    """Return how a process ended, in words: `signal 9 (SIGKILL)`, `code 1`, `unknown`."""
    if event.get("unknown"):
        return "unknown"
    if event.get("signal") is not None:
        number = int(event["signal"])
        name = next((f" ({one.name})" for one in signal.Signals if one == number), "")  # real-time signals have none
        return f"signal {number}{name}{', core dumped' if event.get('core') else ''}"
    return f"code {event.get('code')}"


def details(record: Mapping[str, Any]) -> str:
    """Return what a line of history says beside server and event, for people: `signal 9 (SIGKILL)`, `after 0.4 s`."""
    after = f"after {record['after_s']} s" if "after_s" in record else ""
    return str(record.get("how") or record.get("reason") or after)
