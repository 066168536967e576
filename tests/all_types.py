"""The 40 combinations of element type and format that Tango allows, with values that are easily got wrong. Pure."""

from typing import Any

import numpy as np

from bandoneon.record import Format, Kind

FORMATS: tuple[Format, ...] = ("SCALAR", "SPECTRUM", "IMAGE")

COMBINATIONS: list[tuple[Kind, Format]] = [
    (kind, form)
    for kind in Kind
    for form in FORMATS
    if kind <= Kind.ENUM and (kind != Kind.ENCODED or form == "SCALAR")
]

ROUNDS = ("ordinary", "extreme", "empty", "invalid", "ordinary")

_INTEGERS: dict[Kind, Any] = {
    Kind.SHORT: np.int16,
    Kind.LONG: np.int32,
    Kind.USHORT: np.uint16,
    Kind.ULONG: np.uint32,
    Kind.UCHAR: np.uint8,
    Kind.LONG64: np.int64,
    Kind.ULONG64: np.uint64,
}


def _elements(kind: Kind, what: str) -> list[Any]:
    """Six elements: two rows of three, so that rows and columns cannot be confused."""
    if kind == Kind.BOOLEAN:
        return [True, False, False, True, True, False]
    if kind == Kind.STRING:
        return ["Grüße", "", "10 µm", "a\nb", "ÿ", " end "] if what == "extreme" else ["a", "b", "c", "d", "e", "f"]
    if kind == Kind.STATE:
        return [13, 0, 9, 1, 6, 11]
    if kind == Kind.ENUM:
        return [2, 0, 1, 1, 2, 0]
    if kind == Kind.FLOAT:
        numbers = [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38] if what == "extreme" else [0.5, 1, 2, -3, 4, 5]
        return [float(np.float32(number)) for number in numbers]
    if kind == Kind.DOUBLE:
        return (
            [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308]
            if what == "extreme"
            else [0.1, 1, 2, -3, 4, 5]
        )
    limits = np.iinfo(_INTEGERS[kind])
    if what == "extreme":
        return [int(limits.max), int(limits.min), 0, 1, int(limits.max) - 1, int(limits.min) + 1]
    return [1, 2, 3, 4, 5, 6]


def value(kind: Kind, form: Format, what: str) -> Any:
    """The value of a combination in a round: scalars, lists, lists of rows; None where it is invalid."""
    if what == "invalid":
        return None
    if kind == Kind.ENCODED:
        return {"ordinary": ("raw", b"\x00\x01\xff"), "extreme": ("j\xe9", bytes(range(256))), "empty": ("raw", b"")}[
            what
        ]
    if form == "SCALAR":
        return _elements(kind, "ordinary" if what == "empty" else what)[0]
    if what == "empty":
        return []
    elements = _elements(kind, what)
    return elements if form == "SPECTRUM" else [elements[:3], elements[3:]]


def name(kind: Kind, form: Format) -> str:
    """Name of the attribute of a combination."""
    return f"{kind.name}_{form}".lower()


def same(found: Any, expected: Any) -> bool:
    """Whether a decoded value is the expected one, bit for bit where it is a float."""
    if expected is None or found is None:
        return found is expected
    if isinstance(found, np.ndarray):
        if len(expected) == 0:
            return found.size == 0
        if found.dtype.kind == "f":
            return found.tobytes() == np.array(expected, found.dtype).tobytes()
        return found.tolist() == expected
    if isinstance(expected, float):
        return isinstance(found, float) and np.float64(found).tobytes() == np.float64(expected).tobytes()
    return type(found) is type(expected) and found == expected
