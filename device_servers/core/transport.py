"""The line to an instrument: one exchange at a time, whole replies, and never an old reply for a new question.

After any time-out or broken link a transport is disconnected: every call fails at once with `LinkDown` until the poll
loop's `reconnect` has reopened the link, thrown away what came for `LATE_LIMIT_S` after the time-out, and had the
instrument's probe answered. So a late reply is never taken for the next answer, also behind a serial-to-Ethernet
bridge that keeps bytes across connections.

Whoever uses a line takes its turn first (`turn`): Stop goes ahead of writes, writes ahead of polls, and one verb of a
driver is one turn. A turn is never held while something moves. A client's call ends within `CALL_S` (ADR 12).
"""

import contextlib
import heapq
import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from bandoneon.errors import LinkDown, ProtocolError, ReplyTimeout, TransportError
from device_servers.core.framing import Framer
from device_servers.core.links import CONNECT_TIMEOUT_S, Link, check_url, open_link

QUIET_S: Final = 0.1
"""A line is quiet when nothing came for so long."""

DRAIN_LIMIT_S: Final = 2.0
"""A line that is still not quiet after so long is no use."""

LATE_LIMIT_S: Final = 2.0
"""A reply that comes so long after its time-out, at most, is never taken for the answer to a later question."""

BRIEF_S: Final = 0.2
"""How long other instruments of a shared line are asked for a sign of life when one has not answered: enough for the
shortest question of an Elliptec mount at 50 bytes a second (0.15 s)."""

CALL_S: Final = 0.45
"""How long a client's call takes at most, in all: waiting for its turn, for a brief reconnect, for the reply. A driver
that gives a reply longer than that gets what it asks for."""

REPLY_S: Final = 0.15
"""What has to be left of that for the reply: a call that has waited longer for the line is not sent any more."""

KEPT_FRAMES: Final = 64
"""How many frames that answered no question are kept for `receive`."""

Accept = Callable[[bytes], bool]
Trace = Callable[[str, bytes], None]
"""Called with "sent", "received", "dropped" or "protocol_error", and the bytes."""


class Priority(IntEnum):
    """Who goes first when several wait for the line."""

    STOP = 0
    WRITE = 1
    POLL = 2


@dataclass(slots=True)
class LinkStats:
    """What happened on a line since it was made."""

    exchanges: int = 0
    timeouts: int = 0
    reconnects: int = 0
    protocol_errors: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A harmless question that proves the line.

    `accept` must reject every other legal reply of the instrument.
    """

    request: bytes
    reply: Framer
    accept: Accept
    timeout_s: float = 0.5


class Transport(Protocol):
    """What a driver sees of the line. Every call raises LinkDown at once while there is no connection."""

    stats: LinkStats

    def exchange(self, request: bytes, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Send `request` and return its reply, the first complete frame that `accept` takes.

        Without `accept` whatever was received before is thrown away first; with it, other frames are kept for
        `receive`. Raises ReplyTimeout, LinkDown, ProtocolError.
        """
        ...

    def send(self, request: bytes) -> None:
        """Send a request that has no reply; raise LinkDown."""
        ...

    def receive(self, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Return a frame that was not asked for; raise ReplyTimeout when none came, which says nothing of the line."""
        ...

    def turn(self, priority: Priority) -> contextlib.AbstractContextManager[None]:
        """Hold the line for several exchanges; a thread that holds it may take it again."""
        ...

    def protocol_error(self, error: ProtocolError) -> None:
        """Count a reply that did not fit; the line is drained before the next question."""
        ...


class _Turns:
    """A lock that is given to the most urgent waiter, then to the one who waits longest. Reentrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._owner: int | None = None
        self._priority: Priority | None = None
        self._depth = 0
        self._asked_s = 0.0

    @property
    def held(self) -> Priority | None:
        """With what priority the calling thread holds the line; None when it does not."""
        return self._priority if self._owner == threading.get_ident() else None

    @property
    def asked_s(self) -> float:
        """When the calling thread asked for the line that it holds; now when it does not hold it."""
        return self._asked_s if self._owner == threading.get_ident() else time.monotonic()

    def acquire(self, priority: Priority, timeout_s: float | None) -> bool:
        """Wait for the line, at most `timeout_s`; return whether the calling thread holds it."""
        me, asked_s = threading.get_ident(), time.monotonic()
        with self._condition:
            if self._owner == me:
                self._depth += 1
                return True
            ticket = (int(priority), next(self._numbers))
            heapq.heappush(self._waiting, ticket)
            mine = self._condition.wait_for(lambda: self._owner is None and self._waiting[0] == ticket, timeout_s)
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            if mine:
                self._owner, self._priority, self._depth, self._asked_s = me, priority, 1, asked_s
            else:
                self._condition.notify_all()
            return mine

    def release(self) -> None:
        with self._condition:
            self._depth -= 1
            if self._depth == 0:
                self._owner = None
                self._condition.notify_all()


class Line:
    """The one implementation of `Transport`, for every kind of link."""

    def __init__(self, url: str, probe: Probe) -> None:
        check_url(url)
        self.url = url
        self.stats = LinkStats()
        self.trace: Trace | None = None
        self.connected = False
        self.problem = "not connected yet"
        """Why there is no connection."""
        self._probes = OrderedDict({probe.request: probe})
        """Of instruments that should be on the line; those that were answered last come first."""
        self._guesses: dict[bytes, Probe] = {}
        self._link: Link | None = None
        self._received = b""
        self._kept: list[bytes] = []
        self._suspect = False
        self._late_until_s = 0.0
        """Until then a reply to a question that was given up may come."""
        self._proven_once = False
        self.generation = 0
        """Counts the connections that were made anew: whoever talks to the instrument has to greet it again."""
        self._renewing = threading.Lock()
        """Held while the link is made anew; nobody ever waits for it."""
        self._settled = threading.Event()
        """Not set while one of several instruments has not answered, and it is not known whether the others do."""
        self._settled.set()
        self._turns = _Turns()

    @contextlib.contextmanager
    def turn(self, priority: Priority) -> Generator[None]:
        """Hold the line; see `Transport`. A write that does not get it in time raises LinkDown."""
        patience_s = CALL_S - REPLY_S if priority is Priority.WRITE else None
        if not self._turns.acquire(priority, patience_s):
            raise LinkDown(f"the line {self.url} was not free for {patience_s:g} s: nothing was sent, try again")
        try:
            yield
        finally:
            self._turns.release()

    def exchange(self, request: bytes, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Send `request` and return its reply; see `Transport`."""
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            if self._budget_s(timeout_s) - self._suspect * QUIET_S < min(timeout_s, REPLY_S):
                raise ReplyTimeout(f"no time was left to ask {request!r} at {self.url}: it was not sent, try again")
            try:
                if self._suspect:
                    self._drain(link, limit_s=self._left_s(CALL_S))
                elif accept is None:
                    self._discard(link)
                self.stats.exchanges += 1
                return self._ask(link, request, reply, self._left_s(timeout_s), accept)
            except TransportError as error:
                self.stats.timeouts += isinstance(error, ReplyTimeout)
                self._lose(str(error))
                raise

    def send(self, request: bytes) -> None:
        """Send a request that has no reply; see `Transport`.

        In a turn of Stop it is tried on a broken line too, and LinkDown is raised when it does not arrive there.
        """
        if not self.connected and self._turns.held == Priority.STOP:
            self._send_unproven(request)
            return
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            try:
                self.stats.exchanges += 1
                self._write(link, request)
                if self._turns.held is Priority.STOP:
                    link.confirm()
            except LinkDown as error:
                self._lose(str(error))
                raise

    def receive(self, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Return a frame that was not asked for; see `Transport`."""
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            for index, frame in enumerate(self._kept):
                if accept is None or accept(frame):
                    return self._kept.pop(index)
            try:
                return self._await(link, b"", reply, timeout_s, accept)
            except LinkDown as error:
                self._lose(str(error))
                raise

    def _send_unproven(self, request: bytes) -> None:
        """Send over a line that is not proven, or that can be opened at least: replies may be broken, not requests."""
        deadline_s = max(self._turns.asked_s + CALL_S, time.monotonic() + REPLY_S)
        while True:
            link = self._link
            try:
                if link is not None:
                    self._write(link, request)
                    link.confirm()
                    return
                own = open_link(self.url, max(QUIET_S, deadline_s - time.monotonic()))
                try:
                    self._write(own, request)
                    own.confirm()
                finally:
                    own.close()
                return
            except LinkDown as error:
                # the poll loop may have the port at this moment, or have closed it under our hands
                if time.monotonic() > deadline_s:
                    raise LinkDown(f"nothing can be sent to {self.url}: {error}") from error
            time.sleep(QUIET_S / 10)

    def protocol_error(self, error: ProtocolError) -> None:
        """Count a reply that did not fit; see `Transport`."""
        self.stats.protocol_errors += 1
        self._suspect = True
        self._traced("protocol_error", error.received)

    def reconnect(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Reopen the link, wait out late replies and have a probe answered; raise what went wrong.

        Only the poll loop calls this, and nobody else waits for it: until it is done every other call fails at once.
        It may take seconds: `meanwhile` is called several times a second, and what it raises ends the attempt.
        """
        self._settled.set()
        with self._renewing:
            self._renew(CONNECT_TIMEOUT_S, lambda link: self._wait_out_and_prove(link, meanwhile))

    def reconnect_briefly(self, failed: Probe) -> None:
        """Have another instrument than the one of `failed`, which did not answer, prove the line within `BRIEF_S`.

        Raises what went wrong. Other calls wait for this, and need not greet their instruments again. The one that
        failed has to be left alone for `LATE_LIMIT_S`: its late reply is not waited out. The replies of instruments
        that share a line tell whose they are.
        """
        self._put_last(failed)
        others = [probe for probe in self._probes.values() if probe.request != failed.request]
        try:
            with self._renewing:
                self._renew(BRIEF_S, lambda link: self._prove(link, others, BRIEF_S))
        finally:
            self._settled.set()

    def _renew(self, open_s: float, prove: Callable[[Link], None]) -> None:
        """Make the link anew."""
        self._close_link()
        try:
            link = self._link = open_link(self.url, open_s)
            self._received, self._suspect = b"", False
            prove(link)
        except Exception as error:
            self._disconnect(str(error))
            raise
        self.stats.reconnects += self._proven_once
        self._proven_once = True
        self.problem = ""
        self.connected = True

    def _wait_out_and_prove(self, link: Link, meanwhile: Callable[[], None]) -> None:
        self._drain(link, self._late_until_s, meanwhile)
        guesses = [guess for request, guess in self._guesses.items() if request not in self._probes]
        self._prove(link, [*self._probes.values(), *guesses], math.inf, meanwhile)
        self._kept.clear()
        self.generation += 1

    def add_probe(self, probe: Probe) -> None:
        """Let another instrument on this line prove it too: one that answers is enough."""
        known = self._probes.get(probe.request)
        if known is None or known.timeout_s < probe.timeout_s:
            self._probes[probe.request] = probe

    def drop_probe(self, probe: Probe) -> None:
        """Its instrument is no longer asked to prove this line."""
        self._probes.pop(probe.request, None)

    def add_guess(self, probe: Probe) -> None:
        """Let an instrument prove this line of which nobody knows whether it is there.

        It is asked after all others, and only when there is time, until it has answered once.
        """
        self._guesses[probe.request] = probe

    def close(self) -> None:
        """Let go of the link; later calls fail with LinkDown. Without effect while the link is being made anew."""
        with self.turn(Priority.STOP):
            if self._renewing.acquire(blocking=False):
                try:
                    self._disconnect("closed")
                finally:
                    self._renewing.release()

    def _prove(
        self, link: Link, probes: Iterable[Probe], within_s: float, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Have one of `probes` answered; it comes first the next time, and those that were not come last."""
        deadline_s = time.monotonic() + within_s
        problem: Exception = LinkDown(f"no other instrument is known at {self.url}")
        for probe in probes:
            timeout_s = min(probe.timeout_s, deadline_s - time.monotonic())
            if timeout_s <= 0:
                break
            try:
                self._ask(link, probe.request, probe.reply, timeout_s, probe.accept)
            except ReplyTimeout as error:
                problem = error
                self._put_last(probe)
            else:
                self.add_probe(probe)
                self._probes.move_to_end(probe.request, last=False)
                return
            meanwhile()
        raise problem

    def _put_last(self, probe: Probe) -> None:
        with contextlib.suppress(KeyError):  # a guess, or its device has left meanwhile
            self._probes.move_to_end(probe.request)

    def _need_connection(self) -> Link:
        self._settled.wait(max(0.0, self._turns.asked_s + CALL_S - REPLY_S - time.monotonic()))
        link = self._link
        if not self.connected or link is None:
            raise LinkDown(f"no connection to the instrument at {self.url}: {self.problem}")
        return link

    def _budget_s(self, timeout_s: float) -> float:
        """How long a client's call may still take, with a reply that is given `timeout_s`; others may take for ever."""
        if self._turns.held is not Priority.WRITE:
            return math.inf
        return self._turns.asked_s + max(CALL_S, timeout_s) - time.monotonic()

    def _left_s(self, timeout_s: float) -> float:
        """How long a reply may take that is given `timeout_s`."""
        return min(timeout_s, self._budget_s(timeout_s))

    def _lose(self, problem: str) -> None:
        """Disconnect. When a poll on a shared line was not answered the others may still be there."""
        if self._turns.held is Priority.POLL and len(self._probes) > 1:
            self._settled.clear()
        self._disconnect(problem)

    def _disconnect(self, problem: str) -> None:
        # in this order: the poll loop makes the link anew as soon as it is not connected
        self.problem = problem
        self._close_link()
        self.connected = False

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _write(self, link: Link, request: bytes) -> None:
        self._traced("sent", request)
        link.write(request)

    def _ask(self, link: Link, request: bytes, reply: Framer, timeout_s: float, accept: Accept | None) -> bytes:
        self._write(link, request)
        try:
            return self._await(link, request, reply, timeout_s, accept)
        except ReplyTimeout:
            self._late_until_s = time.monotonic() + LATE_LIMIT_S
            raise

    def _await(self, link: Link, request: bytes, reply: Framer, timeout_s: float, accept: Accept | None) -> bytes:
        """Return the first whole frame that `accept` takes; others are kept."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            frame = self._next_frame(reply)
            if frame and (accept is None or accept(frame)):
                self._traced("received", frame)
                return frame
            if frame:
                self._traced("received", frame)
                self._kept = [*self._kept, frame][-KEPT_FRAMES:]
                continue
            left_s = deadline_s - time.monotonic()
            data = link.read(max(0.0, left_s))
            if not data and left_s <= 0:
                raise ReplyTimeout(f"no complete reply to {request!r} within {timeout_s:g} s at {self.url}")
            self._received += data

    def _next_frame(self, reply: Framer) -> bytes:
        if not self._received:
            return b""
        try:
            length = reply(self._received)
        except ProtocolError as error:
            self._received = b""
            self.protocol_error(error)
            raise
        frame, self._received = self._received[:length], self._received[length:]
        return frame

    def _discard(self, link: Link) -> None:
        """Throw away what was received unasked."""
        old, self._received = self._received, b""
        self._kept.clear()
        while data := link.read(0.0):
            old += data
        if old:
            self._traced("dropped", old)

    def _drain(
        self,
        link: Link,
        until_s: float = 0.0,
        meanwhile: Callable[[], None] = lambda: None,
        limit_s: float = DRAIN_LIMIT_S,
    ) -> None:
        """Throw away what comes until then, and until nothing came for `QUIET_S`.

        Raises LinkDown when it has not ended `limit_s` later.
        """
        self._discard(link)
        deadline_s = max(time.monotonic(), until_s) + limit_s
        while (data := link.read(QUIET_S)) or time.monotonic() < until_s:
            if data:
                self._traced("dropped", data)
            if time.monotonic() > deadline_s:
                raise LinkDown(f"{self.url} never falls silent: does something else talk on this line?")
            meanwhile()
        self._suspect = False

    def _traced(self, what: str, data: bytes) -> None:
        if self.trace is not None:
            self.trace(what, data)


def open_transport(url: str, *, probe: Probe) -> Line:
    """Return a transport for a connection URL, not connected yet; raise ValueError when it can never be right."""
    return Line(url, probe)
