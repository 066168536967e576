"""Queries over real journals."""

import csv
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import polars as pl
import pytest

from archiver import query as module
from archiver.commits import SegmentReader
from archiver.index import index_path
from archiver.journal import read_segment, segment_paths
from archiver.maintenance import ArchiveError, rebuild, verify
from archiver.query import FORMATS, QueryError, definitions, query, write
from bandoneon.record import Kind
from tests.journals import NOON, SECOND, Journal

POWER, STATE, CURVE = "lab/power/1/power", "lab/power/1/state", "lab/power/1/curve"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[tuple[Path, Journal]]:
    """A hundred seconds of one device in ten segments, one archiver; an outage from 40 s to 50 s."""
    with Journal(tmp_path) as journal:
        journal.define(POWER, unit="W")
        journal.define(STATE, Kind.STATE)
        journal.define(CURVE, Kind.FLOAT, "SPECTRUM")
        for second in range(100):
            time_ns = NOON + second * SECOND
            if not 40 <= second < 50:
                journal.read(POWER, time_ns, float(second))
                journal.read(CURVE, time_ns, [float(second)] * (second % 3))
            if second == 50:
                journal.gap(POWER, NOON + 40 * SECOND, NOON + 50 * SECOND, "server_down", 10)
            if second % 60 == 0:
                journal.read(STATE, time_ns, 6)
            if second == 70:
                journal.error(POWER, time_ns + 1, "no answer")
            journal.commit()
            if second % 10 == 9:
                journal.restart()
        yield tmp_path, journal


def test_an_interval_is_returned_with_its_ends(data: tuple[Path, Journal]) -> None:
    """Readings from start to stop, both included, whatever the letters' case."""
    frame = query(data[0], [POWER.upper()], start_ns=NOON + 3 * SECOND, stop_ns=NOON + 5 * SECOND)
    assert frame.columns == ["time", "attribute", "value", "quality"]
    assert frame["value"].to_list() == [3.0, 4.0, 5.0]
    assert frame["time"].dt.epoch("ns").to_list() == [NOON + n * SECOND for n in (3, 4, 5)]
    assert set(frame["quality"]) == {"VALID"}


def test_the_newest_commit_is_seen_at_once(data: tuple[Path, Journal]) -> None:
    """A query reads the live journal, not a copy."""
    root, journal = data
    journal.read(POWER, NOON + 200 * SECOND, 7.5)
    journal.commit()
    assert query(root, [POWER], start_ns=NOON + 150 * SECOND)["value"].to_list() == [7.5]


def test_only_segments_of_the_interval_are_read(data: tuple[Path, Journal], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last seconds of a long journal do not cost reading all of it."""
    monkeypatch.setattr(module, "SLACK_NS", SECOND)
    read: list[str] = []
    commits = module.Segment.commits
    monkeypatch.setattr(module.Segment, "commits", lambda self: (read.append(self.path.name), commits(self))[1])
    frame = query(data[0], [POWER], start_ns=NOON + 95 * SECOND)
    assert frame.height == 5
    heads = 10
    assert len(read) <= heads + 2


def test_only_a_part_of_a_long_segment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question has the answer it has without the index, and the last seconds do not cost reading all of it."""
    monkeypatch.setattr("archiver.index._SPACING_BYTES", 1)
    monkeypatch.setattr("archiver.segments.PART_BYTES", 100_000)
    monkeypatch.setattr(module, "SLACK_NS", SECOND)
    with Journal(tmp_path) as journal:
        journal.define(POWER, unit="W")
        journal.define(STATE, Kind.STATE)
        for second in range(200):
            if second == 120:
                journal.define(POWER, unit="mW")
            journal.read(POWER, NOON + second * SECOND, float(second))
            if second == 10:
                journal.read(STATE, NOON + second * SECOND, 6)
            journal.commit()
    questions: list[dict[str, int | bool]] = [
        {"start_ns": NOON + 195 * SECOND},
        {"start_ns": NOON + 50 * SECOND, "stop_ns": NOON + 60 * SECOND},
        {"start_ns": NOON + 50 * SECOND, "stop_ns": NOON + 60 * SECOND, "every_s": 1},
        {"start_ns": NOON + 110 * SECOND, "stop_ns": NOON + 130 * SECOND, "gaps": True},
        {"stop_ns": NOON + 5 * SECOND},
        {"at_ns": NOON + 150 * SECOND},
        {},
    ]
    read: list[int] = []
    next_commit = SegmentReader._next_commit

    def counted(*arguments: Any) -> Any:
        read.append(1)
        return next_commit(*arguments)

    monkeypatch.setattr(SegmentReader, "_next_commit", counted)
    answers: list[pl.DataFrame] = []
    costs: list[int] = []
    for question in questions:
        answers.append(query(tmp_path, [POWER, STATE], **question, warn=lambda _: None))
        costs.append(len(read))
        read.clear()
    (segment,) = segment_paths(journal.directory)
    index_path(segment).unlink()
    for question, answer in zip(questions, answers, strict=True):
        assert query(tmp_path, [POWER, STATE], **question, warn=lambda _: None).equals(answer), question
    assert costs[0] < 20
    assert costs[1] < 30
    assert answers[0]["value"].to_list() == ["195.0", "196.0", "197.0", "198.0", "199.0"]


def test_a_device_whose_clock_is_ahead_hides_nothing(tmp_path: Path) -> None:
    """A segment that begins with a gap ending in a device's future is read when the archiver wrote it."""
    now_ns = time.time_ns()
    with Journal(tmp_path) as journal:
        journal.define(POWER)
        journal.define("lab/other/1/x")
        journal.read(POWER, now_ns - 50 * SECOND, 1.0)
        journal.commit()
        journal.restart()
        journal.gap("lab/other/1/x", now_ns - 60 * SECOND, now_ns + 7200 * SECOND, "archiver_down")
        journal.read(POWER, now_ns - SECOND, 2.0)
        journal.commit()
    assert query(tmp_path, [POWER], stop_ns=now_ns)["value"].to_list() == [1.0, 2.0]


def test_a_failed_reading_is_invalid_without_a_value(data: tuple[Path, Journal]) -> None:
    """An error is a row, so that nobody draws a line across it."""
    frame = query(data[0], [POWER], start_ns=NOON + 70 * SECOND, stop_ns=NOON + 71 * SECOND)
    assert frame["value"].to_list() == [70.0, None, 71.0]
    assert frame["quality"].to_list() == ["VALID", "INVALID", "VALID"]


def test_states_are_words_and_arrays_are_lists(data: tuple[Path, Journal]) -> None:
    """A value has the type a person expects."""
    assert query(data[0], [STATE])["value"].to_list() == ["MOVING", "MOVING"]
    curve = query(data[0], [CURVE], stop_ns=NOON + 2 * SECOND)["value"]
    assert curve.dtype == pl.List(pl.Float32)
    assert curve.to_list() == [[], [1.0], [2.0, 2.0]]
    together = query(data[0], ["lab/power/1/*"], stop_ns=NOON + SECOND)
    assert together.filter(pl.col("attribute") == CURVE)["value"].to_list() == ["[]", "[1.0]"]


def test_an_old_value_has_the_words_of_then(tmp_path: Path) -> None:
    """When an enum's words change, each value keeps what its number meant when it was read."""
    with Journal(tmp_path) as journal:
        for second, labels in enumerate([("SLOW", "FAST"), ("OFF", "SLOW", "FAST")]):
            journal.define("lab/power/1/mode", Kind.ENUM, enum_labels=labels)
            journal.define("lab/power/1/modes", Kind.ENUM, "SPECTRUM", enum_labels=labels)
            journal.read("lab/power/1/mode", NOON + second * SECOND, labels.index("SLOW"))
            journal.read("lab/power/1/modes", NOON + second * SECOND, [labels.index("FAST"), labels.index("SLOW")])
            journal.commit()
    assert query(tmp_path, ["lab/power/1/mode"])["value"].to_list() == ["SLOW", "SLOW"]
    assert query(tmp_path, ["lab/power/1/modes"])["value"].to_list() == [["FAST", "SLOW"]] * 2
    (then,) = query(tmp_path, ["lab/power/1/mode"], at_ns=NOON)["value"]
    assert then == "SLOW"
    assert definitions(tmp_path, ["lab/power/1/mode"])[0].enum_labels == ("OFF", "SLOW", "FAST")


@pytest.mark.parametrize(
    ("types", "values", "expected"),
    [
        ((Kind.LONG64, Kind.DOUBLE), (2, 0.5), [2.0, 0.5]),
        ((Kind.SHORT, Kind.LONG64), (2, 2**60), [2, 2**60]),
        ((Kind.STRING, Kind.ULONG64), ("two", 2**64 - 1), ["two", str(2**64 - 1)]),
        ((Kind.STATE, Kind.DOUBLE), (0, None), ["ON", None]),
    ],
)
def test_a_changed_type_mixes_no_meanings(
    tmp_path: Path, types: tuple[Kind, Kind], values: tuple[object, object], expected: list[object]
) -> None:
    """Values from before and after a change of type have the one type both fit into, text if there is none."""
    with Journal(tmp_path) as journal:
        for second, (kind, value) in enumerate(zip(types, values, strict=True)):
            journal.define(POWER, kind)
            journal.read(POWER, NOON + second * SECOND, value)
            journal.commit()
    assert query(tmp_path, [POWER])["value"].to_list() == expected


def test_mixed_units_are_marked(tmp_path: Path) -> None:
    """Where the unit changed, nothing is converted: a column says the unit of each value, and a warning says so."""
    said: list[str] = []
    with Journal(tmp_path) as journal:
        for second, unit in enumerate(["W", "mW"]):
            journal.define(POWER, unit=unit)
            journal.read(POWER, NOON + second * SECOND, 1.0)
            journal.commit()
            journal.restart()
    frame = query(tmp_path, [POWER], warn=said.append)
    assert frame.select("value", "unit").rows() == [(1.0, "W"), (1.0, "mW")]
    assert said == [f"{POWER} was archived in W and mW: the column `unit` says which value is in which"]
    assert "unit" not in query(tmp_path, [POWER], start_ns=NOON + SECOND, warn=said.append).columns
    query(tmp_path, [POWER], at_ns=NOON)
    assert len(said) == 1
    write(frame, "hdf5", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file["entry"][POWER]["unit"].asstr()) == ["W", "mW"]


def test_damage_in_the_journal_is_a_gap(data: tuple[Path, Journal], capsys: pytest.CaptureFixture[str]) -> None:
    """What was damaged in an old segment is named in a warning, is a gap, and gives no value on a clock."""
    root, journal = data
    third = segment_paths(journal.directory)[2]
    bytes_ = bytearray(third.read_bytes())
    bytes_[list(read_segment(third))[3].end + 100] ^= 1
    third.write_bytes(bytes_)
    assert query(root, [POWER], start_ns=NOON + 23 * SECOND, stop_ns=NOON + 30 * SECOND).height == 2
    assert capsys.readouterr().err == (
        "warning: commits 24 to 29 of the journal of archive/demo/1 are damaged or gone: `archive verify` says more\n"
    )
    frame = query(root, [POWER], stop_ns=NOON + 29 * SECOND, gaps=True, warn=lambda _: None)
    (gap,) = frame.filter(pl.col("quality") == "GAP").iter_rows(named=True)
    assert (gap["cause"], gap["count"], gap["until"].timestamp() * SECOND) == ("damaged", None, NOON + 30 * SECOND)
    interval = {"start_ns": NOON + 20 * SECOND, "stop_ns": NOON + 30 * SECOND}
    clock = query(root, [POWER], **interval, every_s=5, warn=lambda _: None)
    assert clock["value"].to_list() == [20.0, None, 30.0]


def test_damage_at_the_journal_s_beginning_is_said(data: tuple[Path, Journal]) -> None:
    """A first segment nothing can be read of is missed too, not taken for a journal that begins later."""
    first = segment_paths(data[1].directory)[0]
    first.write_bytes(bytes(len(first.read_bytes())))
    said: list[str] = []
    assert query(data[0], [POWER], stop_ns=NOON + 10 * SECOND, warn=said.append).height == 1
    assert "commits 0 to 9 of" in said[0]


def test_a_moment_has_age_and_gap(data: tuple[Path, Journal]) -> None:
    """At T each attribute has its last reading, however old, and whether T lies in a gap written down later."""
    frame = query(data[0], [POWER, STATE], at_ns=NOON + 45 * SECOND)
    rows = {row["attribute"]: row for row in frame.iter_rows(named=True)}
    assert (rows[POWER]["value"], rows[POWER]["age_s"], rows[POWER]["in_gap"]) == ("39.0", 6.0, True)
    assert (rows[STATE]["value"], rows[STATE]["age_s"], rows[STATE]["in_gap"]) == ("MOVING", 45.0, False)


def test_one_clock_for_all(data: tuple[Path, Journal]) -> None:
    """Every tick has the last reading at or before it, also one from before the interval; nothing inside a gap."""
    frame = query(data[0], [POWER, STATE], start_ns=NOON + 30 * SECOND, stop_ns=NOON + 61 * SECOND, every_s=10)
    power = frame.filter(pl.col("attribute") == POWER)
    assert power["value"].to_list() == ["30.0", None, "50.0", "60.0"]
    assert frame.filter(pl.col("attribute") == STATE)["value"].to_list() == ["MOVING"] * 4
    assert set(frame["time"].dt.epoch("s") % 10) == {0}


def test_gaps_are_shown_when_asked_for(data: tuple[Path, Journal]) -> None:
    """A gap is a row of quality GAP that says until when, how many and why."""
    assert "GAP" not in query(data[0], [POWER])["quality"].to_list()
    (gap,) = query(data[0], [POWER], gaps=True).filter(pl.col("quality") == "GAP").iter_rows(named=True)
    assert (gap["value"], gap["count"], gap["cause"]) == (None, 10, "server_down")


def test_thinning_keeps_the_extremes(tmp_path: Path) -> None:
    """At most so many points, the highest and the lowest among them, and where it was INVALID."""
    with Journal(tmp_path) as journal:
        journal.define(POWER)
        for n in range(10_000):
            journal.read(
                POWER, NOON + n * SECOND, None if n == 5000 else 1000.0 if n == 777 else -5.0 if n == 7777 else 0
            )
        journal.commit()
    frame = query(tmp_path, [POWER], max_points=100)
    assert frame.height <= 100
    assert frame["value"].max() == 1000.0
    assert frame["value"].min() == -5.0
    assert frame["quality"].to_list().count("INVALID") == 1


def test_several_archivers_answer_as_one(data: tuple[Path, Journal]) -> None:
    """The journals of all archivers of a directory are united."""
    with Journal(data[0], "archive/demo/2") as other:
        other.define("lab/other/1/x")
        other.read("lab/other/1/x", NOON, 5.0)
        other.commit()
    assert set(query(data[0], ["lab/*"], stop_ns=NOON)["attribute"]) == {POWER, STATE, CURVE, "lab/other/1/x"}
    assert [one.unit for one in definitions(data[0], [POWER])] == ["W"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attributes": ["lab/power/1/pover"]}, "near it are lab/power/1/power"),
        ({"at_ns": 1, "last_s": 5}, "one moment"),
        ({"last_s": 5, "start_ns": 1}, "either"),
        ({"start_ns": 2, "stop_ns": 1}, "exchange"),
        ({"max_points": 1}, "at least"),
        ({"every_s": 0.0}, "above zero"),
    ],
)
def test_a_wrong_question_says_what_to_ask(
    data: tuple[Path, Journal], arguments: dict[str, object], sentence: str
) -> None:
    """Errors are one sentence."""
    with pytest.raises(QueryError, match=sentence):
        query(data[0], **{"attributes": [POWER], **arguments})  # pyright: ignore[reportArgumentType]


def test_without_an_archive_it_says_so(tmp_path: Path) -> None:
    """No data directory yet: what to do."""
    with pytest.raises(QueryError, match=r"run up"):
        query(tmp_path, [POWER])
    with pytest.raises(ArchiveError, match="no journal"):
        rebuild(tmp_path, "archive/demo/1")
    assert verify(tmp_path).whole


def test_csv_has_the_contract_s_columns(data: tuple[Path, Journal], tmp_path: Path) -> None:
    """time,value,quality for one attribute, with attribute for several; nanoseconds in RFC 3339 UTC."""
    path = tmp_path / "out.csv"
    write(query(data[0], [POWER], stop_ns=NOON), "csv", path)
    assert path.read_text() == "time,value,quality\n2026-09-21T12:00:00.000000000Z,0.0,VALID\n"
    write(query(data[0], [POWER, CURVE], stop_ns=NOON + SECOND), "csv", path)
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["time", "attribute", "value", "quality"]
    assert rows[3][1:3] == [CURVE, "[1.0]"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("names", [[POWER], [POWER, STATE, CURVE], [CURVE], [STATE]])
def test_every_format_takes_every_answer(
    data: tuple[Path, Journal], tmp_path: Path, form: str, names: list[str]
) -> None:
    """Whatever was asked can be written, and read again."""
    path = tmp_path / f"out.{form}"
    frame = query(data[0], names, gaps=True)
    write(frame, form, path)
    if form == "hdf5":
        with h5py.File(path) as file:
            assert len(file["entry"][names[0]]["time"]) == frame.filter(pl.col("attribute") == names[0]).height
    elif form == "json":
        assert len(json.loads(path.read_text())) == frame.height
    else:
        read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "arrow": pl.read_ipc}[form]
        assert read(path).height == frame.height


@pytest.mark.parametrize("seed", range(5))
def test_a_clock_that_is_set_back_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """What is received before and after is found by its time, wherever it is in the journal."""
    monkeypatch.setattr("archiver.index._SPACING_BYTES", 0)
    monkeypatch.setattr("archiver.segments.PART_BYTES", 2000)
    chance = random.Random(seed)
    now_ns = NOON
    monkeypatch.setattr("archiver.journal.time.time_ns", lambda: now_ns)
    times: list[int] = []
    with Journal(tmp_path) as journal:
        journal.define("lab/power/1/power")
        for number in range(40):
            now_ns += chance.choice([1, 1, 1, 10, 100, 300, -100, -500, 10_000, -10_000]) * SECOND
            times.append(now_ns)
            journal.read("lab/power/1/power", now_ns, float(number))
            journal.commit()
            if chance.random() < 0.1:
                journal.restart()
    for _ in range(10):
        start_ns, stop_ns = sorted(chance.choice(times) + chance.randint(-50, 50) * SECOND for _ in range(2))
        expected = {float(n) for n, time_ns in enumerate(times) if start_ns <= time_ns <= stop_ns}
        frame = query(tmp_path, ["lab/power/1/power"], start_ns=start_ns, stop_ns=stop_ns)
        assert sorted(frame["value"]) == sorted(expected)
        at_ns = chance.choice(times)
        (value,) = query(tmp_path, ["lab/power/1/power"], at_ns=at_ns)["value"]
        newest_ns = max(time_ns for time_ns in times if time_ns <= at_ns)
        assert times[round(value)] == newest_ns


def test_what_waited_while_the_disk_was_full_is_found_by_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written with what came an hour later, at the head of a segment."""
    monkeypatch.setattr("archiver.journal.time.time_ns", lambda: NOON + 7200 * SECOND)
    with Journal(tmp_path) as journal:
        journal.define("lab/power/1/power")
        journal.read("lab/power/1/power", NOON, 1.0)
        journal.commit()
        journal.restart()
        journal.read("lab/power/1/power", NOON + 3600 * SECOND, 2.0)
        journal.read("lab/power/1/power", NOON + 7200 * SECOND, 3.0)
        journal.commit()
    frame = query(tmp_path, ["lab/power/1/power"], start_ns=NOON + 3600 * SECOND, stop_ns=NOON + 3601 * SECOND)
    assert frame["value"].to_list() == [2.0]
