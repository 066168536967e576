"""The archiver as a process of its own, on real servers that live and die."""

import json
import os
import resource
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tango import DevState

from archiver.maintenance import rebuild, verify
from bandoneon.record import Kind, Row
from tests.archiving import (
    ALL,
    ARCHIVER,
    NUMBER,
    PROJECTOR,
    TYPES,
    archived,
    archiver,
    projector,
    register,
    report,
    status_of,
    types_server,
    written,
)
from tests.contract.test_projections import hdf5_contents
from tests.support import TangoDatabase, wait_until


@pytest.fixture(scope="module")
def site(database: TangoDatabase) -> TangoDatabase:
    """The database with everything these tests start registered in it."""
    return register(database)


def gap(row: Row) -> tuple[str | None, int | None]:
    """Cause and count of a GAP row."""
    return row.text, row.i64


def nothing_on_its_way(site: TangoDatabase, data_dir: Path) -> bool:
    """Whether there is a row of every attribute that has events."""
    pulled = {one["name"] for one in report(site) if one["state"] == "archived" and one["source"] == "tango_pull"}
    return pulled <= written(data_dir).refresh().rows.keys()


def test_the_archiver_answers_while_it_looks_for_the_end_of_its_journal(site: TangoDatabase, tmp_path: Path) -> None:
    """A long journal takes longer than a supervisor waits: the device is INIT meanwhile, and says so."""
    segment = tmp_path / "journal" / ARCHIVER / f"{0:020d}.arrows"
    segment.parent.mkdir(parents=True)
    # it can be opened for reading only once somebody opens it for writing
    os.mkfifo(segment)
    with site.server("Archiver", "test_1", {"BANDONEON_DATA": str(tmp_path)}, wait_for=ARCHIVER):
        device = site.device(ARCHIVER)
        assert (device.state(), device.AttributeReport()) == (DevState.INIT, [])
        assert "end of the journal" in device.status()
        writer = os.open(segment, os.O_WRONLY)
        segment.unlink()
        os.close(writer)
        wait_until(lambda: device.state() == DevState.RUNNING, 15, "it archives")


def test_what_is_pushed_is_archived_and_shown(site: TangoDatabase, tmp_path: Path) -> None:
    """Every event is one row with its own time; set values, errors, figures and why one is not archived, too."""
    with types_server(site), archiver(site, tmp_path):
        device, journal = site.device(TYPES), written(tmp_path)
        device.number = 7.0
        device.Count(500)
        device.Fail()
        device.Fail()
        device.Count(1)
        wait_until(lambda: journal.values(NUMBER)[-1] == 508.0, 5, "the last event is in the journal")
        assert journal.values(NUMBER) == [0.0, *range(8, 509)]
        assert 7.0 in journal.values(NUMBER, part=1)
        (error,) = journal.of_kind(NUMBER, Kind.ERROR)
        assert json.loads(error.text or "")[0]["reason"] == "Test_Broken"
        times = [row.time_ns for row in journal.readings(NUMBER)]
        assert times == sorted(times)
        assert all(0 <= row.received_ns - row.time_ns < 2 * 10**9 for row in journal.readings(NUMBER)[1:])
        proxy = site.device(ARCHIVER)
        wait_until(lambda: proxy.rows >= 502, 5, "the archiver shows its rows")
        assert (proxy.lost, proxy.attributes_failed) == (0, 0)
        assert proxy.attributes_archived >= 41
        assert proxy.lag_s < 2
        assert status_of(site, f"{TYPES}/state")["state"] == "not pushed"
    accounts = [account for account in journal.refresh().accounts if account.stored >= 502]
    assert [(account.stored, account.lost, account.state) for account in accounts] == [(502, 0, "unproven")]


def test_a_changed_unit_is_a_new_epoch(site: TangoDatabase, tmp_path: Path) -> None:
    """A change of an attribute's configuration shows in its definition within seconds; its rows before keep theirs."""
    with types_server(site), archiver(site, tmp_path):
        device, journal = site.device(TYPES), written(tmp_path)
        device.Count(1)
        config = device.get_attribute_config("number")
        before = config.unit
        config.unit = "km"
        device.set_attribute_config(config)
        try:
            wait_until(lambda: [one.unit for one in journal.refresh().definitions(NUMBER)][-1:] == ["km"], 12, "km")
        finally:
            config.unit = before
            device.set_attribute_config(config)
        assert [(one.epoch, one.unit) for one in journal.definitions(NUMBER)] == [(0, "mm"), (1, "km")]


def test_a_killed_server_is_one_gap_and_is_back_soon(site: TangoDatabase, tmp_path: Path) -> None:
    """SIGKILL and restart: one gap row `server_down`; rows within 2 s of its answering, as another incarnation."""
    journal = written(tmp_path)
    with types_server(site) as first, archiver(site, tmp_path):
        site.device(TYPES).CountOn(50.0)
        wait_until(lambda: len(journal.readings(NUMBER)) > 20, 5, "events are archived")
        (before,) = {row.incarnation for row in journal.readings(NUMBER)[1:]}
        first.kill()
        with types_server(site):
            answered_s = time.monotonic()
            after = wait_until(
                lambda: [row for row in journal.readings(NUMBER) if row.incarnation != before], 10, "rows again"
            )
            assert time.monotonic() - answered_s < 2
            site.device(TYPES).Count(3)
            wait_until(lambda: journal.values(NUMBER)[-3:] == [1.0, 2.0, 3.0], 5, "events again")
            (outage,) = journal.of_kind(NUMBER, Kind.GAP)
            assert gap(outage) == ("server_down", None)
            last = [row for row in journal.readings(NUMBER) if row.incarnation == before][-1]
            assert outage.time_ns == last.time_ns
            assert outage.received_ns in [row.time_ns for row in after[:2]]
            # for ten seconds Tango may still take the new run for the old one
            site.device(TYPES).CountOn(50.0)
            wait_until(lambda: len(journal.readings(NUMBER)) > len(after) + 550, 20, "many more events")
            for other in journal.rows:
                assert len(journal.of_kind(other, Kind.GAP)) <= 1, other


def test_a_server_that_is_silent_for_a_moment_is_not_gone(site: TangoDatabase, tmp_path: Path) -> None:
    """A machine that stalls for two seconds: no gap, no other subscription, all it pushes afterwards is there."""
    journal = written(tmp_path)
    with types_server(site) as server, archiver(site, tmp_path):
        site.device(TYPES).CountOn(50.0)
        wait_until(lambda: len(journal.readings(NUMBER)) > 20, 5, "events are archived")
        server.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped_s + 2, 3, "two seconds are over")
        server.send_signal(signal.SIGCONT)
        count = len(journal.readings(NUMBER))
        wait_until(lambda: len(journal.readings(NUMBER)) > count + 150, 10, "events are archived again")
        assert journal.of_kind(NUMBER, Kind.GAP) == []
        values = journal.values(NUMBER)
        assert values == [*range(round(values[0]), round(values[0]) + len(values))]


def test_a_frozen_server_holds_up_nobody(site: TangoDatabase, tmp_path: Path) -> None:
    """SIGSTOP: the archiver notices, stays current meanwhile, and goes on behind one gap when the server does."""
    journal = written(tmp_path)
    with types_server(site) as server, archiver(site, tmp_path):
        proxy = site.device(ARCHIVER)
        site.device(TYPES).CountOn(50.0)
        wait_until(lambda: len(journal.readings(NUMBER)) > 20, 5, "events are archived")
        server.send_signal(signal.SIGSTOP)
        wait_until(lambda: status_of(site, NUMBER)["state"] == "waiting", 10, "the archiver knows")
        # its own figures are as old as a second
        wait_until(lambda: "not archived" in proxy.Status(), 3, "the archiver says so")
        assert proxy.lag_s < 2
        server.send_signal(signal.SIGCONT)
        wait_until(lambda: archived(site) == ALL, 5, "everything is archived again")
        count = len(journal.readings(NUMBER))
        wait_until(lambda: len(journal.readings(NUMBER)) > count + 20, 5, "events are archived again")
        assert [gap(row) for row in journal.of_kind(NUMBER, Kind.GAP)] == [("server_down", None)]


def test_a_killed_archiver_loses_nothing_it_committed(site: TangoDatabase, tmp_path: Path) -> None:
    """kill -9 under load, again and again: each commit seen before is there, one gap each time, HDF5 rebuilds equal."""
    journal = written(tmp_path)
    with types_server(site), projector(site, tmp_path):
        site.device(TYPES).CountOn(2000.0)
        seen: list[Row] = []
        for round_ in range(3):
            with archiver(site, tmp_path) as process:
                enough = len(seen) + 2000
                wait_until(lambda enough=enough: len(journal.readings(NUMBER)) > enough, 20, "events are archived")
                process.kill()
            again = written(tmp_path)
            seen = again.readings(NUMBER)
            assert seen[: len(journal.readings(NUMBER))] == journal.readings(NUMBER)
            assert len(again.of_kind(NUMBER, Kind.GAP)) == round_
        values = [row.f64 or 0.0 for row in seen]
        assert all(one < other for one, other in pairwise(values))
        gaps = again.of_kind(NUMBER, Kind.GAP)
        for one, other in pairwise(seen):
            inside = any(row.time_ns <= one.time_ns and other.time_ns <= row.received_ns for row in gaps)
            assert other.f64 == (one.f64 or 0.0) + 1 or inside, "what is missing is in a gap"
        assert {gap(row) for row in gaps} == {("archiver_down", None)}
        last = again.commits - 1
        wait_until(lambda: site.device(PROJECTOR).commit == last, 30, "the projector has stored everything")
    assert verify(tmp_path).whole
    live = hdf5_contents(tmp_path)
    rebuild(tmp_path, ARCHIVER)
    again_made = hdf5_contents(tmp_path)
    assert live.keys() == again_made.keys()
    assert all(rows == again_made[place] for place, rows in live.items())
    assert len(live[f"{TYPES}/entry/number/value"]) == len(seen)


def test_a_full_disk_pauses_counts_and_resumes(site: TangoDatabase, tmp_path: Path) -> None:
    """While nothing can be written the archiver says so and counts; then it goes on, and the gap has the number."""
    journal = written(tmp_path)
    with types_server(site), archiver(site, tmp_path, Path("/dev/null")) as process:
        device, proxy = site.device(TYPES), site.device(ARCHIVER)
        device.Count(10)
        wait_until(lambda: journal.values(NUMBER)[-1] == 10.0, 5, "events are archived")
        wait_until(lambda: nothing_on_its_way(site, tmp_path), 5, "what is read on subscribing is stored")
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, hard))
        device.Count(1)
        wait_until(lambda: "Nothing can be written" in proxy.Status(), 5, "the archiver says so")
        assert str(proxy.State()) == "FAULT"
        for _ in range(3):
            device.Count(10)
        wait_until(lambda: proxy.lost == 30, 5, "what comes meanwhile is counted")
        assert "File too large" in proxy.Status()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        wait_until(lambda: str(proxy.State()) == "ALARM", 5, "it goes on by itself, and says what is lost")
        assert "30 readings were lost" in proxy.Status()
        device.Count(10)
        wait_until(lambda: journal.values(NUMBER)[-1] == 51.0, 5, "events are archived again")
        assert journal.values(NUMBER) == [*range(12), *range(42, 52)]
        assert [gap(row) for row in journal.of_kind(NUMBER, Kind.GAP)] == [("disk_full", 30)]
    assert verify(tmp_path).whole


def test_a_journal_taken_away_is_said_until_it_is_back(site: TangoDatabase, tmp_path: Path) -> None:
    """A directory that vanishes (a disk unplugged) is a pause like a full disk: said, counted, gone on from."""
    with types_server(site), archiver(site, tmp_path):
        device, proxy = site.device(TYPES), site.device(ARCHIVER)
        device.Count(10)
        wait_until(lambda: nothing_on_its_way(site, tmp_path), 5, "what is read on subscribing is stored")
        wait_until(lambda: written(tmp_path).values(NUMBER)[-1:] == [10.0], 5, "events are archived")
        (tmp_path / "journal").rename(tmp_path / "away")
        shutil.rmtree(tmp_path / "away")
        device.Count(1)
        wait_until(lambda: "Nothing can be written" in proxy.Status(), 5, "the archiver says so")
        device.Count(5)
        wait_until(lambda: proxy.lost == 5, 5, "what comes meanwhile is counted")
        (tmp_path / "journal" / ARCHIVER).mkdir(parents=True)
        wait_until(lambda: str(proxy.State()) == "ALARM", 5, "it goes on by itself")
        device.Count(1)
        wait_until(lambda: written(tmp_path).values(NUMBER) == [11.0, 17.0], 5, "events are archived again")
        (outage,) = written(tmp_path).of_kind(NUMBER, Kind.GAP)
        assert gap(outage) == ("disk_full", 5)


def test_a_directory_that_cannot_be_written_is_said_at_the_start(site: TangoDatabase, tmp_path: Path) -> None:
    """The archiver then runs as FAULT with the reason, and archives by itself once the directory can be made."""
    (tmp_path / "journal").write_text("in the way")
    environment = {"BANDONEON_DATA": str(tmp_path)}
    with types_server(site), site.server("Archiver", "test_1", environment, wait_for=ARCHIVER):
        proxy = site.device(ARCHIVER)
        assert str(proxy.State()) == "FAULT"
        assert "Nothing is archived" in proxy.Status()
        (tmp_path / "journal").unlink()
        wait_until(lambda: archived(site) == ALL, 15, "everything is archived")
        site.device(TYPES).Count(5)
        wait_until(lambda: written(tmp_path).values(NUMBER)[-1:] == [5.0], 5, "events are archived")
