"""Whole commits of the journal's segments: what recovery, followers, queries and verification all read through.

A commit is a record batch and a zero-row seal batch whose metadata has the commit's number, length and chained CRC-32
(contracts: "Journal"). They are found by one function, `SegmentReader.commits`.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from archiver.index import DEFINES, Entry, read_index
from bandoneon.record import AttributeDefinition, Kind

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

_READ_OPTIONS: Final = pa.ipc.IpcReadOptions(use_threads=False)
"""Handing fifteen small columns to other threads takes longer than reading them."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One whole commit: its number, its rows, and where its seal ends in its segment (bytes)."""

    number: int
    table: pa.RecordBatch
    end: int


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


class SegmentReader:
    """One segment file, read commit by commit; keeps its place, so that a growing segment is read on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = first_commit(path)
        self.end = 0
        self._schema = b""
        self._crc = 0

    def seek(self, entry: Entry) -> None:
        """Go on at the commit of an entry of the index; if the entry is wrong, no commit is found there."""
        self.next, self.end, self._crc = entry.commit, entry.offset, entry.crc

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
            if self.end and not self._schema:
                self._schema = _schema_of(file)
            # the first commit has the schema in front of it
            metered = _Metered(file, self._schema if self.end else b"", self.end, self._crc)
            try:
                reader = pa.ipc.open_stream(cast("Any", pa.PythonFile(metered, mode="r")), options=_READ_OPTIONS)
            except (pa.ArrowException, OSError):
                return
            if not reader.schema.equals(SCHEMA):
                return
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


def _schema_of(file: BinaryIO) -> bytes:
    """Return the schema message at the head of a segment; b"" when there is none."""
    metered = _Metered(file, b"", 0, 0)
    try:
        pa.ipc.open_stream(cast("Any", pa.PythonFile(metered, mode="r")), options=_READ_OPTIONS)
    except (pa.ArrowException, OSError):
        return b""
    file.seek(0)
    return file.read(metered.position)


def open_at(path: Path, number: int) -> tuple[SegmentReader, dict[int, AttributeDefinition]]:
    """Return a segment's reader that goes on at commit `number`, and the definitions in force there.

    By way of the index, or without one from the segment's head. A commit before `number` is read in any case, so that
    what a wrong index says is never believed. Where commits before `number` are damaged, the reader ends before them.
    """
    reader = SegmentReader(path)
    definitions: dict[int, AttributeDefinition] = {}
    if reader.next >= number:
        return reader, definitions
    before = [entry for entry in read_index(path) if entry.commit < number]

    def read_on(to: int) -> None:
        for commit in reader.commits():
            definitions.update((definition.id, definition) for definition in definitions_in(commit.table))
            if reader.next >= to:
                break

    for entry in [*(entry for entry in before[:-1] if entry.flags & DEFINES), *before[-1:]]:
        reader.seek(entry)
        read_on(number if entry is before[-1] else entry.commit + 1)
        if reader.next == entry.commit:
            # nothing whole is there
            before.clear()
            break
    if not before:
        reader, definitions = SegmentReader(path), {}
        read_on(number)
    return reader, definitions


def read_segment(path: Path) -> Iterator[Commit]:
    """Yield the whole commits of one segment; its first restates every definition in force."""
    return SegmentReader(path).commits()


def definitions_in(table: pa.RecordBatch) -> list[AttributeDefinition]:
    """Return the definitions stated in a commit, in order."""
    stating = pc.equal(table.column("kind"), pa.scalar(int(Kind.DEFINE), pa.uint8()))
    if not pc.any(stating).as_py():
        return []
    stated = table.filter(stating)
    return [AttributeDefinition.from_json(cast("bytes", payload.as_py())) for payload in stated.column("payload")]
