"""What a writer does before its first commit: find the journal's last whole commit, cut what is behind it, and learn
where everything stands.

It begins at the newest checkpoint the index knows, or, without an index, at the head of the last segment.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (pyarrow has no type stubs)

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa

from archiver.checkpoint import Checkpoint
from archiver.commits import Commit, SegmentReader, definitions_in, open_at, segment_paths
from archiver.durable import sync_directory
from archiver.index import CHECKPOINT, index_path, read_index
from bandoneon.record import AttributeDefinition

_AT_ONCE: Final = 256
"""Looking through many commits in one go costs little more than through one."""

_SEAL_MARK: Final = b"crc32"
"""Stands once in every seal."""

_MESSAGE: Final = b"\xff\xff\xff\xff"
"""How every message of an Arrow IPC stream begins."""

_DAMAGED: Final = ".damaged-"


@dataclass(slots=True)
class Recovered:
    """Where a journal stands. `cut_bytes` were behind the last whole commit; `damaged` are the files that keep those of
    them that had been committed.
    """

    next_commit: int = 0
    definitions: dict[int, AttributeDefinition] = field(default_factory=dict[int, AttributeDefinition])
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    cut_bytes: int = 0
    damaged: list[str] = field(default_factory=list[str])


def recover(directory: Path) -> Recovered:
    """Cut a journal behind its last whole commit and return where it stands. Only for its one writer.

    What is cut was never acknowledged. If it has a seal in it, it was damaged later: it is kept beside the segment, and
    the numbers of its commits are not given again, since projections may hold them.
    """
    found = Recovered()
    for path in reversed(segment_paths(directory)):
        segment = _read_end(path, found) or _read_all(path, found)
        found.next_commit = max(found.next_commit, segment.next)
        _cut(path, segment.end, found)
        if segment.end:
            break
        path.unlink()
        index_path(path).unlink(missing_ok=True)
    return found


def _read_end(path: Path, found: Recovered) -> SegmentReader | None:
    """Read a segment from its newest checkpoint on; None when the index tells of none, or tells wrong."""
    start = next((entry.commit for entry in reversed(read_index(path)) if entry.flags & CHECKPOINT), None)
    if start is None:
        return None
    segment, definitions = open_at(path, start)
    checkpoint = Checkpoint()
    if not _note(segment.commits(), definitions, checkpoint):
        return None
    found.definitions, found.checkpoint = definitions, checkpoint
    return segment


def _read_all(path: Path, found: Recovered) -> SegmentReader:
    segment = SegmentReader(path)
    _note(segment.commits(), found.definitions, found.checkpoint)
    return segment


def _note(commits: Iterable[Commit], definitions: dict[int, AttributeDefinition], checkpoint: Checkpoint) -> bool:
    """Take what commits say; return whether one of them had a checkpoint."""
    tables = (commit.table for commit in commits)
    stated = False
    while batches := list(islice(tables, _AT_ONCE)):
        rows = pa.concat_batches(batches)
        definitions.update((definition.id, definition) for definition in definitions_in(rows))
        stated |= checkpoint.note(rows)
    return stated


def _cut(path: Path, end: int, found: Recovered) -> None:
    with path.open("r+b") as file:
        file.seek(end)
        tail = file.read()
        if not tail:
            return
        seals = _whole_seals(tail)
        if seals:
            kept = path.with_suffix(f"{_DAMAGED}{end}")
            with kept.open("wb") as copy:
                copy.write(tail)
                copy.flush()
                os.fsync(copy.fileno())
            # the only other one is cut now
            sync_directory(path.parent)
            found.damaged.append(kept.name)
            found.next_commit += seals
        file.truncate(end)
        os.fdatasync(file.fileno())
    found.cut_bytes += len(tail)


def damaged_parts(directory: Path) -> list[Path]:
    """Return the files that keep what recovery found damaged."""
    return sorted(directory.glob(f"*{_DAMAGED}*"))


def _whole_seals(tail: bytes) -> int:
    """Count the seals behind the last whole commit; one that a write under way, or a power cut, left torn is none."""
    whole = cast("Any", pa.py_buffer(tail))
    count, mark = 0, -1
    while (mark := tail.find(_SEAL_MARK, mark + 1)) >= 0:
        begin = tail.rfind(_MESSAGE, 0, mark)
        # a torn one cannot be read as a message
        with contextlib.suppress(pa.ArrowInvalid, OSError):
            count += pa.ipc.read_message(pa.BufferReader(whole.slice(max(begin, 0)))) is not None
    return count


def is_damaged(path: Path, end: int) -> bool:
    """Whether there is a seal behind the last whole commit: it was written once, and is not whole any more."""
    if not _whole_seals(path.read_bytes()[end:]):
        return False
    again = SegmentReader(path)
    for _ in again.commits():
        pass
    return again.end == end  # else the archiver went on meanwhile
