"""The line to an instrument: one exchange at a time, whole replies, and never an old reply for a new question.

After any time-out or broken link a transport is disconnected: every call fails at once with `LinkDown` until the poll
loop's `reconnect` has reopened the link, drained it until it was quiet, and had the instrument's probe answered. So a
late reply is thrown away, also behind a serial-to-Ethernet bridge that keeps bytes across connections.

Whoever uses a line takes its turn first (`turn`): Stop goes ahead of writes, writes ahead of polls, and one verb of a
driver is one turn. A turn is never held while something moves.
"""

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol, TypeVar

from bandoneon.errors import LinkDown, ProtocolError, ReplyTimeout
from device_servers.core.framing import Framer
from device_servers.core.links import Link, check_url, open_link

QUIET_S: Final = 0.1
"""A line is quiet when nothing came for so long."""

DRAIN_LIMIT_S: Final = 2.0
"""A line that is still not quiet after so long is no use."""

URGENT_S: Final = 0.3
"""How long a Stop tries to get through on a broken line, and others wait for one that is being resynchronised."""

KEPT_FRAMES: Final = 64
"""How many frames that answered no question are kept for `receive`."""

Accept = Callable[[bytes], bool]
T = TypeVar("T")
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

    @property
    def held(self) -> Priority | None:
        """With what priority the calling thread holds the line; None when it does not."""
        return self._priority if self._owner == threading.get_ident() else None

    def acquire(self, priority: Priority) -> None:
        me = threading.get_ident()
        with self._condition:
            if self._owner == me:
                self._depth += 1
                return
            ticket = (int(priority), next(self._numbers))
            heapq.heappush(self._waiting, ticket)
            self._condition.wait_for(lambda: self._owner is None and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._owner, self._priority, self._depth = me, priority, 1

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
        self._probes = [probe]
        self._link: Link | None = None
        self._received = b""
        self._kept: list[bytes] = []
        self._suspect = False
        self._proven_once = False
        self.generation = 0
        """Counts the connections that were made anew: whoever talks to the instrument has to greet it again."""
        self._brief = False
        self._turns = _Turns()

    @contextlib.contextmanager
    def turn(self, priority: Priority) -> Generator[None]:
        """Hold the line; see `Transport`."""
        self._turns.acquire(priority)
        try:
            yield
        finally:
            self._turns.release()

    def exchange(self, request: bytes, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Send `request` and return its reply; see `Transport`."""
        self._need_connection()
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            try:
                if self._suspect:
                    self._drain(link)
                elif accept is None:
                    self._discard(link)
                self.stats.exchanges += 1
                self._write(link, request)
                return self._await(link, request, reply, timeout_s, accept)
            except ReplyTimeout as error:
                self.stats.timeouts += 1
                self._disconnect(str(error))
                raise
            except LinkDown as error:
                self._disconnect(str(error))
                raise

    def send(self, request: bytes) -> None:
        """Send a request that has no reply; see `Transport`. In a turn of Stop it is tried on a broken line too."""
        if not self.connected and self._turns.held == Priority.STOP:
            self._send_unproven(request)
            return
        self._need_connection()
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            try:
                self.stats.exchanges += 1
                self._write(link, request)
            except LinkDown as error:
                self._disconnect(str(error))
                raise

    def receive(self, *, reply: Framer, timeout_s: float, accept: Accept | None = None) -> bytes:
        """Return a frame that was not asked for; see `Transport`."""
        self._need_connection()
        with self.turn(Priority.WRITE):
            link = self._need_connection()
            for index, frame in enumerate(self._kept):
                if accept is None or accept(frame):
                    return self._kept.pop(index)
            try:
                return self._await(link, b"", reply, timeout_s, accept)
            except LinkDown as error:
                self._disconnect(str(error))
                raise

    def _send_unproven(self, request: bytes) -> None:
        """Send over a line that is not proven, or that can be opened at least: replies may be broken, not requests."""
        deadline_s = time.monotonic() + URGENT_S
        while True:
            link = self._link
            try:
                if link is not None:
                    self._write(link, request)
                    return
                own = open_link(self.url)
                try:
                    self._write(own, request)
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

    def reconnect(self, *, brief: bool = False) -> None:
        """Reopen the link, drain it until it is quiet and have a probe answered; raise what went wrong.

        Only the poll loop calls this, and nobody else waits for it: until it is done every other call fails at once.
        `brief`: one of several instruments did not answer and the line is most likely well; then others wait a moment,
        and need not greet their instruments again.
        """
        self._brief = brief
        try:
            self._reconnect()
        finally:
            self._brief = False
        self.generation += not brief

    def _reconnect(self) -> None:
        self._close_link()
        try:
            link = self._link = open_link(self.url)
            self._received, self._kept, self._suspect = b"", [], False
            if self._proven_once:
                self._drain(link)
            else:
                self._discard(link)
            self._prove(link)
            if self._proven_once:
                # the accepted reply may have been a late one to an earlier probe; then this one's is still to come
                self._drain(link)
        except Exception as error:
            self._disconnect(str(error))
            raise
        self._kept.clear()
        self.stats.reconnects += self._proven_once
        self._proven_once = True
        self.connected = True
        self.problem = ""

    def add_probe(self, probe: Probe) -> None:
        """Let another instrument on this line prove it too: one that answers is enough."""
        if all(probe.request != known.request for known in self._probes):
            self._probes.append(probe)

    def close(self) -> None:
        """Let go of the link; later calls fail with LinkDown."""
        with self.turn(Priority.STOP):
            self._disconnect("closed")

    def _prove(self, link: Link) -> None:
        """Have a probe answered; the one that was is the first the next time."""
        for probe in tuple(self._probes):
            self._write(link, probe.request)
            try:
                self._await(link, probe.request, probe.reply, probe.timeout_s, probe.accept)
            except ReplyTimeout:
                if probe == self._probes[-1]:
                    raise
            else:
                self._probes.remove(probe)
                self._probes.insert(0, probe)
                return

    def _need_connection(self) -> Link:
        deadline_s = time.monotonic() + URGENT_S
        while self._brief and time.monotonic() < deadline_s:
            time.sleep(QUIET_S / 10)
        link = self._link
        if not self.connected or link is None:
            raise LinkDown(f"no connection to the instrument at {self.url}: {self.problem}")
        return link

    def _disconnect(self, problem: str) -> None:
        self.connected = False
        self.problem = problem
        self._close_link()

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _write(self, link: Link, request: bytes) -> None:
        self._traced("sent", request)
        link.write(request)

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

    def _drain(self, link: Link) -> None:
        """Throw away what comes until nothing came for `QUIET_S`; raise LinkDown when it does not end."""
        self._discard(link)
        deadline_s = time.monotonic() + DRAIN_LIMIT_S
        while data := link.read(QUIET_S):
            self._traced("dropped", data)
            if time.monotonic() > deadline_s:
                raise LinkDown(f"{self.url} never falls silent: does something else talk on this line?")
        self._suspect = False

    def _traced(self, what: str, data: bytes) -> None:
        if self.trace is not None:
            self.trace(what, data)


def ask(transport: Transport, exchange: Callable[[], bytes], decode: Callable[[bytes], T], *, attempts: int = 1) -> T:
    """Return what `decode` makes of the reply that `exchange` gets.

    A reply that does not fit is counted. It is asked for again until there were `attempts`, which only a query may
    have more than one of; then its ProtocolError is raised.
    """
    while True:
        reply = exchange()
        try:
            return decode(reply)
        except ProtocolError as error:
            transport.protocol_error(error)
            attempts -= 1
            if attempts <= 0:
                raise


def open_transport(url: str, *, probe: Probe) -> Line:
    """Return a transport for a connection URL, not connected yet; raise ValueError when it can never be right."""
    return Line(url, probe)
