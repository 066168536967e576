"""The journal: one append-only Arrow IPC stream in segments, each commit sealed and synced (contracts: "Journal").

A commit is one write and one fdatasync; beside each segment its index is kept (`archiver.index`), and about once a
minute a commit has a checkpoint (`archiver.checkpoint`).
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa

from archiver.checkpoint import has_checkpoint
from archiver.clock import SET_BACK_NS, clock_row
from archiver.commits import (
    SCHEMA,
    Commit,
    SegmentReader,
    definitions_in,
    first_commit,
    open_at,
    read_segment,
    segment_paths,
)
from archiver.durable import sync_directory
from archiver.index import CHECKPOINT, DEFINES, Entry, IndexWriter
from archiver.recovery import damaged_parts, is_damaged, recover
from archiver.series import TIMELESS
from bandoneon.record import AttributeDefinition, Kind, Row

__all__ = [
    "Commit",
    "Follower",
    "JournalWriter",
    "Report",
    "definitions_in",
    "follow",
    "read_segment",
    "recover",
    "segment_paths",
    "verify",
]

SEGMENT_BYTES: Final = 256 << 20
"""A commit that finds its segment this long begins a new one."""

CHECKPOINT_PERIOD_S: Final = 60.0

_EMPTY: Final = pa.RecordBatch.from_arrays([pa.array([], column.type) for column in SCHEMA], schema=SCHEMA)
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd")
_UNFIT: Final = (pa.ArrowException, ValueError, TypeError, OverflowError)
"""What Arrow raises for a value that does not fit its column."""

_NS_PER_DAY: Final = 86_400 * 10**9

# -- reading -----------------------------------------------------------------------------------------------------------


class Follower:
    """Reads a journal, live or not, from behind commit `after` (-1: from its beginning), across segments.

    `definitions` are those in force after the last commit returned; those of commits passed over to get there are in it
    from the start. `missing` lists ranges of commits (first, last) that no segment holds: damaged or taken away.
    """

    def __init__(self, directory: Path, after: int = -1) -> None:
        self.definitions: dict[int, AttributeDefinition] = {}
        self.missing: list[tuple[int, int]] = []
        self._directory = directory
        self._next = after + 1
        self._segment: SegmentReader | None = None
        self._open_first()

    def poll(self, max_bytes: int = 16 << 20) -> list[Commit]:
        """Return commits that have become whole since the last call; empty = none now. Never waits.

        About `max_bytes` of journal are returned at once: call again until the answer is empty.
        """
        commits: list[Commit] = []
        left = max_bytes
        while self._segment is not None or self._open_first():
            segment = cast("SegmentReader", self._segment)
            # looked for before reading: once a later segment exists, this one does not grow any more
            later = [path for path in segment_paths(self._directory) if first_commit(path) > first_commit(segment.path)]
            start = segment.end
            for commit in segment.commits():
                self._define(commit)
                self._next = commit.number + 1
                commits.append(commit)
                if commit.end - start >= left:
                    return commits
            left -= segment.end - start
            if not later:
                break
            self._open(later[0])
        return commits

    def _open_first(self) -> bool:
        paths = segment_paths(self._directory)
        if not paths:
            return False
        before = [path for path in paths if first_commit(path) <= self._next]
        self._open(before[-1] if before else paths[0])
        return True

    def _open(self, path: Path) -> None:
        """Begin to read a segment, at the next commit."""
        first = first_commit(path)
        if first > self._next:
            if self._next:
                self.missing.append((self._next, first - 1))
            self._next = first
        self._segment, definitions = open_at(path, self._next)
        self.definitions |= definitions

    def _define(self, commit: Commit) -> None:
        for definition in definitions_in(commit.table):
            self.definitions[definition.id] = definition


def follow(directory: Path, after_commit: int = -1, *, idle_s: float = 0.05) -> Iterator[Commit]:
    """Yield each commit behind `after_commit` as it becomes whole, for ever."""
    follower = Follower(directory, after_commit)
    while True:
        commits = follower.poll()
        yield from commits
        if not commits:
            time.sleep(idle_s)


@dataclass(slots=True)
class Report:
    """What `verify` found; `tail_bytes` behind the last whole commit are of a write under way or cut."""

    segments: int = 0
    commits: int = 0
    rows: int = 0
    size_bytes: int = 0
    tail_bytes: int = 0
    errors: list[str] = field(default_factory=list[str])


def verify(directory: Path) -> Report:
    """Check every commit of a journal: seals, CRC chain, numbering. Safe while the archiver writes."""
    report = Report()
    expected: int | None = None
    paths = segment_paths(directory)
    for path in paths:
        segment = SegmentReader(path)
        if expected is not None and segment.next != expected:
            report.errors.append(f"{path.name}: commits {expected} to {segment.next - 1} are missing before it")
        for commit in segment.commits():
            report.commits += 1
            report.rows += commit.table.num_rows
        expected = segment.next
        tail = path.stat().st_size - segment.end
        report.segments += 1
        report.size_bytes += segment.end
        if tail and path != paths[-1]:
            report.errors.append(f"{path.name}: {tail} bytes behind commit {segment.next - 1} are no whole commit")
        elif tail and is_damaged(path, segment.end):
            report.errors.append(f"{path.name}: what was committed behind commit {segment.next - 1} is damaged")
        elif tail:
            report.tail_bytes = tail
    for kept in damaged_parts(directory):
        report.errors.append(f"{kept.name}: commits that were damaged when the archiver started")
    return report


# -- writing -----------------------------------------------------------------------------------------------------------


class JournalWriter:
    """Writes a journal; one at a time per directory (a lock sees to it). Used by one thread.

    Every row appended is on the disk when `commit` has returned. When it raises OSError (disk full) the journal is as
    before, the rows are still pending, and a later `commit` writes them: into a new segment, since after a failed write
    the state of the old one's end is unknown.
    """

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._lock = (directory / "writer.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            message = f"the journal {directory} is being written by another process: stop that archiver first"
            raise BlockingIOError(message) from None
        try:
            self.recovered = recover(directory)
        except BaseException:
            self._lock.close()
            raise
        self.checkpoint: Callable[[int], Row] | None = None
        """Makes a checkpoint row at a time (ns); set by whoever knows where everything stands."""
        self.refused = 0
        """Rows left out because a number in them does not fit its column; `refusal` says which came last."""
        self.refusal = ""
        self.definitions = dict(self.recovered.definitions)
        self.size_bytes = sum(path.stat().st_size for path in segment_paths(directory))
        self._stated = dict(self.definitions)
        self.next_commit = self.recovered.next_commit
        self._segment_bytes = segment_bytes
        self._pending: list[Row] = []
        self._path = directory
        self._file: int | None = None
        self._index: IndexWriter | None = None
        self._next_checkpoint_ns = 0
        self._newest_ns = self.recovered.checkpoint.ended_ns
        self._buffer = _Buffer()
        self._stream: Any = None
        self._end = 0
        self._crc = 0
        self._day = 0

    @property
    def pending(self) -> int:
        """How many rows the next commit will hold."""
        return len(self._pending)

    def define(self, definition: AttributeDefinition, time_ns: int) -> None:
        """State a definition, before the first row that uses it; it is restated at the head of each later segment."""
        self.definitions[definition.id] = definition
        self._pending.append(definition.to_row(time_ns))

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows to the next commit."""
        self._pending.extend(rows)

    def commit(self, *, last: bool = False) -> int | None:
        """Write and sync what is pending; return the number of the commit, None when nothing was pending.

        The `last` commit of a run has a checkpoint, and is written even when it has nothing else.
        """
        if not self._pending and not last:
            return None
        now_ns = time.time_ns()
        rows = self._pending.copy()
        try:
            set_back = now_ns < self._newest_ns - SET_BACK_NS
            full = self._end >= self._segment_bytes or now_ns // _NS_PER_DAY != self._day
            if self._file is None or full or set_back:
                self._new_segment(now_ns)
                # as they were before what is pending
                rows[:0] = [definition.to_row(now_ns) for definition in self._stated.values()]
            if set_back:
                rows.append(clock_row(now_ns, self._newest_ns))
            if self.checkpoint is not None and (last or not self._end or now_ns >= self._next_checkpoint_ns):
                rows.append(self.checkpoint(now_ns))
            self._write(rows, now_ns)
        except BaseException:
            # whatever it was, the segment lacks its definitions or has a torn end
            self._abandon_segment()
            raise
        self._pending.clear()
        self._stated = dict(self.definitions)
        self._newest_ns = now_ns
        self.next_commit += 1
        return self.next_commit - 1

    def _new_segment(self, now_ns: int) -> None:
        self._close_segment()
        self._end = self._crc = 0
        self._day = now_ns // _NS_PER_DAY
        path = self._path = self._directory / f"{self.next_commit:020d}.arrows"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        sync_directory(self._directory)
        self._index = IndexWriter(path)
        self._buffer.take()
        self._stream = pa.ipc.new_stream(cast("Any", pa.PythonFile(self._buffer, mode="w")), SCHEMA, options=_OPTIONS)

    def _write(self, rows: list[Row], now_ns: int) -> None:
        self._stream.write_batch(self._encoded(rows))
        content = self._buffer.take()
        crc = zlib.crc32(content, self._crc)
        numbers = {"commit": self.next_commit, "length": len(content), "crc32": crc}
        self._stream.write_batch(_EMPTY, custom_metadata={name: str(number) for name, number in numbers.items()})
        data = memoryview(content + self._buffer.take())
        file = cast("int", self._file)
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
        os.fdatasync(file)
        # a file that was deleted can still be written to; asking for its links does not tell on every file system
        if not self._path.exists():
            raise FileNotFoundError(errno.ENOENT, "the journal's file was deleted")
        flags = DEFINES * any(row.kind == Kind.DEFINE for row in rows)
        if has_checkpoint(rows):
            flags |= CHECKPOINT
            self._next_checkpoint_ns = now_ns + round(CHECKPOINT_PERIOD_S * 1e9)
        received_ns = min((row.received_ns for row in rows if row.kind not in TIMELESS), default=now_ns)
        cast("IndexWriter", self._index).add(Entry(self.next_commit, self._end, self._crc, received_ns, flags))
        self._end += len(data)
        self.size_bytes += len(data)
        self._crc = crc

    def _encoded(self, rows: list[Row]) -> pa.RecordBatch:
        """Return rows as Arrow has them; without those that do not fit, which else would keep all from being stored."""
        try:
            return _record_batch(rows)
        except _UNFIT:
            fit: list[Row] = []
            for row in rows:
                try:
                    _record_batch([row])
                    fit.append(row)
                except _UNFIT as error:
                    self.refused += 1
                    self.refusal = f"attribute {row.attr}: {error}"
            rows[:] = fit
            return _record_batch(rows)

    def _abandon_segment(self) -> None:
        """After a failed write: cut the segment back to its last seal, and never write to it again."""
        try:
            if self._file is not None:
                os.ftruncate(self._file, self._end)
        finally:
            self._close_segment()

    def _close_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._index is not None:
            self._index.close()
            self._index = None

    def close(self) -> None:
        """Let go of the journal; what is pending and not committed is not written."""
        self._close_segment()
        self._lock.close()


class _Buffer:
    """Where Arrow writes; `take` returns what came since the last time."""

    closed = False

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: Any) -> int:
        self._data += memoryview(data)
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._data)
        self._data.clear()
        return taken

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The writer's end-of-stream mark is never written: a segment ends at its last seal."""


def _record_batch(rows: list[Row]) -> pa.RecordBatch:
    if not rows:
        return _EMPTY
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, column_type.type) for column, column_type in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
