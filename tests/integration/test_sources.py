"""Where the archiver's rows come from: live servers, through Tango's events and through streams."""

from pathlib import Path

import pytest

from archiver.block import open_block
from archiver.query import query
from bandoneon.record import Kind, Quality
from tests.all_types import COMBINATIONS, ROUNDS, name, same, value
from tests.archiving import (
    ALL,
    BATCH,
    NUMBER,
    SILENT,
    STREAM,
    TYPES,
    archived,
    archiver,
    register,
    report,
    status_of,
    types_server,
    written,
)
from tests.journals import Written
from tests.support import TangoDatabase, wait_until


@pytest.fixture(scope="module")
def site(database: TangoDatabase) -> TangoDatabase:
    """The database with everything these tests start registered in it."""
    return register(database)


def test_every_type_and_format_is_archived_as_it_was_pushed(site: TangoDatabase, tmp_path: Path) -> None:
    """The 40 combinations, ordinary, extreme, empty, invalid, from a live server into the journal and back, equal."""
    assert len(COMBINATIONS) == 40
    with types_server(site), archiver(site, tmp_path):
        device, journal = site.device(TYPES), written(tmp_path)
        for number in range(len(ROUNDS)):
            device.Push(number)
        names = [f"{TYPES}/{name(kind, form)}" for kind, form in COMBINATIONS]
        # the value when it was subscribed to, and the rounds
        rounds = ("ordinary", *ROUNDS)

        def missing() -> list[str]:
            return [one for one in names if len(journal.readings(one)) < len(rounds)]

        wait_until(lambda: not missing(), 10, "all are archived")
        for (kind, form), attribute in zip(COMBINATIONS, names, strict=True):
            (definition,) = journal.definitions(attribute)
            assert (definition.type, definition.format) == (kind, form)
            assert definition.enum_labels == (("zero", "one", "two") if kind == Kind.ENUM else ())
            found = journal.values(attribute)
            assert len(found) == len(rounds), attribute
            for what, one, row in zip(rounds, found, journal.readings(attribute), strict=True):
                assert same(one, value(kind, form, what)), (attribute, what, one)
                assert row.quality == (Quality.INVALID if what == "invalid" else Quality.VALID)
            assert journal.of_kind(attribute, Kind.GAP) == []


def blocks(journal: Written) -> list[tuple[int, int, int]]:
    """Sequence number, first row and rows of each batch in the journal."""
    found = [(row, open_block(row.payload or b"")) for row in journal.of_kind(BATCH, Kind.STREAM)]
    assert all((row.counter, row.incarnation, row.i64) == (one.seq, one.incarnation, one.rows) for row, one in found)
    return [(one.seq, one.rows_before, one.rows) for _, one in found]


def gaps(journal: Written) -> list[tuple[str | None, int | None]]:
    """Cause and count of the gaps of the attribute that the stream carries."""
    return [(row.text, row.i64) for row in journal.of_kind(SILENT, Kind.GAP)]


def test_batches_are_archived_once_and_a_missing_one_is_counted(site: TangoDatabase, tmp_path: Path) -> None:
    """By (device, incarnation, seq): repeated batches are dropped, missing rows are a gap of known size, all exact."""
    with types_server(site), archiver(site, tmp_path):
        stream, journal = site.device(STREAM), written(tmp_path)
        assert status_of(site, SILENT)["source"] == "tango_streams"
        stream.Send(3)
        stream.Repeat()
        stream.Lose(2)
        stream.Send(4)
        last = stream.batch
        wait_until(lambda: len(blocks(journal)) == 2, 5, "both batches are in the journal")
        assert blocks(journal) == [(0, 0, 3), (2, 5, 4)]
        assert journal.of_kind(BATCH, Kind.STREAM)[-1].payload == last[1]
        assert gaps(journal) == [("overflow", 2)]
        assert query(tmp_path, [SILENT])["value"].to_list() == [0, 1, 2, 5, 6, 7, 8]
        wait_until(lambda: status_of(site, SILENT)["lost"] == 1, 5, "the archiver shows the lost batch")
    (account,) = (one for one in journal.refresh().accounts if one.device == TYPES)
    assert (account.first_counter, account.last_counter, account.state) == (0, 2, "exact")
    assert (account.stored, account.duplicates, account.lost) == (2, 1, 1)


def test_a_stream_is_exact_across_a_restart_of_the_archiver(site: TangoDatabase, tmp_path: Path) -> None:
    """What was sent while it was down is a gap of known size; the batch it is sent again is not written twice."""
    journal = written(tmp_path)
    with types_server(site):
        stream = site.device(STREAM)
        with archiver(site, tmp_path) as process:
            stream.Send(3)
            wait_until(lambda: len(blocks(journal)) == 1, 5, "the batch is in the journal")
            process.kill()
        with archiver(site, tmp_path) as process:
            stream.Send(1)
            wait_until(lambda: len(blocks(journal)) == 2, 5, "the next batch is in the journal")
            assert gaps(journal) == []
            process.kill()
        stream.Send(5)
        stream.Send(6)
        with archiver(site, tmp_path):
            wait_until(lambda: len(blocks(journal)) == 3, 5, "the last batch is in the journal")
        assert blocks(journal) == [(0, 0, 3), (1, 3, 1), (3, 9, 6)]
        assert gaps(journal) == [("archiver_down", 5)]


def test_a_batch_without_value_stops_nothing(site: TangoDatabase, tmp_path: Path) -> None:
    """A server that pushes its batch as INVALID: what follows is archived."""
    with types_server(site), archiver(site, tmp_path):
        stream, journal = site.device(STREAM), written(tmp_path)
        stream.Send(3)
        stream.SendInvalid()
        stream.Send(4)
        wait_until(lambda: len(blocks(journal)) == 2, 5, "both batches are in the journal")
        assert gaps(journal) == []


def test_an_attribute_that_is_replaced_by_another_is_archived_on(site: TangoDatabase, tmp_path: Path) -> None:
    """Within seconds, as what it is then: a number with a fraction in the place of a SHORT."""
    attribute = f"{TYPES}/short_scalar"
    with types_server(site), archiver(site, tmp_path):
        device, journal = site.device(TYPES), written(tmp_path)
        wait_until(lambda: journal.values(attribute) == [1], 5, "the SHORT is archived")
        device.Replace("short_scalar")
        wait_until(lambda: journal.values(attribute)[-1] == 3.7, 10, "the DOUBLE is archived")
        assert [row.kind for row in journal.readings(attribute)] == [Kind.SHORT, Kind.DOUBLE]
        assert [one.type for one in journal.definitions(attribute)] == [Kind.SHORT, Kind.DOUBLE]
        assert journal.of_kind(attribute, Kind.ERROR) == []


def test_what_begins_to_push_is_archived(site: TangoDatabase, tmp_path: Path) -> None:
    """An attribute that pushed nothing when its server was found is tried again in the same run."""
    at_once = "from archiver.sources import tango_servers as s\ns.REFUSED_PERIOD_S = s.CONFIGURATION_PERIOD_S = 0.0"
    late = f"{TYPES}/late"
    with types_server(site), archiver(site, tmp_path, before=at_once):
        assert status_of(site, late)["state"] == "not pushed"
        site.device(TYPES).PushLate()
        wait_until(lambda: status_of(site, late)["state"] == "archived", 10, "it is archived")


def test_a_killed_stream_server_begins_a_new_run(site: TangoDatabase, tmp_path: Path) -> None:
    """Its numbers begin again, and nobody knows what it had not sent: a gap of unknown size."""
    journal = written(tmp_path)
    with types_server(site) as first, archiver(site, tmp_path):
        site.device(STREAM).Send(3)
        wait_until(lambda: len(blocks(journal)) == 1, 5, "the batch is in the journal")
        first.kill()
        wait_until(lambda: status_of(site, SILENT)["state"] == "waiting", 5, "the archiver knows")
        with types_server(site):
            wait_until(lambda: status_of(site, SILENT)["state"] == "archived", 5, "it is subscribed again")
            site.device(STREAM).Send(2)
            wait_until(lambda: len(blocks(journal)) == 2, 5, "the new run's batch is in the journal")
            assert blocks(journal) == [(0, 0, 3), (0, 0, 2)]
            assert gaps(journal) == [("server_down", None)]
            first_run, second_run = (row.incarnation for row in journal.of_kind(BATCH, Kind.STREAM))
            assert second_run > first_run


def test_a_server_that_starts_later_is_found(site: TangoDatabase, tmp_path: Path) -> None:
    """The archiver waits for servers that do not run, says so, and has no gap for what it never had."""
    with archiver(site, tmp_path, subscribed=0):
        waiting = wait_until(lambda: report(site), 5, "the archiver knows of the server")
        assert [(one["name"], one["state"]) for one in waiting] == [("dserver/alltypes/1", "waiting")]
        assert "not" in waiting[0]["reason"]
        with types_server(site):
            wait_until(lambda: archived(site) == ALL, 5, "everything is archived")
            site.device(TYPES).Count(1)
            journal = written(tmp_path)
            wait_until(lambda: journal.values(NUMBER) == [0.0, 1.0], 5, "events are archived")
            assert journal.of_kind(NUMBER, Kind.GAP) == []
