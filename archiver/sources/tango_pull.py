"""ARCHIVE events of an attribute through PyTango's pull queue: works with every server that pushes.

Their counter is not visible here, so the ledger calls what is stored *unproven*. Where Tango itself notices that events
are missing (API_MissedEvents), the reading says so.
"""

import time
from typing import Any, Final, cast

import tango

from archiver.sources.base import Reading
from bandoneon.record import Format, Quality, encode_value, error_text
from bandoneon.tangolink.subscription import PullQueue

SETTLE_S: Final = 0.2
"""Events pushed while it was subscribed arrive so long after the value that was read then."""

_MISSED: Final = "API_MissedEvents"
_INVALID: Final = int(Quality.INVALID)


class PullSource:
    """The readings of one attribute. Raises DevFailed when the server refuses the subscription."""

    name = "tango_pull"

    def __init__(self, proxy: tango.DeviceProxy, attribute: str, *, writable: bool) -> None:
        self._writable = writable
        self._queue = PullQueue(proxy, attribute, tango.EventType.ARCHIVE_EVENT)
        self._settled_s = time.monotonic() + SETTLE_S

    @property
    def heard_s(self) -> float:
        """When (steady clock, s) a value last came."""
        return self._queue.heard_s

    def take(self) -> list[Reading]:
        """Return the readings that came since the last call; the first ones together."""
        if time.monotonic() < self._settled_s:
            return []
        return [self._reading(event) for event in self._queue.take()]

    def close(self) -> None:
        """Unsubscribe."""
        self._queue.close()

    def _reading(self, event: Any) -> Reading:
        if event.err:
            return failure(event.errors)
        try:
            return self._decode(event.attr_value)
        except Exception as error:  # noqa: BLE001  one event that is not understood keeps no other from being stored
            text = error_text(
                [("Archiver_ValueNotUnderstood", str(error), PullSource.name, int(tango.ErrSeverity.ERR))]
            )
            return Reading(time.time_ns(), error=text)

    def _decode(self, value: Any) -> Reading:
        quality = int(value.quality)
        if quality == _INVALID:
            # without a value it has no type either
            return Reading(time_of(value), quality)
        # its own: an attribute can be replaced by another of its name, and its definition is read later
        kind, data_format = int(value.type), cast("Format", str(value.data_format))
        # an array that cannot be written has an empty set value, not None
        written = value.w_value if self._writable else None
        return Reading(
            time_of(value),
            quality,
            encode_value(kind, data_format, _present(value.value, data_format)),
            None if written is None else encode_value(kind, data_format, written),
            kind=kind,
            format=data_format,
        )


def failure(errors: Any) -> Reading:
    """Return the reading that an error event is."""
    now_ns = time.time_ns()
    if any(error.reason == _MISSED for error in errors):
        return Reading(now_ns, missed=True)
    text = error_text((error.reason, error.desc, error.origin, int(error.severity)) for error in errors)
    return Reading(now_ns, Quality.INVALID, error=text)


def time_of(value: Any) -> int:
    """Return the time of a DeviceAttribute in ns since 1970."""
    stamp = value.time
    return stamp.tv_sec * 10**9 + stamp.tv_usec * 1000 + stamp.tv_nsec


def _present(value: Any, data_format: Format) -> Any:
    """PyTango gives None for an empty array; one that is not INVALID has no elements."""
    return () if value is None and data_format != "SCALAR" else value
