"""The servers' log files, followed: new records for the operator's log, last lines for a server that ended."""

import json
import os
import time
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

RECORDS_KEPT: Final = 200
LAST_LINES: Final = 5
TAIL_BYTES: Final = 1 << 13
READ_BYTES: Final = 1 << 17


class Logs:
    """The log directory of a host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._positions: dict[str, int | None] = {}
        self.records: deque[str] = deque(maxlen=RECORDS_KEPT)
        """The latest records of all servers: JSON lines {time_ns, level, source, message}."""

    def path(self, server: str) -> Path:
        """Return the log file of a server."""
        return self._directory / f"{server.replace('/', '_')}.log"

    def follow(self, servers: Iterable[str]) -> bool:
        """Take what was appended since the last call; return whether there was anything.

        The first call, and one after a log grew by very much, takes the end of what is there.
        """
        found: list[tuple[int, str]] = []
        for server in servers:
            lines, self._positions[server] = _appended(self.path(server), self._positions.get(server))
            found += [record_of(line, server) for line in lines if line]
        found.sort(key=lambda one: one[0])
        self.records.extend(line for _, line in found)
        return bool(found)

    def last_lines(self, server: str) -> list[str]:
        """Return the last lines of a server's log, for people."""
        try:
            lines = _end(self.path(server), TAIL_BYTES).splitlines()
        except OSError:
            return []
        return [json.loads(record_of(line, server)[1])["message"] for line in lines[-LAST_LINES:]]

    def read(self, server: str) -> str:
        """Return the end of a server's log as it is; raises OSError when there is none."""
        return _end(self.path(server), READ_BYTES)


def _end(path: Path, most: int) -> str:
    """Return the whole lines among the last `most` bytes of a file."""
    with path.open("rb") as file:
        begin = max(0, os.fstat(file.fileno()).st_size - most)
        file.seek(begin)
        if begin:
            file.readline()
        return file.read(most).decode("utf-8", "replace")


def _appended(path: Path, position: int | None) -> tuple[list[str], int | None]:
    """Return the whole lines of a file after `position`, and the position after them."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if position is not None and size < position:  # somebody emptied it
                position = 0
            begin = max(position or 0, size - READ_BYTES)
            file.seek(begin)
            if begin != (position or 0):
                begin += len(file.readline())
            data = file.read(size - begin)
    except OSError:
        return [], position
    whole = data.rfind(b"\n") + 1
    return data[:whole].decode("utf-8", "replace").splitlines(), begin + whole


def record_of(line: str, server: str) -> tuple[int, str]:
    """Return a log line's time in ns and the record for the operator; a line that is no JSON is a message of now."""
    try:
        record = json.loads(line)
        event = str(record["event"])
        more = " ".join(str(record[key]) for key in ("state", "status", "reason") if record.get(key))
        message = f"{event}: {more}" if more else event
        time_ns = round(datetime.fromisoformat(str(record["timestamp"])).timestamp() * 1e9)
        level = str(record.get("level", "info"))
        source = str(record.get("device", server))
    except (ValueError, KeyError, TypeError):
        message, time_ns, level, source = line, time.time_ns(), "info", server
    return time_ns, json.dumps({"time_ns": time_ns, "level": level, "source": source, "message": message})
