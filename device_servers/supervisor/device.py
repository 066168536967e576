"""Tango device `Supervisor`, one per host: keeps the host's servers running and tells how they are.

It answers Starter's commands and attributes under Starter's device name, `tango/admin/<host>`, so that Astor works.
It can be killed, upgraded and started again at any time: the servers are the spawner's children and run on.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# (pytango's stubs are not complete)

import os
from collections.abc import Set
from pathlib import Path

import tango
from tango import DevState
from tango.server import Device, attribute, command

from bandoneon.errors import BandoneonError, OutOfRange
from bandoneon.tangolink.server import failed, push
from device_servers.supervisor.control import Control

STARTER_STATES = {
    "running": "ON",
    "starting": "MOVING",
    "stopping": "MOVING",
    "backing_off": "MOVING",
    "hung": "MOVING",
}
"""What Starter calls our states; everything else is FAULT, which is its word for stopped."""

PUSHED = ("report", "history", "last_event", "log_lines", "Servers", "RunningServers", "StoppedServers", "HostState")


class Supervisor(Device):
    """Keeps the servers of one host running."""

    def init_device(self) -> None:
        """Begin to supervise; Init reads the database again."""
        super().init_device()
        for name in ("State", "Status", *PUSHED):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        if not hasattr(self, "_control"):
            self._control = Control(Path(os.environ["BANDONEON_RUN_DIR"]), os.environ["BANDONEON_HOST"], self._publish)
        else:
            self._control.reread()

    def server_init_hook(self) -> None:
        """Start supervising: events can be pushed now."""
        self._control.begin()

    def delete_device(self) -> None:
        """Stop supervising at exit; the servers run on."""
        if tango.Util.instance().is_svr_shutting_down():
            with tango.AutoTangoAllowThreads(self):
                self._control.end()
        super().delete_device()

    def dev_state(self) -> DevState:
        """ALARM when something is wrong, MOVING while something starts or stops, else ON."""
        states = set(self._control.states.values())
        if self._control.problem or states & {"given_up", "hung"}:
            return DevState.ALARM
        return DevState.MOVING if states & {"starting", "stopping", "backing_off"} else DevState.ON

    def dev_status(self) -> str:
        """Say what does not run."""
        states = self._control.states
        wrong = [f"{name} is {state.replace('_', ' ')}" for name, state in states.items() if state != "running"]
        problem = [self._control.problem] if self._control.problem else []
        return carried("\n".join([*problem, *wrong])) or f"{len(states)} servers are running."

    def _publish(self, names: Set[str]) -> bool:
        """Push State, Status and what is named; return whether all was pushed. For the control thread alone."""
        values = {
            "report": lambda: self._control.report,
            "history": lambda: list(self._control.history),
            "last_event": lambda: self._control.last_event,
            "log_lines": lambda: list(self._control.log_records),
            "Servers": self._servers,
            "RunningServers": lambda: self._named("running"),
            "StoppedServers": lambda: self._named(None),
            "HostState": lambda: int(self.dev_state()),
        }
        self.set_state(self.dev_state())
        self.set_status(self.dev_status())
        return push(self, {name: values[name]() for name in values.keys() & names})

    def _named(self, state: str | None) -> list[str]:
        states = self._control.states
        return sorted(name for name, one in states.items() if (one == state if state else one != "running"))

    def _servers(self) -> list[str]:
        levels = self._control.levels
        return [
            f"{name}\t{STARTER_STATES.get(state, 'FAULT')}\t1\t{levels.get(name, 0)}\t1"
            for name, state in self._control.states.items()
        ]

    @attribute(dtype=str, doc="JSON, one object per server: name, class, devices, state, pid, restarts, since, …")
    def report(self) -> str:
        """All servers of this host."""
        return self._control.report

    @attribute(dtype=(str,), max_dim_x=1000, doc="JSON, one line per start, exit and decision, oldest first")
    def history(self) -> list[str]:
        """What happened to the servers."""
        return list(self._control.history)

    @attribute(dtype=str, doc="The last line of history; each one is an event")
    def last_event(self) -> str:
        """What happened last."""
        return self._control.last_event

    @attribute(dtype=(str,), max_dim_x=1000, doc="JSON, one line per log record: time_ns, level, source, message")
    def log_lines(self) -> list[str]:
        """The latest log records of all servers."""
        return list(self._control.log_records)

    @attribute(dtype=(str,), max_dim_x=1024, doc="name, state, controlled, level, instances; as Starter has it")
    def Servers(self) -> list[str]:
        """All servers, for Astor."""
        return self._servers()

    @attribute(dtype=(str,), max_dim_x=1024)
    def RunningServers(self) -> list[str]:
        """Servers that run."""
        return self._named("running")

    @attribute(dtype=(str,), max_dim_x=1024)
    def StoppedServers(self) -> list[str]:
        """Servers that do not run."""
        return self._named(None)

    @attribute(dtype="int16")
    def HostState(self) -> int:
        """The state as a number."""
        return int(self.dev_state())

    @command(dtype_in=str, doc_in="Class/instance")
    def DevStart(self, server: str) -> None:
        """Start a server; one that was given up gets a new chance."""
        self._ask("start", server)

    @command(dtype_in=str, doc_in="Class/instance")
    def DevStop(self, server: str) -> None:
        """Stop a server: SIGTERM, and SIGKILL when it does not end."""
        self._ask("stop", server)

    @command(dtype_in=str, doc_in="Class/instance")
    def DevRestart(self, server: str) -> None:
        """Stop a server and start it again."""
        self._ask("restart", server)

    @command(dtype_in=str, doc_in="Class/instance")
    def HardKillServer(self, server: str) -> None:
        """End a server with SIGKILL: its instruments are not made safe."""
        self._ask("kill", server)

    @command(dtype_in="int16", doc_in="level")
    def DevStartAll(self, level: int) -> None:
        """Start all servers of a level."""
        for name, own in self._control.levels.items():
            if own == level:
                self._ask("start", name)

    @command(dtype_in="int16", doc_in="level")
    def DevStopAll(self, level: int) -> None:
        """Stop all servers of a level."""
        for name, own in self._control.levels.items():
            if own == level:
                self._ask("stop", name)

    @command(dtype_in=str, doc_in="Class/instance, or Starter for the history", dtype_out=str)
    def DevReadLog(self, server: str) -> str:
        """Return the end of a server's log."""
        if server == "Starter":
            return "\n".join(self._control.history)
        self._known(server)
        try:
            return carried(self._control.logs.read(server))
        except OSError as error:
            raise failed(OutOfRange(f"{server} has no log yet: {error.strerror}"), self.get_name()) from error

    @command(dtype_in=bool, dtype_out=(str,))
    def DevGetRunningServers(self, _all: bool) -> list[str]:
        """Return the servers that run."""
        return self._named("running")

    @command(dtype_in=bool, dtype_out=(str,))
    def DevGetStopServers(self, _all: bool) -> list[str]:
        """Return the servers that do not run."""
        return self._named(None)

    @command
    def UpdateServersInfo(self) -> None:
        """Read the database again: start what is new, stop what is gone."""
        self._control.reread()

    def _ask(self, what: str, server: str) -> None:
        self._known(server)
        try:
            self._control.ask(what, server)
        except OSError as error:
            reason = f"{what} of {server} is under way, but the next supervisor will not know of it: {error.strerror}"
            raise failed(BandoneonError(reason), self.get_name()) from error

    def _known(self, server: str) -> None:
        if server not in self._control.states:
            raise failed(
                OutOfRange(f"there is no server {server} on host {self._control.host}: see the attribute report"),
                self.get_name(),
            )


def carried(text: str) -> str:
    """Return text as Tango carries it, in latin-1, with "?" for the rest; JSON here is ASCII and needs none of it."""
    return text.encode("latin-1", "replace").decode("latin-1")
