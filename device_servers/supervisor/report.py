"""What a supervisor keeps in its run directory for those who look in without Tango: report and history."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bandoneon.logging import get_logger
from device_servers.supervisor.fleet import HISTORY_KEPT, Server
from device_servers.supervisor.logs import Logs


class History:
    """The file with what happened to a host's servers, over the lives of its supervisors."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[str]:
        """Return the latest lines that are whole, and shorten the file to them."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            return []
        whole = [line for line in lines if _is_record(line)][-HISTORY_KEPT:]
        if whole != lines:
            _replace(self._path, "".join(f"{line}\n" for line in whole))
        return whole

    def append(self, lines: Sequence[str]) -> None:
        """Add lines; a full disk costs the file lines and nothing else."""
        try:
            with self._path.open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            get_logger().error("history not written", reason=str(error))


class Reporter:
    """Describes servers, with what their processes use."""

    def __init__(self, path: Path, logs: Logs) -> None:
        self._path = path
        self._logs = logs
        self._processes: dict[str, psutil.Process] = {}

    def make(self, servers: Iterable[Server]) -> str:
        """Return the report, which is on disk too."""
        text = json.dumps([self._describe(server) for server in sorted(servers, key=lambda one: one.name)])
        _replace(self._path, text)
        return text

    def _describe(self, server: Server) -> dict[str, Any]:
        since = datetime.fromtimestamp(server.since_s, UTC).isoformat(timespec="milliseconds")
        return {
            "name": server.name,
            "class": server.name.split("/")[0],
            "devices": list(server.registered.devices),
            "state": server.state,
            "pid": server.pid,
            "restarts": server.restarts,
            "since": since,
            "last_exit": server.last_exit or None,
            **self._measure(server.name, server.pid),
            "last_lines": self._logs.last_lines(server.name) if server.state in ("given_up", "backing_off") else [],
        }

    def _measure(self, name: str, pid: int | None) -> dict[str, float | int | None]:
        """Return what a server's process uses; its CPU time counts from the last call."""
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                process = self._processes.get(name)
                if process is None or process.pid != pid:
                    process = self._processes[name] = psutil.Process(pid)
                with process.oneshot():
                    return {
                        "cpu_pct": process.cpu_percent(),
                        "memory_mib": round(process.memory_info().rss / 2**20, 1),
                        "descriptors": process.num_fds(),
                    }
        self._processes.pop(name, None)
        return {"cpu_pct": None, "memory_mib": None, "descriptors": None}


def _is_record(line: str) -> bool:
    """Whether a line is what was written: a supervisor may have been killed in the middle of one."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"server", "what"} <= record.keys()


def _replace(path: Path, text: str) -> None:
    """Replace a file as a whole; a full disk leaves the old one."""
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError):
        new.write_text(text)
        new.replace(path)
