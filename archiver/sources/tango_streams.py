"""Stream batches of a stream device: its DevEncoded attribute `batch`, stored as it came.

Each batch carries its instrument, run and sequence number, so nothing is lost or repeated unseen (contracts: "Stream
batch").
"""

from typing import Final

import tango

from bandoneon.tangolink.subscription import PullQueue

ATTRIBUTE: Final = "batch"
CARRIED: Final = "streams"
"""The stream device's attribute that lists what its batches carry."""


class StreamSource:
    """The batches of one stream device. Raises DevFailed when the server refuses the subscription."""

    name = "tango_streams"

    def __init__(self, proxy: tango.DeviceProxy) -> None:
        self._queue = PullQueue(proxy, ATTRIBUTE, tango.EventType.ARCHIVE_EVENT)

    @property
    def heard_s(self) -> float:
        """When (steady clock, s) a batch last came."""
        return self._queue.heard_s

    def take(self) -> list[bytes]:
        """Return the batches that came since the last call.

        Errors and events without a value are left out: if something is missing, the number of the next batch tells.
        """
        values = [event.attr_value.value for event in self._queue.take() if not event.err]
        # empty: nothing was pushed yet
        return [value[1] for value in values if value is not None and value[1]]

    def close(self) -> None:
        """Unsubscribe."""
        self._queue.close()
