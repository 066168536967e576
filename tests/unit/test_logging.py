"""Structured logs: JSON where no terminal is, with context, to sinks too, from the standard library as well."""

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from bandoneon import logging as ours
from bandoneon.logging import add_sink, configure, get_logger


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `configure` changes for the whole process."""
    handlers, level = list(logging.root.handlers), logging.root.level
    monkeypatch.setattr(ours, "_sinks", [])
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


Captured = pytest.CaptureFixture[str]


def records(captured: Captured) -> list[dict[str, Any]]:
    """Each line of standard error as the JSON it has to be."""
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


def test_records_are_json_without_a_terminal(capsys: Captured) -> None:
    """One object per line: event, level, time in UTC, the process's context and the logger's own."""
    configure("INFO", server="Newport1830C/lab_power_1")
    get_logger(device="lab/power/1").warning("link lost", attempts=3)
    (record,) = records(capsys)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "link lost",
        "level": "warning",
        "device": "lab/power/1",
        "server": "Newport1830C/lab_power_1",
        "attempts": 3,
    }


def test_the_logger_wins_over_the_process(capsys: Captured) -> None:
    """A context key of the logger is not replaced by the process's."""
    configure("INFO", device="process")
    get_logger(device="own").info("x")
    assert records(capsys)[0]["device"] == "own"


def test_an_exception_is_part_of_its_record(capsys: Captured) -> None:
    """A traceback goes into the JSON line and makes no lines of its own."""
    configure()
    try:
        raise ValueError("no good")
    except ValueError:
        get_logger().exception("failed")
    (record,) = records(capsys)
    assert "ValueError: no good" in record["exception"]


def test_what_is_below_the_level_is_not_written(capsys: Captured) -> None:
    """The level holds for writing and for sinks; an unknown one is INFO."""
    seen: list[Any] = []
    add_sink(lambda record: seen.append(record["event"]))
    configure("nonsense")
    get_logger().debug("quiet")
    get_logger().info("said")
    assert [record["event"] for record in records(capsys)] == seen == ["said"]


def test_the_standard_library_goes_the_same_way(capsys: Captured) -> None:
    """A library's warning is JSON with the process's context, and sinks see it."""
    seen: list[str] = []
    add_sink(lambda record: seen.append(str(record["event"])))
    configure("INFO", server="A/1")
    logging.getLogger("some.library").warning("old %s", "call")
    logging.getLogger("some.library").info("chatter")
    (record,) = records(capsys)
    assert (record["event"], record["level"], record["server"]) == ("old call", "warning", "A/1")
    assert seen == ["old call"]


def test_sinks_get_event_level_time_and_context() -> None:
    """A server shows its own log from what a sink is given."""
    seen: list[dict[str, Any]] = []
    add_sink(lambda record: seen.append(dict(record)))
    configure(server="A/1")
    get_logger(device="a/b/c").error("broken")
    assert {"event": "broken", "level": "error", "device": "a/b/c", "server": "A/1"}.items() <= seen[0].items()
    assert "timestamp" in seen[0]


def test_a_terminal_shows_readable_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees words and not JSON."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    configure()
    get_logger(device="lab/power/1").info("ready")
    assert "ready" in screen.getvalue()
    assert "lab/power/1" in screen.getvalue()
    assert not screen.getvalue().startswith("{")


def test_a_disk_that_is_full_costs_the_line_and_not_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server polls, and a supervisor supervises, whether or not their logs can be written."""
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        configure("INFO", server="Meter/1")
        for _ in range(3):
            get_logger().error("failed", reason="x" * 8192)
        with contextlib.suppress(OSError):
            full.close()
