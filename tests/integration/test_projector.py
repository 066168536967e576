"""The projector as a process of its own: files that people open while it writes, and after it was killed."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from archiver.maintenance import verify
from archiver.projections.hdf5 import device_files
from tests.archiving import NUMBER, PROJECTOR, TYPES, archiver, projector, register, types_server, written
from tests.support import TangoDatabase, wait_until

BEHIND_S = 15.0


@pytest.fixture(scope="module")
def site(database: TangoDatabase) -> TangoDatabase:
    """The database with everything these tests start registered in it."""
    return register(database)


def number_in(path: Path, **how: bool) -> tuple[list[float], list[int]]:
    """Values and times of the number in a file."""
    with h5py.File(path, "r", **how) as file:
        group = file["entry/number"]
        assert group["value"].attrs["units"] == "mm"
        length = min(len(group[name]) for name in ("value", "time", "quality"))
        assert not np.any(group["quality"][:length])
        return group["value"][:length].tolist(), group["time"][:length].tolist()


def test_live_files_are_close_behind_and_a_killed_projector_leaves_nothing_locked(
    site: TangoDatabase, tmp_path: Path
) -> None:
    """At most 15 s behind with swmr=True; plainly readable within 5 s of the restart after a kill -9; nothing lost."""
    files = tmp_path / "hdf5" / TYPES
    journal = written(tmp_path)
    with types_server(site), archiver(site, tmp_path):
        site.device(TYPES).CountOn(200.0)
        with projector(site, tmp_path) as process:
            begun_ns = time.time_ns()
            live = wait_until(lambda: device_files(files) and device_files(files)[0], BEHIND_S, "there is a file")
            wait_until(lambda: number_in(live, swmr=True)[1][-1] > begun_ns, BEHIND_S, "the file has new rows")
            since_ns = time.time_ns()
            wait_until(lambda: number_in(live, swmr=True)[1][-1] > since_ns, BEHIND_S, "the file has newer rows")
            proxy = site.device(PROJECTOR)
            assert (str(proxy.State()), proxy.files) == ("ON", 1)
            assert 0 <= proxy.lag_s < BEHIND_S
            process.kill()
        with projector(site, tmp_path):
            wait_until(lambda: number_in(live), 5, "the file opens plainly")
            killed = number_in(live)[0]
            assert killed == journal.values(NUMBER)[: len(killed)]
            site.device(TYPES).CountOn(0.0)
            stopped_at = site.device(TYPES).number
            wait_until(lambda: journal.values(NUMBER)[-1] == stopped_at, 5, "the journal has all")
    first, second = device_files(files)
    assert first == live
    assert [one for path in (first, second) for one in number_in(path)[0]] == journal.values(NUMBER)
    assert verify(tmp_path).whole


def test_rebuild_makes_the_files_again(site: TangoDatabase, tmp_path: Path) -> None:
    """The command deletes the files and makes them from the journal, in the background."""
    journal = written(tmp_path)
    with types_server(site), archiver(site, tmp_path), projector(site, tmp_path):
        site.device(TYPES).Count(100)
        wait_until(lambda: journal.values(NUMBER)[-1:] == [100.0], 5, "the journal has all")
        (path,) = wait_until(lambda: device_files(tmp_path / "hdf5" / TYPES), BEHIND_S, "there is a file")
        before = path.stat().st_ino
        site.device(PROJECTOR).Rebuild()
        wait_until(lambda: path.stat().st_ino != before, BEHIND_S, "there is another")
    assert number_in(path)[0] == journal.values(NUMBER)


@pytest.mark.parametrize(
    ("properties", "says"),
    [({"projections": "carrier pigeon"}, "projection 'carrier pigeon'"), ({}, "no data directory is known")],
)
def test_a_wrong_property_is_said(site: TangoDatabase, properties: dict[str, str], says: str) -> None:
    """A projector that cannot work runs as FAULT and names the property to set."""
    device = site.device(PROJECTOR)
    device.put_property(properties)
    environment = {"BANDONEON_DATA": "/nowhere" if properties else ""}
    try:
        with site.server("Projector", "test_1", environment, wait_for=PROJECTOR):
            assert str(device.State()) == "FAULT"
            assert says in device.Status()
    finally:
        device.delete_property("projections")
