"""Looking after an archive: is it whole, and make its projections again.

Works on the files alone, with or without a site that is up.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archiver.journal import definitions_in
from archiver.journal import verify as verify_journal
from archiver.projections.base import NAMES, Projection, opener, remover
from archiver.projections.hdf5 import Span, covered, device_directories, device_files
from archiver.projections.nexus import DAMAGED, REPLACED, DamagedFile, FileState, Position, read_state
from archiver.segments import Segment, archivers, journal_of, list_segments, received_ns
from archiver.series import Unfolder
from bandoneon.errors import BandoneonError

Progress = Callable[[int, int], None]
"""Told how many bytes of the journal are done, and how many there are."""


class ArchiveError(BandoneonError):
    """Something that cannot be done with the archive as it is; says what to do."""


@dataclass(slots=True)
class JournalHealth:
    """What `verify` found in one archiver's journal. Times are int64 ns since 1970, of arrival; None when empty."""

    archiver: str
    segments: int = 0
    commits: int = 0
    first_commit: int = 0
    last_commit: int = -1
    rows: int = 0
    attributes: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    damage: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class FilesHealth:
    """What `verify` found in the HDF5 files of all archivers.

    `damage` can be made again from the journals; `only_copies` hold what no journal holds. `replaced` are damaged ones
    whose rows are in other files by now.
    """

    files: int = 0
    live: int = 0
    damage: list[str] = field(default_factory=list[str])
    only_copies: list[str] = field(default_factory=list[str])
    replaced: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class ArchiveHealth:
    """The result of `verify`; `dataclasses.asdict` of it is JSON."""

    data_dir: str
    journals: list[JournalHealth] = field(default_factory=list[JournalHealth])
    hdf5: FilesHealth = field(default_factory=FilesHealth)

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged or gone."""
        files = self.hdf5.damage or self.hdf5.only_copies
        return not files and not any(journal.damage for journal in self.journals)


def verify(data_dir: Path) -> ArchiveHealth:
    """Read every journal from its first byte and open every HDF5 file; damage is reported, never raised.

    Bytes behind the last whole commit of the newest segment are not damage: the archiver may be writing them.
    """
    health = ArchiveHealth(str(data_dir))
    # files first: while a site is up they follow the journal, and are behind it when that is read
    states = [(directory, _open_files(directory, health.hdf5)) for directory in device_directories(data_dir / "hdf5")]
    health.journals = [_verify_journal(data_dir, archiver) for archiver in archivers(data_dir)]
    journals = {journal.archiver: journal for journal in health.journals}
    for directory, found in states:
        _compare(directory, found, journals, health.hdf5)
    return health


def _verify_journal(data_dir: Path, archiver: str) -> JournalHealth:
    report = verify_journal(journal_of(data_dir, archiver))
    health = JournalHealth(archiver, report.segments, report.commits, rows=report.rows, damage=report.errors)
    found = list_segments(journal_of(data_dir, archiver))
    if found:
        health.first_commit, health.first_ns = found[0].first_commit, found[0].begin_ns
        names: set[str] = set()
        for commit in found[-1].commits():
            names.update(definition.name for definition in definitions_in(commit.table))
            health.last_commit, health.last_ns = commit.number, received_ns(commit)
        health.attributes = len(names)
    return health


def _open_files(directory: Path, health: FilesHealth) -> dict[Path, FileState]:
    """Open every file of a device."""
    states: dict[Path, FileState] = {}
    for path in device_files(directory):
        try:
            states[path] = read_state(path)
        except FileNotFoundError:
            # a projector that rebuilds deleted it meanwhile
            continue
        except (DamagedFile, OSError) as error:
            health.damage.append(str(error))
        health.files += 1
    health.damage += [
        f"{path}: set aside as unreadable, not made again yet" for path in sorted(directory.glob(f"*{DAMAGED}"))
    ]
    health.replaced += [
        f"{path}: was unreadable; its rows are in newer files, so it can be deleted"
        for path in sorted(directory.glob(f"*{REPLACED}"))
    ]
    return states


def _compare(
    directory: Path, states: Mapping[Path, FileState], journals: Mapping[str, JournalHealth], health: FilesHealth
) -> None:
    """See whether the files of a device hold all that was made of the journals, and nothing else."""
    spans: dict[str, list[Span]] = {}
    for path, state in states.items():
        health.live += not state.finished
        journal = journals.get(state.archiver)
        if journal is None:
            health.only_copies.append(f"{path}: made from the journal of {state.archiver}, which is not here")
            continue
        spans.setdefault(state.archiver, []).append((state.begin, state.cursor.position))
        if state.cursor.commit > journal.last_commit:
            health.only_copies.append(
                f"{path}: includes commit {state.cursor.commit}, but the journal of {state.archiver} ends at "
                f"{journal.last_commit}"
            )
    for archiver, held in spans.items():
        reached, behind = covered(sorted(held), Position(journals[archiver].first_commit - 1))
        for begin, end in behind:
            health.damage.append(
                f"{directory}: no file has the rows of {archiver} from commit {reached.commit + 1} to "
                f"{begin.commit + 1}: one was deleted or damaged"
            )
            reached = end


def rebuild(data_dir: Path, archiver: str, progress: Progress | None = None) -> int:
    """Delete all projections of one archiver and make them again from its journal; return how many commits that took.

    The journal is read first: raises OnlyCopy, and nothing is changed, when it does not hold everything any more.
    Raises ArchiveError when there is no such journal or a projector is writing the files.
    """
    if archiver not in archivers(data_dir):
        known = ", ".join(archivers(data_dir)) or "none"
        raise ArchiveError(f"{data_dir} holds no journal of {archiver}: there are {known}")
    found = list_segments(journal_of(data_dir, archiver))
    commits = 0
    for name in NAMES:
        try:
            remover(name)(data_dir, archiver)
            projection = opener(name)(data_dir, archiver)
        except BlockingIOError as error:
            raise ArchiveError(str(error)) from error
        try:
            commits = _replay(projection, found, progress)
            projection.close()
        finally:
            projection.abandon()
        _compress(opener(name)(data_dir, archiver))
    return commits


def _compress(projection: Projection) -> None:
    try:
        while projection.unfinished:
            projection.tick(time.monotonic())
        projection.close()
    finally:
        projection.abandon()


def _replay(projection: Projection, found: Sequence[Segment], progress: Progress | None) -> int:
    unfolder = Unfolder()
    size = sum(segment.path.stat().st_size for segment in found)
    commits, before = 0, 0
    for segment in found:
        for commit in segment.commits():
            projection.add(commit.number, unfolder.unfold(commit.table))
            projection.tick(time.monotonic())
            if progress is not None:
                progress(before + commit.end, size)
            commits += 1
        before += segment.path.stat().st_size
    return commits
