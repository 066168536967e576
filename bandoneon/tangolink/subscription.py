"""Event subscriptions that survive the death of servers, and are quick about it.

Tango's own recovery of a subscription takes 8 to 18 s after a restart. `ServerWatch` pings a server's admin device
twice a second and says when it came and went; whoever subscribes then is back about a second after a kill -9.
`Subscription` puts both together for some attributes; the archiver uses the two parts by themselves.

Events go into unbounded pull queues (bounded ones lose silently), which the owner empties from one thread. Sockets hold
`HIGH_WATER_MARK` events; call `raise_high_water_mark` before the first subscription of the process.
"""

import contextlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, Self, cast

import tango

from bandoneon.logging import get_logger
from bandoneon.tangolink.proxy import device, sentence, timed_out

PING_PERIOD_S: Final = 0.5
PING_TIMEOUT_S: Final = 1.0
PATIENCE_S: Final = 3.0
"""A server may be silent so long, since it is busy or its machine is, before it counts as gone."""

HIGH_WATER_MARK: Final = 100_000
"""Events a socket keeps for a reader that is behind; Tango's default of 1000 loses bursts."""

_UNBOUNDED: Final = 0
_DATABASE_EVERY: Final = 4  # pings
_STARTED: Final = re.compile(r"(\d+)(?:st|nd|rd|th)? (\w+) (\d{4}) at (\d+:\d+:\d+)")
_STARTED_NUMBERS: Final = re.compile(r"(\d+-\d+-\d{4}) at (\d+:\d+:\d+)")


def raise_high_water_mark() -> None:
    """Let this process's event sockets hold bursts; without effect after the first subscription."""
    os.environ.setdefault("TANGO_EVENT_BUFFER_HWM", str(HIGH_WATER_MARK))


@dataclass(frozen=True, slots=True)
class ServerRun:
    """One run of a server, from start to exit. `started_ns`: as the database has it, else when it was first seen."""

    server: str
    pid: int
    started_ns: int


def server_of(device_name: str) -> str:
    """Return the server ("Class/instance") of a device, from the database; DevFailed if there is none."""
    return cast("str", tango.Database().get_device_info(device_name).ds_full_name)


class ServerWatch:
    """Pings a server from a thread of its own, and calls, from that thread:

    `came(run)` when it answers, first or again: subscribe now;
    `went(reason)` after each `came`, when it stopped answering, was restarted, or `came` or `tend` raised something;
    `tend()` after each ping that was answered.

    `heard()`: when (steady clock, s) something last came from the server by another way. A server that only is silent
    is gone when nothing was heard of it for `PATIENCE_S`; one that refuses the connection is gone at once.
    """

    def __init__(
        self,
        server: str,
        came: Callable[[ServerRun], None],
        went: Callable[[str], None],
        tend: Callable[[], None] = lambda: None,
        heard: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.server = server
        self.reason = "not seen yet"
        self._came = came
        self._went = went
        self._tend = tend
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {server}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns at once."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended (after `stop`: a time-out of a call at most)."""
        self._thread.join()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while not self._stopping.is_set():
                run, failed = None, True
                try:
                    # a new proxy each time: one that failed refuses to try again for a second
                    admin = device(f"dserver/{self.server}", PING_TIMEOUT_S)
                    admin.ping()
                    run = self._identify()
                    self._came(run)
                    self.reason = self._attend(admin, run)
                    failed = False
                except tango.DevFailed as error:
                    self.reason = sentence(error, self.server)
                except Exception as error:  # noqa: BLE001  whatever it is, the server is watched on
                    self.reason = sentence(error)
                    get_logger().error("watching a server failed", server=self.server, exc_info=error)
                if run is not None and not self._stopping.is_set():
                    self._went(self.reason)
                if failed:
                    self._stopping.wait(PING_PERIOD_S)

    def _attend(self, admin: tango.DeviceProxy, run: ServerRun) -> str:
        """Ping until the server goes; return why it is gone."""
        answered_s = time.monotonic()
        for count in itertools.count():
            if self._stopping.wait(PING_PERIOD_S):
                break
            try:
                admin.ping()
            except tango.DevFailed as error:
                silent_s = time.monotonic() - max(answered_s, self._heard())
                if timed_out(error) and silent_s < PATIENCE_S:
                    continue
                return sentence(error, self.server)
            answered_s = time.monotonic()
            self._tend()
            if count % _DATABASE_EVERY == 0 and self._restarted(run):
                return f"{self.server} was restarted"
        return "no longer watched"

    def _identify(self) -> ServerRun:
        info = tango.Database().get_device_info(f"dserver/{self.server}")
        return ServerRun(self.server, info.pid, started_ns(info.started_date) or time.time_ns())

    def _restarted(self, run: ServerRun) -> bool:
        try:
            return self._identify().pid != run.pid
        except tango.DevFailed:
            # the database is away: nothing is known, and the server answers
            return False


def started_ns(date: str) -> int:
    """Return a start date of the Tango database in ns since 1970; 0 for one that cannot be read.

    MariaDB's server writes "23rd November 2026 at 15:40:01", the sqlite one "23-11-2026 at 15:40:01", local time both.
    """
    if match := _STARTED_NUMBERS.match(date):
        when, layout = " ".join(match.groups()), "%d-%m-%Y %H:%M:%S"
    elif match := _STARTED.match(date):
        when, layout = " ".join(match.groups()), "%d %B %Y %H:%M:%S"
    else:
        return 0
    return int(datetime.strptime(when, layout).astimezone(UTC).timestamp()) * 10**9


class PullQueue:
    """One subscription whose events wait in an unbounded queue. One thread at a time uses it.

    The first event is the attribute's present value. Raises DevFailed when the server refuses, with reason
    API_AttributePollingNotStarted for an attribute that pushes no such events.
    """

    def __init__(self, proxy: tango.DeviceProxy, attribute: str, event: tango.EventType) -> None:
        self.heard_s = 0.0
        """When (steady clock, s) a value last came, as far as it was taken."""
        self._proxy = proxy
        self._id = proxy.subscribe_event(attribute, event, _UNBOUNDED)

    def take(self) -> list[Any]:
        """Return what came since the last call, oldest first: EventData or AttrConfEventData."""
        if self._proxy.is_event_queue_empty(self._id):
            return []
        events = cast("list[Any]", self._proxy.get_events(self._id))
        if any(not event.err for event in events):
            self.heard_s = time.monotonic()
        return events

    def close(self) -> None:
        """Unsubscribe; what was not taken is gone."""
        # refused only when the server is gone, and its subscriptions with it
        with contextlib.suppress(tango.DevFailed):
            self._proxy.unsubscribe_event(self._id)


class Event(NamedTuple):
    """Something about an attribute: `value` (DeviceAttribute), or `error` in words."""

    attribute: str
    value: Any
    error: str


class Subscription:
    """The events of some attributes, whatever happens to their servers.

    `take` returns what came, and one Event with an error when a server goes away or refuses.
    """

    def __init__(self, attributes: Iterable[str], event: tango.EventType) -> None:
        raise_high_water_mark()
        self._event = event
        self._lock = threading.Lock()
        self._queues: dict[str, PullQueue] = {}
        self._notes: list[Event] = []
        self._watches: list[ServerWatch] = []
        by_server: dict[str, list[str]] = {}
        for name in attributes:
            by_server.setdefault(server_of(name.rpartition("/")[0]), []).append(name)
        for server, names in by_server.items():
            heard = partial(self._heard, names)
            self._watches.append(ServerWatch(server, self._subscriber(names), self._leaver(names), heard=heard))
        for watch in self._watches:
            watch.start()

    def take(self) -> list[Event]:
        """Return what came since the last call; never waits."""
        with self._lock:
            found, self._notes = self._notes, []
            for name, queue in self._queues.items():
                found += [_event(name, data) for data in queue.take()]
        return found

    def _heard(self, names: Iterable[str]) -> float:
        with self._lock:
            return max((self._queues[name].heard_s for name in names if name in self._queues), default=0.0)

    def _subscriber(self, names: list[str]) -> Callable[[ServerRun], None]:
        def came(_run: ServerRun) -> None:
            for name in names:
                device_name, _slash, attribute = name.rpartition("/")
                try:
                    queue = PullQueue(device(device_name), attribute, self._event)
                except tango.DevFailed as error:
                    with self._lock:
                        self._notes.append(Event(name, None, sentence(error, name)))
                    continue
                with self._lock:
                    self._queues[name] = queue

        return came

    def _leaver(self, names: list[str]) -> Callable[[str], None]:
        def went(reason: str) -> None:
            with self._lock:
                for name in names:
                    queue = self._queues.pop(name, None)
                    if queue is not None:
                        self._notes += [_event(name, data) for data in queue.take()]
                        queue.close()
                    self._notes.append(Event(name, None, reason))

        return went

    def close(self) -> None:
        """Unsubscribe from everything."""
        for watch in self._watches:
            watch.stop()
        for watch in self._watches:
            watch.join()
        with self._lock:
            for queue in self._queues.values():
                queue.close()
            self._queues.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _event(name: str, data: Any) -> Event:
    if data.err:
        return Event(name, None, sentence(tango.DevFailed(*data.errors), name))
    return Event(name, data.attr_value, "")
