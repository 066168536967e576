"""The log: the supervisors' lines and the window's own, newest first, with a filter."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

_LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}
_SHOWN = 400
LEVEL_STATES = {"WARNING": "ALARM", "ERROR": "FAULT"}
"""State whose colour and symbol a level has."""


class Line(NamedTuple):
    """One line of the log."""

    time_s: float
    level: str
    source: str
    message: str

    @property
    def clock(self) -> str:
        """Local time of day."""
        return time.strftime("%H:%M:%S", time.localtime(self.time_s))


def parse_lines(lines: object) -> list[Line]:
    """Return the lines in a supervisor's `log_lines` (JSON texts); what cannot be read is left out."""
    if not isinstance(lines, Iterable) or isinstance(lines, str):
        return []
    return [line for text in lines if (line := _parse(str(text))) is not None]


def _parse(text: str) -> Line | None:
    try:
        entry = json.loads(text)
        level = str(entry.get("level", "INFO")).upper()
        shown = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR"}.get(level, level)
        return Line(int(entry["time_ns"]) / 1e9, shown, str(entry.get("source", "")), str(entry.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Log:
    """The window's own lines; any thread may add one."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=500)
        self._lock = threading.Lock()
        self.sequence = 0

    def add(self, level: str, source: str, message: str) -> None:
        """Add a line of now."""
        with self._lock:
            self._lines.append(Line(time.time(), level, source, message))
            self.sequence += 1

    def merged(self, remote: Iterable[Line], words: str, least_level: str) -> tuple[Line, ...]:
        """Return own and remote lines that hold all `words` and have at least `least_level`, newest first."""
        with self._lock:
            lines = [*self._lines, *remote]
        wanted = words.lower().split()
        least = _LEVELS[least_level]
        found = [
            line
            for line in lines
            if _LEVELS.get(line.level, 1) >= least
            and all(word in f"{line.source} {line.message}".lower() for word in wanted)
        ]
        return tuple(sorted(found, key=lambda line: -line.time_s)[:_SHOWN])
