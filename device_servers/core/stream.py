"""Tango device `Stream`: the stream lane of a server, one for all its instruments that have `stream=True` quantities.

Its DevEncoded attribute `batch` is copied by Tango when it is pushed, so a client that is stopped or slow never blocks
this process, as a plain array event of 2048 elements or more does. Its own thread pushes; an instrument only adds rows.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUntypedFunctionDecorator=false, reportAttributeAccessIssue=false
# (pytango's stubs are not complete)

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tango
from tango import AttrQuality, DevState
from tango.server import Device, attribute

from bandoneon.quantity import Quantity
from bandoneon.tangolink.server import INCARNATION_NS
from device_servers.core.batch import BatchBuilder
from device_servers.core.states import Reading

FORMAT: Final = "arrow"
TURN_S: Final = 0.02

_lock = threading.Lock()
_feeds: dict[str, "Feed"] = {}


class Feed:
    """The rows of one instrument on their way into batches."""

    def __init__(self, device: str, quantities: Sequence[Quantity]) -> None:
        self.attributes = [f"{device}/{quantity.name}" for quantity in quantities]
        self._builder = BatchBuilder(device, quantities, INCARNATION_NS)

    def add(self, time_ns: int, readings: Mapping[str, Reading]) -> None:
        """Add a row."""
        with _lock:
            self._builder.add(time_ns, readings, time.monotonic())

    def take(self, now_s: float) -> bytes:
        """Return a batch if one is due, else b""."""
        with _lock:
            return self._builder.flush() if self._builder.due(now_s) else b""


def feed_of(device: str, quantities: Sequence[Quantity]) -> Feed:
    """Return the feed of an instrument, whose batches this server's stream device pushes."""
    with _lock:
        return _feeds.setdefault(device, Feed(device, quantities))


class Stream(Device):
    """Pushes the stream batches of a server."""

    def init_device(self) -> None:
        """Get ready; batches are pushed when the server is."""
        super().init_device()
        self._last = b""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.failed_pushes = 0
        self.set_archive_event("batch", True, False)
        self.set_change_event("State", True, False)
        self.set_archive_event("State", True, False)
        self.set_state(DevState.RUNNING)
        self.set_status("Pushing batches.")
        if _served.is_set():
            self.server_init_hook()

    def server_init_hook(self) -> None:
        """Begin to push."""
        _served.set()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    def delete_device(self) -> None:
        """Stop pushing, at exit and at Init."""
        self._stopping.set()
        if self._thread is not None:
            with tango.AutoTangoAllowThreads(self):
                self._thread.join()
        super().delete_device()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while not self._stopping.wait(TURN_S):
                for feed in list(_feeds.values()):
                    batch = feed.take(time.monotonic())
                    if batch:
                        self._push(batch)

    def _push(self, batch: bytes) -> None:
        self._last = batch
        try:
            self.push_archive_event("batch", FORMAT, batch, time.time(), AttrQuality.ATTR_VALID)
        except tango.DevFailed:
            # the sequence number of the next batch tells whoever needs to know
            self.failed_pushes += 1

    @attribute(dtype="DevEncoded", doc="Arrow IPC stream of the rows of one instrument; see the reference")
    def batch(self) -> tuple[str, Any]:
        """The latest batch; empty before the first."""
        return FORMAT, self._last

    @attribute(dtype=(str,), max_dim_x=1024, doc="domain/family/member/attribute")
    def streams(self) -> list[str]:
        """The attributes whose values are in the batches."""
        return [name for feed in _feeds.values() for name in feed.attributes]


_served = threading.Event()
