"""One description of a physical or logical quantity, from which everything else is made.

The Tango attribute, the range check, the archive's metadata, the panel's field and the reference
page of an instrument all come from the same `Quantity`.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from bandoneon.errors import OutOfRange

Scalar = bool | int | float | str

DType = str | type[IntEnum]
"""An element type: a numpy-style code of `DTYPES`, or an IntEnum class counting from 0 by 1."""

DTYPES: dict[str, str] = {
    "bool": "DevBoolean",
    "u1": "DevUChar",
    "i2": "DevShort",
    "u2": "DevUShort",
    "i4": "DevLong",
    "u4": "DevULong",
    "i8": "DevLong64",
    "u8": "DevULong64",
    "f4": "DevFloat",
    "f8": "DevDouble",
    "str": "DevString",
}
"""Element type code to Tango type name."""

EVENT_ELEMENTS_LIMIT = 2048
"""From this many elements on, a Tango array event blocks its server behind one stalled client."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value an instrument has.

    `shape` is () for a scalar, (n,) for a spectrum, (rows, columns) for an image; None stands for a
    length that the device decides. `low`, `high` and `resolution` are in `unit`. `period_s` is how
    often it is polled (None: the device's `poll_period_s`); `deadband` is the change below which no
    CHANGE event is sent. A `stream` quantity travels as Arrow batches and pushes no plain events.
    """

    name: str
    dtype: DType
    shape: tuple[int | None, ...] = ()
    unit: str = ""
    label: str = ""
    doc: str = ""
    format: str = ""
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    access: Literal["r", "rw", "w"] = "r"
    period_s: float | None = None
    deadband: float | None = None
    stream: bool = False
    expert: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str):
            if self.dtype not in DTYPES:
                raise ValueError(f"{self.name}: element type {self.dtype!r} is none of {', '.join(DTYPES)}")
        elif [member.value for member in self.dtype] != list(range(len(self.dtype))):
            raise ValueError(f"{self.name}: {self.dtype.__name__} must count from 0 by 1 (a Tango enum's rule)")
        if len(self.shape) == 2 and (self.is_enum or self.dtype == "str"):
            raise ValueError(f"{self.name}: images of strings or enums are not offered")
        if len(self.shape) > 2:
            raise ValueError(f"{self.name}: Tango has no shape {self.shape}")
        elements = math.prod(n or EVENT_ELEMENTS_LIMIT for n in self.shape)
        if elements >= EVENT_ELEMENTS_LIMIT and not self.stream:
            raise ValueError(f"{self.name}: {elements} elements or more need stream=True")

    @property
    def is_enum(self) -> bool:
        """Whether values are members of an IntEnum."""
        return not isinstance(self.dtype, str)

    @property
    def enum_labels(self) -> tuple[str, ...]:
        """The words of an enum quantity in order; empty for any other."""
        return () if isinstance(self.dtype, str) else tuple(member.name for member in self.dtype)

    @property
    def tango_type(self) -> str:
        """Name of the Tango element type."""
        return DTYPES[self.dtype] if isinstance(self.dtype, str) else "DevEnum"

    @property
    def readable(self) -> bool:
        """Whether the value can be read."""
        return "r" in self.access

    @property
    def writable(self) -> bool:
        """Whether the value can be written."""
        return "w" in self.access

    def check(self, value: Scalar) -> None:
        """Raise `OutOfRange` when a scalar `value` cannot be written: it is never clipped."""
        if isinstance(value, str):
            return
        if math.isnan(value):
            raise OutOfRange(f"{self.name} must be a number, not NaN")
        below = self.low is not None and value < self.low
        above = self.high is not None and value > self.high
        if below or above:
            low = "" if self.low is None else f" from {self.low:g}"
            high = "" if self.high is None else f" to {self.high:g}"
            unit = f" {self.unit}" if self.unit else ""
            raise OutOfRange(f"{self.name} {value:g}{unit} is outside what is allowed:{low}{high}{unit}")

    def checked(self, value: Any) -> Any:
        """Return a value that may be written, an enum's number as its member; raise `OutOfRange` for any other."""
        if self.shape:
            return value
        if isinstance(self.dtype, str):
            self.check(value)
            return value
        try:
            return self.dtype(value)
        except ValueError:
            words = ", ".join(f"{number} {word}" for number, word in enumerate(self.enum_labels))
            raise OutOfRange(f"{self.name} {value} is none of {words}") from None
