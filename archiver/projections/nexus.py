"""One NeXus file of one device: written live under SWMR, finished compressed.

    /entry                      NXentry, default plot: the first attribute that is a number
    /entry/<attribute>          NXdata: signal `value` (units, long_name, …), axes `time`, `quality` beside it
    /entry/<attribute>/set      NXdata: the values written to it, with their own `time`
    /archive/gaps               which attribute was not archived from when to when, and why
    /archive/errors             what a failed reading said; the reading itself is an INVALID one
    /archive/cursor             int64: see `Cursor`; then the length of each dataset, in the order of their paths

Times are int64 nanoseconds since 1970 UTC. A value of quality INVALID is the dataset's fill value (attribute
`_FillValue`): NaN for floats, the lowest signed or highest unsigned integer, an empty string. Arrays of changing
length are padded with the fill value; `dim_x` (and `dim_y`) say how much of each row counts.

Rules of the format, measured with HDF5 2.0 and 1.14: under SWMR no object can be added, so every dataset exists
before `swmr_mode`, and strings are of fixed length. File format v110 is the oldest with SWMR: more readers open it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (h5py has no type stubs)

import hashlib
import os
import struct
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5s
from numpy.typing import NDArray

from archiver.durable import sync_directory
from bandoneon.record import Quality

CHUNK_BYTES = 8192
"""Size of a chunk in a live file, per dataset: large ones read fast but append slowly."""

FINISHED_CHUNK_BYTES = 131072
"""Size of a chunk in a finished, compressed file."""

DAMAGED = ".h5.damaged"
"""How the name of a file ends that was set aside and is not made again yet."""

REPLACED = ".h5.replaced"
"""How it ends when its rows are in other files."""

_LIBVER = ("v110", "v110")
_NAME_BYTES = 128
_CAUSE_BYTES = 64
_ERROR_BYTES = 1024
_CURSOR = "/archive/cursor"
_SUPERBLOCK_BYTES = 48
_VERSION_AT = 8
_FLAGS_AT = 11
_SWMR_VERSION = 3
_UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError)
"""What h5py raises, depending on where a file is damaged."""
_QUALITY = h5py.enum_dtype({quality.name: int(quality) for quality in Quality}, "u1")


class DamagedFile(Exception):
    """A file that HDF5 cannot read, or that has no cursor."""


@dataclass(frozen=True, slots=True)
class Column:
    """How one attribute is laid out in a file: files of the same layout can take the same readings.

    `dtype` is the element type (`S<n>` for text, UTF-8); `rank` 0 scalar, 1 spectrum, 2 image; `encoded` a
    DevEncoded value (bytes with a format word); `settable` whether set values are kept too.
    """

    attribute: str
    dtype: np.dtype[Any]
    rank: int = 0
    encoded: bool = False
    settable: bool = False
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, str | int | float] = field(default_factory=dict[str, str | int | float])

    @property
    def fill(self) -> Any:
        """What stands where there is no value."""
        return fill_value(self.dtype)


class Position(NamedTuple):
    """A place in the journal, for one device: behind `commit` and the first `items` pieces of the commit after it."""

    commit: int = -1
    items: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the journal is in the files.

    This one holds everything of its device up to `commit`, and the first `items` pieces of the commit after it (a
    commit in which a file had to change is in two files). All files of its archiver are stored up to `complete`.
    """

    commit: int
    complete: int
    items: int = 0

    @property
    def position(self) -> Position:
        """Up to where the device is stored."""
        return Position(self.commit, self.items)


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file says of itself: whose it is, which stretch of the journal it holds, and whether it is finished.

    Everything of the device between `begin` and `cursor` is in this file or in one that begins in between.
    """

    archiver: str
    begin: Position
    cursor: Cursor
    finished: bool


def fill_value(dtype: np.dtype[Any]) -> Any:
    """Return what stands for "no value" in a dataset of `dtype`."""
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "i":
        return np.iinfo(dtype).min
    if dtype.kind == "u":
        return np.iinfo(dtype).max
    return b"" if dtype.kind == "S" else False


def cut(text: str, width: int) -> bytes:
    """Return `text` as at most `width` bytes of UTF-8; what is cut ends in "…" (the journal has it whole)."""
    data = text.encode()
    if len(data) <= width:
        return data
    return data[: width - 3].decode(errors="ignore").encode() + "…".encode()


def pad(values: Sequence[NDArray[Any] | None], dtype: np.dtype[Any], rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return arrays of differing lengths as one array padded with the fill value, and their shapes (n, rank)."""
    shapes = np.array([(0,) * rank if value is None else value.shape for value in values], "i8").reshape(-1, rank)
    largest = shapes.max(axis=0, initial=0)
    padded = np.full((len(values), *largest), fill_value(dtype), dtype)
    for row, value in enumerate(values):
        if value is not None and value.size:
            padded[(row, *(slice(n) for n in value.shape))] = value
    return padded, shapes


_BEGINNING = Position()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _give_name(temporary: Path, path: Path) -> None:
    """Rename a file, durably, without replacing another that came to be there meanwhile: FileExistsError then.

    The name is taken by an empty file first, since a rename alone replaces, and not every file system has hard links. A
    kill in between leaves the empty file, which the next start removes.
    """
    path.touch(exist_ok=False)
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink()
        raise
    sync_directory(path.parent)


class DeviceFile:
    """The live file of one device. Nothing but `append…`, `commit`, `close`; it is never opened again for writing."""

    def __init__(
        self, path: Path, device: str, archiver: str, columns: Mapping[str, Column], begin: Position = _BEGINNING
    ) -> None:
        """Create it, to hold what is in the journal behind `begin`.

        It has its name only when it is ready: a kill leaves none that cannot be read. Raises FileExistsError when
        `path` exists, OSError when it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(f"{path} exists")
        self.path = path
        self.columns = dict(columns)
        temporary = _temporary(path)
        self._file = h5py.File(temporary, "x", libver=_LIBVER)
        self._data: dict[str, h5py.Dataset] = {}
        try:
            self._create(device, archiver, begin)
            self._names = sorted(self._data)
            shape = (3 + len(self._names),)
            self._cursor = self._file.create_dataset(_CURSOR, shape, "i8", fillvalue=-1)
            self._write_cursor(Cursor(-1, -1))
            self._file.swmr_mode = True
            _give_name(temporary, path)
        except BaseException:
            self._file.close()
            temporary.unlink(missing_ok=True)
            raise

    def _create(self, device: str, archiver: str, begin: Position) -> None:
        self._file.attrs.update(NX_class="NXroot", default="entry", device=device, archiver=archiver, finished=0)
        self._file.attrs["begin"] = np.array(begin, "i8")
        entry = self._file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", title=device)
        for column in self.columns.values():
            self._create_column(entry.create_group(column.attribute), column)
        numbers = [c.attribute for c in self.columns.values() if c.dtype.kind in "fiu" and not c.labels]
        default = sorted(numbers, key=lambda name: self.columns[name].dtype.kind != "f") or sorted(self.columns)
        if default:
            entry.attrs["default"] = default[0]
        archive = self._file.create_group("archive")
        archive.attrs.update(NX_class="NXcollection", archiver=archiver)
        self._create_tables(archive)

    def _create_column(self, group: h5py.Group, column: Column) -> None:
        self._create_series(group, column)
        if column.settable:
            self._create_series(group.create_group("set"), column)

    def _create_series(self, group: h5py.Group, column: Column) -> None:
        axes = ["time", *["."] * column.rank]
        group.attrs.update(NX_class="NXdata", signal="value", axes=np.array(axes, h5py.string_dtype()))
        dtype: Any = column.dtype
        if column.labels:
            dtype = h5py.enum_dtype({label: number for number, label in enumerate(column.labels)}, column.dtype)
        elif column.dtype.kind == "S":
            dtype = h5py.string_dtype("utf-8", column.dtype.itemsize)
        value = self._dataset(group, "value", dtype, column.rank, column.fill)
        value.attrs.update(column.metadata)
        if column.dtype.kind in "fiu":
            value.attrs["_FillValue"] = np.array(column.fill, column.dtype)
        time = self._dataset(group, "time", "i8")
        time.attrs.update(units="ns", start="1970-01-01T00:00:00Z", long_name="time (UTC)")
        self._dataset(group, "quality", _QUALITY)
        for axis in ("dim_x", "dim_y")[: column.rank]:
            self._dataset(group, axis, "i8")
        if column.encoded:
            self._dataset(group, "format", h5py.string_dtype("utf-8", _CAUSE_BYTES))

    def _create_tables(self, archive: h5py.Group) -> None:
        gaps, errors = archive.create_group("gaps"), archive.create_group("errors")
        for table in (gaps, errors):
            table.attrs["NX_class"] = "NXcollection"
            self._dataset(table, "attribute", h5py.string_dtype("utf-8", _NAME_BYTES))
        for name in ("start", "stop"):
            self._dataset(gaps, name, "i8").attrs.update(units="ns", start="1970-01-01T00:00:00Z")
        self._dataset(gaps, "count", "i8").attrs["doc"] = "readings lost; -1 = unknown"
        self._dataset(gaps, "cause", h5py.string_dtype("utf-8", _CAUSE_BYTES))
        self._dataset(errors, "time", "i8").attrs.update(units="ns", start="1970-01-01T00:00:00Z")
        self._dataset(errors, "text", h5py.string_dtype("utf-8", _ERROR_BYTES))

    def _dataset(self, group: h5py.Group, name: str, dtype: Any, rank: int = 0, fill: Any = None) -> h5py.Dataset:
        itemsize = np.dtype(dtype).itemsize
        inner = {0: (), 1: (64,), 2: (16, 16)}[rank]
        rows = max(1, CHUNK_BYTES // (itemsize * int(np.prod(inner, dtype=int))))
        made = group.create_dataset(
            name,
            shape=(0,) * (rank + 1),
            dtype=dtype,
            maxshape=(None,) * (rank + 1),
            chunks=(rows, *inner),
            fillvalue=None if fill == b"" else fill,
        )
        self._data[f"{group.name}/{name}"] = made
        return made

    def append(
        self,
        attribute: str,
        time_ns: NDArray[np.int64],
        quality: NDArray[np.uint8],
        values: NDArray[Any],
        shapes: NDArray[np.int64] | None = None,
        formats: NDArray[np.bytes_] | None = None,
        *,
        set_value: bool = False,
    ) -> None:
        """Append readings of one attribute: `values` (n, …) of the column's type, padded, with `shapes` (n, rank)."""
        place = f"/entry/{attribute}/set" if set_value else f"/entry/{attribute}"
        self._append(f"{place}/value", values)
        self._append(f"{place}/time", time_ns)
        self._append(f"{place}/quality", quality)
        if shapes is not None:
            # Tango's x is the innermost axis
            for axis, lengths in zip(("dim_x", "dim_y"), reversed(shapes.T), strict=False):
                self._append(f"{place}/{axis}", np.ascontiguousarray(lengths))
        if formats is not None:
            self._append(f"{place}/format", formats)

    def append_gap(self, attribute: str, start_ns: int, stop_ns: int, count: int | None, cause: str) -> None:
        """Append one stretch of time that was not archived."""
        self._append("/archive/gaps/attribute", np.array([cut(attribute, _NAME_BYTES)]))
        self._append("/archive/gaps/start", np.array([start_ns], "i8"))
        self._append("/archive/gaps/stop", np.array([stop_ns], "i8"))
        self._append("/archive/gaps/count", np.array([-1 if count is None else count], "i8"))
        self._append("/archive/gaps/cause", np.array([cut(cause, _CAUSE_BYTES)]))

    def append_error(self, attribute: str, time_ns: int, text: str) -> None:
        """Append what one failed reading said."""
        self._append("/archive/errors/attribute", np.array([cut(attribute, _NAME_BYTES)]))
        self._append("/archive/errors/time", np.array([time_ns], "i8"))
        self._append("/archive/errors/text", np.array([cut(text, _ERROR_BYTES)]))

    def _append(self, name: str, values: NDArray[Any]) -> None:
        target = self._data[name].id
        if values.dtype.kind == "S":
            # HDF5 copies fixed-length text as it is: the memory type has to be the file's
            values = values.astype(target.dtype, copy=False)
        before = target.shape
        grown = (before[0] + len(values), *map(max, zip(before[1:], values.shape[1:], strict=True)))
        target.set_extent(grown)
        if not values.size:
            return
        where = target.get_space()
        where.select_hyperslab((before[0],) + (0,) * (values.ndim - 1), values.shape)
        target.write(h5s.create_simple(values.shape), where, np.ascontiguousarray(values), target.get_type())

    def commit(self, cursor: Cursor) -> None:
        """Make everything appended so far visible to readers and durable, then say so in the cursor.

        The data are on the disk before the cursor is written, and the cursor before this returns (the `complete` of
        other files counts on it): neither a kill nor a power cut leaves one that is ahead. What is behind it is cut by
        `finish`.
        """
        self._sync()
        self._write_cursor(cursor)
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.id.get_vfd_handle())

    def _write_cursor(self, cursor: Cursor) -> None:
        lengths = [self._data[name].id.shape[0] for name in self._names]
        self._cursor[:] = np.array([cursor.commit, cursor.complete, cursor.items, *lengths], "i8")

    def close(self) -> None:
        """Close it: from now on any reader opens it plainly."""
        self._file.close()


class _Unmarked(FileIO):
    """A file for HDF5 that shows no mark of being written: flags cleared in its superblock, checksum to match.

    Opening a killed writer's file with `swmr=True` instead reads damage again and again, for ever.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        head = bytearray(super().read(_SUPERBLOCK_BYTES))
        if len(head) == _SUPERBLOCK_BYTES and head[_VERSION_AT] == _SWMR_VERSION and head[_FLAGS_AT]:
            head[_FLAGS_AT] = 0
            head[-4:] = _lookup3(head[:-4]).to_bytes(4, "little")
        self.head = bytes(head)

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer)
        shown = self.head[start : start + count]
        memoryview(buffer)[: len(shown)] = shown
        return count


def _lookup3(data: bytes | bytearray) -> int:
    """Bob Jenkins' hash of 44 bytes, with which HDF5 checks its superblock."""
    words = struct.unpack("<11I", data)
    mask = 0xFFFFFFFF

    def turned(value: int, bits: int) -> int:
        return (value << bits | value >> 32 - bits) & mask

    a = b = c = 0xDEADBEEF + len(data)
    for start in (0, 3, 6):
        a, b, c = (x + y & mask for x, y in zip((a, b, c), words[start : start + 3], strict=True))
        for bits in (4, 6, 8, 16, 19, 4):
            a, b, c = b, (c + b) & mask, ((a - c) & mask) ^ turned(c, bits)
    a, b = (a + words[9]) & mask, (b + words[10]) & mask
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - turned(b, bits)) & mask, a
    return b


@contextmanager
def _opened(unmarked: _Unmarked) -> Generator[Any]:
    """Open a file to read it, whether a writer has it open, left it behind or closed it; raises DamagedFile."""
    try:
        file = h5py.File(unmarked, "r")
    except _UNREADABLE as error:
        raise DamagedFile(f"{unmarked.name} cannot be read: {error}") from error
    try:
        yield file
    finally:
        file.close()


def read_state(path: Path) -> FileState:
    """Return what a file says of itself; raises DamagedFile."""
    if path.stat().st_size <= _SUPERBLOCK_BYTES:
        raise DamagedFile(f"{path} holds nothing: its writer was killed as it made it")
    with _Unmarked(path) as unmarked, _opened(unmarked) as file:
        try:
            begin = Position(*(int(number) for number in file.attrs["begin"]))
            cursor = Cursor(*(int(number) for number in file[_CURSOR][:3]))
            return FileState(str(file.attrs["archiver"]), begin, cursor, bool(file.attrs["finished"]))
        except _UNREADABLE as error:
            raise DamagedFile(f"{path} cannot be read: {error}") from error


def set_aside(path: Path) -> None:
    """Take a damaged file out of the way; kept for whoever wants to look, unless nothing was ever in it."""
    if path.stat().st_size <= _SUPERBLOCK_BYTES:
        path.unlink()
    else:
        path.replace(path.with_suffix(DAMAGED))


def unmark(path: Path) -> None:
    """Clear the mark of being written that a killed writer left in a file: any reader opens it plainly now.

    Nothing else is changed, so a kill in between does no harm. What is behind the cursor stays until it is finished.
    """
    with _Unmarked(path) as unmarked, path.open("r+b") as file:
        if file.read(len(unmarked.head)) != unmarked.head:
            file.seek(0)
            file.write(unmarked.head)


def finish(path: Path) -> Generator[None]:
    """Rewrite a file that nobody writes any more, step by step: cut at its cursor, compressed.

    Run the generator to its end; each step takes some milliseconds, and closed before its end it changes nothing.
    Raises DamagedFile, or OSError when the new file cannot be written. gzip and shuffle are the filters every HDF5
    library has. Datasets `time` that are equal become one, linked. The new file takes the old one's name in one step;
    a reader that has the old one open keeps it.
    """
    temporary = _temporary(path)
    try:
        with _Unmarked(path) as unmarked, _opened(unmarked) as old, h5py.File(temporary, "w", libver=_LIBVER) as new:
            yield from _copy(_Source(path, old), new)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        # a disk that fails raises none of these: it is what was read
        raise DamagedFile(f"{path} cannot be copied: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class _Source:
    """A file that is read to be finished: what cannot be read is its own fault, never that of the file being made."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self.groups: dict[str, dict[str, Any]] = {"/": {}}
        self.datasets: dict[str, h5py.Dataset] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        self.lengths: dict[str, int] = {}
        with self._reading():
            file.visititems(self._note)
            self.groups["/"] = dict(file.attrs)
            self.cursor = file[_CURSOR][:]
            places = sorted(name for name in self.datasets if name != _CURSOR)
            self.lengths = dict(zip(places, self.cursor[3:].tolist(), strict=True))

    def _note(self, _: str, item: Any) -> None:
        place = str(item.name)
        if isinstance(item, h5py.Group):
            self.groups[place] = dict(item.attrs)
        else:
            self.datasets[place] = item
            self.attributes[place] = dict(item.attrs)

    def read(self, place: str, selection: Any) -> NDArray[Any]:
        """Return a part of a dataset; raises DamagedFile."""
        with self._reading():
            return self.datasets[place][selection]

    @contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise DamagedFile(f"{self.path} cannot be read: {error}") from error


def _copy(old: _Source, new: h5py.File) -> Generator[None]:
    for group, attributes in old.groups.items():
        new.require_group(group).attrs.update(attributes)
    times: dict[bytes, str] = {}
    for place in old.lengths:
        if place.startswith("/entry/") and place.endswith("/time"):
            key = yield from _digest(old, place)
            if key in times:
                new[place] = new[times[key]]
                continue
            times[key] = place
        yield from _copy_dataset(old, new, place)
    new.create_dataset(_CURSOR, data=old.cursor)
    new.attrs["finished"] = 1


def _digest(old: _Source, place: str) -> Generator[None, None, bytes]:
    digest = hashlib.sha256()
    length, step = old.lengths[place], FINISHED_CHUNK_BYTES
    for start in range(0, length, step):
        digest.update(old.read(place, slice(start, min(start + step, length))).tobytes())
        yield
    return digest.digest()


def _copy_dataset(old: _Source, new: h5py.File, place: str) -> Generator[None]:
    source = old.datasets[place]
    shape = (old.lengths[place], *source.shape[1:])
    if 0 in shape:
        made = new.create_dataset(place, shape, source.dtype, fillvalue=source.fillvalue)
    else:
        made = new.create_dataset(
            place,
            shape,
            source.dtype,
            chunks=_finished_chunk(shape, source.dtype.itemsize),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fillvalue=source.fillvalue,
        )
        limits = _limits(old, place) if place.endswith("/value") else []
        for selection in made.iter_chunks():
            rows, *inner = selection
            # what is nothing but padding is not stored
            if all(part.start < limit[rows].max() for part, limit in zip(inner, limits, strict=False)):
                made[selection] = old.read(place, selection)
                yield
    made.attrs.update(old.attributes[place])


def _limits(old: _Source, place: str) -> list[NDArray[Any]]:
    """Return for each axis of an array how much of each row counts."""
    axes = [place.removesuffix("value") + axis for axis in ("dim_y", "dim_x")]
    return [old.read(axis, slice(0, old.lengths[place])) for axis in axes if axis in old.datasets]


def _finished_chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the shape of a chunk: whole rows if they fit, else parts of one row."""
    chunk = list(shape)
    for axis in range(len(chunk)):
        inner = itemsize * int(np.prod(chunk[axis + 1 :], dtype=int))
        chunk[axis] = min(chunk[axis], max(1, FINISHED_CHUNK_BYTES // inner))
    return tuple(chunk)
