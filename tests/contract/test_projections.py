"""What every projection of the journal promises: a new one is tested by being in the registry."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest

from archiver.journal import Follower, read_segment, segment_paths
from archiver.maintenance import rebuild, verify
from archiver.projections.base import NAMES, NoSpace, OnlyCopy, Projection, opener, remover
from archiver.projections.hdf5 import device_directories, device_files
from archiver.segments import journal_of
from archiver.series import Unfolder
from bandoneon.record import Kind
from tests.journals import NOON, SECOND, Journal
from tests.support import Process, wait_until

DEVICE = "lab/power/1"
ARCHIVER = "archive/demo/1"
Contents = dict[str, list[Any]]


def plain(row: Any) -> Any:
    """A row for comparison: numbers to the bit, texts whatever room they have."""
    return row.tolist() if row.dtype.kind == "S" else row.tobytes()


def hdf5_contents(data_dir: Path) -> Contents:
    """All that the HDF5 files hold, dataset by dataset; the files of a device one after the other."""
    contents: Contents = {}

    def gather(prefix: str, group: h5py.Group) -> None:
        for name, item in group.items():
            place = f"{prefix}/{name}"
            if isinstance(item, h5py.Group):
                gather(place, item)
            elif name != "cursor":
                facts = (item.attrs.get("units"), item.attrs.get("epoch"), item.dtype.kind)
                rows = item[:]
                if "dim_x" in group and name == "value":
                    shapes = zip(*(group[axis][:] for axis in ("dim_y", "dim_x") if axis in group), strict=True)
                    rows = [row[tuple(map(slice, shape))] for row, shape in zip(rows, shapes, strict=True)]
                contents.setdefault(place, []).extend((*facts, plain(row)) for row in rows)

    for directory in device_directories(data_dir / "hdf5"):
        for path in device_files(directory):
            with h5py.File(path, "r", swmr=True) as file:
                gather("/".join(directory.parts[-3:]), file)
    return contents


READERS: Mapping[str, Callable[[Path], Contents]] = {"hdf5": hdf5_contents}


def fill(journal: Journal, commits: int = 40) -> None:
    """Every type and format, INVALID, errors, gaps, set values, a stream, midnight, another unit, a new attribute."""
    names = {"power": {"unit": "W"}, "total": {}, "name": {}, "state": {}, "on": {}, "mode": {}, "big": {}, "raw": {}}
    types = {
        "total": Kind.LONG64,
        "name": Kind.STRING,
        "state": Kind.STATE,
        "on": Kind.BOOLEAN,
        "mode": Kind.ENUM,
        "big": Kind.ULONG64,
        "raw": Kind.ENCODED,
    }
    for name, facts in names.items():
        labels = {"enum_labels": ("SLOW", "FAST")} if name == "mode" else {}
        journal.define(f"{DEVICE}/{name}", types.get(name, 5), **facts, **labels)
    journal.define(f"{DEVICE}/curve", Kind.FLOAT, "SPECTRUM")
    journal.define(f"{DEVICE}/picture", Kind.LONG64, "IMAGE")
    journal.define(f"{DEVICE}/words", Kind.STRING, "SPECTRUM")
    stream = journal.define("stream/newport/1/batch", Kind.ENCODED)
    journal.define("lab/daq/1/voltage", 5, unit="V", stream=stream.id)
    for n in range(commits):
        begin = NOON + n * 2000 * SECOND
        if n == 13:
            journal.define(f"{DEVICE}/power", 5, unit="mW")
        if n == 17:
            journal.define(f"{DEVICE}/late", 5)
        for k in range(3):
            one(journal, n, begin + k * SECOND)
            if n == 25 and k == 1:
                journal.define(f"{DEVICE}/power", 5, unit="uW")
        journal.error(f"{DEVICE}/power", begin + 4 * SECOND, f"no answer {n}")
        journal.gap(f"{DEVICE}/power", begin + 5 * SECOND, begin + 6 * SECOND, "server_down", None if n % 2 else n)
        times = [begin + k for k in range(5)]
        columns = {"time_ns": times, "voltage": [n + k / 8 for k in range(5)], "voltage__quality": [0, 0, 255, 0, 0]}
        journal.batch("stream/newport/1/batch", "lab/daq/1", n, columns)
        if n % 3 == 0:
            journal.batch("stream/newport/1/batch", "lab/daq/1", n, columns)
        journal.commit()
        if n % 11 == 10:
            journal.restart()


def one(journal: Journal, n: int, time_ns: int) -> None:
    """One poll of the device."""
    values = {
        "power": None if n % 7 == 3 else n / 3,
        "total": None if n % 7 == 3 else -n,
        "name": "é" * (n * 5),
        "state": n % 14,
        "on": n % 2,
        "mode": n % 2,
        "big": 2**63 + n,
        "raw": ("jpeg", bytes(range(n))),
        "curve": [n / 2] * (n % 4),
        "picture": [[n] * (n % 3 + 1)] * (n % 2 + 1),
        "words": ["a", "ü" * n],
    }
    if n > 17:
        values["late"] = n
    for name, value in values.items():
        journal.read(f"{DEVICE}/{name}", time_ns, value)
    journal.read(f"{DEVICE}/power", time_ns, n, part=1)


def project(name: str, data_dir: Path, *, upto: int = 10**9) -> int:
    """Let a projection take all that is new in the journal, up to a commit; return its cursor."""
    projection = opener(name)(data_dir, ARCHIVER)
    try:
        for commit in feed(projection, data_dir, upto):
            projection.tick(commit * 3.0)
        projection.close()
        return projection.cursor
    finally:
        projection.abandon()


def feed(projection: Projection, data_dir: Path, upto: int = 10**9) -> Iterator[int]:
    """Give a projection the commits behind its cursor, one at a time."""
    follower = Follower(journal_of(data_dir, ARCHIVER), projection.cursor)
    unfolder = Unfolder(definitions=follower.definitions.values())
    projection.define(follower.definitions.values())
    for commit in follower.poll():
        if commit.number > upto:
            return
        projection.add(commit.number, unfolder.unfold(commit.table))
        yield commit.number


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each projection there is; a new one needs a reader above."""
    assert request.param in READERS, f"tests/contract/test_projections.py needs a reader of {request.param}"
    return request.param


def test_a_new_projection_begins_before_the_first_commit(name: str, tmp_path: Path) -> None:
    """Without files the cursor is -1, and only one process may write."""
    first = opener(name)(tmp_path, ARCHIVER)
    assert first.cursor == -1
    with pytest.raises(BlockingIOError, match="stop that projector first"):
        opener(name)(tmp_path, ARCHIVER)
    first.close()


def test_it_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    """Stopped after every few commits it holds the same as in one go, and its cursor is the last commit."""
    with Journal(tmp_path) as journal:
        fill(journal)
    for upto in (0, 1, 12, 13, 14, 25, 30):
        assert project(name, tmp_path, upto=upto) == upto
    assert project(name, tmp_path) == journal.commits - 1
    stopped = READERS[name](tmp_path)
    rebuild(tmp_path, ARCHIVER)
    assert_equal(stopped, READERS[name](tmp_path))
    assert project(name, tmp_path) == journal.commits - 1


def assert_equal(one: Contents, other: Contents) -> None:
    """Compare dataset by dataset, so that a failure names the one."""
    assert one.keys() == other.keys()
    for place, values in one.items():
        assert values == other[place], place


def damage(path: Path) -> None:
    """Change one byte in the second commit of a segment."""
    data = bytearray(path.read_bytes())
    data[next(read_segment(path)).end + 100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["a byte", "the end", "the first segment"])
def test_files_that_may_be_the_only_copy_are_not_rebuilt(name: str, tmp_path: Path, what: str) -> None:
    """When the journal lacks what the files hold, rebuild says what is damaged and leaves every file as it is."""
    with Journal(tmp_path) as journal:
        fill(journal, 13)
    project(name, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.h5")}
    first, last = segment_paths(journal.directory)
    if what == "the first segment":
        first.unlink()
    else:
        damage(first if what == "a byte" else last)
    sentence = {"a byte": "commits 1 to 10 ", "the end": "commits 12 ", "the first segment": "commits 0 to 10 "}[what]
    with pytest.raises(OnlyCopy, match=sentence):
        rebuild(tmp_path, ARCHIVER)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.h5")} == before
    assert not verify(tmp_path).whole or what == "the first segment"


def test_files_whose_journal_was_replaced_are_kept(name: str, tmp_path: Path) -> None:
    """Files that go further than the journal are called the only copy by verify, and rebuild leaves them."""
    with Journal(tmp_path) as journal:
        fill(journal, 3)
    project(name, tmp_path)
    segment_paths(journal.directory)[0].unlink()
    with Journal(tmp_path) as journal:
        fill(journal, 1)
    only_copies = verify(tmp_path).hdf5.only_copies
    assert only_copies
    assert "includes commit 2, but the journal of archive/demo/1 ends at 0" in only_copies[0]
    with pytest.raises(OnlyCopy, match="commits 1 to 2"):
        rebuild(tmp_path, ARCHIVER)


def test_a_gap_in_a_device_s_time_begins_no_file(name: str, tmp_path: Path) -> None:
    """Files are of the days of the archiver's clock: a gap that ends tomorrow by a device's clock begins none."""
    with Journal(tmp_path) as journal:
        for device in (DEVICE, "lab/power/2"):
            journal.define(f"{device}/power")
            journal.read(f"{device}/power", NOON, 1.0)
        journal.commit()
        journal.gap(f"{DEVICE}/power", NOON, NOON + 86_400 * SECOND, "restart")
        journal.commit()
        for device in (DEVICE, "lab/power/2"):
            journal.read(f"{device}/power", NOON + SECOND, 2.0)
        journal.commit()
    project(name, tmp_path)
    assert [path.name for path in sorted(tmp_path.rglob("*.h5"))] == ["2026-09-21.h5"] * 2


def test_after_a_kill_it_loses_and_repeats_nothing(name: str, tmp_path: Path) -> None:
    """Killed again and again while it follows, it ends equal to the rebuilt one; its files open plainly at once."""
    with Journal(tmp_path) as journal:
        fill(journal, 5)
        for part in range(3):
            log = tmp_path / f"{part}.log"
            with Process([sys.executable, "-m", "tests.projecting", name, str(tmp_path), ARCHIVER], log) as process:
                stored = f"\n{journal.commits - 1} \n"
                wait_until(lambda log=log, stored=stored: stored in log.read_text(), 20, "the journal is stored")
                for n in range(4):
                    one(journal, part * 5 + n, NOON + (90_000 + part * 50 + n) * SECOND)
                    journal.commit()
                process.kill()
    opener(name)(tmp_path, ARCHIVER).close()
    for path in tmp_path.rglob("*.h5"):
        h5py.File(path, "r").close()
    assert project(name, tmp_path) == journal.commits - 1
    killed = READERS[name](tmp_path)
    rebuild(tmp_path, ARCHIVER)
    assert_equal(killed, READERS[name](tmp_path))
    assert verify(tmp_path).whole


def test_a_full_disk_pauses_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too little room it changes nothing, says so, and goes on by the same call."""
    with Journal(tmp_path) as journal:
        fill(journal, 3)
    projection = opener(name)(tmp_path, ARCHIVER)
    assert list(feed(projection, tmp_path)) == list(range(journal.commits))
    projection.tick(0)
    with monkeypatch.context() as patch:
        patch.setattr(f"archiver.projections.{name}.MIN_FREE_BYTES", 1 << 62)
        with pytest.raises(NoSpace, match="make room"):
            projection.tick(60)
        assert projection.cursor < journal.commits - 1
    projection.tick(61)
    assert projection.cursor == journal.commits - 1
    projection.close()


def test_its_files_can_be_deleted(name: str, tmp_path: Path) -> None:
    """Deleted, it is as new; the files of another archiver stay."""
    for archiver in (ARCHIVER, "archive/demo/2"):
        with Journal(tmp_path, archiver) as journal:
            fill(journal, 2)
        rebuild(tmp_path, archiver)
    before = len(device_files(tmp_path / "hdf5" / DEVICE))
    assert remover(name)(tmp_path, ARCHIVER) >= 1
    assert 0 < len(device_files(tmp_path / "hdf5" / DEVICE)) < before
    projection = opener(name)(tmp_path, ARCHIVER)
    assert projection.cursor == -1
    projection.close()
