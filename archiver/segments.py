"""The journals of a data directory: which there are, and their segments one by one.

The only place where projections and queries touch the journal's files; reading itself is the journal's recovery.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from archiver.journal import Commit, definitions_in, read_segment, segment_paths
from archiver.series import newest_ns
from bandoneon.record import AttributeDefinition


def archivers(data_dir: Path) -> list[str]:
    """Return the names of the archivers that have a journal here."""
    root = data_dir / "journal"
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("*.arrows")})


def journal_of(data_dir: Path, archiver: str) -> Path:
    """Return the directory of an archiver's journal."""
    return data_dir / "journal" / archiver


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a journal; `begin_ns` is when its first commit was sealed, about."""

    path: Path
    begin_ns: int = 0

    @property
    def first_commit(self) -> int:
        """Number of its first commit."""
        return int(self.path.stem)

    def commits(self) -> Iterator[Commit]:
        """Read its whole commits."""
        return read_segment(self.path)

    def definitions(self) -> dict[int, AttributeDefinition]:
        """Read the definitions that it begins with: all that were in force."""
        first = next(self.commits(), None)
        return {} if first is None else {one.id: one for one in definitions_in(first.table)}


def received_ns(commit: Commit) -> int:
    """Return when the newest row of a commit was received; 0 when it has gaps alone."""
    received, kind = (commit.table.column(name).to_numpy() for name in ("received_ns", "kind"))
    return newest_ns(received, kind)


def list_segments(journal: Path) -> list[Segment]:
    """Return the segments of a journal that hold at least one whole commit, oldest first."""
    found: list[Segment] = []
    for path in segment_paths(journal):
        first = next(Segment(path).commits(), None)
        if first is not None:
            found.append(Segment(path, received_ns(first)))
    return found


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
