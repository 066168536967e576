"""The index beside a segment of the journal: where some of its commits begin, so that a reader need not begin at its
head. Only a hint: a journal without it, or with a damaged one, reads the same, more slowly.

`<first commit:020d>.index` holds little-endian entries of 33 bytes: commit u64, offset u64 of its first byte, crc u32
of the chain before it, received_ns i64 of its oldest row, flags u8, crc32 u32 of these 29 bytes. Every commit with
flags has an entry, and one commit in about every 64 KiB. It is never synced: what a power cut leaves of it is used up
to the first entry that is not whole. Pure.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

DEFINES: Final = 1
"""Flag of a commit that states definitions."""

CHECKPOINT: Final = 2
"""Flag of a commit that has a checkpoint."""

_SPACING_BYTES: Final = 64 << 10
_ENTRY: Final = struct.Struct("<QQIqB")
_CHECK: Final = struct.Struct("<I")


class Entry(NamedTuple):
    """Where a commit begins (bytes), the chained CRC-32 before it, when its oldest row was received (ns), its flags."""

    commit: int
    offset: int
    crc: int
    received_ns: int
    flags: int


def index_path(segment: Path) -> Path:
    """Return where the index of a segment is."""
    return segment.with_suffix(".index")


def read_index(segment: Path) -> list[Entry]:
    """Return the entries of a segment's index up to the first that is not whole, in order of commits; [] without one.

    An entry may still be wrong: what it says has to be checked by reading its commit.
    """
    try:
        data = index_path(segment).read_bytes()
    except OSError:
        return []
    size = _ENTRY.size + _CHECK.size
    entries: list[Entry] = []
    for start in range(0, len(data) - size + 1, size):
        body = data[start : start + _ENTRY.size]
        (check,) = _CHECK.unpack_from(data, start + _ENTRY.size)
        entry = Entry(*_ENTRY.unpack(body))
        if zlib.crc32(body) != check or (entries and entry.commit <= entries[-1].commit):
            break
        entries.append(entry)
    return entries


class IndexWriter:
    """Writes the index of a new segment; never raises: where it cannot be written it ends."""

    def __init__(self, segment: Path) -> None:
        self._next_offset = 0
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file: int | None = os.open(index_path(segment), flags, 0o644)
        except OSError:
            self._file = None

    def add(self, entry: Entry) -> None:
        """Take a commit that is on the disk."""
        if self._file is None or not (entry.flags or entry.offset >= self._next_offset):
            return
        self._next_offset = entry.offset + _SPACING_BYTES
        body = _ENTRY.pack(*entry)
        data = body + _CHECK.pack(zlib.crc32(body))
        try:
            whole = os.write(self._file, data) == len(data)
        except OSError:
            whole = False
        if not whole:
            # what came behind a torn entry could not be read
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
