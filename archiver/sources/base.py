"""What a source of readings is, whatever it reads from. Pure."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bandoneon.record import NO_VALUE, Columns, Format, Quality


class Reading(NamedTuple):
    """One event of an attribute, whose value is of element type `kind` and `format` (0: as it is defined).

    `error`: text of an ERROR row instead of a value. `missed`: not a reading, but the word that some before the next
    one did not arrive. `set_value`: what was last written, None where that does not apply.
    """

    time_ns: int
    quality: int = Quality.INVALID
    value: Columns = NO_VALUE
    set_value: Columns | None = None
    error: str = ""
    missed: bool = False
    kind: int = 0
    format: Format = "SCALAR"


class Source(Protocol):
    """The readings of one attribute. Used by one thread."""

    name: str
    """How they come, as `archive status` shows it: tango_pull, …"""

    def take(self) -> Sequence[Reading]:
        """Return what came since the last call, oldest first; never waits."""
        ...

    def close(self) -> None:
        """Let go; what was not taken is gone."""
        ...


class BlockSource(Protocol):
    """The batches of one stream device. Used by one thread."""

    name: str

    def take(self) -> Sequence[bytes]:
        """Return the batches that came since the last call, oldest first, as they came; never waits."""
        ...

    def close(self) -> None:
        """Let go; what was not taken is gone."""
        ...
