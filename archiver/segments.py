"""The journals of a data directory: which there are, and their segments one by one.

The only place where projections and queries touch the journal's files; reading itself is the journal's recovery.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np

from archiver.clock import set_back_from
from archiver.commits import Commit, definitions_in, first_commit, open_at, segment_paths
from archiver.index import read_index
from archiver.series import TIMELESS, newest_ns
from bandoneon.record import AttributeDefinition

PART_BYTES = 8 << 20
"""Of a long segment so much is read at once when looking back for a value."""


def archivers(data_dir: Path) -> list[str]:
    """Return the names of the archivers that have a journal here."""
    root = data_dir / "journal"
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("*.arrows")})


def journal_of(data_dir: Path, archiver: str) -> Path:
    """Return the directory of an archiver's journal."""
    return data_dir / "journal" / archiver


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a journal, or commits `begin` to before `end` of one; None: from its first, to its last.

    `begin_ns` is when the oldest row of the first was received; `before_ns`, where the clock was set back before it,
    when the newest row before that was.
    """

    path: Path
    begin_ns: int = 0
    begin: int | None = None
    end: int | None = None
    before_ns: int | None = None

    @property
    def first_commit(self) -> int:
        """Number of its first commit."""
        return first_commit(self.path) if self.begin is None else self.begin

    def commits(self) -> Iterator[Commit]:
        """Read its whole commits."""
        reader, _ = open_at(self.path, self.first_commit)
        if reader.next < self.first_commit or reader.next == self.end:
            return
        for commit in reader.commits():
            yield commit
            if reader.next == self.end:
                return

    def in_force(self) -> dict[int, AttributeDefinition]:
        """Read the definitions in force before its first commit; none at the head of a file, which restates them."""
        return {} if self.begin is None else open_at(self.path, self.begin)[1]

    def definitions(self) -> dict[int, AttributeDefinition]:
        """Read the definitions that it begins with: all that were in force."""
        first = next(self.commits(), None)
        stated = [] if first is None else definitions_in(first.table)
        return self.in_force() | {one.id: one for one in stated}


def received_ns(commit: Commit) -> int:
    """Return when the newest row of a commit was received; 0 when it has gaps alone."""
    received, kind = (commit.table.column(name).to_numpy() for name in ("received_ns", "kind"))
    return newest_ns(received, kind)


def _oldest_ns(commit: Commit) -> int:
    """Return when the oldest row of a commit was received: earlier than the others when the disk was full meanwhile."""
    received, kind = (commit.table.column(name).to_numpy() for name in ("received_ns", "kind"))
    told = received[~np.isin(kind, TIMELESS)]
    return int(told.min()) if len(told) else newest_ns(received, kind)


def list_segments(journal: Path) -> list[Segment]:
    """Return the segments of a journal that hold at least one whole commit, oldest first."""
    found: list[Segment] = []
    for path in segment_paths(journal):
        first = next(Segment(path).commits(), None)
        if first is not None:
            found.append(Segment(path, _oldest_ns(first), before_ns=set_back_from(first.table)))
    return found


def _split(segment: Segment, start_ns: int | None, stop_ns: int | None) -> list[Segment]:
    """Divide a whole segment, as far as its index tells where, so that little has to be read of an interval.

    What was received from `start_ns` to `stop_ns` begins and ends a part, about; others are of `PART_BYTES`.
    """
    entries = [entry for entry in read_index(segment.path) if entry.commit > segment.first_commit]
    at_start = [entry for entry in entries if start_ns is not None and entry.received_ns <= start_ns][-1:]
    at_stop = [entry for entry in entries if stop_ns is not None and entry.received_ns > stop_ns][:1]
    size = {entry.offset // PART_BYTES: entry for entry in reversed(entries) if entry.offset >= PART_BYTES}
    cuts = sorted({*at_start, *at_stop, *size.values()})
    begins = [(segment.begin_ns, None), *((cut.received_ns, cut.commit) for cut in cuts)]
    ends = [*(cut.commit for cut in cuts), None]
    return [
        Segment(segment.path, begin_ns, begin, end, segment.before_ns if begin is None else None)
        for (begin_ns, begin), end in zip(begins, ends, strict=True)
    ]


def concerning(journal: Path, start_ns: int | None, stop_ns: int | None) -> tuple[list[Segment], list[tuple[int, int]]]:
    """Return a journal in parts, oldest first, and which of them, from first to before last, concern an interval.

    They hold all that was received from `start_ns` to `stop_ns` (None: from the beginning, to the end). It is one
    stretch of the journal, or more where the clock was set back.
    """
    whole = list_segments(journal)
    cut = {number for first, last in _stretches(whole, start_ns, stop_ns) for number in (first, last - 1)}
    parts: list[Segment] = []
    for number, segment in enumerate(whole):
        parts += _split(segment, start_ns, stop_ns) if number in cut else [segment]
    return parts, _stretches(parts, start_ns, stop_ns)


def _stretches(segments: list[Segment], start_ns: int | None, stop_ns: int | None) -> list[tuple[int, int]]:
    """Return which segments concern an interval; at least one of any."""
    found: list[tuple[int, int]] = []
    set_back = [number for number, segment in enumerate(segments) if number and segment.before_ns is not None]
    for begin, end in pairwise([0, *set_back, len(segments)]):
        ended_ns = segments[end].before_ns if end < len(segments) else None
        if begin < end and (start_ns is None or ended_ns is None or ended_ns >= start_ns):
            first, last = _range(segments[begin:end], start_ns, stop_ns)
            found.append((begin + first, begin + last))
    return found


def _range(segments: list[Segment], start_ns: int | None, stop_ns: int | None) -> tuple[int, int]:
    """Return the same of segments in which time goes on."""
    first, last = 0, len(segments)
    if start_ns is not None:
        earlier = takewhile(lambda segment: segment.begin_ns <= start_ns, segments)
        first = max(0, sum(1 for _ in earlier) - 1)
    if stop_ns is not None:
        while last > first + 1 and segments[last - 1].begin_ns > stop_ns:
            last -= 1
    return first, last


@dataclass(frozen=True, slots=True)
class Missing:
    """Commits of a journal that are damaged or gone, and between which times their rows were received (0: unknown)."""

    first: int
    last: int
    start_ns: int
    stop_ns: int


def first_commit_of(journal: Path) -> int:
    """Return the number of the first commit of a journal, whole or not; 0 when it has none."""
    return next((Segment(path).first_commit for path in segment_paths(journal)), 0)


def read_through(
    segments: Iterable[Segment], behind: Segment | None, missing: list[Missing], expected: int | None = None
) -> Iterator[Commit]:
    """Yield the commits of consecutive segments; commits that should be there and are not are added to `missing`.

    `behind` is the segment after them, if there is one. `expected` is the commit that should come first, if known.
    """
    ended_ns = 0
    for segment in [*segments, *([behind] if behind else [])]:
        if expected is not None and segment.first_commit > expected:
            missing.append(Missing(expected, segment.first_commit - 1, ended_ns, segment.begin_ns))
        if segment is behind:
            return
        commit = None
        for commit in segment.commits():
            yield commit
        if commit is not None:
            expected, ended_ns = commit.number + 1, received_ns(commit)


def missing_commits(journal: Path, last: int) -> list[tuple[int, int]]:
    """Read a journal and return the ranges of commits (first, last) that it does not hold whole, up to `last` at least.

    What is behind its last whole commit counts only up to `last`: it may be a commit that is being written.
    """
    missing: list[Missing] = []
    number = -1
    for commit in read_through(list_segments(journal), None, missing, 0):
        number = commit.number
    if number < last:
        missing.append(Missing(number + 1, last, 0, 0))
    return [(one.first, one.last) for one in missing]


def in_words(ranges: Iterable[tuple[int, int]]) -> str:
    """Return ranges of commits as text: `commits 3 to 5, 9`."""
    return "commits " + ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in ranges)
