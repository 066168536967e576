"""The journal: one append-only Arrow IPC stream in segments, each commit sealed and synced (contracts: "Journal").

A commit is a record batch and a zero-row seal batch whose metadata has the commit's number, length and chained CRC-32,
in one write and one fdatasync. Whole commits are found by one function, `_Segment.commits`: recovery after a crash, the
live follower, verification and plain reading all use it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)

import contextlib
import errno
import fcntl
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from archiver.block import Block, open_block
from bandoneon.record import AttributeDefinition, Kind, Row

SCHEMA: Final = pa.schema(
    [
        pa.field("attr", pa.int32()),
        pa.field("part", pa.uint8()),
        pa.field("counter", pa.int64()),
        pa.field("incarnation", pa.int64()),
        pa.field("time_ns", pa.int64()),
        pa.field("received_ns", pa.int64()),
        pa.field("quality", pa.uint8()),
        pa.field("kind", pa.uint8()),
        pa.field("dim_x", pa.int32()),
        pa.field("dim_y", pa.int32()),
        pa.field("f64", pa.float64()),
        pa.field("i64", pa.int64()),
        pa.field("u64", pa.uint64()),
        pa.field("text", pa.string()),
        pa.field("payload", pa.large_binary()),
    ]
)

SEGMENT_BYTES: Final = 256 << 20
"""A commit that finds its segment this long begins a new one."""

_EMPTY: Final = pa.RecordBatch.from_arrays([pa.array([], column.type) for column in SCHEMA], schema=SCHEMA)
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd")
_READ_OPTIONS: Final = pa.ipc.IpcReadOptions(use_threads=False)
"""Handing fifteen small columns to other threads takes longer than reading them."""

_NS_PER_DAY: Final = 86_400 * 10**9

_SEAL_MARK: Final = b"crc32"
"""Stands once in every seal."""

_MESSAGE: Final = b"\xff\xff\xff\xff"
"""How every message of an Arrow IPC stream begins."""

_DAMAGED: Final = ".damaged-"


@dataclass(frozen=True, slots=True)
class Commit:
    """One whole commit: its number, its rows, and where its seal ends in its segment (bytes)."""

    number: int
    table: pa.RecordBatch
    end: int


# -- reading -----------------------------------------------------------------------------------------------------------


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments of a journal, oldest first."""
    return sorted(directory.glob("[0-9]*.arrows"))


def first_commit(path: Path) -> int:
    """Return the number of a segment's first commit, which is its name."""
    return int(path.stem)


class _Metered:
    """A file for Arrow that counts what it hands out: position and CRC-32. `prefix` (the schema) is handed out first,
    uncounted, so that reading can start behind any seal.
    """

    closed = False

    def __init__(self, file: BinaryIO, prefix: bytes, offset: int, crc: int) -> None:
        self._file = file
        self._prefix = prefix
        self.position = offset
        self.crc = crc
        file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        if self._prefix:
            data, self._prefix = self._prefix[:size], self._prefix[size:]
            return data
        data = self._file.read(size)
        self.position += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return data

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The caller closes the file."""


class _Segment:
    """One segment file, read commit by commit; keeps its place, so that a growing segment is read on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = first_commit(path)
        self.end = 0
        self._schema = b""
        self._crc = 0

    def commits(self) -> Iterator[Commit]:
        """Yield the whole commits behind the last one yielded; end at anything that is none.

        A commit that is being written, was cut by a crash or was changed on the disk looks the same here: not whole.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if os.fstat(file.fileno()).st_size <= self.end:
                return
            # the first commit has the schema in front of it
            metered = _Metered(file, self._schema if self.end else b"", self.end, self._crc)
            try:
                reader = pa.ipc.open_stream(cast("Any", pa.PythonFile(metered, mode="r")), options=_READ_OPTIONS)
            except (pa.ArrowException, OSError):
                return
            if not reader.schema.equals(SCHEMA):
                return
            if not self._schema:
                file.seek(0)
                self._schema = file.read(metered.position)
            while (commit := self._next_commit(reader, metered)) is not None:
                yield commit

    def _next_commit(self, reader: Any, metered: _Metered) -> Commit | None:
        try:
            table, _ = reader.read_next_batch_with_custom_metadata()
            length, crc = metered.position - self.end, metered.crc
            empty, metadata = reader.read_next_batch_with_custom_metadata()
            seal = {name: int(metadata[name]) for name in (b"commit", b"length", b"crc32")}
        except (StopIteration, pa.ArrowException, OSError, MemoryError, ValueError, TypeError, KeyError):
            return None
        if empty.num_rows or seal != {b"commit": self.next, b"length": length, b"crc32": crc}:
            return None
        # the seal's own bytes are not in the chain
        metered.crc = self._crc = crc
        self.end = metered.position
        self.next += 1
        return Commit(seal[b"commit"], table, self.end)


def read_segment(path: Path) -> Iterator[Commit]:
    """Yield the whole commits of one segment; its first restates every definition in force."""
    return _Segment(path).commits()


def definitions_in(table: pa.RecordBatch) -> list[AttributeDefinition]:
    """Return the definitions stated in a commit, in order."""
    kinds = table.column("kind")
    if not pc.any(pc.equal(kinds, pa.scalar(int(Kind.DEFINE), pa.uint8()))).as_py():
        return []
    stated = table.filter(pc.equal(kinds, pa.scalar(int(Kind.DEFINE), pa.uint8())))
    return [AttributeDefinition.from_json(cast("bytes", payload.as_py())) for payload in stated.column("payload")]


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
        self._segment: _Segment | None = None
        self._open_first()

    def poll(self, max_bytes: int = 16 << 20) -> list[Commit]:
        """Return commits that have become whole since the last call; empty = none now. Never waits.

        About `max_bytes` of journal are returned at once: call again until the answer is empty.
        """
        commits: list[Commit] = []
        left = max_bytes
        while self._segment is not None or self._open_first():
            segment = cast("_Segment", self._segment)
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
        self._segment = segment = _Segment(path)
        if segment.next > self._next:
            if self._next:
                self.missing.append((self._next, segment.next - 1))
            self._next = segment.next
        if segment.next < self._next:
            for commit in segment.commits():
                self._define(commit)
                if commit.number + 1 == self._next:
                    break

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
        segment = _Segment(path)
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
        elif tail and _is_damaged(path, segment.end):
            report.errors.append(f"{path.name}: what was committed behind commit {segment.next - 1} is damaged")
        elif tail:
            report.tail_bytes = tail
    for kept in sorted(directory.glob(f"*{_DAMAGED}*")):
        report.errors.append(f"{kept.name}: commits that were damaged when the archiver started")
    return report


def _whole_seals(tail: bytes) -> int:
    """Count the seals behind the last whole commit; one that a write under way, or a power cut, left torn is none."""
    count, mark = 0, -1
    while (mark := tail.find(_SEAL_MARK, mark + 1)) >= 0:
        begin = tail.rfind(_MESSAGE, 0, mark)
        # a torn one cannot be read as a message
        with contextlib.suppress(pa.ArrowInvalid, OSError):
            count += pa.ipc.read_message(pa.BufferReader(tail[max(begin, 0) :])) is not None
    return count


def _is_damaged(path: Path, end: int) -> bool:
    """Whether there is a seal behind the last whole commit: it was written once, and is not whole any more."""
    if not _whole_seals(path.read_bytes()[end:]):
        return False
    again = _Segment(path)
    for _ in again.commits():
        pass
    return again.end == end  # else the archiver went on meanwhile


# -- writing -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Recovered:
    """Where a journal stands: what its last segment says.

    `last_ns` is the time of the newest reading of each attribute in that segment, `blocks` the newest stream batch of
    each (attribute, instrument), `ended_ns` when its last row was received (0: there is none). `cut_bytes` were behind
    the last whole commit; `damaged` are the files that keep those of them that had been committed.
    """

    next_commit: int = 0
    definitions: dict[int, AttributeDefinition] = field(default_factory=dict[int, AttributeDefinition])
    last_ns: dict[int, int] = field(default_factory=dict[int, int])
    blocks: dict[tuple[int, str], Block] = field(default_factory=dict[tuple[int, str], Block])
    ended_ns: int = 0
    cut_bytes: int = 0
    damaged: list[str] = field(default_factory=list[str])


def recover(directory: Path) -> Recovered:
    """Cut a journal behind its last whole commit and return where it stands. Only for its one writer.

    What is cut was never acknowledged. If it has a seal in it, it was damaged later: it is kept beside the segment, and
    the numbers of its commits are not given again, since projections may hold them.
    """
    found = Recovered()
    for path in reversed(segment_paths(directory)):
        segment = _Segment(path)
        for commit in segment.commits():
            for definition in definitions_in(commit.table):
                found.definitions[definition.id] = definition
            _note_newest(found, commit.table)
        found.next_commit = max(found.next_commit, segment.next)
        _cut(path, segment.end, found)
        if segment.end:
            break
        path.unlink()
    return found


def _note_newest(found: Recovered, table: pa.RecordBatch) -> None:
    """Take the newest readings and batches of a commit into `found`."""
    found.ended_ns = max(found.ended_ns, cast("int | None", pc.max(table.column("received_ns")).as_py()) or 0)
    kinds = table.column("kind")
    times = pa.table({"attr": table.column("attr"), "time_ns": table.column("time_ns")})
    times = times.filter(pc.less_equal(kinds, pa.scalar(int(Kind.ENUM), pa.uint8())))
    grouped = times.group_by("attr", use_threads=False).aggregate([("time_ns", "max")])
    for attr, time_ns in zip(grouped["attr"].to_pylist(), grouped["time_ns_max"].to_pylist(), strict=True):
        found.last_ns[attr] = max(found.last_ns.get(attr, 0), time_ns)
    batches = table.filter(pc.equal(kinds, pa.scalar(int(Kind.STREAM), pa.uint8())))
    for attr, payload in zip(batches["attr"].to_pylist(), batches["payload"].to_pylist(), strict=True):
        block = open_block(payload)
        found.blocks[attr, block.device] = block


def _cut(path: Path, end: int, found: Recovered) -> None:
    with path.open("r+b") as file:
        file.seek(end)
        tail = file.read()
        if not tail:
            return
        seals = _whole_seals(tail)
        if seals:
            kept = path.with_suffix(f"{_DAMAGED}{end}")
            kept.write_bytes(tail)
            found.damaged.append(kept.name)
            found.next_commit += seals
        file.truncate(end)
        os.fdatasync(file.fileno())
    found.cut_bytes += len(tail)


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
        self.recovered = recover(directory)
        self.definitions = dict(self.recovered.definitions)
        self.size_bytes = sum(path.stat().st_size for path in segment_paths(directory))
        self._stated = dict(self.definitions)
        self.next_commit = self.recovered.next_commit
        self._segment_bytes = segment_bytes
        self._pending: list[Row] = []
        self._path = directory
        self._file: int | None = None
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

    def commit(self) -> int | None:
        """Write and sync what is pending; return the number of the commit, None when nothing was pending."""
        if not self._pending:
            return None
        now_ns = time.time_ns()
        head: list[Row] = []
        try:
            if self._file is None or self._end >= self._segment_bytes or now_ns // _NS_PER_DAY != self._day:
                self._new_segment(now_ns)
                # as they were before what is pending
                head = [definition.to_row(now_ns) for definition in self._stated.values()]
            self._write(_record_batch(head + self._pending))
        except BaseException:
            # whatever it was, the segment lacks its definitions or has a torn end
            self._abandon_segment()
            raise
        self._pending.clear()
        self._stated = dict(self.definitions)
        self.next_commit += 1
        return self.next_commit - 1

    def _new_segment(self, now_ns: int) -> None:
        self._close_segment()
        self._end = self._crc = 0
        self._day = now_ns // _NS_PER_DAY
        path = self._path = self._directory / f"{self.next_commit:020d}.arrows"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        _sync_directory(self._directory)
        self._buffer.take()
        self._stream = pa.ipc.new_stream(cast("Any", pa.PythonFile(self._buffer, mode="w")), SCHEMA, options=_OPTIONS)

    def _write(self, batch: pa.RecordBatch) -> None:
        self._stream.write_batch(batch)
        rows = self._buffer.take()
        crc = zlib.crc32(rows, self._crc)
        numbers = {"commit": self.next_commit, "length": len(rows), "crc32": crc}
        self._stream.write_batch(_EMPTY, custom_metadata={name: str(number) for name, number in numbers.items()})
        data = memoryview(rows + self._buffer.take())
        file = cast("int", self._file)
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
        os.fdatasync(file)
        # a file that was deleted can still be written to; asking for its links does not tell on every file system
        if not self._path.exists():
            raise FileNotFoundError(errno.ENOENT, "the journal's file was deleted")
        self._end += len(data)
        self.size_bytes += len(data)
        self._crc = crc

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
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, column_type.type) for column, column_type in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _sync_directory(directory: Path) -> None:
    """Make a new file's name durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
