"""The HDF5 files as a plain h5py reader sees them, live and finished."""

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from archiver.journal import Follower, read_segment, segment_paths
from archiver.maintenance import rebuild, verify
from archiver.projections import hdf5, nexus
from archiver.projections.hdf5 import Hdf5Projection, device_directories, device_files
from archiver.projections.nexus import Column, Cursor, DamagedFile, DeviceFile, FileState, Position, finish, read_state
from archiver.series import Unfolder
from bandoneon.record import Kind
from tests.journals import NOON, SECOND, Journal

DEVICE = "lab/power/1"
POWER = Column("power", np.dtype("f8"), metadata={"units": "W"})

READ_LIVE = """
import h5py, sys
with h5py.File(sys.argv[1], "r", swmr=True) as file:
    power = file["entry/power"]
    print(len(power["time"]), power["value"][-1], power["value"].attrs["units"], power["quality"][-1])
"""


def follow(projection: Hdf5Projection, journal: Journal, upto: int = 10**9) -> None:
    """Give a projection all that it does not have, up to a commit."""
    follower = Follower(journal.directory, projection.cursor)
    unfolder = Unfolder(definitions=follower.definitions.values())
    projection.define(follower.definitions.values())
    for commit in follower.poll():
        if commit.number > upto:
            return
        projection.add(commit.number, unfolder.unfold(commit.table))


def test_a_live_file_is_read_by_another_process(tmp_path: Path) -> None:
    """While it is written, h5py in a process of its own reads what was flushed, with swmr=True."""
    with Journal(tmp_path) as journal:
        journal.define(f"{DEVICE}/power", unit="W")
        projection = Hdf5Projection(tmp_path, journal.archiver)
        for turn in range(2):
            for n in range(10):
                journal.read(f"{DEVICE}/power", NOON + (turn * 10 + n) * SECOND, n / 2)
            journal.commit()
            follow(projection, journal)
            projection.tick(turn * 100.0)
            projection.tick(turn * 100.0 + 50)
            (path,) = device_files(tmp_path / "hdf5" / DEVICE)
            out = subprocess.run([sys.executable, "-c", READ_LIVE, path], capture_output=True, text=True, check=True)
            assert out.stdout.split() == [str(turn * 10 + 10), "4.5", "W", "0"]
        projection.close()


def test_a_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    """At UTC midnight the next file begins, and the old one is finished: compressed, equal times stored once."""
    with Journal(tmp_path) as journal:
        journal.define(f"{DEVICE}/power", unit="W", label="Power")
        journal.define(f"{DEVICE}/count", Kind.LONG64)
        projection = Hdf5Projection(tmp_path, journal.archiver)
        for day in range(2):
            for n in range(100):
                time_ns = NOON + (day * 86_400 + n) * SECOND
                journal.read(f"{DEVICE}/power", time_ns, None if n == 7 else 1.5)
                journal.read(f"{DEVICE}/count", time_ns, None if n == 7 else n)
            journal.commit()
        follow(projection, journal)
        for now_s in (0, 50, 51, 52):
            projection.tick(now_s)
        first, second = device_files(tmp_path / "hdf5" / DEVICE)
        projection.close()
    assert (first.name, second.name) == ("2026-09-21.h5", "2026-09-22.h5")
    with h5py.File(first) as file:
        assert file[file.attrs["default"]].attrs["default"] == "power"
        power, count = file["entry/power"], file["entry/count"]
        assert power.attrs["signal"] == "value"
        assert list(power.attrs["axes"]) == ["time"]
        value = power["value"]
        assert (value.attrs["units"], value.attrs["long_name"], value.compression) == ("W", "Power", "gzip")
        assert np.isnan(value[7])
        assert power["quality"][7] == 1
        assert count["value"][7] == count["value"].attrs["_FillValue"] == np.iinfo("i8").min
        assert h5py.check_enum_dtype(power["quality"].dtype)["INVALID"] == 1
        assert power["time"] == count["time"], "one dataset, linked"
        assert power["time"].attrs["start"] == "1970-01-01T00:00:00Z"
        assert power["time"][0] == NOON


def test_what_a_killed_writer_left_behind_its_cursor_is_cut(tmp_path: Path) -> None:
    """Rows appended but not sealed by the cursor come again from the journal: they must not stay."""
    path = tmp_path / "a.h5"
    file = DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER})
    rows = np.arange(5)
    file.append("power", rows, rows.astype("u1"), rows.astype("f8"))
    file.commit(Cursor(3, 2, 1))
    file.append("power", rows, rows.astype("u1"), rows.astype("f8"))
    file.close()
    assert read_state(path) == FileState("archive/demo/1", Position(-1, 0), Cursor(3, 2, 1), finished=False)
    for _ in finish(path):
        pass
    assert read_state(path) == FileState("archive/demo/1", Position(-1, 0), Cursor(3, 2, 1), finished=True)
    with h5py.File(path) as finished:
        assert list(finished["entry/power/value"]) == [0, 1, 2, 3, 4]


def live_file(path: Path) -> bytes:
    """A file as a killed writer leaves it."""
    file = DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER})
    rows = np.arange(500)
    file.append("power", rows, np.zeros(500, "u1"), rows.astype("f8"))
    file.commit(Cursor(3, 2))
    left = path.read_bytes()
    file.close()
    return left


def test_a_file_damaged_anywhere_is_found_out_at_once(tmp_path: Path) -> None:
    """Cut or changed at many places: an error now, never a reader that tries for ever, or the file can be finished."""
    left = live_file(tmp_path / "whole.h5")
    path = tmp_path / "damaged.h5"
    changed = [left[:at] + bytes([left[at] ^ 0xFF]) + left[at + 1 :] for at in range(0, len(left), 211)]
    cut = [left[:at] for at in range(0, len(left), 1501)]
    for number, data in enumerate([*changed, *cut]):
        path.write_bytes(data)
        try:
            read_state(path)
            for _ in finish(path):
                pass
        except DamagedFile:
            continue
        assert number < len(changed), "a file that is cut is damaged"
        assert read_state(path).finished


def test_a_disk_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the finished file cannot be written the live one stays as it is, to be finished later."""
    path = tmp_path / "a.h5"
    left = live_file(tmp_path / "whole.h5")
    path.write_bytes(left)

    def failing(*_: object) -> None:
        raise OSError("the disk fails")

    with monkeypatch.context() as patch:
        # HDF5 does not survive a write that really fails
        patch.setattr(nexus, "_copy_dataset", failing)
        with pytest.raises(OSError, match="the disk fails"):
            list(finish(path))
    assert path.read_bytes() == left
    assert list(finish(path))
    assert read_state(path).finished
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "whole.h5"]


LEAVE_LIVE = """
import os, signal, sys
import numpy as np
from pathlib import Path
from archiver.projections.nexus import Column, Cursor, DeviceFile
file = DeviceFile(Path(sys.argv[1]), "lab/power/1", "archive/demo/1", {"curve": Column("curve", np.dtype("f8"), 1)})
rows, size = 20, 200_000
values = np.random.default_rng(1).random((rows, size))
times = np.arange(rows)
file.append("curve", times, np.zeros(rows, "u1"), values, np.full((rows, 1), size))
file.commit(Cursor(0, 0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_large_file_a_kill_left_opens_plainly_at_once_and_is_compressed_in_steps(tmp_path: Path) -> None:
    """Opening the projection only clears the mark in the file; compressing comes bit by bit, and loses nothing."""
    path = tmp_path / "hdf5" / DEVICE / "2026-09-21.h5"
    subprocess.run([sys.executable, "-c", LEAVE_LIVE, path], check=False)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path)
    projection = Hdf5Projection(tmp_path, "archive/demo/1")
    with h5py.File(path) as file:
        assert not file.attrs["finished"]
        before = file["entry/curve/value"][:]
    assert projection.unfinished == 1
    ticks = 0
    while projection.unfinished:
        projection.tick(ticks)
        ticks += 1
    assert ticks > 2, "not in one go"
    projection.close()
    with h5py.File(path) as file:
        assert file.attrs["finished"]
        assert np.array_equal(file["entry/curve/value"][:], before)


def test_a_damaged_file_is_set_aside_and_made_again(tmp_path: Path) -> None:
    """A file HDF5 cannot read stays for whoever wants to look; its rows are taken from the journal once more."""
    with Journal(tmp_path) as journal:
        journal.define(f"{DEVICE}/power")
        journal.read(f"{DEVICE}/power", NOON, 1.0)
        journal.commit()
        for damage in (False, True):
            projection = Hdf5Projection(tmp_path, journal.archiver)
            follow(projection, journal)
            projection.close()
            if not damage:
                (path,) = device_files(tmp_path / "hdf5" / DEVICE)
                path.write_bytes(path.read_bytes()[:500])
    assert path.with_suffix(".h5.replaced").exists()
    (again,) = device_files(tmp_path / "hdf5" / DEVICE)
    with h5py.File(again) as file:
        assert list(file["entry/power/value"]) == [1.0]


def values_in(directory: Path) -> list[float]:
    """All values of the attribute `power` of a device, in order of their times; file by file each is in one."""
    rows: list[tuple[int, float]] = []
    for path in device_files(directory):
        with h5py.File(path) as file:
            rows += zip(file["entry/power/time"][:].tolist(), file["entry/power/value"][:].tolist(), strict=True)
    return [value for _, value in sorted(rows)]


@pytest.fixture
def days(tmp_path: Path) -> Journal:
    """The journal of two devices with three days, the files of which are made."""
    with Journal(tmp_path) as journal:
        for device in (DEVICE, "lab/power/2"):
            journal.define(f"{device}/power")
        for n in range(9):
            for device in (DEVICE, "lab/power/2"):
                journal.read(f"{device}/power", NOON + n * 28_800 * SECOND, float(n))
            journal.commit()
    rebuild(tmp_path, journal.archiver)
    assert len(device_files(tmp_path / "hdf5" / DEVICE)) == 4
    return journal


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_whichever_file_is_damaged_is_made_again(tmp_path: Path, days: Journal, number: int, killed: bool) -> None:
    """Newer files of the device or not: its rows come from the journal, once, and also when that is interrupted."""
    directory = tmp_path / "hdf5" / DEVICE
    path = device_files(directory)[number]
    path.write_bytes(path.read_bytes()[:3000])
    if killed:
        projection = Hdf5Projection(tmp_path, days.archiver)
        follow(projection, days, upto=projection.cursor + 1)
        projection.tick(0)
        projection.tick(100)
        projection.abandon()
    projection = Hdf5Projection(tmp_path, days.archiver)
    follow(projection, days)
    projection.close()
    for device in (DEVICE, "lab/power/2"):
        assert values_in(tmp_path / "hdf5" / device) == [float(n) for n in range(9)]
    assert path.with_suffix(".h5.replaced").exists()
    health = verify(tmp_path)
    assert health.whole
    assert "its rows are in newer files, so it can be deleted" in health.hdf5.replaced[0]
    projection = Hdf5Projection(tmp_path, days.archiver)
    assert projection.cursor == 8, "nothing is left to do"
    projection.close()


def test_a_damaged_file_stays_when_it_may_be_the_only_copy(tmp_path: Path, days: Journal) -> None:
    """When the journal lacks commits it is kept as damaged, and verify goes on saying so."""
    path = device_files(tmp_path / "hdf5" / DEVICE)[0]
    path.write_bytes(path.read_bytes()[:3000])
    segment = segment_paths(days.directory)[0]
    data = bytearray(segment.read_bytes())
    data[next(read_segment(segment)).end + 100] ^= 1
    segment.write_bytes(data)
    projection = Hdf5Projection(tmp_path, days.archiver)
    follow(projection, days)
    projection.close()
    assert path.with_suffix(".h5.damaged").exists()
    assert any("set aside as unreadable, not made again yet" in text for text in verify(tmp_path).hdf5.damage)


def test_a_file_whose_writer_was_killed_as_it_made_it_is_replaced(tmp_path: Path, days: Journal) -> None:
    """Nothing was in it: verify says so in plain words, and the next start removes it."""
    path = tmp_path / "hdf5" / DEVICE / "2027-01-01.h5"
    path.write_bytes(device_files(path.parent)[0].read_bytes()[:48])
    assert verify(tmp_path).hdf5.damage == [f"{path} holds nothing: its writer was killed as it made it"]
    Hdf5Projection(tmp_path, days.archiver).close()
    assert not path.exists()
    assert verify(tmp_path).whole


def test_a_file_has_its_name_only_when_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it makes a file, a writer leaves none that a reader could take for one."""
    seen: list[list[Path]] = []
    create = DeviceFile._create

    def watched(*arguments: Any) -> None:
        create(*arguments)
        seen.append(device_files(tmp_path))

    monkeypatch.setattr(DeviceFile, "_create", watched)
    path = tmp_path / "2026-09-21.h5"
    file = DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER})
    assert seen == [[]]
    file.close()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_never_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of one that another archiver made meanwhile, and a file system needs no hard links for that."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "2026-09-21.h5"
    create = DeviceFile._create

    def overtaken(*arguments: Any) -> None:
        create(*arguments)
        path.write_text("another")

    with monkeypatch.context() as patch:
        patch.setattr(DeviceFile, "_create", overtaken)
        with pytest.raises(FileExistsError):
            DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER})
    assert [(one, one.read_text()) for one in tmp_path.iterdir()] == [(path, "another")]
    path.unlink()
    DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER}).close()
    assert read_state(path).archiver == "archive/demo/1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_deleted_is_missed(tmp_path: Path, days: Journal) -> None:
    """verify names the device and the commits that no file has; the next start makes them again."""
    device_files(tmp_path / "hdf5" / DEVICE)[1].unlink()
    (damage,) = verify(tmp_path).hdf5.damage
    assert "lab/power/1: no file has the rows of archive/demo/1 from commit" in damage
    projection = Hdf5Projection(tmp_path, days.archiver)
    follow(projection, days)
    projection.close()
    assert values_in(tmp_path / "hdf5" / DEVICE) == [float(n) for n in range(9)]
    assert verify(tmp_path).whole


def test_after_a_power_cut_the_cursor_is_not_ahead_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the file is made durable it holds all that its cursor, then or before, says; at the end the new one."""
    path, durable = tmp_path / "a.h5", tmp_path / "durable.h5"
    file = DeviceFile(path, DEVICE, "archive/demo/1", {"power": POWER})
    states: list[tuple[int, int]] = []

    def cut(_: int) -> None:
        durable.write_bytes(path.read_bytes())
        commit = read_state(durable).cursor.commit
        with h5py.File(durable, "r", swmr=True) as left:
            states.append((commit, len(left["entry/power/value"])))

    monkeypatch.setattr("os.fdatasync", cut)
    for commit in range(2):
        file.append("power", np.arange(5), np.zeros(5, "u1"), np.ones(5))
        file.commit(Cursor(commit, commit))
    file.close()
    assert states == [(-1, 5), (0, 5), (0, 10), (1, 10)]


def test_much_that_waits_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows that are large: memory is bounded in bytes."""
    monkeypatch.setattr(hdf5, "MAX_WAITING_BYTES", 1 << 20)
    with Journal(tmp_path) as journal:
        journal.define(f"{DEVICE}/curve", Kind.DOUBLE, "SPECTRUM")
        for n in range(10):
            journal.read(f"{DEVICE}/curve", NOON + n * SECOND, np.full(1 << 15, float(n)))
            journal.commit()
    projection = Hdf5Projection(tmp_path, journal.archiver)
    projection.tick(0)
    follow(projection, journal, upto=2)
    projection.tick(0)
    assert projection.cursor == -1
    follow(projection, journal)
    projection.tick(0)
    assert projection.cursor == journal.commits - 1
    projection.close()


def test_one_large_row_does_not_make_its_neighbours_large(tmp_path: Path) -> None:
    """Arrays of differing lengths are padded a stretch at a time, in memory as in the compressed file."""
    sizes = [10] * 600 + [1 << 16] + [10] * 600
    with Journal(tmp_path) as journal:
        journal.define(f"{DEVICE}/curve", Kind.DOUBLE, "SPECTRUM")
        for n, size in enumerate(sizes):
            journal.read(f"{DEVICE}/curve", NOON + n * SECOND, np.full(size, float(n)))
        journal.commit()
    tracemalloc.start()
    try:
        rebuild(tmp_path, journal.archiver)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20, "padded at once it would be 600 MB"
    finally:
        tracemalloc.stop()
    (path,) = device_files(tmp_path / "hdf5" / DEVICE)
    with h5py.File(path) as file:
        curve = file["entry/curve"]
        assert curve["dim_x"][:].tolist() == sizes
        for n in (0, 599, 600, 601, 1200):
            row = curve["value"][n]
            assert np.array_equal(row[: sizes[n]], np.full(sizes[n], float(n)))
            assert np.isnan(row[sizes[n] :]).all()


def test_at_midnight_the_devices_change_files_one_after_the_other(tmp_path: Path) -> None:
    """Each ends its file at its own time within the period of a flush, so that a large site does not stall."""
    devices = [f"lab/power/{n}" for n in range(20)]
    with Journal(tmp_path) as journal:
        for device in devices:
            journal.define(f"{device}/power")
        for day in range(2):
            for device in devices:
                journal.read(f"{device}/power", NOON + day * 86_400 * SECOND, float(day))
            journal.commit()
    projection = Hdf5Projection(tmp_path, journal.archiver)
    follow(projection, journal, upto=0)
    for now_s in range(12):
        projection.tick(now_s)
    follow(projection, journal)
    made: list[int] = []
    for now_s in range(12, 23):
        before = len(list(tmp_path.rglob("2026-09-22.h5")))
        projection.tick(now_s)
        made.append(len(list(tmp_path.rglob("2026-09-22.h5"))) - before)
    projection.close()
    assert sum(made) == len(devices)
    assert max(made) <= 4


def test_verify_of_a_site_that_is_up_alarms_nobody(
    tmp_path: Path, days: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that grow, and journals with them, while verify reads are not called the only copy of anything."""

    def meanwhile(root: Path) -> list[Path]:
        with Journal(tmp_path) as journal:
            journal.define(f"{DEVICE}/power")
            journal.read(f"{DEVICE}/power", NOON + 10 * 28_800 * SECOND, 10.0)
            journal.commit()
        projection = Hdf5Projection(tmp_path, days.archiver)
        follow(projection, days)
        projection.close()
        return device_directories(root)

    monkeypatch.setattr("archiver.maintenance.device_directories", meanwhile)
    health = verify(tmp_path)
    assert health.hdf5.only_copies == []
    assert health.whole


@pytest.mark.parametrize("finished", [False, True], ids=["live", "finished"])
def test_a_viewer_finds_what_to_plot(tmp_path: Path, finished: bool) -> None:
    """By the rules of NeXus: from each level's default to an NXdata with a signal, and one axis for each dimension."""
    columns = [
        Column("name", np.dtype("S64")),
        Column("mode", np.dtype("i2"), labels=("SLOW", "FAST")),
        Column("count", np.dtype("i8"), settable=True),
        Column("power", np.dtype("f8"), metadata={"units": "W"}),
        Column("wave", np.dtype("f4"), rank=1),
        Column("zimage", np.dtype("u2"), rank=2),
    ]
    path = tmp_path / "a.h5"
    file = DeviceFile(path, DEVICE, "archive/demo/1", {column.attribute: column for column in columns})
    times, good = np.arange(3), np.zeros(3, "u1")
    for column in columns:
        shapes = np.full((3, column.rank), 4) if column.rank else None
        file.append(column.attribute, times, good, np.zeros((3, *[4] * column.rank), column.dtype), shapes)
    file.commit(Cursor(0, 0))
    if finished:
        file.close()
        list(finish(path))
    with h5py.File(path, "r", swmr=not finished) as read:
        entry: Any = read[read.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "power", "a number, and a float before an integer"
        for group in [*(entry[column.attribute] for column in columns), entry["count/set"]]:
            assert group.attrs["NX_class"] == "NXdata"
            signal, axes = group[group.attrs["signal"]], list(group.attrs["axes"])
            assert axes == ["time"] + ["."] * (signal.ndim - 1)
            assert group["time"].shape == (len(signal),)
            assert group["time"].attrs["units"] == "ns"
    file.close()


@pytest.mark.parametrize(("text", "width", "kept"), [("abc", 8, b"abc"), ("ééééé", 8, "éé…".encode())])
def test_text_is_cut_between_characters(text: str, width: int, kept: bytes) -> None:
    """A text that is too long ends in an ellipsis, never in half a character."""
    assert nexus.cut(text, width) == kept
