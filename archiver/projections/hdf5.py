"""The HDF5 projection: one NeXus file per device and UTC day, `<data>/hdf5/<device>/<date>[-n].h5`.

Rows wait in memory and are appended device by device, each every `FLUSH_S` at its own time. A file is never opened
again for writing: another day, a new attribute, another unit or type, or a longer text start a new one (`-n`). A file
that is no longer written is rewritten compressed. Days are those in which the archiver received the rows.

After a kill the files still open are made plainly readable first and the rest is made from the journal; what a killed
writer left behind the cursor of a file goes when that is compressed. A damaged file is set aside (`.h5.damaged`), and
the stretch of the journal that no file holds any more is read again; then it is called `.h5.replaced`, unless the
journal lacked something of it.
"""

import contextlib
import fcntl
import re
import shutil
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np

from archiver.projections.base import NoSpace, OnlyCopy
from archiver.projections.layout import TEXT_BYTES, Item, append, bytes_of, column_of, text_bytes
from archiver.projections.nexus import (
    DAMAGED,
    REPLACED,
    Column,
    Cursor,
    DamagedFile,
    DeviceFile,
    FileState,
    Position,
    finish,
    read_state,
    set_aside,
    unmark,
)
from archiver.segments import first_commit_of, in_words, journal_of, missing_commits
from archiver.series import Gap, Series, Unfolded, concatenate
from bandoneon.logging import get_logger
from bandoneon.record import AttributeDefinition

FLUSH_S = 10.0
"""How long rows may wait before they are in a file."""

SETTLE_S = 2.0
"""A new device's first rows wait this long, so that all its attributes are known when its file is made."""

MAX_WAITING_BYTES = 64 << 20
"""So much in memory is written at once, due or not."""

COMPRESS_S = 0.1
"""So long at a time files are compressed, between looks at the journal."""

MIN_FREE_BYTES = 32 << 20
"""With less room on the disk nothing is begun that could end half done."""

RECENT_S = 172_800.0
"""Files changed this long before a device's newest are done with (dates in names follow the clock, which may jump)."""

_ENDED = object()

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:-(\d+))?\.h5")
_NS_PER_DAY = 86_400 * 10**9

Span = tuple[Position, Position]
"""A stretch of the journal, from behind one position up to another."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A piece of a commit, the `index`th of its device there, received on `day` (since 1970)."""

    commit: int
    index: int
    day: int
    item: Item


@dataclass(slots=True)
class _Device:
    """What is known of one device: its file, what waits for it, and how far it is stored.

    Behind `included` only what is in `stored` is in files: there a damaged one left a hole.
    """

    name: str
    directory: Path
    definitions: dict[str, AttributeDefinition] = field(default_factory=dict[str, AttributeDefinition])
    included: Position = field(default_factory=Position)
    stored: list[Span] = field(default_factory=list[Span])
    file: DeviceFile | None = None
    day: int = -1
    due_s: float | None = None
    waiting: list[_Waiting] = field(default_factory=list[_Waiting])
    bytes: int = 0

    def has(self, end: Position) -> bool:
        """Whether the piece of the journal that ends at a position is in files."""
        return end <= self.included or any(begin < end <= stop for begin, stop in self.stored)


class Hdf5Projection:
    """The files of one archiver. See `archiver.projections.base.Projection`."""

    def __init__(self, data_dir: Path, archiver: str) -> None:
        """Recover the files: those a killed writer left open plainly then; damaged ones are set aside and made anew."""
        self._root = data_dir / "hdf5"
        self._root.mkdir(parents=True, exist_ok=True)
        self._archiver = archiver
        self._devices: dict[str, _Device] = {}
        self._finishing: deque[Path] = deque()
        self._steps: Generator[None] | None = None
        self._damaged: list[Path] = []
        self._remade_at = -1
        self._kept = False
        self._bytes = 0
        self._day = -1
        self._lock = _locked(_lock_file(self._root, archiver))
        try:
            self._last = self._recover()
        except BaseException:
            self._lock.close()
            raise

    # -- what a projection does ------------------------------------------------------------------------------------

    def define(self, definitions: Iterable[AttributeDefinition]) -> None:
        """Take definitions that are in force at the cursor."""
        for definition in definitions:
            self._device(definition.device).definitions[definition.attribute] = definition

    def add(self, commit: int, unfolded: Unfolded) -> None:
        """Take one commit's rows."""
        if commit > self._last + 1:
            # what the journal lacks may be in a damaged file alone
            self._kept = True
        self._last = commit
        self._day = unfolded.received_ns // _NS_PER_DAY
        self.define(unfolded.definitions)
        seen: Counter[str] = Counter()
        for item in unfolded.items:
            device = self._device(item.definition.device)
            index = seen[device.name]
            seen[device.name] += 1
            if device.has(Position(commit - 1, index + 1)):
                continue
            device.waiting.append(_Waiting(commit, index, self._day, item))
            size = bytes_of(item)
            device.bytes += size
            self._bytes += size

    def tick(self, now_s: float) -> None:
        """Write the devices that are due, and all when much waits; compress a little.

        A device's file of yesterday ends when it is due, too: a midnight is spread over `FLUSH_S` as all else.
        """
        crowded = self._bytes > MAX_WAITING_BYTES
        for number, device in enumerate(self._devices.values()):
            if device.due_s is None:
                # the golden ratio spreads any number of devices evenly over the period
                device.due_s = now_s + SETTLE_S + number * 0.618 % 1 * (FLUSH_S - SETTLE_S)
            if crowded or device.due_s <= now_s:
                self._flush(device)
                if device.file is not None and device.day < self._day:
                    self._close(device)
            if device.due_s <= now_s:
                device.due_s += FLUSH_S * ((now_s - device.due_s) // FLUSH_S + 1)
        if self._damaged and self.cursor >= self._remade_at:
            self._replaced()
        self._compress(time.monotonic() + COMPRESS_S)

    @property
    def cursor(self) -> int:
        """The commit up to which nothing waits."""
        return min((d.waiting[0].commit - 1 for d in self._devices.values() if d.waiting), default=self._last)

    @property
    def files(self) -> int:
        """How many files are being written."""
        return sum(device.file is not None for device in self._devices.values())

    @property
    def unfinished(self) -> int:
        """How many files wait to be compressed."""
        return len(self._finishing)

    def close(self) -> None:
        """Write everything and close every file; what is not compressed yet is so after the next start."""
        for device in self._devices.values():
            self._flush(device)
            self._close(device)
        self._replaced()
        self.abandon()

    def abandon(self) -> None:
        """Let go of every file."""
        with contextlib.suppress(Exception):
            if self._steps is not None:
                self._steps.close()
        for device in self._devices.values():
            with contextlib.suppress(Exception):
                self._close(device)
        self._lock.close()

    # -- recovery --------------------------------------------------------------------------------------------------

    def _recover(self) -> int:
        complete = -1
        again: list[int] = []
        first = Position(first_commit_of(journal_of(self._root.parent, self._archiver)) - 1)
        for directory in device_directories(self._root):
            device = self._device("/".join(directory.relative_to(self._root).parts))
            for left in directory.glob(".*.tmp"):
                left.unlink()
            states, all_of_them = self._recover_files(directory)
            complete = max([complete, *(state.cursor.complete for state in states)])
            spans = sorted((state.begin, state.cursor.position) for state in states)
            reached = Position() if all_of_them or not spans else spans[0][0]
            device.included, device.stored = covered(spans, reached)
            damaged = list(directory.glob(f"*{DAMAGED}"))
            if device.stored or damaged:
                self._kept |= device.included < first
                device.included, device.stored = covered(spans, max(reached, first))
                again.append(device.included.commit)
                self._damaged += damaged
        self._remade_at = complete
        return min([complete, *again])

    def _recover_files(self, directory: Path) -> tuple[list[FileState], bool]:
        """Make the files of a device plainly readable and set damaged ones aside.

        Returns what the archiver's newest ones say, and whether those are all: only files written of late can be
        unfinished, or say how far the device is.
        """
        states: list[FileState] = []
        newest_first = sorted(((path.stat().st_mtime, path) for path in device_files(directory)), reverse=True)
        whole = False
        for changed, path in newest_first:
            if whole and changed < newest_first[0][0] - RECENT_S:
                return states, False
            try:
                state = read_state(path)
                whole = state.archiver == self._archiver
                if whole:
                    states.append(state)
                    if not state.finished:
                        unmark(path)
                        self._finishing.append(path)
            except DamagedFile as error:
                whole = False
                set_aside(path)
                get_logger(archiver=self._archiver).warning("file is made again from the journal", reason=str(error))
        return states, True

    # -- writing ---------------------------------------------------------------------------------------------------

    def _device(self, name: str) -> _Device:
        if name not in self._devices:
            self._devices[name] = _Device(name, self._root.joinpath(*name.split("/")))
        return self._devices[name]

    def _replaced(self) -> None:
        """Mark the files that were set aside as replaced: their rows are in new ones."""
        if not self._kept and self.cursor >= self._remade_at:
            for path in self._damaged:
                path.replace(path.with_name(path.name.removesuffix(DAMAGED) + REPLACED))
        self._damaged = []

    def _compress(self, until_s: float) -> None:
        """Go on with the files that are no longer written, until a time of the steady clock."""
        while self._finishing and time.monotonic() < until_s:
            path = self._finishing[0]
            try:
                if self._steps is None:
                    # HDF5 does not survive a write that fails: there has to be room before it begins
                    self._check_space(path.stat().st_size)
                    self._steps = finish(path)
                if next(self._steps, _ENDED) is not _ENDED:
                    continue
            except DamagedFile:
                set_aside(path)
                raise
            except FileNotFoundError:
                # whoever deleted it does not want it compressed
                pass
            self._steps = None
            self._finishing.popleft()

    def _check_space(self, needed: int = 0) -> None:
        free = shutil.disk_usage(self._root).free
        if free < MIN_FREE_BYTES + needed:
            raise NoSpace(f"{self._root} has only {free >> 20} MiB left: make room, the HDF5 files go on by themselves")

    def _flush(self, device: _Device) -> None:
        if not device.waiting:
            return
        self._check_space()
        for run in _runs(device.waiting):
            file = self._fit(device, run)
            for item in _merged([waiting.item for waiting in run]):
                append(file, item)
        device.waiting = []
        self._bytes -= device.bytes
        device.bytes = 0
        device.included = Position(self._last)
        assert device.file is not None
        device.file.commit(Cursor(self._last, self.cursor))

    def _fit(self, device: _Device, run: Sequence[_Waiting]) -> DeviceFile:
        """Return a file of the device that can take `run`: the present one, or a new one."""
        first = run[0]
        needed = _columns(device, run)
        if device.file is not None:
            if device.day == first.day and _fits(device.file.columns, needed):
                return device.file
            # rows of this flush may be in it already, up to where `run` begins
            device.included = Position(first.commit - 1, first.index)
            device.file.commit(Cursor(first.commit - 1, self.cursor, first.index))
            self._close(device)
        date = datetime.fromtimestamp(first.day * 86_400, UTC).date().isoformat()
        for number in count():
            path = device.directory / (f"{date}-{number}.h5" if number else f"{date}.h5")
            if any(path.with_suffix(suffix).exists() for suffix in (DAMAGED, REPLACED)):
                continue
            with contextlib.suppress(FileExistsError):
                device.file = DeviceFile(path, device.name, self._archiver, needed, device.included)
                device.day = first.day
                return device.file
        raise AssertionError("count() has no end")

    def _close(self, device: _Device) -> None:
        if device.file is not None:
            file, device.file = device.file, None
            file.close()
            self._finishing.append(file.path)


def _runs(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """Split what waits into stretches that fit one file: one day, and one definition per attribute."""
    run: list[_Waiting] = []
    epochs: dict[str, int] = {}
    for piece in waiting:
        definition = piece.item.definition
        epoch = epochs.setdefault(definition.attribute, definition.epoch)
        if run and (piece.day != run[0].day or definition.epoch != epoch):
            yield run
            run, epochs = [], {definition.attribute: definition.epoch}
        run.append(piece)
    if run:
        yield run


def _columns(device: _Device, run: Iterable[_Waiting]) -> dict[str, Column]:
    """The layout that `run` needs, wide enough for what the device's present file already takes."""
    definitions = dict(device.definitions)
    widths: dict[str, int] = {}
    settable: set[str] = set()
    for piece in run:
        item, name = piece.item, piece.item.definition.attribute
        definitions[name] = item.definition
        if isinstance(item, Series):
            widths[name] = max(widths.get(name, TEXT_BYTES), text_bytes(item))
            if item.set_value:
                settable.add(name)
    present = device.file.columns if device.file is not None else {}
    columns: dict[str, Column] = {}
    for name, definition in sorted(definitions.items()):
        before = present.get(name)
        column = column_of(definition, widths.get(name, TEXT_BYTES), name in settable)
        if before is not None and before.metadata == column.metadata:
            width = max(before.dtype.itemsize, column.dtype.itemsize)
            dtype = np.dtype(f"S{width}") if column.dtype.kind == "S" else column.dtype
            column = replace(column, dtype=dtype, settable=before.settable or column.settable)
        columns[name] = column
    return columns


def _fits(present: Mapping[str, Column], needed: Mapping[str, Column]) -> bool:
    return all(present.get(name) == column for name, column in needed.items())


def _merged(items: Iterable[Item]) -> list[Item]:
    """Join the series of each attribute: one append instead of many. Gaps stay as they are."""
    grouped: dict[tuple[str, bool], list[Series]] = {}
    gaps: list[Item] = []
    for item in items:
        if isinstance(item, Gap):
            gaps.append(item)
        else:
            grouped.setdefault((item.definition.attribute, item.set_value), []).append(item)
    return [concatenate(parts) for parts in grouped.values()] + gaps


# -- files ---------------------------------------------------------------------------------------------------------


def device_directories(root: Path) -> list[Path]:
    """Return the directories of devices below `<data>/hdf5`."""
    return sorted(path for path in root.glob("*/*/*") if path.is_dir())


def device_files(directory: Path) -> list[Path]:
    """Return the files of one device, oldest first."""
    found = [
        (match[1], int(match[2] or 0), path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, _, path in sorted(found)]


def covered(spans: Iterable[Span], reached: Position) -> tuple[Position, list[Span]]:
    """Return up to where files hold everything behind `reached`, and which stretches they hold behind a hole.

    `spans` are what the single files hold, sorted.
    """
    behind: list[Span] = []
    for begin, end in spans:
        if not behind and begin <= reached:
            reached = max(reached, end)
        elif behind and begin <= behind[-1][1]:
            behind[-1] = behind[-1][0], max(behind[-1][1], end)
        else:
            behind.append((begin, end))
    return reached, behind


def _lock_file(root: Path, archiver: str) -> Path:
    return root / f".{archiver.replace('/', '_')}.lock"


def _locked(path: Path) -> IO[bytes]:
    """Open and lock a file, so that only one process writes an archiver's HDF5 files."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BlockingIOError(
            f"another process writes the HDF5 files of {path.parent}: stop that projector first"
        ) from error
    return lock


def open_projection(data_dir: Path, archiver: str) -> Hdf5Projection:
    """Open the HDF5 projection of one archiver."""
    return Hdf5Projection(data_dir, archiver)


def remove(data_dir: Path, archiver: str) -> int:
    """Delete all HDF5 files of one archiver, if its journal can make them again; return how many.

    Raises OnlyCopy; BlockingIOError while a projector writes them.
    """
    root = data_dir / "hdf5"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(_lock_file(root, archiver)):
        last = -1
        mine: list[Path] = []
        for directory in device_directories(root):
            for path in device_files(directory):
                with contextlib.suppress(DamagedFile):
                    state = read_state(path)
                    if state.archiver != archiver:
                        continue
                    last = max(last, state.cursor.commit)
                mine.append(path)
            mine += [*directory.glob(".*.tmp"), *directory.glob(f"*{DAMAGED}"), *directory.glob(f"*{REPLACED}")]
        missing = missing_commits(journal_of(data_dir, archiver), last)
        if mine and missing:
            raise OnlyCopy(
                f"{in_words(missing)} of the journal of {archiver} are damaged or gone, and its files in {root} may be "
                "the only copy: they stay as they are; to make files of the rest, move them away first"
            )
        for path in mine:
            path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    return len(mine)
