"""Times, durations and tables of the command line."""

import json
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bandoneon.cli.words import BadTime, clock, coloured, duration, parse_duration_s, parse_time_ns, readable, table

NOW = datetime(2026, 11, 23, 16, 0, 0, 250000, tzinfo=timezone(timedelta(hours=1)))
S = 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("500ms", 0.5), ("10m", 600), ("10min", 600), ("1.5h", 5400), ("2 d", 172800), ("0", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A number with a unit; seconds without one."""
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "abc", "-5s", "10 weeks", "1h30m", "m", "10M", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The sentence shows how to write one."""
    with pytest.raises(BadTime, match="write it like 30s, 10m, 2h or 1d"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "moment", "ns"),
    [
        ("2026-11-23T15:51:32Z", datetime(2026, 11, 23, 15, 51, 32, tzinfo=UTC), 0),
        ("2026-11-23T15:51:32.123456789Z", datetime(2026, 11, 23, 15, 51, 32, tzinfo=UTC), 123456789),
        ("2026-11-23 15:51:32.5+01:00", datetime(2026, 11, 23, 14, 51, 32, tzinfo=UTC), 500000000),
        ("2026-11-23T15:51", datetime(2026, 11, 23, 15, 51).astimezone(), 0),
        ("2026-11-23", datetime(2026, 11, 23).astimezone(), 0),
        ("15:51", datetime(2026, 11, 23, 15, 51).astimezone(), 0),
        ("9:05:07", datetime(2026, 11, 23, 9, 5, 7).astimezone(), 0),
        ("9:05", datetime(2026, 11, 23, 9, 5).astimezone(), 0),
        ("now", NOW, 0),
        ("-10m", NOW - timedelta(minutes=10), 0),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, moment: datetime, ns: int) -> None:
    """ISO 8601, a time of today, now, or so long ago."""
    exact = round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000
    assert parse_time_ns(text, NOW) == exact + ns


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "15:51:99", "12"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The sentence shows how to write one."""
    with pytest.raises(BadTime, match="write it like 2026-11-23T15:51:32Z, 15:51, now or -10m"):
        parse_time_ns(text, NOW)


def test_a_wrong_duration_ago_is_refused() -> None:
    """`-10x` is told as a duration."""
    with pytest.raises(BadTime, match="'10x' is no duration"):
        parse_time_ns("-10x", NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (45, "45 s"), (719, "12 min"), (7200, "2 h"), (172799, "48 h"), (172800, "2 d")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    """One unit, without false precision."""
    assert duration(seconds) == text


def test_a_table_is_aligned_and_has_no_trailing_blanks() -> None:
    """Each column is as wide as its widest cell."""
    assert table(["a", "bbb"], [["long", 1], ["x", "–"]]) == "a     bbb\nlong  1\nx     –"
    assert table(["a", "b"], []) == "a  b"


def test_states_have_colours_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets plain words, and so does a terminal with NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("FAULT") == "FAULT"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert coloured("FAULT") == "\x1b[31mFAULT\x1b[0m"
    assert coloured("running", "running  ") == "\x1b[32mrunning  \x1b[0m"
    assert coloured("42") == "42"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("FAULT") == "FAULT"


def test_a_log_is_read_by_a_person_and_by_a_program() -> None:
    """A record becomes time, level, device, event and the rest by name; what is no record stays as it is."""
    moment = datetime(2026, 11, 25, 10, 33, 1, 621361, tzinfo=UTC)
    record = {
        "device": "tango/admin/local", "reason": "5 restarts", "state": None, "event": "given up", "level": "error",
        "timestamp": "2026-11-25T10:33:01.621361Z", "server": "Supervisor/local", "exception": "Traceback\n  line 1",
    }  # fmt: skip
    whole = f"{json.dumps(record)}\nReady to accept request\n[1]\n"
    day = moment.astimezone().strftime("%Y-%m-%d")
    assert "".join(readable([whole[:30], whole[30:], "half a li", "ne"])) == (
        f"{day} {clock(moment.timestamp())}  error    tango/admin/local: given up reason='5 restarts' state=None\n"
        "Traceback\n  line 1\nReady to accept request\n[1]\nhalf a line\n"
    )


def test_a_record_without_a_device_names_its_server() -> None:
    """A spawner's line has neither."""
    record = {"event": "ready", "level": "info", "timestamp": "2026-11-25T10:33:01Z", "server": "Archiver/demo_1"}
    assert "  info     Archiver/demo_1: ready\n" in "".join(readable([json.dumps(record)]))
    del record["server"]
    assert "".join(readable([json.dumps(record)])).endswith("  info     ready\n")
