"""Stream batches of a stream device: its DevEncoded attribute `batch`, stored as it came.

Each batch carries its instrument, run and sequence number, so nothing is lost or repeated unseen (contracts: "Stream
batch").
"""

from typing import Any, Final

import tango

from archiver.block import Block, open_block
from bandoneon.tangolink.subscription import PullQueue

ATTRIBUTE: Final = "batch"
CARRIED: Final = "streams"
"""The stream device's attribute that lists what its batches carry."""


class StreamSource:
    """The batches of one stream device. Raises DevFailed when the server refuses the subscription."""

    name = "tango_streams"
    problem: str
    """What is wrong with the last event, "" when nothing is."""

    def __init__(self, proxy: tango.DeviceProxy) -> None:
        self.problem = ""
        self._queue = PullQueue(proxy, ATTRIBUTE, tango.EventType.ARCHIVE_EVENT)

    def take(self) -> list[Block]:
        """Return the batches that came since the last call."""
        blocks = [self._block(event) for event in self._queue.take()]
        return [block for block in blocks if block is not None]

    def close(self) -> None:
        """Unsubscribe."""
        self._queue.close()

    def _block(self, event: Any) -> Block | None:
        if event.err:
            # if something is missing, the number of the next batch tells
            self.problem = str(event.errors[0].desc)
            return None
        payload = event.attr_value.value[1]
        if not payload:
            # nothing was pushed yet
            return None
        try:
            block = open_block(payload)
        except ValueError as error:
            self.problem = str(error)
            return None
        self.problem = ""
        return block
