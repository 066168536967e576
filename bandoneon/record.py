"""What one row of the archive is: exact Tango values as columns, and back.

The journal, its projections and the query library share these definitions (contracts: "Journal"). Pure: no Tango, no
Arrow; a value goes in as PyTango delivers it and comes out as plain Python or numpy.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Format = Literal["SCALAR", "SPECTRUM", "IMAGE"]


class Kind(IntEnum):
    """What a row holds: a value of a Tango element type (CmdArgType's numbers), or something about the archive."""

    BOOLEAN = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    USHORT = 6
    ULONG = 7
    STRING = 8
    STATE = 19
    UCHAR = 22
    LONG64 = 23
    ULONG64 = 24
    ENCODED = 28
    ENUM = 29
    DEFINE = 200
    STREAM = 201
    GAP = 202
    ERROR = 203
    MARK = 204
    LEDGER = 205


class Quality(IntEnum):
    """Tango's attribute quality, in its numbers."""

    VALID = 0
    INVALID = 1
    ALARM = 2
    CHANGING = 3
    WARNING = 4


ARCHIVER: Final = -1
"""`attr` of rows that belong to no attribute: LEDGER and MARK."""

READ, SET = 0, 1
"""`part` of a row: the value read, the value last written."""

ELEMENT_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    Kind.BOOLEAN: np.dtype("?"),
    Kind.SHORT: np.dtype("<i2"),
    Kind.LONG: np.dtype("<i4"),
    Kind.FLOAT: np.dtype("<f4"),
    Kind.DOUBLE: np.dtype("<f8"),
    Kind.USHORT: np.dtype("<u2"),
    Kind.ULONG: np.dtype("<u4"),
    Kind.STATE: np.dtype("<i2"),
    Kind.UCHAR: np.dtype("u1"),
    Kind.LONG64: np.dtype("<i8"),
    Kind.ULONG64: np.dtype("<u8"),
    Kind.ENUM: np.dtype("<i2"),
}
"""How the elements of an array lie in a payload; strings are a u32 length and UTF-8 each."""


class Columns(NamedTuple):
    """The columns of a row that hold its value; all None = no value (quality INVALID)."""

    dim_x: int | None = None
    dim_y: int | None = None
    f64: float | None = None
    i64: int | None = None
    u64: int | None = None
    text: str | None = None
    payload: bytes | None = None


NO_VALUE: Final = Columns()


class Row(NamedTuple):
    """One row of the journal, in the order of its columns. Times in ns since 1970."""

    attr: int
    part: int
    counter: int
    incarnation: int
    time_ns: int
    received_ns: int
    quality: int
    kind: int
    dim_x: int | None = None
    dim_y: int | None = None
    f64: float | None = None
    i64: int | None = None
    u64: int | None = None
    text: str | None = None
    payload: bytes | None = None


def encode_value(kind: int, data_format: Format, value: object) -> Columns:
    """Return the columns for a `value` of element type `kind`; None (no value) leaves all of them null.

    Scalars are bool, int, float, str, DevState or enum numbers, or (format word, bytes) for DevEncoded. Arrays are
    numpy arrays or nested sequences, images row by row: shape (dim_y, dim_x).
    """
    if value is None:
        return NO_VALUE
    if data_format != "SCALAR":
        return _encode_array(kind, data_format, value)
    if kind in (Kind.DOUBLE, Kind.FLOAT):
        return Columns(f64=float(cast("float", value)))
    if kind == Kind.STRING:
        return Columns(text=cast("str", value))
    if kind == Kind.ULONG64:
        return Columns(u64=int(cast("int", value)))
    if kind == Kind.ENCODED:
        word, data = cast("tuple[str, bytes]", value)
        return Columns(text=word, payload=data.encode("latin-1") if isinstance(data, str) else bytes(data))
    return Columns(i64=int(cast("int", value)))


def _encode_array(kind: int, data_format: Format, value: object) -> Columns:
    dtype = ELEMENT_DTYPES.get(kind)
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
    elif dtype is not None:
        array = np.array(_as_numbers(value), dtype)
    else:
        array = np.array(value, object)
    if data_format == "IMAGE":
        dim_y, dim_x = array.shape if array.ndim == 2 else (0, 0)
    else:
        dim_x, dim_y = array.size, None
    if dtype is not None:
        payload = np.ascontiguousarray(array, dtype).tobytes()
    else:
        payload = b"".join(_lengthened(text) for text in array.ravel().tolist())
    return Columns(dim_x=dim_x, dim_y=dim_y, payload=payload)


def _as_numbers(value: object) -> object:
    """Nested sequences of numbers; DevState members become theirs."""
    if isinstance(value, list | tuple):
        return [_as_numbers(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, bool | float | np.number):
        return cast("object", value)
    return int(cast("int", value))


def _lengthened(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def decode_value(row: Row | Columns, kind: int, data_format: Format) -> Any:
    """Return the value in a row's columns, None when it has none.

    Scalars come as bool, int (State and enum too), float, str or (format word, bytes); arrays as numpy arrays of the
    exact element type, of shape (dim_x,) or (dim_y, dim_x); arrays of strings have dtype object.
    """
    if data_format != "SCALAR":
        return None if row.payload is None else _decode_array(row, kind, data_format, row.payload)
    if kind in (Kind.DOUBLE, Kind.FLOAT):
        return row.f64
    if kind == Kind.STRING:
        return row.text
    if kind == Kind.ULONG64:
        return row.u64
    if kind == Kind.ENCODED:
        return None if row.payload is None else (row.text or "", row.payload)
    if kind == Kind.BOOLEAN:
        return None if row.i64 is None else bool(row.i64)
    return row.i64


def _decode_array(row: Row | Columns, kind: int, data_format: Format, payload: bytes) -> NDArray[Any]:
    shape = (row.dim_y or 0, row.dim_x or 0) if data_format == "IMAGE" else (row.dim_x or 0,)
    dtype = ELEMENT_DTYPES.get(kind)
    if dtype is not None:
        return np.frombuffer(payload, dtype).reshape(shape)
    texts = np.empty(int(np.prod(shape)), object)
    position = 0
    for index in range(len(texts)):
        length = int.from_bytes(payload[position : position + 4], "little")
        position += 4 + length
        texts[index] = payload[position - length : position].decode()
    return texts.reshape(shape)


@dataclass(frozen=True, slots=True)
class AttributeDefinition:
    """What an attribute was when its rows were archived: the payload of a DEFINE row.

    `name` is lower case, domain/family/member/attribute. `type` is the element type's number (`Kind`). Limits are as
    Tango has them, text, "" = none. `epoch` counts changed definitions of this attribute from 0. `stream` is the id of
    the `batch` attribute that carries it, None when its rows are its own.
    """

    id: int
    name: str
    tango_host: str
    type: int
    format: Format
    unit: str = ""
    label: str = ""
    min_value: str = ""
    max_value: str = ""
    min_warning: str = ""
    max_warning: str = ""
    min_alarm: str = ""
    max_alarm: str = ""
    enum_labels: tuple[str, ...] = ()
    epoch: int = 0
    stream: int | None = None

    @property
    def device(self) -> str:
        """Lower-case domain/family/member."""
        return self.name.rpartition("/")[0]

    @property
    def attribute(self) -> str:
        """Lower-case name of the attribute in its device."""
        return self.name.rpartition("/")[2]

    def to_json(self) -> bytes:
        """Return the payload of its DEFINE row."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> "AttributeDefinition":
        """Read the payload of a DEFINE row; keys a later version added are passed over."""
        fields = json.loads(payload)
        known = {key: value for key, value in fields.items() if key in cls.__dataclass_fields__}
        known["enum_labels"] = tuple(known.get("enum_labels", ()))
        return cls(**known)

    def to_row(self, time_ns: int) -> Row:
        """Return its DEFINE row."""
        return Row(self.id, READ, -1, 0, time_ns, time_ns, Quality.VALID, Kind.DEFINE, payload=self.to_json())


def error_text(errors: Iterable[tuple[str, str, str, int]]) -> str:
    """Return the text of an ERROR row for Tango errors (reason, description, origin, severity)."""
    return json.dumps([dict(zip(("reason", "desc", "origin", "severity"), error, strict=True)) for error in errors])
