"""Ingest: empties the sources, keeps the books and writes the journal, from one thread. Pure.

Sources come and go (`attach`, `detach`, from any thread); everything else happens in `step`, which the owner calls
about every `PERIOD_S`. A full disk pauses the writing: readings are then counted instead of stored, and when there is
room again a GAP row says for each attribute how many.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Final

from archiver.block import Block, open_block
from archiver.channel import Channel, StreamChannel
from archiver.checkpoint import Checkpoint, Position, Standing
from archiver.journal import JournalWriter
from archiver.ledger import Ledger
from archiver.marks import mark_row
from archiver.sources.base import BlockSource, Reading, Source
from bandoneon.record import AttributeDefinition, Format, Kind, Row

PERIOD_S: Final = 0.2
"""At most one commit, and so one fdatasync, in this time."""

LEDGER_PERIOD_S: Final = 60.0
RETRY_S: Final = 1.0
"""How often a full disk is tried again."""


@dataclass(slots=True)
class _Lane:
    """An attribute with what feeds it."""

    channel: Channel
    source: Source | None = None
    incarnation: int = 0
    rows: int = 0


@dataclass(slots=True)
class _StreamLane:
    """A stream device with what feeds it."""

    channel: StreamChannel
    source: BlockSource | None = None
    rows: int = 0


class Ingest:
    """Writes one archiver's journal. Definitions come in without id and epoch, which are given here."""

    def __init__(self, journal: JournalWriter) -> None:
        self.paused = ""
        self.rows = 0
        self.commits = 0
        self.overflows = 0
        self.refused = 0
        self.refusals: dict[str, str] = {}
        """Why something of an attribute or `batch` could not be stored, by name: the first reason."""
        self.covered_ns = time.time_ns()
        self.events_per_s = 0.0
        self._journal = journal
        self._ledger = Ledger()
        self._notes: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lanes: dict[str, _Lane] = {}
        self._streams: dict[str, _StreamLane] = {}
        recovered = journal.recovered
        by_events = [one.id for one in recovered.definitions.values() if one.stream is None]
        self._before = recovered.checkpoint.interrupted(by_events)
        journal.checkpoint = self._checkpoint
        self._ids = {definition.name: definition.id for definition in journal.definitions.values()}
        # periods are of the steady clock: the other one can be set back
        self._next_ledger_s = time.monotonic() + LEDGER_PERIOD_S
        self._retry_s = 0.0
        self._rated_s = time.monotonic()
        self._rated_rows = 0

    # -- from any thread ----------------------------------------------------------------------------------------------

    def attach(self, definition: AttributeDefinition, source: Source, incarnation: int) -> None:
        """Take the readings of an attribute from `source`, from the server's run `incarnation`."""
        self._notes.put(lambda: self._attach(definition, source, incarnation))

    def attach_stream(
        self, batch: AttributeDefinition, carried: list[AttributeDefinition], source: BlockSource
    ) -> None:
        """Take batches from `source`; `carried` are the attributes in them that are to be archived."""
        self._notes.put(lambda: self._attach_stream(batch, carried, source))

    def configure(self, definition: AttributeDefinition) -> None:
        """Say what an attribute is like now: a new epoch if that is not what it was like."""
        self._notes.put(lambda: self._configure(definition))

    def detach(self, name: str, cause: str) -> None:
        """Take what is left of the source of an attribute or `batch`, and close it."""
        self._notes.put(lambda: self._detach(name, cause))

    def settle(self, timeout_s: float = 5.0) -> None:
        """Wait until what was asked for before is done."""
        done = threading.Event()
        self._notes.put(done.set)
        done.wait(timeout_s)

    def mark(self, what: str, **content: object) -> None:
        """Write a MARK row."""
        row = mark_row(what, time.time_ns(), **content)
        self._notes.put(lambda: self._journal.append([row]))

    def counts(self, name: str) -> tuple[int, int]:
        """Return how many rows of an attribute, or of the stream it is in, were stored and lost since the start."""
        lane: _Lane | _StreamLane | None = self._lanes.get(name) or self._streams.get(name)
        if lane is None:
            streams = list(self._streams.copy().values())
            lane = next((stream for stream in streams if name in stream.channel.carried), None)
        if lane is None:
            return 0, 0
        return lane.rows, self._ledger.lost_by_attribute().get(lane.channel.definition.id, 0)

    @property
    def lost(self) -> int:
        """How many readings and batches are known to be lost since the start."""
        return self._ledger.lost

    @property
    def lag_s(self) -> float:
        """Everything that arrived until so long ago is on the disk (or was counted as lost)."""
        return max(0.0, (time.time_ns() - self.covered_ns) / 1e9)

    # -- in the ingest thread -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Take what has arrived, write and commit it."""
        now_ns, now_s = time.time_ns(), time.monotonic()
        self._take_notes()
        for lane in list(self._lanes.values()):
            self._drain(lane, now_ns)
        for lane in list(self._streams.values()):
            self._drain_stream(lane, now_ns)
        if now_s >= self._next_ledger_s and not self.paused:
            self._next_ledger_s = now_s + LEDGER_PERIOD_S
            self._journal.append(self._ledger.changed(now_ns))
        if self._commit():
            self.covered_ns = now_ns
        if now_s - self._rated_s >= 1:
            self.events_per_s = (self.rows - self._rated_rows) / (now_s - self._rated_s)
            self._rated_s, self._rated_rows = now_s, self.rows

    def close(self) -> None:
        """Take and write what is left, and close every source."""
        self._take_notes()
        for name in [*self._lanes, *self._streams]:
            self._detach(name, "archiver_down")
        self._retry_s = 0.0
        self._commit(last=True)
        self._journal.close()

    def _take_notes(self) -> None:
        while True:
            try:
                note = self._notes.get_nowait()
            except Empty:
                return
            note()

    def _commit(self, *, last: bool = False) -> bool:
        if self.paused and time.monotonic() < self._retry_s:
            return False
        try:
            number = self._journal.commit(last=last)
        except OSError as error:
            self.paused = error.strerror or str(error)
            self._retry_s = time.monotonic() + RETRY_S
            return False
        self.paused = ""
        self.commits += number is not None
        if self._journal.refused:
            self.refusals.setdefault("rows", self._journal.refusal)
            self.refused += self._journal.refused
            self._journal.refused = 0
        return True

    def _define(self, definition: AttributeDefinition) -> AttributeDefinition:
        """Give a definition its id and epoch, and state it if it is not what is in force."""
        number = self._ids.setdefault(definition.name, max(self._ids.values(), default=-1) + 1)
        before = self._journal.definitions.get(number)
        if before is None:
            stated = replace(definition, id=number)
        else:
            stated = replace(definition, id=number, epoch=before.epoch)
            if stated == before:
                return before
            stated = replace(stated, epoch=before.epoch + 1)
        self._journal.define(stated, time.time_ns())
        return stated

    def _checkpoint(self, now_ns: int) -> Row:
        """Return the row that says where everything stands; what has not come since the start is as it was then."""
        attributes: dict[int, Standing] = self._before.attributes.copy()
        streams: dict[int, dict[str, Position]] = self._before.streams.copy()
        attributes |= {lane.channel.definition.id: lane.channel.standing for lane in self._lanes.values()}
        streams |= {lane.channel.definition.id: lane.channel.positions for lane in self._streams.values()}
        return Checkpoint(attributes, streams).to_row(now_ns)

    def _attach(self, definition: AttributeDefinition, source: Source, incarnation: int) -> None:
        stated = self._define(definition)
        lane = self._lanes.get(stated.name)
        if lane is None:
            lane = self._lanes[stated.name] = _Lane(Channel(stated, self._before.attributes.get(stated.id)))
        if lane.source is not None:
            self._detach(stated.name, "unsubscribed")
        lane.channel.definition = stated
        lane.channel.join(self._ledger.account(stated.id, incarnation, now_ns=time.time_ns()))
        lane.source, lane.incarnation = source, incarnation

    def _attach_stream(
        self, batch: AttributeDefinition, carried: list[AttributeDefinition], source: BlockSource
    ) -> None:
        stated = self._define(batch)
        lane = self._streams.get(stated.name)
        if lane is None:
            known = self._before.streams.get(stated.id, {})
            lane = self._streams[stated.name] = _StreamLane(StreamChannel(stated, known))
        if lane.source is not None:
            self._detach(stated.name, "unsubscribed")
        for definition in carried:
            lane.channel.carried[definition.name] = self._define(replace(definition, stream=stated.id))
        lane.source = source

    def _configure(self, definition: AttributeDefinition) -> None:
        lane = self._lanes.get(definition.name)
        if lane is not None:
            # what arrived before is of the old epoch
            self._drain(lane, time.time_ns())
            lane.channel.definition = self._define(definition)
            return
        for stream in self._streams.values():
            if definition.name in stream.channel.carried:
                stated = self._define(replace(definition, stream=stream.channel.definition.id))
                stream.channel.carried[definition.name] = stated

    def _detach(self, name: str, cause: str) -> None:
        now_ns = time.time_ns()
        if (lane := self._lanes.get(name)) is not None and lane.source is not None:
            self._drain(lane, now_ns)
            lane.source.close()
            lane.source = None
            lane.channel.leave(cause, now_ns)
            self._journal.append(self._ledger.changed(now_ns, lane.channel.definition.id))
        elif (stream := self._streams.get(name)) is not None and stream.source is not None:
            self._drain_stream(stream, now_ns)
            stream.source.close()
            stream.source = None
            stream.channel.leave(cause)
            self._journal.append(self._ledger.changed(now_ns, stream.channel.definition.id))

    def _drain(self, lane: _Lane, now_ns: int) -> None:
        if lane.source is None:
            return
        try:
            readings = lane.source.take()
            if not readings:
                return
            self.overflows += sum(reading.missed for reading in readings)
            if self.paused:
                lane.channel.skip(readings, now_ns)
                return
            rows = self._rows(lane.channel, readings, now_ns)
        except Exception as error:  # noqa: BLE001  whatever it is, the other attributes go on
            self._refuse(lane.channel.definition.name, error)
            lane.channel.leave("overflow", now_ns)
            return
        lane.rows += rows
        self.rows += rows

    def _rows(self, channel: Channel, readings: Sequence[Reading], now_ns: int) -> int:
        """Append the rows for readings, under a new definition where their type is not the defined one."""
        count = 0
        for (kind, data_format), same in groupby(readings, partial(_type_of, channel)):
            before = channel.definition
            if (kind, data_format) != (before.type, before.format):
                channel.definition = self._define(replace(before, type=kind, format=data_format, enum_labels=()))
            rows = channel.rows(list(same), now_ns)
            self._journal.append(rows)
            count += len(rows)
        return count

    def _drain_stream(self, lane: _StreamLane, now_ns: int) -> None:
        if lane.source is None:
            return
        name = lane.channel.definition.name
        blocks: list[Block] = []
        try:
            for payload in lane.source.take():
                try:
                    blocks.append(open_block(payload))
                except ValueError as error:
                    # the number of the next batch tells what is missing
                    self._refuse(name, error)
            if self.paused:
                lane.channel.skip(blocks, now_ns, self._ledger)
                return
            rows = lane.channel.rows(blocks, now_ns, self._ledger)
        except Exception as error:  # noqa: BLE001  whatever it is, the other streams go on
            self._refuse(name, error)
            return
        self._journal.append(rows)
        lane.rows += len(rows)
        self.rows += sum(row.i64 or 0 for row in rows if row.kind == Kind.STREAM)

    def _refuse(self, name: str, error: Exception) -> None:
        """Count something that cannot be stored, and keep the first reason for saying it."""
        # the reason first: another thread reads it when it sees the count
        self.refusals.setdefault(name, str(error) or type(error).__name__)
        self.refused += 1


def _type_of(channel: Channel, reading: Reading) -> tuple[int, Format]:
    """Return element type and format of a reading; of one without a value, those its attribute is known by."""
    return (reading.kind, reading.format) if reading.kind else (channel.definition.type, channel.definition.format)
