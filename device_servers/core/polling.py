"""When what is polled: a pure schedule, and the one thread per line that follows it and brings the line back.

A member (a device on the line) has one clock, the shortest of its quantities' periods; at each of its ticks the
quantities whose time has come are read together. Missed ticks are skipped and counted, never caught up.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from bandoneon.errors import BandoneonError, LinkDown, TransportError
from bandoneon.logging import get_logger
from bandoneon.quantity import Quantity
from device_servers.core.transport import LATE_LIMIT_S, Line, Probe, open_transport

BACKOFF_S: Final = 0.1
BACKOFF_MAX_S: Final = 1.0
RETRY_MAX_S: Final = 5.0
"""A member that alone does not answer on a line that works is tried again at least so often."""

CLOSE_S: Final = 1.0
"""How long a loop that ends is waited for."""


@dataclass(slots=True)
class _Clock:
    period_s: float
    next_s: float
    periods_s: dict[str, float]
    due_s: dict[str, float] = field(default_factory=dict[str, float])


class Schedule:
    """Earliest deadline first over members. Pure: `now_s` comes in."""

    def __init__(self) -> None:
        self._clocks: dict[str, _Clock] = {}
        self._not_before_s: dict[str, float] = {}
        """Until when a member is left alone, also when it leaves and comes back."""
        self.missed = 0
        """Ticks that were skipped because the line was busy."""

    def add(self, member: str, periods_s: Mapping[str, float], now_s: float) -> None:
        """Poll the quantities of `member`, each in its own period; all of them at once first."""
        shortest_s = min(periods_s.values())
        self._clocks[member] = _Clock(shortest_s, now_s, dict(periods_s), dict.fromkeys(periods_s, now_s))
        self.hasten(member, now_s)

    def remove(self, member: str) -> None:
        """Poll `member` no longer."""
        self._clocks.pop(member, None)

    def hasten(self, member: str, now_s: float) -> None:
        """Let everything of `member` be due now, unless it is to be left alone; the rhythm afterwards stays."""
        if clock := self._clocks.get(member):
            clock.next_s = max(min(clock.next_s, now_s), self._not_before_s.get(member, now_s))
            clock.due_s = dict.fromkeys(clock.due_s, now_s)

    def resume(self, member: str, now_s: float) -> None:
        """Let everything of `member` be due now, after an outage in which there was nothing to poll."""
        self._not_before_s.pop(member, None)
        if clock := self._clocks.get(member):
            clock.next_s = now_s
            self.hasten(member, now_s)

    def renew(self, member: str, names: Iterable[str] | None = None) -> None:
        """Let `names` of `member`, or everything, be due at its next tick: they could not be read at this one."""
        if clock := self._clocks.get(member):
            clock.due_s |= dict.fromkeys(clock.due_s if names is None else names, -math.inf)

    def delay(self, member: str, until_s: float) -> None:
        """Leave `member` alone until then."""
        self._not_before_s[member] = until_s
        if clock := self._clocks.get(member):
            clock.next_s = max(clock.next_s, until_s)

    def next_s(self) -> float:
        """Return when the next tick is; infinite when nothing is polled."""
        return min((clock.next_s for clock in self._clocks.values()), default=math.inf)

    def take(self, now_s: float) -> tuple[str, frozenset[str]] | None:
        """Return the member whose tick has come first, and which of its quantities are due; None before the next."""
        member, clock = min(self._clocks.items(), key=lambda item: item[1].next_s, default=("", None))
        if clock is None or clock.next_s > now_s:
            return None
        missed = int((now_s - clock.next_s) / clock.period_s)
        self.missed += missed
        clock.next_s += (missed + 1) * clock.period_s
        half_a_tick_s = clock.period_s / 2
        due = frozenset(name for name, due_s in clock.due_s.items() if due_s <= now_s + half_a_tick_s)
        for name in due:
            clock.due_s[name] = now_s + clock.periods_s[name]
        return member, due


class Member(Protocol):
    """A device on a line, as the poll loop sees it. Called from the loop's thread only."""

    def line_probe(self) -> Probe:
        """Return what proves the line when this device is there; called when it is put on the line."""
        ...

    def poll_due(self, due: frozenset[str]) -> Exception | None:
        """Read what is due and publish it; return what went wrong."""
        ...

    def tell_down(self, error: BandoneonError) -> None:
        """The line is down: publish that nothing is known."""
        ...

    def fail(self, error: Exception) -> None:
        """The device itself did something wrong: publish FAULT."""
        ...

    def tend(self) -> None:
        """Publish what changed without a poll; called after each turn of the loop, at least once a second."""
        ...


class PollLoop:
    """The thread of one line. It alone polls, reconnects and publishes for the line's devices."""

    def __init__(self, line: Line, thread_context: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        self.line = line
        self.schedule = Schedule()
        self._members: dict[str, Member] = {}
        self._probes: dict[str, Probe] = {}
        self._retry_s: dict[str, float] = {}
        """How long a member is left alone when it alone does not answer the next time."""
        self._inside = ""
        """The member that is called just now."""
        self._told_down = True
        self._changed = threading.Condition()
        self._closing = False
        self._thread_context = thread_context
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> frozenset[str]:
        """The members' names."""
        return frozenset(self._members)

    def add(self, name: str, member: Member, periods: Mapping[str, float]) -> None:
        """Poll a device from now on."""
        probe = member.line_probe()
        self.line.add_probe(probe)
        with self._changed:
            self._members[name], self._probes[name] = member, probe
            self._retry_s[name] = LATE_LIMIT_S
            self.schedule.add(name, periods, time.monotonic())
            self._changed.notify_all()

    def remove(self, name: str) -> None:
        """Poll a device no longer; returns when the loop is not inside it. The thread ends with the last device."""
        with self._changed:
            self._members.pop(name, None)
            self.schedule.remove(name)
            probe = self._probes.pop(name, None)
            if probe is not None and all(probe.request != other.request for other in self._probes.values()):
                self.line.drop_probe(probe)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._inside != name)

    def start(self) -> None:
        """Begin to poll; without effect when it runs."""
        with self._changed:
            if self._thread is None and self._members:
                self._thread = threading.Thread(target=self._run, name=f"poll {self.line.url}", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End, and let go of the line; a thread that is not done in `CLOSE_S` does so when it is."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self.line.close()
        else:
            thread.join(CLOSE_S)

    def hasten(self, name: str) -> None:
        """Poll everything of a device now: something was written."""
        with self._changed:
            self.schedule.hasten(name, time.monotonic())
            self._changed.notify_all()

    def owe(self, name: str, quantities: Iterable[str]) -> None:
        """What a device could not read now is due again at its next poll."""
        with self._changed:
            self.schedule.renew(name, quantities)

    def wake(self) -> None:
        """Let the devices publish what changed without a poll."""
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        with self._thread_context():
            backoff_s = BACKOFF_S
            while self._next_turn():
                try:
                    if self.line.connected:
                        self._poll_next()
                    else:
                        backoff_s = self._reconnect(backoff_s)
                except Exception as error:  # noqa: BLE001  without this thread nobody would be polled any more
                    self._log(error)
                    self._pause(backoff_s)
                self._tend()
        if self._closing:
            self.line.close()

    def _next_turn(self) -> bool:
        """Return whether there is anybody to poll; the thread ends when there is not."""
        with self._changed:
            if not self._members:
                self._thread = None
            return self._thread is not None

    def _pause(self, longest_s: float) -> None:
        """Wait until something changed."""
        with self._changed:
            self._changed.wait(longest_s)

    def _tend(self) -> None:
        for name in list(self._members):
            self._visit(name, lambda member: member.tend())

    def _visit(self, name: str, act: Callable[[Member], Exception | None]) -> Exception | None:
        """Let a member act unless it has left, and return what went wrong.

        What it does wrong is its own FAULT, and never the end of the others' polling.
        """
        with self._changed:
            member = self._members.get(name)
            if member is None:
                return None
            self._inside = name
        try:
            return act(member)
        except Exception as error:  # noqa: BLE001
            try:
                member.fail(error)
            except Exception as another:  # noqa: BLE001
                self._log(another)
            return error
        finally:
            with self._changed:
                self._inside = ""
                self._changed.notify_all()

    def _log(self, error: Exception) -> None:
        get_logger().error("internal error", url=self.line.url, reason=str(error), exc_info=error)

    def _tell_down(self, problem: object) -> None:
        """Tell everybody on the line that nothing is known."""
        self._told_down = True
        down = LinkDown(f"no connection to the instrument at {self.line.url}: {problem}")
        for name in list(self._members):
            self._visit(name, lambda member: member.tell_down(down))

    def _reconnect(self, backoff_s: float) -> float:
        """Try once to bring the line back; return how long to wait after the next failure."""
        if not self._told_down:
            # before the line is tried, which takes seconds after a time-out
            self._tell_down(self.line.problem)
            return backoff_s
        try:
            self.line.reconnect(self._meanwhile)
        except Exception as error:  # noqa: BLE001  what was not foreseen is no connection either
            if not isinstance(error, BandoneonError):
                self._log(error)
            self._tell_down(error)
            self._pause(backoff_s)
            return min(backoff_s * 2, BACKOFF_MAX_S)
        self._told_down = False
        with self._changed:
            for name in self._members:
                self._retry_s[name] = LATE_LIMIT_S
                self.schedule.resume(name, time.monotonic())
        return BACKOFF_S

    def _meanwhile(self) -> None:
        """While the line is brought back; the attempt ends when the loop does."""
        if self._closing:
            raise LinkDown("closed")
        self._tend()

    def _poll_next(self) -> None:
        with self._changed:
            now_s = time.monotonic()
            taken = self.schedule.take(now_s)
            if taken is None:
                self._changed.wait(min(self.schedule.next_s() - now_s, 1.0))
                return
            name, due = taken
        error = self._visit(name, lambda member: member.poll_due(due))
        if error is None:
            self._retry_s[name] = LATE_LIMIT_S
            return
        with self._changed:
            self.schedule.renew(name)
        if isinstance(error, TransportError):
            self._bring_back_for_others(name)

    def _bring_back_for_others(self, name: str) -> None:
        """One member did not answer. If the line itself works the others go on, and it is tried less and less often."""
        failed = self._probes.get(name)
        if failed is None or self._members.keys() <= {name}:
            return
        try:
            self.line.reconnect_briefly(failed)
        except BandoneonError as error:
            self._tell_down(error)
            return
        with self._changed:
            self.schedule.delay(name, time.monotonic() + self._retry_s[name])
            self._retry_s[name] = min(2 * self._retry_s[name], RETRY_MAX_S)


def periods_s(quantities: Iterable[Quantity], default_s: float, exceptions: Iterable[str]) -> dict[str, float]:
    """Return how often each readable quantity is polled: `exceptions` are `name=period in s`; raise ValueError."""
    found = {quantity.name: quantity.period_s or default_s for quantity in quantities if quantity.readable}
    for entry in exceptions:
        name, _, period = entry.partition("=")
        if name not in found:
            raise ValueError(f"quantity_periods_s: {name!r} is none of {', '.join(found)}")
        found[name] = float(period)
    if any(period_s <= 0 for period_s in found.values()):
        raise ValueError("a poll period has to be above 0 s")
    return found


_loops: dict[str, PollLoop] = {}
_loops_lock = threading.Lock()
_started = threading.Event()


def loop_for(
    url: str, probe: Probe, thread_context: Callable[[], contextlib.AbstractContextManager[object]]
) -> PollLoop:
    """Return the loop of the line at `url`: devices of a process with the same connection share one.

    Lines that no device uses any more are closed: the one that left came back with another connection.
    """
    with _loops_lock:
        loop = _loops.get(url)
        if loop is None:
            loop = _loops[url] = PollLoop(open_transport(url, probe=probe), thread_context)
        unused = [other for other in _loops.values() if other is not loop and not other.names]
        for other in unused:
            del _loops[other.line.url]
    for other in unused:
        other.close()
    return loop


def start_loops() -> None:
    """Begin to poll on every line of this process: when all devices have their attributes, and not before."""
    _started.set()
    with _loops_lock:
        loops = list(_loops.values())
    for loop in loops:
        loop.start()


def join(loop: PollLoop, name: str, member: Member, periods: Mapping[str, float]) -> None:
    """Put a device on a line; it is polled at once when the server runs already (`Init`, `RestartServer`)."""
    loop.add(name, member, periods)
    if _started.is_set():
        loop.start()


def leave(loop: PollLoop, name: str, *, keep_open: bool = False) -> None:
    """Take a device off its line; the last one closes it, unless it comes back at once (`Init`)."""
    loop.remove(name)
    with _loops_lock:
        last = not loop.names and not keep_open
        if last:
            _loops.pop(loop.line.url, None)
    if last:
        loop.close()
