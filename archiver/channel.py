"""From what a source gives to rows of the journal: gaps, repeated events, transitions, set values. Pure.

A channel outlives its sources: it knows the last row of its attribute, and so what is missing when a new source begins.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from archiver.block import Block
from archiver.checkpoint import Outage, Position, Standing, fingerprint
from archiver.ledger import Account, Ledger
from archiver.sources.base import Reading
from bandoneon.record import READ, SET, AttributeDefinition, Columns, Kind, Quality, Row

_JOINING_EVENTS: Final = 2
"""The first push after subscribing is sent twice."""


def gap_row(attr: int, outage: Outage, to_ns: int) -> Row:
    """Return a GAP row: nothing of `attr` was stored from `outage.from_ns` to `to_ns`, its `received_ns`."""
    end_ns = max(outage.from_ns, to_ns)
    meta = (-1, 0, outage.from_ns, end_ns, Quality.VALID, Kind.GAP)
    return Row(attr, READ, *meta, i64=outage.lost, text=outage.cause)


def _same(one: Columns | None, other: Columns | None) -> bool:
    if one == other:
        return True
    # NaN is the same set value as NaN
    return one is not None and other is not None and one.f64 != one.f64 and other.f64 != other.f64


def _in_order(readings: Sequence[Reading]) -> list[Reading]:
    """Put the first readings of a subscription in order: the value read then comes before events pushed before it."""
    read, *pushed = readings
    if read.error or read.missed:
        return list(readings)
    earlier = sum(reading.time_ns < read.time_ns for reading in pushed)
    return [*pushed[:earlier], read, *pushed[earlier:]]


class Channel:
    """The events of one attribute."""

    def __init__(self, definition: AttributeDefinition, before: Standing | None = None) -> None:
        """`before`: how far the attribute was when the archiver ended last; None for a new one."""
        self.definition = definition
        self.outage = before.outage if before else None
        self.failing = ""
        self._account: Account | None = None
        self._last_ns = before.time_ns if before else None
        self._last_value: Columns | int | None = before.value if before else None
        self._joining = 0
        self._joined = False
        self._skipped: Reading | None = None
        self._set: Columns | None = None

    @property
    def standing(self) -> Standing:
        """How far the attribute is."""
        return Standing(self._last_ns, self._last_fingerprint(), self.outage)

    def _last_fingerprint(self) -> int | None:
        return fingerprint(self._last_value) if isinstance(self._last_value, Columns) else self._last_value

    @property
    def incarnation(self) -> int:
        """The run of the server its readings are from; 0 before the first."""
        return self._account.incarnation if self._account else 0

    def join(self, account: Account) -> None:
        """A new subscription begins."""
        self._account = account
        self._joined = False

    def leave(self, cause: str, now_ns: int) -> None:
        """The subscription ended: what comes next is behind a gap."""
        if self.outage is None:
            self.outage = Outage(self._since(now_ns), cause)
        elif self.outage.cause != cause:
            self.outage = self.outage._replace(lost=None)

    def skip(self, readings: Sequence[Reading], now_ns: int) -> None:
        """Count readings that cannot be written, since the disk is full."""
        assert self._account is not None, "join comes first"
        if not self._joined and readings:
            readings = self._begin(readings)
        readings = [reading for reading in readings if not self._repeats_early(reading)]
        if not readings:
            return
        values = [reading for reading in readings if not (reading.error or reading.missed)]
        self._skipped = values[-1] if values else self._skipped
        count = len(values)
        self._account.lost += count
        if self.outage is None:
            self.outage = Outage(self._since(now_ns), "disk_full", 0)
        if any(reading.missed for reading in readings):
            # so many at least
            self.outage = self.outage._replace(lost=None)
        if self.outage.lost is not None:
            self.outage = self.outage._replace(lost=self.outage.lost + count)
        # what was written last is told again
        self._set = None

    def rows(self, readings: Sequence[Reading], received_ns: int) -> list[Row]:
        """Return the journal's rows for some readings, in order."""
        account = self._account
        assert account is not None, "join comes first"
        rows: list[Row] = []
        attr, kind = self.definition.id, self.definition.type
        stored = 0
        if not self._joined and readings:
            if len(readings) > 1 and not readings[1].missed:
                # some pushes may be missing between the value read on subscribing and the first one that came
                rows += self._end_outage(readings[1].time_ns)
            elif self._repeats(readings[0]) and self.outage is not None and not self.outage.lost:
                # what was stored last is still the newest there is
                self.outage = None
            # the value read now is stored, whatever was skipped before
            self._skipped = None
            readings = self._begin(readings)
        for reading in readings:
            if reading.missed:
                self.leave("overflow", reading.time_ns)
                continue
            if reading.error:
                rows += self._error(reading, received_ns)
                continue
            if self._repeats_early(reading):
                continue
            rows += self._end_outage(reading.time_ns)
            self.failing = ""
            meta = (-1, account.incarnation, reading.time_ns, received_ns, reading.quality, kind)
            rows.append(Row(attr, READ, *meta, *reading.value))
            stored += 1
            self._last_ns, self._last_value = reading.time_ns, reading.value
            if reading.set_value is not None and not _same(reading.set_value, self._set):
                self._set = reading.set_value
                rows.append(Row(attr, SET, *meta, *reading.set_value))
        account.stored += stored
        return rows

    def _begin(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Return the first readings of a subscription in order."""
        self._joined = True
        self._joining = len(readings) + _JOINING_EVENTS
        return _in_order(readings)

    def _repeats_early(self, reading: Reading) -> bool:
        """Count a reading as a duplicate if it is one of the first and the one before it once more."""
        if not self._joining or reading.error or reading.missed:
            return False
        self._joining -= 1
        repeats = self._repeats(reading) or self._repeats_skipped(reading)
        if repeats and self._account is not None:
            self._account.duplicates += 1
        return repeats

    def _repeats_skipped(self, reading: Reading) -> bool:
        skipped = self._skipped
        if skipped is None or skipped.time_ns != reading.time_ns:
            return False
        return fingerprint(skipped.value) == fingerprint(reading.value)

    def _repeats(self, reading: Reading) -> bool:
        """Whether a reading is the last one once more."""
        return self._last_ns == reading.time_ns and self._last_fingerprint() == fingerprint(reading.value)

    def _since(self, now_ns: int) -> int:
        return now_ns if self._last_ns is None else self._last_ns

    def _error(self, reading: Reading, received_ns: int) -> list[Row]:
        """Return an ERROR row when the error is not the one there is already."""
        why = ", ".join(entry["reason"] for entry in json.loads(reading.error))
        if why == self.failing:
            return []
        self.failing = why
        rows = self._end_outage(reading.time_ns)
        meta = (-1, self.incarnation, reading.time_ns, received_ns, Quality.INVALID, Kind.ERROR)
        return [*rows, Row(self.definition.id, READ, *meta, text=reading.error)]

    def _end_outage(self, now_ns: int) -> list[Row]:
        if self.outage is None:
            return []
        outage, self.outage = self.outage, None
        return [gap_row(self.definition.id, outage, now_ns)]


class StreamChannel:
    """The batches of one stream device: whole instruments, each counted by its own sequence numbers."""

    def __init__(self, definition: AttributeDefinition, known: Mapping[str, Position] = MappingProxyType({})) -> None:
        """`known`: how far each instrument was when the archiver ended last."""
        self.definition = definition
        self.carried: dict[str, AttributeDefinition] = {}
        self._last: dict[str, Position] = dict(known)

    @property
    def positions(self) -> dict[str, Position]:
        """How far each instrument is."""
        return self._last.copy()

    def leave(self, cause: str) -> None:
        """The subscription ended: what comes next may be behind a gap, as its numbers will tell."""
        for device, position in self._last.items():
            self._last[device] = position._replace(cause=position.cause or cause)

    def skip(self, blocks: Sequence[Block], now_ns: int, ledger: Ledger) -> None:
        """Count batches that cannot be written, since the disk is full; the next one stored tells how many rows."""
        for block in blocks:
            before = self._last.get(block.device)
            if before is None:
                before = Position(block.device, block.incarnation, block.seq - 1, block.rows_before, block.first_ns)
            self._account(before, block, now_ns, ledger).skip(block.seq)
            if before.incarnation == block.incarnation:
                before = before._replace(seq=max(before.seq, block.seq))
            self._last[block.device] = before._replace(cause=before.cause or "disk_full")

    def rows(self, blocks: Sequence[Block], received_ns: int, ledger: Ledger) -> list[Row]:
        """Return the journal's rows for some batches, in order."""
        rows: list[Row] = []
        for block in blocks:
            before = self._last.get(block.device)
            if self._account(before, block, received_ns, ledger).number(block.seq) is None:
                continue
            if before is not None:
                same_run = before.incarnation == block.incarnation
                count = block.rows_before - before.rows_end if same_run else None
                if count is None or count > 0:
                    cause = before.cause or ("overflow" if same_run else "restart")
                    rows += self._gaps(block, Outage(before.last_ns, cause, count))
            position = Position(block.device, block.incarnation, block.seq, block.rows_end, block.last_ns)
            self._last[block.device] = position
            meta = (block.seq, block.incarnation, block.last_ns, received_ns, Quality.VALID, Kind.STREAM)
            rows.append(Row(self.definition.id, READ, *meta, i64=block.rows, payload=block.payload))
        return rows

    def _account(self, before: Position | None, block: Block, now_ns: int, ledger: Ledger) -> Account:
        """Return the account of a batch; it begins behind the newest one known, in a new run at 0."""
        account = ledger.account(self.definition.id, block.incarnation, block.device, now_ns=now_ns)
        if before is not None:
            account.begin(before.seq + 1 if before.incarnation == block.incarnation else 0)
        return account

    def _gaps(self, block: Block, outage: Outage) -> list[Row]:
        """Return GAP rows that end at `block` for each quantity of its instrument."""
        carried = [definition for definition in self.carried.values() if definition.device == block.device]
        return [gap_row(definition.id, outage, block.first_ns) for definition in carried]
