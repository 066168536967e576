"""Recovery, followers and the index: the same answer with it, without it and with a damaged one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from archiver.block import Block
from archiver.checkpoint import Checkpoint, Outage, Position, Standing, fingerprint
from archiver.commits import SCHEMA, open_at
from archiver.index import CHECKPOINT, DEFINES, index_path, read_index
from archiver.journal import Follower, JournalWriter, read_segment, segment_paths
from archiver.recovery import Recovered, recover
from bandoneon.record import AttributeDefinition, Columns, Kind, Quality, Row
from tests.journals import files_limited_to
from tests.unit.test_ledger import stream_batch

DEFINITION = AttributeDefinition(0, "lab/power/1/power", "h:1", Kind.DOUBLE, "SCALAR", unit="W")
COMMITS = 40
CHECKPOINTS = (0, 20, 30)
STANDING = Checkpoint(
    {0: Standing(3, 4, Outage(3, "server_down", None)), 5: Standing()},
    {7: {"lab/daq/1": Position("lab/daq/1", 2**62, 3, 10, 70, "archiver_down")}},
)


def row(number: int, attr: int = 0, kind: Kind = Kind.DOUBLE) -> Row:
    """A reading, or another row, of an attribute."""
    return Row(attr, 0, -1, 1, number, number + 1, Quality.VALID, kind, f64=float(number))


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A segment of forty commits; one far from the head changes a definition, three have a checkpoint."""
    writer = JournalWriter(tmp_path)
    writer.define(DEFINITION, 1)
    for number in range(COMMITS):
        writer.append([row(number)])
        if number == 10:
            writer.define(replace(DEFINITION, unit="mW", epoch=1), 1)
        if number in CHECKPOINTS:
            writer.append([STANDING.to_row(number)])
        writer.commit()
    writer.close()
    (path,) = segment_paths(tmp_path)
    return path


def read_numbers(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> list[int]:
    """Which commits are read meanwhile."""
    from archiver.commits import SegmentReader

    found: list[int] = []
    whole = SegmentReader._next_commit

    def counted(self: SegmentReader, *arguments: object) -> object:
        commit = whole(self, *arguments)  # pyright: ignore[reportArgumentType]
        found.extend([commit.number] if commit is not None else [])
        return commit

    with monkeypatch.context() as patch:
        patch.setattr(SegmentReader, "_next_commit", counted)
        action()
    return found


def test_recovery_reads_from_the_newest_checkpoint_on(segment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And before that only what states definitions, and one commit to see that the index tells the truth."""
    recovered: list[Recovered] = []
    numbers = read_numbers(monkeypatch, lambda: recovered.append(recover(segment.parent)))
    assert numbers == [0, 10, 20, *range(21, 30), *range(30, COMMITS)]
    (found,) = recovered
    assert (found.next_commit, found.definitions[0].unit) == (COMMITS, "mW")
    assert found.checkpoint.attributes == {0: Standing(39, fingerprint(Columns(f64=39.0))), 5: Standing()}
    assert found.checkpoint.streams == STANDING.streams


def test_a_follower_begins_where_it_is_told_to(segment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is before that is not read, except for definitions."""
    numbers = read_numbers(monkeypatch, lambda: Follower(segment.parent, 34).poll())
    assert numbers == [0, 10, *range(30, COMMITS)]


def test_the_index_has_every_checkpoint_and_definition(segment: Path) -> None:
    """And the head of the segment."""
    entries = read_index(segment)
    assert [(one.commit, one.flags) for one in entries] == [
        (0, DEFINES | CHECKPOINT),
        (10, DEFINES),
        (20, CHECKPOINT),
        (30, CHECKPOINT),
    ]
    assert [one.offset for one in entries[1:]] == [
        commit.end for commit in read_segment(segment) if commit.number in (9, 19, 29)
    ]


def test_whatever_the_index_is_the_answer_is_the_same(segment: Path) -> None:
    """Without it, cut anywhere, with any byte changed, or with the index of another segment."""
    index = index_path(segment)
    whole = index.read_bytes()
    expected = recover(segment.parent)

    def check(what: str) -> None:
        assert recover(segment.parent) == expected, what
        for number in (0, 5, 15, 25, COMMITS):
            reader, definitions = open_at(segment, number)
            assert reader.next == number, what
            assert {one.unit for one in definitions.values()} == (
                {"W"} if 0 < number <= 10 else {"mW"} if number else set()
            )

    for length in range(0, len(whole), 7):
        index.write_bytes(whole[:length])
        check(f"cut at {length}")
    for position in range(0, len(whole), 4):
        index.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        check(f"byte {position}")
    index.unlink()
    check("no index")
    other = JournalWriter(segment.parent / "other")
    for number in range(COMMITS):
        other.append([row(number), row(number), STANDING.to_row(number)])
        other.commit()
    other.close()
    index.write_bytes(index_path(segment.parent / "other" / segment.name).read_bytes())
    check("of another segment")


def test_a_journal_cut_at_any_byte_recovers_with_its_index(segment: Path) -> None:
    """After a power cut the index may know of commits that are not there."""
    data, index = segment.read_bytes(), index_path(segment).read_bytes()
    ends = [commit.end for commit in read_segment(segment)]
    for end in (*ends, *(end + 40 for end in ends[:-1])):
        segment.write_bytes(data[:end])
        index_path(segment).write_bytes(index)
        whole = sum(one <= end for one in ends)
        found = recover(segment.parent)
        stands = 3 if whole - 1 in CHECKPOINTS else whole - 1
        assert (found.next_commit, found.checkpoint.attributes[0].time_ns) == (whole, stands)
        assert segment.stat().st_size == ends[whole - 1]


def test_an_index_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """The commits are whole, and read without it."""
    index_path(tmp_path / f"{0:020d}.arrows").mkdir()
    writer = JournalWriter(tmp_path)
    writer.append([row(1)])
    assert writer.commit() == 0
    writer.close()
    assert recover(tmp_path).next_commit == 1


def test_a_checkpoint_is_written_at_the_head_every_minute_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in a commit that failed; a new segment begins with another."""
    now_ns = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now_ns)
    writer = JournalWriter(tmp_path)
    writer.checkpoint = STANDING.to_row
    for _ in range(4):
        writer.append([row(1)])
        writer.commit()
        now_ns += 30 * 10**9
    writer.append([row(1)])
    with files_limited_to(100), pytest.raises(OSError, match="File too large"):
        writer.commit()
    writer.commit()
    assert writer.commit() is None
    assert writer.commit(last=True) == 5
    writer.close()
    first, second = segment_paths(tmp_path)
    assert [entry.commit for entry in read_index(first)] == [0, 2]
    assert [entry.commit for entry in read_index(second)] == [4, 5]


def test_rows_behind_a_checkpoint_count(tmp_path: Path) -> None:
    """A reading, an error or a gap ends an outage; a batch is where its stream is; others stay as they were."""
    block: Block = stream_batch(4)
    writer = JournalWriter(tmp_path)
    before = replace(STANDING, attributes={n: Standing(3, 4, Outage(3, "server_down")) for n in range(4)})
    meta = (block.seq, block.incarnation, block.last_ns, 50, Quality.VALID, Kind.STREAM)
    writer.append([before.to_row(5)])
    writer.commit()
    writer.append([row(9), row(9, 1, Kind.ERROR), row(9, 2, Kind.GAP)])
    writer.append([Row(7, 0, *meta, i64=block.rows, payload=block.payload)])
    writer.commit()
    writer.close()
    found = recover(tmp_path).checkpoint
    assert [found.attributes[n].outage is None for n in range(4)] == [True, True, True, False]
    assert [found.attributes[n].time_ns for n in range(4)] == [9, 3, 3, 3]
    assert found.streams == {7: {"lab/daq/1": Position("lab/daq/1", 1, 4, 10, 41)}}
    assert found.ended_ns == 50


def batch_of(*rows: Row) -> pa.RecordBatch:
    """The rows of a commit, as the journal has them."""
    return pa.RecordBatch.from_pylist([one._asdict() for one in rows], schema=SCHEMA)


def test_a_commit_without_rows_and_a_gap_of_a_wrong_clock_tell_nothing() -> None:
    """A commit whose rows were all refused has none; a gap may end at the time of a device whose clock is ahead."""
    checkpoint = Checkpoint()
    checkpoint.note(batch_of(row(1)))
    checkpoint.note(batch_of())
    checkpoint.note(batch_of(row(2)._replace(kind=Kind.GAP, received_ns=10**18, f64=None)))
    assert checkpoint.ended_ns == 2
