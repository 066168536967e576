"""Questions to the archive: values of attributes over a time, at a time, on one clock, or thinned for a plot.

The answer comes from the journals of all archivers of a data directory, the newest commit included, while they are
being written. `query` returns a polars frame, `write` puts one into a file.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import contextlib
import difflib
import fnmatch
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from archiver.journal import Commit
from archiver.segments import (
    Missing,
    Segment,
    archivers,
    concerning,
    first_commit_of,
    in_words,
    journal_of,
    read_through,
)
from archiver.series import Gap, Series, Unfolder, Wanted, element_dtype, is_encoded, rank, words
from bandoneon.errors import BandoneonError
from bandoneon.record import AttributeDefinition, Kind, Quality

SLACK_NS = 60 * 10**9
"""A reading's own stamp may differ this much from its arrival and is still found."""

COMMITS_AT_ONCE = 256
"""Unfolding many commits in one go costs little more than unfolding one."""

_QUALITY_WORDS = {int(quality): quality.name for quality in Quality}


class QueryError(BandoneonError):
    """A question that cannot be answered; says what to ask instead."""


@dataclass(slots=True)
class _Found:
    """What the journals say of one attribute: its newest definition, readings (as they came) and gaps."""

    definition: AttributeDefinition
    series: list[Series] = field(default_factory=list[Series])
    gaps: list[Gap] = field(default_factory=list[Gap])

    def learn(self, definition: AttributeDefinition) -> None:
        """Take a definition if it is the newest; segments may be read backwards."""
        if definition.epoch >= self.definition.epoch:
            self.definition = definition

    def add(self, item: Series | Gap) -> None:
        self.learn(item.definition)
        if isinstance(item, Gap):
            self.gaps.append(item)
        elif not item.set_value:
            self.series.append(item)

    def has_until(self, time_ns: int) -> bool:
        """Whether there is a reading at or before a time."""
        return any((series.time_ns <= time_ns).any() for series in self.series)

    def has_after(self, time_ns: int) -> bool:
        """Whether there is a reading after a time."""
        return any((series.time_ns > time_ns).any() for series in self.series)


@dataclass(frozen=True, slots=True)
class _Readings:
    """All readings of one attribute, sorted by time; `values` as in `Series`.

    `definition` is the newest. `epochs` are those the readings are of, `epoch` is the index in it for each reading.
    """

    definition: AttributeDefinition
    epochs: list[AttributeDefinition]
    epoch: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    quality: NDArray[np.uint8]
    values: NDArray[Any]
    valid: NDArray[np.bool_]
    gaps: list[Gap]

    def take(self, at: NDArray[Any]) -> "_Readings":
        """Return only the readings `at`."""
        names = ("epoch", "time_ns", "quality", "values", "valid")
        return replace(self, **{name: getattr(self, name)[at] for name in names})

    def last_before(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each time the index of the last reading at or before it, -1 for none."""
        return np.searchsorted(self.time_ns, times_ns, side="right") - 1

    def in_gap(self, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each time whether it lies inside a gap."""
        inside = np.zeros(len(times_ns), bool)
        for gap in self.gaps:
            inside |= (times_ns >= gap.start_ns) & (times_ns < gap.stop_ns)
        return inside

    def present(self) -> list[int]:
        """Return which of the `epochs` have readings."""
        return np.flatnonzero(np.bincount(self.epoch)).tolist()

    def units(self) -> list[str]:
        """Return the different units of the readings."""
        return list(dict.fromkeys(self.epochs[n].unit for n in self.present()))

    def unit_of_each(self) -> list[str]:
        """Return the unit of each reading."""
        return np.array([epoch.unit for epoch in self.epochs], object)[self.epoch].tolist()


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"warning: {text}\n")


def query(
    data_dir: Path,
    attributes: Sequence[str],
    *,
    start_ns: int | None = None,
    stop_ns: int | None = None,
    last_s: float | None = None,
    at_ns: int | None = None,
    every_s: float | None = None,
    max_points: int | None = None,
    gaps: bool = False,
    warn: Callable[[str], None] = _to_stderr,
) -> pl.DataFrame:
    """Return the archived readings of `attributes` (names or patterns like `lab/power/1/*`, in any case).

    Columns: time (UTC, ns), attribute (an Enum of all names asked for), value, quality. Of one attribute `value` has
    its exact type (enums as words, arrays as lists, no value as null); of several the type all fit into, text if none.
    The interval is [start_ns, stop_ns], or the last `last_s` seconds; without either, everything.
    What an attribute was when it was read counts: old values have the words of then. Values are never converted; where
    the unit changed within the answer, a column `unit` says which is which.

    - `at_ns`: one row per attribute, its last reading at or before that time, with `age_s` and `in_gap`.
    - `every_s`: the last reading at or before each multiple of it since 1970; null before the first and inside gaps.
    - `max_points`: of each attribute at most so many, chosen so that a plot keeps its peaks.
    - `gaps`: also a row of quality GAP for each gap, with `until`, `count` (null unknown) and `cause`.
    - `warn` is told of damage in the journal that was passed over (it is a gap of cause "damaged"), and of mixed units.

    Raises QueryError (unknown attribute, no archive, options that exclude each other).
    """
    now_ns = time.time_ns()
    if at_ns is not None and (last_s or start_ns or stop_ns or every_s or max_points):
        raise QueryError("--at asks for one moment: leave out the interval, --every and --max-points")
    if last_s is not None:
        if start_ns is not None or stop_ns is not None:
            raise QueryError("give either --last or --start and --stop")
        start_ns = now_ns - round(last_s * 1e9)
    if at_ns is not None:
        start_ns = stop_ns = at_ns
    if start_ns is not None and stop_ns is not None and start_ns > stop_ns:
        raise QueryError("the interval ends before it begins: exchange --start and --stop")
    around = gaps or at_ns is not None or every_s is not None
    asked = _Asked([pattern.lower() for pattern in attributes], start_ns, stop_ns, around)
    found = _collect(data_dir, asked, warn)
    readings = [_readings(found[name]) for name in sorted(found)]
    if at_ns is not None:
        return _frame_at(readings, at_ns)
    if every_s is not None:
        readings = _aligned(readings, start_ns, stop_ns or now_ns, round(every_s * 1e9))
    else:
        readings = [_within(one, start_ns, stop_ns) for one in readings]
    if max_points is not None:
        readings = [_thinned(one, max_points) for one in readings]
    for one in readings:
        if len(units := one.units()) > 1:
            mixed = " and ".join(unit or "no unit" for unit in units)
            warn(f"{one.definition.name} was archived in {mixed}: the column `unit` says which value is in which")
    frame = _frame(readings)
    return _with_gaps(frame, readings, start_ns, stop_ns) if gaps else frame


def definitions(data_dir: Path, attributes: Sequence[str] = ("*",)) -> list[AttributeDefinition]:
    """Return the newest definition of each archived attribute that matches; raises QueryError."""
    asked = _Asked([pattern.lower() for pattern in attributes], time.time_ns(), None, around=False)
    found = _collect(data_dir, asked, _to_stderr)
    return [found[name].definition for name in sorted(found)]


# -- reading the journals ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which attributes and which stretch of time; `around`: also what is needed to know the state at its ends."""

    patterns: list[str]
    start_ns: int | None
    stop_ns: int | None
    around: bool

    @property
    def earliest_ns(self) -> int | None:
        """What was received before that is not asked for."""
        return None if self.start_ns is None else self.start_ns - SLACK_NS

    @property
    def latest_ns(self) -> int | None:
        """What was received after that is not asked for."""
        return None if self.stop_ns is None else self.stop_ns + SLACK_NS

    def wants(self, definition: AttributeDefinition) -> bool:
        return any(fnmatch.fnmatchcase(definition.name, pattern) for pattern in self.patterns)


def _collect(data_dir: Path, asked: _Asked, warn: Callable[[str], None]) -> dict[str, _Found]:
    """Read what is wanted from the journals of all archivers."""
    names = archivers(data_dir)
    if not names:
        raise QueryError(f"{data_dir} holds no archive: start a site with `./run up`, or name the directory by --data")
    found: dict[str, _Found] = {}
    known: set[str] = set()
    for archiver in names:
        missing: list[Missing] = []
        known |= _collect_one(journal_of(data_dir, archiver), asked, found, missing)
        if missing:
            lost = in_words((one.first, one.last) for one in missing)
            warn(f"{lost} of the journal of {archiver} are damaged or gone: `archive verify` says more")
    for pattern in asked.patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in found):
            raise QueryError(_unknown(pattern, known))
    return found


def _collect_one(journal: Path, asked: _Asked, found: dict[str, _Found], missing: list[Missing]) -> set[str]:
    """Read one journal into `found`, only the segments that can matter; return the names of all its attributes."""
    segments, stretches = concerning(journal, asked.earliest_ns, asked.latest_ns)
    if not segments:
        return set()
    definitions: dict[int, AttributeDefinition] = {}
    for first, last in stretches:
        expected = None if first else first_commit_of(journal)
        definitions |= _read(_Part(segments, first, last, expected), asked.wants, found, missing)
    last = stretches[-1][1]
    if last < len(segments):
        # the newest segment knows the most names
        definitions |= segments[-1].definitions()
    mine = {definition.name: definition for definition in definitions.values() if asked.wants(definition)}
    for name, definition in mine.items():
        found.setdefault(name, _Found(definition)).learn(definition)
    if asked.around:
        start_ns, stop_ns = asked.start_ns, asked.stop_ns
        unread = set(range(last)).difference(*(range(*stretch) for stretch in stretches))
        before = (_Part(segments, at, at + 1) for at in sorted(unread, reverse=True))
        after = (_Part(segments, at, at + 1) for at in range(last, len(segments)))
        _extend(before, mine, found, missing, lambda one: start_ns is None or one.has_until(start_ns))
        _extend(after, mine, found, missing, lambda one: stop_ns is None or one.has_after(stop_ns))
    for name, definition in mine.items():
        found[name].gaps += [Gap(definition, one.start_ns, one.stop_ns, None, "damaged") for one in missing]
    return {definition.name for definition in definitions.values()}


@dataclass(frozen=True, slots=True)
class _Part:
    """Segments `first` to before `last` of a journal; `expected` is the commit that should come first, if known."""

    segments: list[Segment]
    first: int
    last: int
    expected: int | None = None

    def commits(self, missing: list[Missing]) -> Iterator[Commit]:
        """Read them; commits that should be there and are not are added to `missing`."""
        behind = self.segments[self.last] if self.last < len(self.segments) else None
        return read_through(self.segments[self.first : self.last], behind, missing, self.expected)


def _extend(
    parts: Iterable[_Part],
    names: Iterable[str],
    found: dict[str, _Found],
    missing: list[Missing],
    enough: Callable[[_Found], bool],
) -> None:
    """Read further parts until enough is found of every attribute."""
    for part in parts:
        lacking = {name for name in names if not enough(found[name])}
        if not lacking:
            return
        _read(part, lambda definition, lacking=lacking: definition.name in lacking, found, missing)


def _read(
    part: _Part, wants: Wanted, found: dict[str, _Found], missing: list[Missing]
) -> dict[int, AttributeDefinition]:
    """Add what a part of a journal says of the wanted attributes; return all definitions in it."""
    unfolder = Unfolder(wants, part.segments[part.first].in_force().values())
    tables = (commit.table for commit in part.commits(missing))
    while batches := list(islice(tables, COMMITS_AT_ONCE)):
        for item in unfolder.unfold(pa.concat_batches(batches)).items:
            found.setdefault(item.definition.name, _Found(item.definition)).add(item)
    return unfolder.definitions


def _unknown(pattern: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(pattern, sorted(known), n=3, cutoff=0.5)
    hint = f"near it are {', '.join(near)}" if near else "`query '*'` shows all there are"
    return f"no attribute {pattern} is archived: {hint}"


# -- from series to readings -------------------------------------------------------------------------------------------


def _readings(found: _Found) -> _Readings:
    """Join and sort what was found of an attribute."""
    series = found.series
    if not series:
        none = np.empty(0, "i8")
        empty = np.empty(0, element_dtype(found.definition) or object)
        epochs = [found.definition]
        return _Readings(found.definition, epochs, none, none, none.astype("u1"), empty, none.astype(bool), found.gaps)
    number = {definition: n for n, definition in enumerate(dict.fromkeys(one.definition for one in series))}
    mixed = len({one.values.dtype for one in series}) > 1
    time_ns = np.concatenate([one.time_ns for one in series])
    all_of_it = _Readings(
        found.definition,
        list(number),
        np.concatenate([np.full(len(one), number[one.definition]) for one in series]),
        time_ns,
        np.concatenate([one.quality for one in series]),
        np.concatenate([one.values.astype(object) if mixed else one.values for one in series]),
        np.concatenate([one.valid for one in series]),
        found.gaps,
    )
    return all_of_it if (np.diff(time_ns) >= 0).all() else all_of_it.take(np.argsort(time_ns, kind="stable"))


def _within(one: _Readings, start_ns: int | None, stop_ns: int | None) -> _Readings:
    first = 0 if start_ns is None else int(np.searchsorted(one.time_ns, start_ns, side="left"))
    last = len(one.time_ns) if stop_ns is None else int(np.searchsorted(one.time_ns, stop_ns, side="right"))
    return one.take(np.arange(first, max(first, last)))


def _aligned(readings: list[_Readings], start_ns: int | None, stop_ns: int, every_ns: int) -> list[_Readings]:
    """Put all on one clock: the last reading at or before each multiple of `every_ns`."""
    if every_ns <= 0:
        raise QueryError("--every needs a time above zero, for example 1s")
    if start_ns is None:
        start_ns = min((int(one.time_ns[0]) for one in readings if len(one.time_ns)), default=stop_ns)
    ticks = np.arange(-(-start_ns // every_ns), stop_ns // every_ns + 1, dtype="i8") * every_ns
    aligned: list[_Readings] = []
    for one in readings:
        at = one.last_before(ticks)
        nothing = (at < 0) | one.in_gap(ticks)
        if not len(one.time_ns):
            nothing_at_all = {"values": np.zeros(1, one.values.dtype), "valid": np.zeros(1, bool)}
            one = replace(one, **nothing_at_all, quality=np.ones(1, "u1"), epoch=np.zeros(1, "i8"))
        taken = replace(one, time_ns=np.zeros(len(one.values), "i8")).take(np.maximum(at, 0))
        quality = np.where(nothing, Quality.INVALID, taken.quality).astype("u1")
        aligned.append(replace(taken, time_ns=ticks, quality=quality, valid=taken.valid & ~nothing))
    return aligned


def _thinned(one: _Readings, max_points: int) -> _Readings:
    """Keep at most `max_points`: of numbers the extremes of each stretch of time and where outages begin."""
    if max_points < 4:
        raise QueryError("--max-points needs at least 4")
    if len(one.time_ns) <= max_points:
        return one
    if not all(_is_plain(epoch) and epoch.type != Kind.BOOLEAN for epoch in one.epochs):
        return one.take(np.unique(np.linspace(0, len(one.time_ns) - 1, max_points).astype("i8")))
    from tsdownsample import MinMaxDownsampler

    values = one.values.astype("f8")
    valid = one.valid & ~np.isnan(values)
    begins = np.flatnonzero(~valid & np.concatenate([[True], valid[:-1]]))
    if len(begins) > max_points // 4:
        begins = begins[np.linspace(0, len(begins) - 1, max_points // 4).astype("i8")]
    good = np.flatnonzero(valid)
    room = (max_points - len(begins)) // 2 * 2
    if len(good) > room:
        chosen = MinMaxDownsampler().downsample(one.time_ns[good], np.ascontiguousarray(values[good]), n_out=room)
        good = good[chosen]
    return one.take(np.union1d(good, begins))


# -- from readings to frames -------------------------------------------------------------------------------------------


def _values(one: _Readings) -> pl.Series:
    """The values of one attribute, each as its own epoch had them; of several types, the one all fit into."""
    present = one.present()
    if len(present) <= 1:
        return _converted(one.epochs[present[0]] if present else one.definition, one.values, one.valid)
    rows = [np.flatnonzero(one.epoch == n) for n in present]
    columns = [_converted(one.epochs[n], one.values[at], one.valid[at]) for n, at in zip(present, rows, strict=True)]
    return pl.concat(_common(columns)).gather(np.argsort(np.concatenate(rows)))


def _is_plain(definition: AttributeDefinition) -> bool:
    """Whether values are numbers, or true and false, that mean themselves."""
    return not (rank(definition) or words(definition) or definition.type in (Kind.ENCODED, Kind.STRING))


def _converted(definition: AttributeDefinition, values: NDArray[Any], valid: NDArray[np.bool_]) -> pl.Series:
    """Values in the type a person expects: words for enums, lists for arrays."""
    if _is_plain(definition):
        column = pl.Series("value", np.ascontiguousarray(values, element_dtype(definition)))
        return column if valid.all() else column.set(pl.Series(~valid), None)
    meaning = words(definition)
    listed: list[Any] = []
    for value, there in zip(values, valid, strict=True):
        if not there:
            listed.append(None)
        elif is_encoded(definition):
            listed.append(value[1])
        elif meaning:
            listed.append(_in_words(value, meaning))
        else:
            listed.append(value.tolist() if isinstance(value, np.ndarray) else value)
    return pl.Series("value", listed, dtype=_polars_type(definition))


def _in_words(value: Any, meaning: Sequence[str]) -> Any:
    if isinstance(value, np.ndarray):
        return [_in_words(item, meaning) for item in value]
    number = int(value)
    return meaning[number] if 0 <= number < len(meaning) else str(number)


def _polars_type(definition: AttributeDefinition) -> Any:
    dtype = element_dtype(definition)
    if is_encoded(definition):
        return pl.Binary()
    inner: Any = pl.String() if dtype is None or words(definition) else pl.Series(np.empty(0, dtype)).dtype
    for _ in range(rank(definition)):
        inner = pl.List(inner)
    return inner


def _common(columns: list[pl.Series]) -> list[pl.Series]:
    """Give columns one type: their own if equal, a number's if all are numbers, otherwise text."""
    types = {column.dtype for column in columns}
    if len(types) <= 1:
        return columns
    if all(kind.is_numeric() for kind in types):
        wide = pl.Int64 if all(kind.is_integer() and kind != pl.UInt64 for kind in types) else pl.Float64
        return [column.cast(wide) for column in columns]
    return [as_text(column) for column in columns]


def as_text(column: pl.Series) -> pl.Series:
    """Return a column as text: arrays as JSON, bytes in base 64."""
    if column.dtype == pl.Binary:
        return column.bin.encode("base64")
    if isinstance(column.dtype, pl.List):
        texts = [None if value is None else json.dumps(value.to_list()) for value in column]
        return pl.Series(column.name, texts, dtype=pl.String())
    return column.cast(pl.String)


def _frame(readings: list[_Readings]) -> pl.DataFrame:
    names = pl.Enum([one.definition.name for one in readings])
    changed = any(len(one.units()) > 1 for one in readings)
    frames: list[pl.DataFrame] = []
    for one, column in zip(readings, _common([_values(one) for one in readings]), strict=True):
        columns = {
            "time": pl.Series(one.time_ns, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC")),
            "attribute": pl.Series([one.definition.name], dtype=names).new_from_index(0, len(column)),
            "value": column,
            "quality": pl.Series(one.quality, dtype=pl.UInt8)
            .cast(pl.Int32)
            .replace_strict(_QUALITY_WORDS, return_dtype=pl.String),
        }
        if changed:
            columns["unit"] = pl.Series(one.unit_of_each(), dtype=pl.String)
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames).sort("time", maintain_order=True)


def _frame_at(readings: list[_Readings], at_ns: int) -> pl.DataFrame:
    moment = np.array([at_ns], "i8")
    known = [(one, int(one.last_before(moment)[0])) for one in readings]
    last = [one.take(np.arange(at, at + 1) if at >= 0 else np.arange(0)) for one, at in known]
    frame = _frame(last)
    inside = {one.definition.name: bool(one.in_gap(moment)[0]) for one in readings}
    age_ns = pl.lit(at_ns, pl.Int64) - pl.col("time").dt.epoch("ns")
    in_gap = pl.col("attribute").cast(pl.String).replace_strict(inside, return_dtype=pl.Boolean)
    return frame.with_columns((age_ns / 1e9).alias("age_s"), in_gap.alias("in_gap"))


def _with_gaps(
    frame: pl.DataFrame, readings: list[_Readings], start_ns: int | None, stop_ns: int | None
) -> pl.DataFrame:
    """Add one row per gap that touches the interval, at its beginning."""
    gaps = [
        gap
        for one in readings
        for gap in one.gaps
        if (start_ns is None or gap.stop_ns >= start_ns) and (stop_ns is None or gap.start_ns <= stop_ns)
    ]
    moment = pl.Datetime("ns", "UTC")
    rows = pl.DataFrame(
        {
            "time": pl.Series([gap.start_ns for gap in gaps], dtype=pl.Int64).cast(moment),
            "attribute": pl.Series([gap.definition.name for gap in gaps], dtype=frame.schema["attribute"]),
            "value": pl.Series([None] * len(gaps), dtype=frame.schema["value"]),
            "quality": pl.Series(["GAP"] * len(gaps), dtype=pl.String),
            "until": pl.Series([gap.stop_ns for gap in gaps], dtype=pl.Int64).cast(moment),
            "count": pl.Series([gap.count for gap in gaps], dtype=pl.Int64),
            "cause": pl.Series([gap.cause for gap in gaps], dtype=pl.String),
        }
    )
    return pl.concat([frame, rows], how="diagonal").sort("time", maintain_order=True)


# -- files -------------------------------------------------------------------------------------------------------------

FORMATS = ("csv", "json", "parquet", "arrow", "hdf5")


def write(frame: pl.DataFrame, form: str, path: Path | None = None) -> None:
    """Write a frame of `query` as one of `FORMATS` to `path`, or to standard output.

    csv and json have times in RFC 3339 UTC with nanoseconds, and no column `attribute` when one was asked for.
    Raises QueryError (unknown format; hdf5 without a path).
    """
    if form not in FORMATS:
        raise QueryError(f"there is no format {form}: use table, {', '.join(FORMATS)}")
    if form == "hdf5":
        if path is None:
            raise QueryError("HDF5 cannot be written to a terminal or pipe: name a file with -o")
        _write_hdf5(frame, path)
        return
    with path.open("wb") if path is not None else contextlib.nullcontext(sys.stdout.buffer) as out:
        if form == "csv":
            _plain(frame).with_columns(as_text(frame["value"])).write_csv(out)
        elif form == "json":
            frame = _plain(frame)
            if frame.schema["value"] == pl.Binary:
                frame = frame.with_columns(as_text(frame["value"]))
            out.write(frame.write_json().encode() + b"\n")
        elif form == "parquet":
            frame.write_parquet(out)
        else:
            frame.write_ipc(out)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Times as text, and no attribute column when there is but one."""
    names = cast("pl.Enum", frame.schema["attribute"]).categories
    if len(names) == 1:
        frame = frame.drop("attribute")
    moments = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return frame.with_columns(pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ") for name in moments)


def _write_hdf5(frame: pl.DataFrame, path: Path) -> None:
    """One NXdata group per attribute below /entry, named by its full name."""
    import h5py

    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs.update(NX_class="NXroot", default="entry")
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        for (attribute,), rows in frame.group_by("attribute", maintain_order=True):
            group = entry.create_group(str(attribute))
            axes = np.array(["time"], h5py.string_dtype())
            group.attrs.update(NX_class="NXdata", signal="value", axes=axes)
            moment = group.create_dataset("time", data=rows["time"].dt.epoch("ns").to_numpy())
            moment.attrs.update(units="ns", start="1970-01-01T00:00:00Z")
            value = rows["value"]
            if not (value.dtype.is_numeric() or value.dtype == pl.Boolean):
                value = as_text(value).fill_null("")
            elif value.null_count():
                value = value.cast(pl.Float64).fill_null(float("nan"))
            text = value.dtype == pl.String
            data = np.array(value.to_list(), object) if text else value.to_numpy()
            group.create_dataset("value", data=data, dtype=h5py.string_dtype() if text else None)
            for name in ("quality", "unit"):
                if name in rows:
                    texts = np.array(rows[name].fill_null("").to_list(), object)
                    group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
