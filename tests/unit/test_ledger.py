"""The books: what was stored, what was lost, where the gaps are. Sources here are lists."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.block import Block, open_block
from archiver.channel import Channel, StreamChannel
from archiver.checkpoint import Outage, Position, Standing, fingerprint
from archiver.ingest import Ingest
from archiver.journal import JournalWriter, segment_paths
from archiver.ledger import Account, Ledger, read_ledger_row
from archiver.sources.base import Reading
from bandoneon.record import AttributeDefinition, Columns, Kind, Quality, Row, error_text
from tests.journals import Written

DEFINITION = AttributeDefinition(0, "lab/power/1/power", "h:1", Kind.DOUBLE, "SCALAR")
BATCH = AttributeDefinition(1, "stream/daq/1/batch", "h:1", Kind.ENCODED, "SCALAR")
VOLTAGE = AttributeDefinition(2, "lab/daq/1/voltage", "h:1", Kind.DOUBLE, "SCALAR", stream=1)


def reading(time_ns: int, number: float | None = None, **facts: Any) -> Reading:
    """A reading whose value is its time unless said otherwise."""
    return Reading(time_ns, Quality.VALID, Columns(f64=float(time_ns if number is None else number)), **facts)


def failed(reason: str, time_ns: int) -> Reading:
    """An error event."""
    return Reading(time_ns, error=error_text([(reason, "", "", 1)]))


def joined(outage: Outage | None = None) -> tuple[Channel, Account]:
    """A channel that has just been subscribed."""
    channel, account = Channel(DEFINITION, Standing(outage=outage)), Account(0, 1)
    channel.join(account)
    return channel, account


def told(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Kind and time of rows."""
    return [(row.kind, row.time_ns) for row in rows]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_stored_and_lost_add_up_whatever_numbers_come(counters: list[int]) -> None:
    """stored + lost == last - first + 1, duplicates apart: the definition of exact."""
    account = Account(0, 1)
    for counter in counters:
        account.number(counter)
    assert account.state == "exact"
    assert account.stored + account.lost == account.last_counter - account.first_counter + 1
    assert account.stored + account.duplicates == len(counters)


def test_a_ledger_row_is_written_when_something_changed() -> None:
    """Accounts come back from the payload; what did not change is not repeated; what is lost stays counted."""
    ledger = Ledger()
    account = ledger.account(3, 7, now_ns=5)
    account.stored, account.lost = 5, 2
    (row,) = ledger.changed(10)
    assert read_ledger_row(row.payload or b"") == [account]
    assert account.since_ns == 5
    assert ledger.changed(11) == []
    assert ledger.account(3, 7, now_ns=12) is account
    account.stored += 1
    later = ledger.account(3, 8, now_ns=13)
    later.lost = 1
    (row,) = ledger.changed(14, 4)
    assert read_ledger_row(row.payload or b"") == [account]
    (row,) = ledger.changed(15, 3)
    assert read_ledger_row(row.payload or b"") == [later]
    assert (ledger.lost, ledger.lost_by_attribute()) == (3, {3: 3})


def test_what_the_ledger_says_adds_up(tmp_path: Path) -> None:
    """Over subscriptions, runs of the archiver and a full disk: the newest row of each start, added, is what came."""
    rounds = ([0, 1, 3], [3, 4], [], [8, 9])
    for seqs in rounds:
        ingest, stream = Ingest(JournalWriter(tmp_path)), Queue()
        for part in (seqs[:2], seqs[2:]):
            ingest.attach_stream(replace(BATCH, id=-1), [replace(VOLTAGE, id=-1, stream=None)], stream)
            stream.waiting = [batch_bytes(seq) for seq in part]
            ingest.step()
            ingest.detach(BATCH.name, "server_down")
        if seqs == rounds[1]:
            ingest.paused = "full"
            ingest.attach_stream(replace(BATCH, id=-1), [replace(VOLTAGE, id=-1, stream=None)], stream)
            stream.waiting = [batch_bytes(seq) for seq in (5, 6)]
            ingest._retry_ns = time.time_ns() + 10**12
            ingest.step()
        ingest.close()
    journal = Written(tmp_path).refresh()
    newest = {(account.device, account.since_ns): account for account in journal.accounts}.values()
    assert sum(account.stored for account in newest) == 6
    assert sum(account.lost for account in newest) == 4
    assert sum(row.i64 or 0 for row in journal.of_kind(VOLTAGE.name, Kind.GAP)) == 2 * 4


def test_the_value_read_on_subscribing_comes_in_its_place() -> None:
    """It is queued before events that were pushed earlier, and is one of them once more: neither shows."""
    channel, account = joined()
    rows = channel.rows([reading(4), reading(3), reading(4), reading(4), reading(5)], 9)
    assert told(rows) == [(Kind.DOUBLE, 3), (Kind.DOUBLE, 4), (Kind.DOUBLE, 5)]
    assert (account.stored, account.duplicates) == (3, 2)


def test_only_the_first_events_can_be_repetitions() -> None:
    """Later, the same value with the same time is another event; NaN repeats like any number."""
    channel, account = joined()
    channel.rows([reading(1, math.nan), reading(1, math.nan), reading(2)], 9)
    assert (account.stored, account.duplicates) == (2, 1)
    channel.rows([reading(3), reading(4)], 9)
    assert len(channel.rows([reading(4), reading(4)], 9)) == 2


def test_an_outage_is_one_gap_row_up_to_the_first_event() -> None:
    """From the last reading to the first that was pushed: behind the value read on subscribing some may be missing."""
    channel, _ = joined()
    channel.rows([reading(1), reading(2)], 9)
    channel.leave("server_down", 50)
    channel.leave("unsubscribed", 60)
    channel.join(Account(0, 2))
    gap, *rows = channel.rows([reading(7), reading(9)], 9)
    assert (gap.kind, gap.time_ns, gap.received_ns, gap.i64, gap.text) == (Kind.GAP, 2, 9, None, "server_down")
    assert told(rows) == [(Kind.DOUBLE, 7), (Kind.DOUBLE, 9)]
    assert told(channel.rows([reading(10)], 11)) == [(Kind.DOUBLE, 10)]


def test_an_archiver_that_starts_again_knows_since_when() -> None:
    """The gap begins at the last row of the run before, and ends at the value read when nothing is pushed."""
    channel, _ = joined(Outage(5, "archiver_down"))
    gap, row = channel.rows([reading(8)], 9)
    assert (gap.kind, gap.time_ns, gap.received_ns, gap.text) == (Kind.GAP, 5, 8, "archiver_down")
    assert row.time_ns == 8


def test_what_was_stored_last_and_is_still_the_newest_is_no_gap() -> None:
    """An archiver that starts again, or subscribes again, reads the value it has already: nothing is missing."""
    channel, _ = joined()
    channel.rows([reading(1), reading(2, math.nan)], 9)
    channel.leave("archiver_down", 50)
    again = Channel(DEFINITION, channel.standing)
    again.join(Account(0, 1))
    assert again.rows([reading(2, math.nan)], 60) == []
    assert told(again.rows([reading(70)], 70)) == [(Kind.DOUBLE, 70)]


def test_errors_are_written_when_they_begin() -> None:
    """One ERROR row for the same error again and again; another one, or the same after a reading, is told."""
    channel, account = joined()
    rows = channel.rows([reading(1), failed("A", 2), failed("A", 3), failed("B", 4), reading(5), failed("B", 6)], 9)
    assert [row.kind for row in rows] == [Kind.DOUBLE, Kind.ERROR, Kind.ERROR, Kind.DOUBLE, Kind.ERROR]
    assert account.stored == 2


def test_missed_events_while_the_disk_is_full_make_the_gap_s_size_unknown() -> None:
    """What Tango dropped cannot be counted."""
    channel, account = joined()
    channel.rows([reading(1)], 9)
    channel.skip([reading(2), Reading(3, missed=True), reading(4)], 9)
    gap, _ = channel.rows([reading(5)], 9)
    assert (gap.i64, gap.text, account.lost) == (None, "disk_full", 2)


def test_a_value_that_is_sent_again_while_the_disk_is_full_is_not_lost() -> None:
    """Subscribing again gives the present value once more, stored or counted already; then rows end the outage."""
    channel, account = joined()
    channel.rows([reading(1)], 9)
    channel.skip([reading(2)], 9)
    channel.join(account)
    channel.skip([reading(2), reading(2), reading(3)], 9)
    channel.join(account)
    channel.skip([reading(3)], 9)
    assert (account.lost, account.duplicates) == (2, 3)
    gap, *rows = channel.rows([reading(4), reading(6)], 9)
    assert (gap.time_ns, gap.received_ns, gap.i64, gap.text) == (1, 4, 2, "disk_full")
    assert told(rows) == [(Kind.DOUBLE, 4), (Kind.DOUBLE, 6)]


def test_a_value_that_was_not_stored_is_stored_when_it_is_read_again() -> None:
    """What was counted as lost is still the present value when the disk has room."""
    channel, account = joined()
    channel.rows([reading(1)], 9)
    channel.skip([reading(2)], 9)
    assert channel.standing == Standing(1, fingerprint(Columns(f64=1.0)), Outage(1, "disk_full", 1))
    channel.join(account)
    assert told(channel.rows([reading(2)], 9)) == [(Kind.GAP, 1), (Kind.DOUBLE, 2)]


def test_missed_events_are_a_gap_of_unknown_size() -> None:
    """Where Tango says that some did not arrive, but not how many."""
    channel, _ = joined()
    _, gap, _ = channel.rows([reading(1), Reading(3, missed=True), reading(4)], 9)
    assert (gap.kind, gap.time_ns, gap.received_ns, gap.i64, gap.text) == (Kind.GAP, 1, 4, None, "overflow")


def test_a_set_value_is_written_when_it_changes() -> None:
    """As a row of part 1 beside the reading that brought it."""
    channel, _ = joined()
    one, other = Columns(f64=1.0), Columns(f64=2.0)
    rows = channel.rows([reading(t, set_value=value) for t, value in ((1, one), (2, one), (3, other))], 9)
    assert [(row.part, row.time_ns, row.f64) for row in rows] == [(0, 1, 1), (1, 1, 1), (0, 2, 2), (0, 3, 3), (1, 3, 2)]


def block(seq: int, incarnation: int = 1, rows: int = 2, rows_before: int | None = None) -> Block:
    """A batch."""
    before = seq * rows if rows_before is None else rows_before
    return Block("lab/daq/1", incarnation, seq, rows, before, seq * 10, seq * 10 + 1, b"x")


def stream_batch(seq: int, **changed: Any) -> Block:
    """A batch of two rows, as it comes from a stream device."""
    return open_block(batch_bytes(seq, **changed))


def batch_bytes(seq: int, *, incarnation: int = 1, times: Sequence[int | None] | None = None) -> bytes:
    """Its bytes."""
    metadata = {"device": "lab/daq/1", "incarnation": str(incarnation), "seq": str(seq), "rows_before": str(2 * seq)}
    columns = {
        "time_ns": pa.array([10 * seq, 10 * seq + 1] if times is None else times, pa.int64()),
        "voltage": pa.array([1.0, 2.0]),
        "voltage__quality": pa.array([0, 0], pa.uint8()),
    }
    table = pa.table(columns, metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def streamed(*known: Position) -> tuple[StreamChannel, Ledger]:
    """A channel of batches that carry the voltage."""
    channel = StreamChannel(BATCH, {position.device: position for position in known})
    channel.carried[VOLTAGE.name] = VOLTAGE
    return channel, Ledger()


def test_missing_batches_are_a_gap_of_known_size() -> None:
    """For every attribute they carry; the ledger is exact."""
    channel, ledger = streamed()
    rows = channel.rows([block(0), block(1), block(1), block(4)], 9, ledger)
    gap = rows[2]
    assert [row.kind for row in rows] == [Kind.STREAM, Kind.STREAM, Kind.GAP, Kind.STREAM]
    assert (gap.attr, gap.time_ns, gap.received_ns, gap.i64, gap.text) == (VOLTAGE.id, 11, 40, 4, "overflow")
    account = ledger.account(BATCH.id, 1, "lab/daq/1")
    assert (account.stored, account.duplicates, account.lost, account.state) == (3, 1, 2, "exact")


def test_a_new_run_of_a_stream_begins_at_zero() -> None:
    """What the old run had not sent is unknown; batches the new one made before it was heard are counted."""
    channel, ledger = streamed(Position("lab/daq/1", 1, 7, 16, 71, "archiver_down"))
    channel.leave("server_down")
    rows = channel.rows([block(2, incarnation=2)], 9, ledger)
    assert [(row.kind, row.i64, row.text) for row in rows] == [
        (Kind.GAP, None, "archiver_down"),
        (Kind.STREAM, 2, None),
    ]
    assert ledger.account(BATCH.id, 2, "lab/daq/1").lost == 2


class Queue:
    """A source that gives what a test puts in."""

    name = "queue"

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.closed = False

    def take(self) -> Sequence[Any]:
        taken, self.waiting = self.waiting, []
        return taken

    def close(self) -> None:
        self.closed = True


def test_a_journal_that_cannot_be_written_pauses_counts_and_resumes(tmp_path: Path, monkeypatch: Any) -> None:
    """What arrives meanwhile is counted; what was pending is written when there is room; the gap has the number."""
    ingest, source, stream = Ingest(JournalWriter(tmp_path)), Queue(), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    ingest.attach_stream(replace(BATCH, id=-1), [replace(VOLTAGE, id=-1, stream=None)], stream)

    def step(readings: Sequence[Reading], blocks: Sequence[bytes] = ()) -> None:
        source.waiting += readings
        stream.waiting += blocks
        ingest.step()

    step([reading(1)])
    with monkeypatch.context() as patch:
        patch.setattr("archiver.ingest.RETRY_S", 0.0)
        patch.setattr(os, "write", full)
        step([reading(2)])
        assert ingest.paused == "No space left on device"
        step([reading(3), reading(4)], [batch_bytes(0)])
        step([reading(5)], [batch_bytes(1)])
        assert ingest.lost == 5
        patch.undo()
        step([])
        assert ingest.paused == ""
    step([reading(6)], [batch_bytes(2)])
    ingest.close()
    assert source.closed
    journal = Written(tmp_path)
    assert journal.values(DEFINITION.name) == [1, 2, 6]
    (gap,) = journal.of_kind(DEFINITION.name, Kind.GAP)
    assert (gap.time_ns, gap.received_ns, gap.i64, gap.text) == (2, 6, 3, "disk_full")
    assert [row.counter for row in journal.of_kind(BATCH.name, Kind.STREAM)] == [2]
    (gap,) = journal.of_kind(VOLTAGE.name, Kind.GAP)
    assert (gap.time_ns, gap.received_ns, gap.i64, gap.text) == (0, 20, 4, "disk_full")
    assert len(segment_paths(tmp_path)) == 2


def test_a_full_disk_is_tried_again_whatever_the_clock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back by a day ends neither the retries nor the ledger and the figures."""
    ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    monkeypatch.setattr("archiver.ingest.RETRY_S", 0.0)
    source.waiting = [reading(1)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        ingest.step()
    assert ingest.paused
    back_ns = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: back_ns)
    ingest.step()
    assert (ingest.paused, ingest.commits) == ("", 1)
    ingest.close()


def full(*_: object) -> int:
    """A write to a full disk."""
    raise OSError(28, "No space left on device")


def test_batches_are_counted_over_every_restart(tmp_path: Path) -> None:
    """Also over a run in which the stream sent nothing: the gap is as long, and as large, as what is missing."""
    for seqs in ([0, 1], [1], [1], [], [7]):
        ingest, stream = Ingest(JournalWriter(tmp_path)), Queue()
        ingest.attach_stream(replace(BATCH, id=-1), [replace(VOLTAGE, id=-1, stream=None)], stream)
        stream.waiting = [batch_bytes(seq) for seq in seqs]
        ingest.step()
        ingest.close()
    journal = Written(tmp_path)
    assert [row.counter for row in journal.of_kind(BATCH.name, Kind.STREAM)] == [0, 1, 7]
    (gap,) = journal.of_kind(VOLTAGE.name, Kind.GAP)
    assert (gap.time_ns, gap.received_ns, gap.i64, gap.text) == (11, 70, 10, "archiver_down")


@pytest.mark.parametrize("ends_well", [True, False])
def test_an_outage_is_as_long_as_it_was_over_every_restart(tmp_path: Path, *, ends_well: bool) -> None:
    """A server that is down over two restarts of the archiver: one gap, from its last reading on."""
    for round_ in range(4):
        ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
        if round_ in (0, 3):
            ingest.attach(replace(DEFINITION, id=-1), source, round_)
            source.waiting = [reading(10 + round_)]
            ingest.step()
        ingest.mark("start")
        if round_ == 0:
            ingest.detach(DEFINITION.name, "server_down")
        ingest.step()
        if ends_well:
            ingest.close()
        else:
            ingest._journal.close()
    (gap,) = Written(tmp_path).of_kind(DEFINITION.name, Kind.GAP)
    cause = "server_down" if ends_well else "archiver_down"
    assert (gap.time_ns, gap.received_ns, gap.i64, gap.text) == (10, 13, None, cause)


def test_a_restarted_ingest_does_not_store_the_last_reading_again(tmp_path: Path) -> None:
    """Neither it nor an empty gap before it, when the attribute has not changed since."""
    for _ in range(3):
        ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
        ingest.attach(replace(DEFINITION, id=-1), source, 1)
        source.waiting = [reading(5)]
        ingest.step()
        ingest.close()
    journal = Written(tmp_path)
    assert (journal.values(DEFINITION.name), journal.of_kind(DEFINITION.name, Kind.GAP)) == ([5], [])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: batch_bytes(1, times=[10, None]), "rows without a time"),
        (lambda: batch_bytes(1, incarnation=2**63), "not all from 0 to 2"),
        (lambda: b"nothing", "not a stream batch"),
    ],
)
def test_a_bad_batch_stops_nothing(tmp_path: Path, bad: Callable[[], bytes], said: str) -> None:
    """It is counted and said; what comes with it and after it is stored, and its rows are a gap of known size."""
    ingest, source, stream = Ingest(JournalWriter(tmp_path)), Queue(), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    ingest.attach_stream(replace(BATCH, id=-1), [replace(VOLTAGE, id=-1, stream=None)], stream)
    source.waiting = [reading(1)]
    stream.waiting = [batch_bytes(0), bad(), batch_bytes(2)]
    ingest.step()
    assert ingest.refused == 1
    assert said in ingest.refusals[BATCH.name]
    ingest.close()
    journal = Written(tmp_path)
    assert journal.values(DEFINITION.name) == [1]
    assert [row.counter for row in journal.of_kind(BATCH.name, Kind.STREAM)] == [0, 2]
    assert [row.i64 for row in journal.of_kind(VOLTAGE.name, Kind.GAP)] == [2]


def test_a_value_of_another_type_is_stored_as_what_it_is(tmp_path: Path) -> None:
    """The definition changes before the first such value; one without a value belongs to what came before it."""
    ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
    ingest.attach(replace(DEFINITION, id=-1, type=Kind.SHORT, unit="V"), source, 1)
    short = Reading(1, Quality.VALID, Columns(i64=3), kind=Kind.SHORT)
    source.waiting = [short, reading(2, 3.7, kind=Kind.DOUBLE), Reading(3), reading(4, 4.7, kind=Kind.DOUBLE)]
    ingest.step()
    ingest.close()
    journal = Written(tmp_path)
    assert [(row.kind, row.i64, row.f64) for row in journal.readings(DEFINITION.name)] == [
        (Kind.SHORT, 3, None),
        (Kind.DOUBLE, None, 3.7),
        (Kind.DOUBLE, None, None),
        (Kind.DOUBLE, None, 4.7),
    ]
    assert [(one.type, one.unit, one.epoch) for one in journal.definitions(DEFINITION.name)] == [
        (Kind.SHORT, "V", 0),
        (Kind.DOUBLE, "V", 1),
    ]


def test_an_event_that_cannot_be_stored_stops_nothing(tmp_path: Path) -> None:
    """Neither one whose number fits no column, nor a source that fails: they are counted, the others go on."""

    class Broken(Queue):
        def take(self) -> Sequence[Any]:
            raise RuntimeError("broken")

    ingest, source, other = Ingest(JournalWriter(tmp_path)), Queue(), Broken()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    ingest.attach(replace(DEFINITION, id=-1, name="lab/power/2/power"), other, 1)
    source.waiting = [reading(1), Reading(2, Quality.VALID, Columns(i64=2**63)), reading(3)]
    ingest.step()
    ingest.step()
    assert (ingest.refused, ingest.refusals["lab/power/2/power"]) == (3, "broken")
    assert "too" in ingest.refusals["rows"]
    ingest.close()
    assert Written(tmp_path).values(DEFINITION.name) == [1, 3]


def test_a_restarted_ingest_keeps_ids_and_epochs(tmp_path: Path) -> None:
    """An attribute keeps its id for ever; a definition that changed while the archiver was down is the next epoch."""
    for unit in ("W", "W", "mW"):
        ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
        ingest.attach(replace(DEFINITION, id=-1, unit=unit), source, 1)
        source.waiting = [reading(time.time_ns())]
        ingest.step()
        ingest.close()
    journal = Written(tmp_path)
    assert len(journal.values(DEFINITION.name)) == 3
    assert [(one.id, one.epoch, one.unit) for one in journal.definitions(DEFINITION.name)] == [
        (0, 0, "W"),
        (0, 1, "mW"),
    ]
    assert [row.text for row in journal.of_kind(DEFINITION.name, Kind.GAP)] == ["archiver_down"] * 2
