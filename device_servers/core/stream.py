"""Tango device `Stream`: the stream lane of a server, one for all its instruments that have `stream=True` quantities.

Its DevEncoded attribute `batch` is copied by Tango when it is pushed, so a client that is stopped or slow never blocks
this process, as a plain array event of 2048 elements or more does. Its own thread pushes; an instrument only adds rows.
A batch that could not be made or pushed is counted and shown as ALARM for a minute; its number is missing then.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUntypedFunctionDecorator=false, reportAttributeAccessIssue=false
# (pytango's stubs are not complete)

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tango
from tango import AttrQuality, DevState
from tango.server import Device, attribute

from bandoneon.logging import get_logger
from bandoneon.quantity import Quantity
from bandoneon.tangolink.proxy import sentence
from bandoneon.tangolink.server import INCARNATION_NS, push
from device_servers.core.batch import BatchBuilder
from device_servers.core.states import Reading

FORMAT: Final = "arrow"
RUNNING: Final = "Pushing batches."
TURN_S: Final = 0.02
SHOWN_S: Final = 60.0
"""How long a failure is shown."""

_changed = threading.Condition()
"""Guards the feeds; notified when a batch is due before its time."""

_feeds: dict[str, "Feed"] = {}


class Feed:
    """The rows of one instrument on their way into batches."""

    def __init__(self, device: str, quantities: Sequence[Quantity]) -> None:
        self.attributes = [f"{device}/{quantity.name}" for quantity in quantities]
        self._builder = BatchBuilder(device, quantities, INCARNATION_NS)

    def add(self, time_ns: int, readings: Mapping[str, Reading]) -> None:
        """Add a row."""
        now_s = time.monotonic()
        with _changed:
            self._builder.add(time_ns, readings, now_s)
            if self._builder.due(now_s):
                _changed.notify_all()

    def take(self, now_s: float) -> bytes:
        """Return a batch if one is due, else b""; raise what Arrow raises for rows that do not fit their types."""
        with _changed:
            return self._builder.flush() if self._builder.due(now_s) else b""


def feed_of(device: str, quantities: Sequence[Quantity]) -> Feed:
    """Return the feed of an instrument, whose batches this server's stream device pushes."""
    with _changed:
        return _feeds.setdefault(device, Feed(device, quantities))


class Stream(Device):
    """Pushes the stream batches of a server."""

    def init_device(self) -> None:
        """Get ready; batches are pushed when the server is."""
        super().init_device()
        self._last = b""
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._failed = 0
        self._failed_s = 0.0
        self.set_archive_event("batch", True, False)
        for name in ("State", "Status"):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        self.set_state(DevState.RUNNING)
        self.set_status(RUNNING)
        if _served.is_set():
            self.server_init_hook()

    def server_init_hook(self) -> None:
        """Begin to push."""
        _served.set()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    def delete_device(self) -> None:
        """Push what is there, and stop, at exit and at Init."""
        with _changed:
            self._stopping = True
            _changed.notify_all()
        if self._thread is not None:
            with tango.AutoTangoAllowThreads(self):
                self._thread.join()
        super().delete_device()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while not self._stopping:
                self._push_due(time.monotonic())
                if self.get_state() == DevState.ALARM and time.monotonic() - self._failed_s > SHOWN_S:
                    self._show(DevState.RUNNING, RUNNING)
                with _changed:
                    if not self._stopping:
                        _changed.wait(TURN_S)
            self._push_due(math.inf)

    def _push_due(self, now_s: float) -> None:
        for name, feed in list(_feeds.items()):
            try:
                batch = feed.take(now_s)
                if batch:
                    self._last = batch
                    self.push_archive_event("batch", FORMAT, batch, time.time(), AttrQuality.ATTR_VALID)
            except Exception as error:  # noqa: BLE001  the batches of the others go on
                self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        reason = sentence(error)
        get_logger(device=self.get_name()).error("a batch is missing", instrument=name, reason=reason)
        self._failed += 1
        self._failed_s = time.monotonic()
        self._show(DevState.ALARM, f"A batch of {name} is missing: {reason}")

    def _show(self, state: DevState, status: str) -> None:
        self.set_state(state)
        self.set_status(status)
        push(self, {})

    @attribute(dtype="DevEncoded", doc="Arrow IPC stream of the rows of one instrument; see the reference")
    def batch(self) -> tuple[str, Any]:
        """The latest batch; empty before the first."""
        return FORMAT, self._last

    @attribute(dtype="DevLong64", label="Failed batches", doc="Batches that could not be made or pushed.")
    def failed_batches(self) -> int:
        """How many batches are missing since this server's start, or the last Init."""
        return self._failed

    @attribute(dtype=(str,), max_dim_x=1024, doc="domain/family/member/attribute")
    def streams(self) -> list[str]:
        """The attributes whose values are in the batches."""
        return [name for feed in _feeds.values() for name in feed.attributes]


_served = threading.Event()
