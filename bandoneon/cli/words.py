"""Times, durations and tables as the command line prints them."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from bandoneon.cli.options import WrongUse

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_COLOURS = {
    "running": 32,
    "on": 32,
    "ready": 32,
    "given_up": 31,
    "fault": 31,
    "hung": 31,
    "error": 31,
    "critical": 31,
    "backing_off": 33,
    "warning": 33,
    "alarm": 33,
    "unknown": 35,
}


class BadTime(WrongUse):
    """A time or duration that cannot be read; says how to write one."""


def parse_duration_s(text: str) -> float:
    """Return the seconds that `10m`, `1.5h`, `500ms` or `30` stand for."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([a-z]*)", text.strip())
    if match is None or (match[2] or "s") not in _UNITS_S:
        raise BadTime(f"{text!r} is no duration: write it like 30s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def parse_time_ns(text: str, now: datetime | None = None) -> int:
    """Return a moment in ns since 1970, exactly.

    ISO 8601 (`2026-11-23T15:51:32.123456789Z`, local time without a zone), a time of today (`15:51`), `now`, or a
    duration ago (`-10m`).
    """
    now = now or datetime.now().astimezone()
    word = text.strip()
    if word == "now":
        return _ns(now)
    if word.startswith("-"):
        return _ns(now) - round(parse_duration_s(word[1:]) * 1e9)
    match = re.fullmatch(r"(.*:\d\d)\.(\d{1,9})(.*)", word)
    whole, fraction = (match[1] + match[3], match[2]) if match else (word, "")
    try:
        clock_only = re.fullmatch(r"(\d\d?)(:\d\d(?::\d\d)?)", whole)
        moment = datetime.fromisoformat(
            f"{now:%Y-%m-%d}T{int(clock_only[1]):02}{clock_only[2]}" if clock_only else whole
        )
    except ValueError:
        raise BadTime(f"{text!r} is no time: write it like 2026-11-23T15:51:32Z, 15:51, now or -10m") from None
    return _ns(moment.astimezone()) + int(fraction.ljust(9, "0") or 0)


def _ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def duration(seconds: float) -> str:
    """Return a duration as a person says it: 0.1 s, 45 s, 12 min, 3 h, 2 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit_s, limit_s, word in ((1, 120, "s"), (60, 7200, "min"), (3600, 172800, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {word}"
    return f"{seconds / 86400:.0f} d"


def clock(time_s: float) -> str:
    """Return a moment as the operator's clock shows it, to the millisecond."""
    return datetime.fromtimestamp(time_s).astimezone().strftime("%H:%M:%S.%f")[:-3]


def readable(log: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log, which comes in pieces, as a person reads them, each when it is whole."""
    rest = ""
    for piece in log:
        *whole, rest = (rest + piece).split("\n")
        yield from (f"{_log_line(line)}\n" for line in whole)
    if rest:
        yield f"{_log_line(rest)}\n"


def _log_line(line: str) -> str:
    """Return a record of `bandoneon.logging` as text; another line as it is."""
    try:
        record = json.loads(line)
        time_s = datetime.fromisoformat(record.pop("timestamp")).timestamp()
        level, event = str(record.pop("level")), str(record.pop("event"))
        source = record.pop("device", record.get("server"))
        record.pop("server", None)
        exception = record.pop("exception", None)
    except (ValueError, LookupError, TypeError, AttributeError):
        return line
    named = " ".join(f"{key}={value!r}" for key, value in record.items())
    day = datetime.fromtimestamp(time_s).strftime("%Y-%m-%d")
    parts = (f"{day} {clock(time_s)} ", coloured(level, f"{level:<8}"), f"{source}:" if source else "", event, named)
    text = " ".join(part for part in parts if part)
    return f"{text}\n{exception}" if exception else text


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as aligned columns under `head`; words that name a state have its colour in a terminal."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(head), *cells]) for n in range(len(head))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(head, widths, strict=True)).rstrip()]
    for row in cells:
        padded = [coloured(cell, cell.ljust(width)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def coloured(word: str, text: str | None = None) -> str:
    """Return `text` (default: the word) in the colour that `word` has as a state, when a terminal shows it."""
    shown = word if text is None else text
    colour = _COLOURS.get(word.lower())
    if colour is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return shown
    return f"\x1b[{colour}m{shown}\x1b[0m"
