"""Every Tango type and format through the journal, its HDF5 projection and a query: what went in comes out."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from archiver.maintenance import rebuild
from archiver.projections.hdf5 import device_files
from archiver.query import query
from archiver.series import words
from bandoneon.record import ELEMENT_DTYPES, AttributeDefinition, Format, Kind, Quality
from tests.all_types import COMBINATIONS, ROUNDS, name, same, value
from tests.contract.test_projections import project
from tests.journals import NOON, SECOND, Journal

DEVICE = "lab/power/1"
LONG_TEXT = "日本語 🎻 Grüße " * 20
SHAPES = ((1, 6), (6, 1), (3, 2), (2, 2), (1, 1))


def rows_of(kind: Kind, form: Format) -> list[tuple[Any, Quality]]:
    """Readings of a combination, those easily got wrong: the rounds, every element alone, every shape; INVALID ones."""
    rounds = [value(kind, form, what) for what in ROUNDS]
    if kind == Kind.ENCODED:
        values = [*rounds, ("raw", b"\x00" * 3000), None, ("", b"\x00")]
    elif form == "SCALAR":
        elements = [
            float(element) if kind in (Kind.FLOAT, Kind.DOUBLE) else element
            for what in ("ordinary", "extreme")
            for row in value(kind, "IMAGE", what)
            for element in row
        ]
        values = [*rounds, *elements, None, *([LONG_TEXT] if kind == Kind.STRING else [])]
    else:
        elements = [element for row in value(kind, "IMAGE", "extreme") for element in row]
        shaped = [[elements[y * x_max : (y + 1) * x_max] for y in range(y_max)] for y_max, x_max in SHAPES]
        large = [(elements * 40)[:130], (elements * 40)[3:133]]
        if kind == Kind.STRING:
            shaped.append([[LONG_TEXT, ""]])
        values = [*rounds, *shaped, large, None, []]
        if form == "SPECTRUM":
            values = [one if one is None or not one or not isinstance(one[0], list) else one[0] for one in values]
    qualities = [Quality.VALID, Quality.ALARM, Quality.CHANGING, Quality.WARNING]
    return [(one, Quality.INVALID if one is None else qualities[n % 4]) for n, one in enumerate(values)]


def write(data_dir: Path, kind: Kind, form: Format, rows: list[tuple[Any, Quality]]) -> AttributeDefinition:
    """Write the journal of one attribute, each reading in a commit of its own; its set values are the readings."""
    facts = {"enum_labels": ("SLOW", "FAST", "Größe")} if kind == Kind.ENUM else {}
    full_name = f"{DEVICE}/{name(kind, form)}"
    with Journal(data_dir) as journal:
        definition = journal.define(full_name, kind, form, **facts)
        for n, (one, quality) in enumerate(rows):
            journal.read(full_name, NOON + n * SECOND, one, quality)
            journal.read(full_name, NOON + n * SECOND, one, quality, part=1)
            journal.commit()
    return definition


def stored(file: h5py.File, place: str, kind: Kind, form: Format) -> list[tuple[Any, int, int]]:
    """Value, quality and time of each row of an attribute, as a reader of the file format takes them."""
    group: Any = file[place]
    if kind in ELEMENT_DTYPES:
        assert group["value"].dtype == ELEMENT_DTYPES[kind]
    axes = [name for name in ("dim_y", "dim_x") if name in group]
    found: list[tuple[Any, int, int]] = []
    for row in range(len(group["time"])):
        quality = int(group["quality"][row])
        cell = group["value"][row]
        if kind == Kind.ENCODED:
            cell = (group["format"][row].decode(), cell[: group["dim_x"][row]].tobytes())
        elif form != "SCALAR":
            cell = cell[tuple(slice(group[axis][row]) for axis in axes)]
            if kind == Kind.STRING:
                texts = np.empty(cell.shape, object)
                texts[...] = np.vectorize(bytes.decode, otypes=[object])(cell) if cell.size else ""
                cell = texts
        else:
            cell = cell.decode() if kind == Kind.STRING else cell.item()
        found.append((None if quality == Quality.INVALID else cell, quality, int(group["time"][row])))
    return found


@pytest.mark.parametrize("finished", [False, True], ids=["live", "finished"])
@pytest.mark.parametrize(("kind", "form"), COMBINATIONS, ids=lambda part: getattr(part, "name", part))
def test_it_comes_back_equal_from_hdf5(tmp_path: Path, kind: Kind, form: Format, finished: bool) -> None:
    """Plain h5py reads the exact values, set values, qualities, times and shapes, in files live and compressed."""
    rows = rows_of(kind, form)
    write(tmp_path, kind, form, rows)
    projected(tmp_path, finished)
    files = device_files(tmp_path / "hdf5" / DEVICE)
    for part in ("", "/set"):
        found: list[tuple[Any, int, int]] = []
        for path in files:
            with h5py.File(path) as file:
                if path == files[-1]:
                    assert file.attrs["finished"] == finished
                found += stored(file, f"entry/{name(kind, form)}{part}", kind, form)
        assert [(quality, time_ns) for _, quality, time_ns in found] == [
            (quality, NOON + n * SECOND) for n, (_, quality) in enumerate(rows)
        ]
        for n, ((cell, _, _), (expected, _)) in enumerate(zip(found, rows, strict=True)):
            assert same(cell, expected), f"row {n}"
            if form == "IMAGE" and expected:
                assert cell.shape == (len(expected), len(expected[0]))


def projected(data_dir: Path, finished: bool) -> None:
    """Make the files of the whole journal: compressed, or as they were written live."""
    if finished:
        rebuild(data_dir, "archive/demo/1")
        return
    project("hdf5", data_dir)


def in_a_frame(definition: AttributeDefinition, one: Any) -> Any:
    """A value as a query shows it: enums and states as words, encoded values as their bytes, arrays as lists."""
    if one is None:
        return None
    if isinstance(one, list):
        return [in_a_frame(definition, element) for element in one]
    if definition.type == Kind.ENCODED:
        return one[1]
    meaning = words(definition)
    return meaning[one] if meaning else one


def equal(found: Any, expected: Any) -> bool:
    """Whether two plain values are equal, floats to the bit and nothing but the exact type."""
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(equal, found, expected))
    return same(found, float(expected) if isinstance(found, float) else expected)


@pytest.mark.parametrize(("kind", "form"), COMBINATIONS, ids=lambda part: getattr(part, "name", part))
def test_it_comes_back_equal_from_a_query(tmp_path: Path, kind: Kind, form: Format) -> None:
    """The frame has the exact values, qualities and times; no value is null, which NaN is not."""
    rows = rows_of(kind, form)
    definition = write(tmp_path, kind, form, rows)
    frame = query(tmp_path, [definition.name])
    assert frame["quality"].to_list() == [quality.name for _, quality in rows]
    assert frame["time"].dt.epoch("ns").to_list() == [NOON + n * SECOND for n in range(len(rows))]
    for n, (found, (one, _)) in enumerate(zip(frame["value"].to_list(), rows, strict=True)):
        assert equal(found, in_a_frame(definition, one)), f"row {n}: {found!r}"
