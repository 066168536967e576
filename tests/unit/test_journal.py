"""The journal: whole commits, whatever happens to the file or the disk."""

import time
from pathlib import Path

import polars
import pyarrow as pa
import pytest

from archiver.journal import Follower, JournalWriter, read_segment, recover, segment_paths, verify
from bandoneon.record import AttributeDefinition, Kind, Quality, Row, decode_value, encode_value
from tests.all_types import COMBINATIONS, name, same, value
from tests.journals import files_limited_to

DEFINITION = AttributeDefinition(0, "lab/power/1/power", "h:1", Kind.DOUBLE, "SCALAR", unit="W")


def row(number: int, attr: int = 0) -> Row:
    """A reading."""
    return Row(attr, 0, -1, 1, number, number + 1, Quality.VALID, Kind.DOUBLE, f64=float(number))


def write(directory: Path, *commits: list[Row], **options: int) -> None:
    """Write some commits in one run of a writer."""
    writer = JournalWriter(directory, **options)
    for rows in commits:
        writer.append(rows)
        writer.commit()
    writer.close()


def tables(directory: Path) -> list[pa.RecordBatch]:
    """The rows of every whole commit."""
    return [commit.table for path in segment_paths(directory) for commit in read_segment(path)]


def numbers(directory: Path) -> list[float]:
    """Every reading's value."""
    return [text for table in tables(directory) for text in table.column("f64").to_pylist() if text is not None]


def sealed_lengths(path: Path) -> list[int]:
    """How many bytes each seal says its commit has."""
    lengths = []
    with pa.ipc.open_stream(path) as reader:
        for _ in read_segment(path):
            reader.read_next_batch()
            lengths.append(int(reader.read_next_batch_with_custom_metadata().custom_metadata[b"length"]))
    return lengths


def test_every_type_and_format_comes_back_from_the_journal(tmp_path: Path) -> None:
    """The 40 combinations, ordinary, extreme, empty and invalid, through a segment on the disk."""
    cases = [(kind, form, what) for kind, form in COMBINATIONS for what in ("ordinary", "extreme", "empty", "invalid")]
    meta = (0, -1, 1, 10, 11, Quality.VALID)
    rows = [
        Row(n, *meta, kind, *encode_value(kind, form, value(kind, form, w))) for n, (kind, form, w) in enumerate(cases)
    ]
    write(tmp_path, rows)
    (table,) = tables(tmp_path)
    for number, (kind, form, what) in enumerate(cases):
        found = Row(**table.slice(number, 1).to_pylist()[0])
        assert same(decode_value(found, kind, form), value(kind, form, what)), (name(kind, form), what)


def test_a_journal_cut_at_any_byte_recovers_to_its_last_whole_commit(tmp_path: Path) -> None:
    """For every length the file can have after a crash: all commits before the cut, nothing of the one in it."""
    write(tmp_path / "whole", [row(1)], [row(2), row(3)])
    (path,) = segment_paths(tmp_path / "whole")
    ends = [commit.end for commit in read_segment(path)]
    data = path.read_bytes()
    assert ends[-1] == len(data)
    cut = tmp_path / "cut" / path.name
    cut.parent.mkdir()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        whole = sum(end <= length for end in ends)
        assert recover(cut.parent).next_commit == whole, f"cut at {length}"
        assert cut.exists() == bool(whole)
        if whole:
            assert cut.stat().st_size == ends[whole - 1]


def test_a_changed_byte_never_changes_a_row(tmp_path: Path) -> None:
    """Any byte of a record batch changed: that commit is not whole. Of a seal: not whole, or no row changes."""
    write(tmp_path / "whole", [row(1)], [row(2), row(3)])
    (path,) = segment_paths(tmp_path / "whole")
    commits = list(read_segment(path))
    data = bytearray(path.read_bytes())
    starts = [0, commits[0].end]
    chained = [start + length for start, length in zip(starts, sealed_lengths(path), strict=True)]
    changed = tmp_path / path.name
    for position in range(len(data)):
        data[position] ^= 0xFF
        changed.write_bytes(data)
        data[position] ^= 0xFF
        found = list(read_segment(changed))
        assert all(one.table.equals(other.table) for one, other in zip(found, commits, strict=False)), position
        hit = 0 if position < commits[0].end else 1
        if position < chained[hit]:
            assert len(found) == hit, f"byte {position} changed unseen"


def test_a_restarted_writer_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """It is named like its first commit and restates the definitions, so that it reads alone."""
    writer = JournalWriter(tmp_path)
    writer.define(DEFINITION, 1)
    writer.append([row(1)])
    writer.commit()
    writer.close()
    write(tmp_path, [row(2)])
    first, second = segment_paths(tmp_path)
    assert (first.stem, second.stem) == ("0" * 20, f"{1:020d}")
    (commit,) = read_segment(second)
    stated = AttributeDefinition.from_json(commit.table.column("payload")[0].as_py())
    assert stated == DEFINITION
    assert commit.table.num_rows == 2


def test_a_segment_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    """The commits' numbers and the follower go on across segments."""
    follower = Follower(tmp_path)
    write(tmp_path, *[[row(n)] for n in range(5)], segment_bytes=1)
    assert len(segment_paths(tmp_path)) == 5
    assert [commit.number for commit in follower.poll()] == list(range(5))
    assert follower.poll() == []
    assert verify(tmp_path).errors == []


def test_a_definition_changed_with_the_first_rows_of_a_segment_does_not_reach_back(tmp_path: Path) -> None:
    """Rows before a changed definition stay under the old one, also when a new segment begins with them."""
    writer = JournalWriter(tmp_path, segment_bytes=1)
    writer.define(DEFINITION, 1)
    writer.commit()
    changed = AttributeDefinition(0, "lab/power/1/power", "h:1", Kind.DOUBLE, "SCALAR", unit="mW", epoch=1)
    writer.append([row(1)])
    writer.define(changed, 2)
    writer.append([row(2)])
    writer.commit()
    writer.close()
    kinds = tables(tmp_path)[1].column("kind").to_pylist()
    assert kinds == [Kind.DEFINE, Kind.DOUBLE, Kind.DEFINE, Kind.DOUBLE]
    follower = Follower(tmp_path, 0)
    follower.poll()
    assert follower.definitions == {0: changed}


def test_a_follower_sees_a_commit_only_when_it_is_whole(tmp_path: Path) -> None:
    """A live segment that ends anywhere inside a commit gives what is whole, and the rest once that is."""
    write(tmp_path / "whole", [row(1)], [row(2)])
    (path,) = segment_paths(tmp_path / "whole")
    data = path.read_bytes()
    live = tmp_path / "live" / path.name
    live.parent.mkdir()
    first = next(read_segment(path)).end
    for length in (0, 10, first - 1, first + 1, len(data) - 1):
        live.write_bytes(data[:length])
        follower = Follower(live.parent)
        before = [commit.number for commit in follower.poll()]
        assert before == ([0] if length >= first else [])
        live.write_bytes(data)
        assert before + [commit.number for commit in follower.poll()] == [0, 1]


def test_a_follower_can_begin_behind_any_commit(tmp_path: Path) -> None:
    """It knows the definitions of the commits it passed over."""
    writer = JournalWriter(tmp_path, segment_bytes=6000)
    writer.define(DEFINITION, 1)
    for number in range(20):
        writer.append([row(number)])
        writer.commit()
    writer.close()
    assert len(segment_paths(tmp_path)) > 2
    for after in range(-1, 20):
        follower = Follower(tmp_path, after)
        assert [commit.number for commit in follower.poll(max_bytes=1 << 20)] == list(range(after + 1, 20))
        assert follower.definitions == {0: DEFINITION}


def test_a_follower_passes_a_damaged_stretch_and_says_which(tmp_path: Path) -> None:
    """Commits behind damage in an old segment are named as missing; the next segment is read."""
    write(tmp_path, [row(1)], [row(2)])
    write(tmp_path, [row(3)])
    damaged = segment_paths(tmp_path)[0]
    data = bytearray(damaged.read_bytes())
    data[next(read_segment(damaged)).end + 100] ^= 1
    damaged.write_bytes(data)
    follower = Follower(tmp_path)
    assert [commit.number for commit in follower.poll()] == [0, 2]
    assert follower.missing == [(1, 1)]
    assert len(verify(tmp_path).errors) == 2


def test_damage_before_a_seal_is_kept_beside_the_segment_it_is_cut_from(tmp_path: Path) -> None:
    """What once was whole is kept, its numbers are not given again, and `verify` says so before and after."""
    write(tmp_path, [row(1)], [row(2)], [row(3)])
    (path,) = segment_paths(tmp_path)
    ends = [commit.end for commit in read_segment(path)]
    data = bytearray(path.read_bytes())
    data[ends[0] + 50] ^= 1
    path.write_bytes(data)
    assert "damaged" in verify(tmp_path).errors[0]
    assert recover(tmp_path).next_commit == 3
    assert "damaged" in verify(tmp_path).errors[0]
    (kept,) = tmp_path.glob("*.damaged-*")
    assert kept.read_bytes() == bytes(data[ends[0] :])


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Two archivers in one directory would write the same commits."""
    writer = JournalWriter(tmp_path)
    with pytest.raises(BlockingIOError, match="another process"):
        JournalWriter(tmp_path)
    writer.close()


def test_recovery_knows_the_newest_reading_of_each_attribute(tmp_path: Path) -> None:
    """From there the next run's gaps begin."""
    write(tmp_path, [row(1), row(3, attr=1), row(5)], [row(4, attr=1)])
    recovered = recover(tmp_path)
    assert {number: one.time_ns for number, one in recovered.checkpoint.attributes.items()} == {0: 5, 1: 4}
    assert recovered.checkpoint.ended_ns == 6


def test_a_commit_that_does_not_fit_on_the_disk_is_written_when_there_is_room(tmp_path: Path) -> None:
    """A full disk: the commit fails, the journal is whole, the rows stay pending; then they are written once."""
    writer = JournalWriter(tmp_path)
    writer.append([row(1)])
    writer.commit()
    (path,) = segment_paths(tmp_path)
    for room in (path.stat().st_size + 100, 100):
        writer.append([row(2)])
        with files_limited_to(room):
            with pytest.raises(OSError, match="File too large"):
                writer.commit()
            assert numbers(tmp_path) == [1.0]
            assert verify(tmp_path).errors == []
    assert writer.pending == 2
    writer.commit()
    writer.append([row(3)])
    writer.commit()
    writer.close()
    assert numbers(tmp_path) == [1.0, 2.0, 2.0, 3.0]
    assert verify(tmp_path).errors == []


def test_a_deleted_segment_is_noticed(tmp_path: Path) -> None:
    """Rows written into a file that has no name any more are not stored: that commit fails, and is written anew."""
    writer = JournalWriter(tmp_path)
    writer.append([row(1)])
    writer.commit()
    for path in segment_paths(tmp_path):
        path.unlink()
    writer.append([row(2)])
    with pytest.raises(FileNotFoundError, match="was deleted"):
        writer.commit()
    assert writer.commit() == 1
    writer.close()
    assert numbers(tmp_path) == [2.0]


def test_midnight_begins_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment holds commits of one UTC day."""
    day_ns = 86_400 * 10**9
    now_ns = 20_000 * day_ns - 1
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    writer = JournalWriter(tmp_path)
    for _ in range(2):
        writer.append([row(1)])
        writer.commit()
    now_ns += 1
    writer.append([row(2)])
    writer.commit()
    writer.close()
    assert [path.stem for path in segment_paths(tmp_path)] == [f"{0:020d}", f"{2:020d}"]


def test_any_arrow_library_reads_a_finished_segment(tmp_path: Path) -> None:
    """A segment is a plain Arrow stream: polars reads all rows without knowing of seals."""
    write(tmp_path, [row(1)], [row(2)])
    (path,) = segment_paths(tmp_path)
    assert polars.read_ipc_stream(path)["f64"].to_list() == [1.0, 2.0]
