"""Journal rows as what they mean: series of readings per attribute, and gaps.

A commit's record batch mixes the rows of all attributes; `Unfolder` splits it, gives every value its exact Tango type,
and opens the stream batches (contracts: "Stream batch"). Projections and queries read the journal through it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandoneon.record import ELEMENT_DTYPES, AttributeDefinition, Columns, Kind, Quality, decode_value

NOT_READ = 255
"""Quality in a stream batch of a quantity that was not read in that row."""

STATES = (
    *("ON", "OFF", "CLOSE", "OPEN", "INSERT", "EXTRACT", "MOVING"),
    *("STANDBY", "FAULT", "INIT", "RUNNING", "ALARM", "DISABLE", "UNKNOWN"),
)
"""Tango's device states by number."""

_COLUMNS: dict[int, str] = {Kind.FLOAT: "f64", Kind.DOUBLE: "f64", Kind.ULONG64: "u64"}
"""The journal's column of a scalar number; "i64" for all others."""

Wanted = Callable[[AttributeDefinition], bool]


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one attribute in the order they came.

    `values` are numbers of the attribute's exact type (where `valid` is False: zero), or an object array: str for
    text, arrays of shape (x,) or (y, x), (format, bytes) for encoded values, lists of str for text arrays, and None
    where not valid. A failed reading is a row of quality INVALID; `errors` has its text by row number. `set_value`:
    these are values written, not read.
    """

    definition: AttributeDefinition
    time_ns: NDArray[np.int64]
    received_ns: NDArray[np.int64]
    quality: NDArray[np.uint8]
    values: NDArray[Any]
    valid: NDArray[np.bool_]
    errors: Mapping[int, str] = field(default_factory=dict[int, str])
    set_value: bool = False

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which an attribute was not archived; `count` readings lost, None = unknown."""

    definition: AttributeDefinition
    start_ns: int
    stop_ns: int
    count: int | None
    cause: str


@dataclass(frozen=True, slots=True)
class Unfolded:
    """What one commit says: definitions that are new or changed, then series and gaps.

    `received_ns` is when its newest row was received, by the archiver's clock.
    """

    received_ns: int
    definitions: list[AttributeDefinition]
    items: list[Series | Gap]


TIMELESS: Final = (Kind.DEFINE, Kind.MARK, Kind.GAP)
"""Rows whose `received_ns` is not when something was received: restated ones, and a gap's end."""


def newest_ns(received_ns: NDArray[np.int64], kind: NDArray[np.uint8]) -> int:
    """Return when the newest row of a commit was received, by the archiver's clock; 0 when no row tells.

    A gap does not tell: its end may be the time of a device whose clock is wrong. What the archiver restates about
    itself counts only when there is nothing else.
    """
    restated = np.isin(kind, (Kind.DEFINE, Kind.MARK))
    for rows in (received_ns[~restated & (kind != Kind.GAP)], received_ns[restated]):
        if len(rows):
            return int(rows.max())
    return 0


def element_dtype(definition: AttributeDefinition) -> np.dtype[Any] | None:
    """Return the numpy type of the elements of an attribute; None for text."""
    return np.dtype("u1") if is_encoded(definition) else ELEMENT_DTYPES.get(definition.type)


def words(definition: AttributeDefinition) -> tuple[str, ...]:
    """Return what the numbers of an enum or State attribute mean, in order; empty for any other."""
    return STATES if definition.type == Kind.STATE else tuple(definition.enum_labels)


def is_encoded(definition: AttributeDefinition) -> bool:
    """Whether values are DevEncoded: a format word and bytes."""
    return definition.type == Kind.ENCODED


def rank(definition: AttributeDefinition) -> int:
    """Return 0 for a scalar, 1 for a spectrum, 2 for an image."""
    return ("SCALAR", "SPECTRUM", "IMAGE").index(definition.format)


def concatenate(parts: list[Series]) -> Series:
    """Join series of one attribute, definition and part."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    errors = {
        start + row: text for start, part in zip(starts, parts, strict=False) for row, text in part.errors.items()
    }
    return Series(
        parts[0].definition,
        np.concatenate([part.time_ns for part in parts]),
        np.concatenate([part.received_ns for part in parts]),
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.valid for part in parts]),
        errors,
        parts[0].set_value,
    )


class Unfolder:
    """Turns commits into series; keeps the definitions in force and which stream batches it has seen."""

    def __init__(self, wants: Wanted = lambda _: True, definitions: Iterable[AttributeDefinition] = ()) -> None:
        """Unfold only attributes that `wants` accepts; begin with `definitions` in force."""
        self.definitions: dict[int, AttributeDefinition] = {}
        self._wants = wants
        self._wanted: set[int] = set()
        self._streamed: dict[tuple[str, int], int] = {}
        self._received_ns = 0
        for definition in definitions:
            self.define(definition)

    def define(self, definition: AttributeDefinition) -> None:
        """Take a definition into force."""
        self.definitions[definition.id] = definition
        if self._wants(definition):
            self._wanted.add(definition.id)

    def unfold(self, batch: pa.RecordBatch) -> Unfolded:
        """Return what one commit's record batch says."""
        rows = _Rows(batch)
        changed: list[AttributeDefinition] = []
        items: list[Series | Gap] = []
        start = 0
        for position in np.flatnonzero(rows.kind == Kind.DEFINE).tolist():
            definition = AttributeDefinition.from_json(rows.payload(position))
            before = self.definitions.get(definition.id)
            if before == definition:
                continue
            if before is not None:
                # rows before a changed definition are of the old one
                items += self._stretch(rows, start, position)
                start = position
            self.define(definition)
            changed.append(definition)
        items += self._stretch(rows, start, len(rows.kind))
        # gaps alone came after the commit before them
        self._received_ns = newest_ns(rows.received_ns, rows.kind) or self._received_ns or time.time_ns()
        return Unfolded(self._received_ns, changed, items)

    def _stretch(self, rows: "_Rows", start: int, stop: int) -> Iterator[Series | Gap]:
        kind, attr = rows.kind[start:stop], rows.attr[start:stop]
        for position in (np.flatnonzero(kind == Kind.STREAM) + start).tolist():
            yield from self._stream(rows, position)
        wanted = np.isin(attr, list(self._wanted))
        readings = np.flatnonzero(((kind <= Kind.ENUM) | (kind == Kind.ERROR)) & wanted) + start
        if len(readings):
            keys = rows.attr[readings].astype("i8") * 2 + rows.part[readings]
            order = np.argsort(keys, kind="stable")
            for group in np.split(readings[order], np.flatnonzero(np.diff(keys[order])) + 1):
                yield rows.series(self.definitions[int(rows.attr[group[0]])], group)
        for position in (np.flatnonzero((kind == Kind.GAP) & wanted) + start).tolist():
            yield rows.gap(self.definitions[int(rows.attr[position])], position)

    def _stream(self, rows: "_Rows", position: int) -> Iterator[Series]:
        """Open the batch in a STREAM row: one series per quantity it carries that is wanted."""
        stream = int(rows.attr[position])
        carried = [d for d in self.definitions.values() if d.stream == stream and d.id in self._wanted]
        if not carried:
            return
        with pa.ipc.open_stream(rows.payload(position)) as reader:
            table = reader.read_all()
        metadata = cast("dict[bytes, bytes]", table.schema.metadata or {})
        device = metadata.get(b"device", b"").decode().lower()
        source = (device, int(metadata.get(b"incarnation", b"0")))
        number = int(metadata.get(b"seq", b"-1"))
        if number <= self._streamed.get(source, -1):
            # a new subscription is sent the last batch once more
            return
        self._streamed[source] = number
        time_ns = table.column("time_ns").to_numpy()
        for definition in carried:
            if definition.device != device or definition.attribute not in table.column_names:
                continue
            quality = table.column(f"{definition.attribute}__quality").to_numpy()
            read = quality != NOT_READ
            column = table.column(definition.attribute).combine_chunks().filter(pa.array(read))
            values, valid = _stream_values(definition, column)
            received = np.full(len(values), rows.received_ns[position], "i8")
            yield Series(definition, time_ns[read], received, quality[read].astype("u1"), values, valid)


def _stream_values(definition: AttributeDefinition, column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    dtype = element_dtype(definition)
    if rank(definition) == 0 and dtype is not None:
        return column.fill_null(0).to_numpy(zero_copy_only=False).astype(dtype, copy=False), valid
    values = np.empty(len(column), object)
    for n, value in enumerate(column):
        if valid[n]:
            values[n] = value.as_py() if dtype is None else np.array(value.as_py(), dtype)
    return values, valid


class _Rows:
    """The columns of a commit as numpy arrays; text and payloads are fetched row by row."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._cache: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        self.attr, self.part, self.kind, self.quality, self.time_ns, self.received_ns = (
            self._numbers(name)[0] for name in ("attr", "part", "kind", "quality", "time_ns", "received_ns")
        )

    def _numbers(self, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return a column (0 for null) and where it is not null."""
        if name not in self._cache:
            column = cast("Any", self._batch.column(name))
            valid = column.is_valid().to_numpy(zero_copy_only=False)
            if column.null_count:
                column = column.fill_null(0)
            self._cache[name] = column.to_numpy(zero_copy_only=False), valid
        return self._cache[name]

    def payload(self, position: int) -> bytes:
        return cast("bytes", self._batch.column("payload")[position].as_py())

    def _text(self, position: int) -> str | None:
        return cast("str | None", self._batch.column("text")[position].as_py())

    def series(self, definition: AttributeDefinition, at: NDArray[np.intp]) -> Series:
        """Return the readings in rows `at`, all of one attribute and part."""
        failed = self.kind[at] == Kind.ERROR
        quality = np.where(failed, Quality.INVALID, self.quality[at]).astype("u1")
        errors = {n: self._text(int(at[n])) or "" for n in np.flatnonzero(failed).tolist()}
        dtype = element_dtype(definition)
        if rank(definition) == 0 and dtype is not None and not is_encoded(definition):
            column, present = self._numbers(_COLUMNS.get(definition.type, "i64"))
            valid = present[at] & ~failed
            values = column[at].astype(dtype)
        else:
            values = np.empty(len(at), object)
            for n, row in enumerate(at.tolist()):
                values[n] = None if failed[n] else self._decoded(definition, row)
            valid = np.array([value is not None for value in values], bool)
        part = bool(self.part[at[0]])
        return Series(definition, self.time_ns[at], self.received_ns[at], quality, values, valid, errors, part)

    def _decoded(self, definition: AttributeDefinition, row: int) -> Any:
        """The value of one row that is not a plain number; None when it has none."""
        dim_x, dim_y = (int(self._numbers(name)[0][row]) for name in ("dim_x", "dim_y"))
        payload = cast("bytes | None", self._batch.column("payload")[row].as_py())
        columns = Columns(dim_x=dim_x, dim_y=dim_y, text=self._text(row), payload=payload)
        return decode_value(columns, definition.type, definition.format)

    def gap(self, definition: AttributeDefinition, position: int) -> Gap:
        """Return the gap in one row."""
        count = cast("int | None", self._batch.column("i64")[position].as_py())
        start_ns, stop_ns = int(self.time_ns[position]), int(self.received_ns[position])
        return Gap(definition, start_ns, stop_ns, count, self._text(position) or "")
