"""Where every attribute and stream stands, in one row: what a restarted archiver needs to know of all runs before.

A checkpoint is a MARK row `{"what": "checkpoint", …}`, the last of its commit: once a minute, in the first commit of
each segment and in the last before the archiver ends. What came behind the newest one is added from the rows
themselves, so a restart reads a minute of the journal and not all of it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa

from archiver.block import batch_metadata
from archiver.marks import content_of, mark_row, newest_mark
from archiver.series import newest_ns
from bandoneon.record import READ, Columns, Kind, Row

_WHAT: Final = "checkpoint"
_ROWS_AHEAD: Final = (Kind.DEFINE, Kind.STREAM, Kind.MARK, Kind.LEDGER)
"""Kinds of rows that do not end an attribute's outage."""


class Outage(NamedTuple):
    """Nothing is stored since `from_ns`; why, in the words of contracts.md's gap causes; how much, None = unknown."""

    from_ns: int
    cause: str
    lost: int | None = None


class Standing(NamedTuple):
    """How far an attribute is: time and `fingerprint` of its newest reading (None: it has none), and its outage."""

    time_ns: int | None = None
    value: int | None = None
    outage: Outage | None = None


class Position(NamedTuple):
    """How far an instrument of a stream is: number of the newest batch, stored or counted as lost; how many rows there
    were after the newest one stored, and its time; `cause`: why some may be missing since, or "".
    """

    device: str
    incarnation: int
    seq: int
    rows_end: int
    last_ns: int
    cause: str = ""


def fingerprint(value: Columns) -> int:
    """Return a number by which a value is known again; NaN is the same as NaN."""
    return zlib.crc32(value.payload or b"", zlib.crc32(repr(value._replace(payload=None)).encode()))


@dataclass(slots=True)
class Checkpoint:
    """Where all attributes stand, by id, and all streams, by id of `batch` and instrument.

    `ended_ns` is when the newest row was received; 0 = there is none.
    """

    attributes: dict[int, Standing] = field(default_factory=dict[int, Standing])
    streams: dict[int, dict[str, Position]] = field(default_factory=dict[int, dict[str, Position]])
    ended_ns: int = 0

    def to_row(self, now_ns: int) -> Row:
        """Return its MARK row."""
        attributes = {number: [one.time_ns, one.value, one.outage] for number, one in self.attributes.items()}
        streams = {number: list(stream.values()) for number, stream in self.streams.items()}
        return mark_row(_WHAT, now_ns, attributes=attributes, streams=streams)

    def note(self, rows: pa.RecordBatch) -> bool:
        """Take further rows of the journal, in order; return whether a checkpoint was among them."""
        received, kinds = (cast("Any", rows.column(name)).to_numpy() for name in ("received_ns", "kind"))
        self.ended_ns = max(self.ended_ns, newest_ns(received, kinds))
        begin = self._restate(rows)
        rows = rows.slice(begin)
        attr, part, kind = (cast("Any", rows.column(name)).to_numpy() for name in ("attr", "part", "kind"))
        for number in np.unique(attr[(attr >= 0) & ~np.isin(kind, _ROWS_AHEAD)]).tolist():
            self.attributes[number] = self.attributes.get(number, Standing())._replace(outage=None)
        at = np.flatnonzero((kind <= Kind.ENUM) & (part == READ))[::-1]
        numbers, newest = np.unique(attr[at], return_index=True)
        for number, position in zip(numbers.tolist(), at[newest].tolist(), strict=True):
            (row,) = rows.slice(position, 1).to_pylist()
            value = Columns(*(row[name] for name in Columns._fields))
            self.attributes[number] = Standing(row["time_ns"], fingerprint(value))
        for position in np.flatnonzero(kind == Kind.STREAM).tolist():
            (row,) = rows.slice(position, 1).to_pylist()
            self._advance(Row(**row))
        return begin > 0

    def _restate(self, rows: pa.RecordBatch) -> int:
        """Take the newest checkpoint in `rows`; return how many rows it makes superfluous."""
        mark = newest_mark(rows, _WHAT)
        if mark is None:
            return 0
        self.attributes = {
            int(number): Standing(time_ns, value, Outage(*outage) if outage else None)
            for number, (time_ns, value, outage) in mark.content["attributes"].items()
        }
        self.streams = {
            int(number): {position[0]: Position(*position) for position in stream}
            for number, stream in mark.content["streams"].items()
        }
        return mark.position + 1

    def _advance(self, row: Row) -> None:
        try:
            metadata = batch_metadata(row.payload or b"")
        except ValueError:
            # it was understood when it was written; without it a gap is not known, and the archiver starts
            return
        rows_end = metadata.rows_before + (row.i64 or 0)
        position = Position(metadata.device, row.incarnation, row.counter, rows_end, row.time_ns)
        self.streams.setdefault(row.attr, {})[metadata.device] = position

    def interrupted(self, known: Iterable[int]) -> "Checkpoint":
        """Return where things stand when an archiver starts: all of the attributes `known` have an outage."""
        attributes: dict[int, Standing] = {}
        for number in known:
            one = self.attributes.get(number, Standing())
            since_ns = self.ended_ns if one.time_ns is None else one.time_ns
            outage = one.outage._replace(lost=None) if one.outage else Outage(since_ns, "archiver_down")
            attributes[number] = one._replace(outage=outage)
        streams = {
            number: {device: one._replace(cause=one.cause or "archiver_down") for device, one in stream.items()}
            for number, stream in self.streams.items()
        }
        return Checkpoint(attributes, streams, self.ended_ns)


def has_checkpoint(rows: Iterable[Row]) -> bool:
    """Whether a checkpoint is among some rows."""
    return any(row.kind == Kind.MARK and content_of(row.payload, _WHAT) is not None for row in rows)
