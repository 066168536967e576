"""How much of something there was of late: what an alarm is about, so that it ends when its reason does. Pure."""

from collections import deque
from typing import Final, NamedTuple

WINDOW_S: Final = 600.0


class Counts(NamedTuple):
    """What only grows: bytes of the journal; readings and batches lost, and refused; times Tango dropped events."""

    journal_bytes: int = 0
    lost: int = 0
    refused: int = 0
    overflows: int = 0


class Recent:
    """How much the counts have grown in the last `WINDOW_S`. Times are of a steady clock, in s."""

    def __init__(self, now_s: float, counts: Counts) -> None:
        self._samples = deque([(now_s, counts)])
        self.period_s = 0.0
        """Over how long `grown` is."""
        self.grown = Counts()

    def note(self, now_s: float, counts: Counts) -> None:
        """Take what the counts are now."""
        self._samples.append((now_s, counts))
        while self._samples[1][0] <= now_s - WINDOW_S:
            self._samples.popleft()
        since_s, before = self._samples[0]
        self.period_s = now_s - since_s
        self.grown = Counts(*(now - then for now, then in zip(counts, before, strict=True)))
