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


def missing_commits(journal: Path, last: int) -> list[tuple[int, int]]:
    """Read a journal and return the ranges of commits (first, last) that it does not hold whole, up to `last` at least.

    What is behind its last whole commit counts only up to `last`: it may be a commit that is being written.
    """
    missing: list[tuple[int, int]] = []
    expected = 0
    for segment in list_segments(journal):
        if segment.first_commit > expected:
            missing.append((expected, segment.first_commit - 1))
        for commit in segment.commits():
            expected = commit.number + 1
    if expected <= last:
        missing.append((expected, last))
    return missing


def in_words(ranges: Iterable[tuple[int, int]]) -> str:
    """Return ranges of commits as text: `commits 3 to 5, 9`."""
    return "commits " + ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in ranges)
