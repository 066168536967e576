"""What a supervisor keeps in its run directory: report and history for those who look in without Tango, its memory."""

import contextlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bandoneon.logging import get_logger
from device_servers.supervisor.fleet import HISTORY_KEPT, Kept, Server
from device_servers.supervisor.health import Ill
from device_servers.supervisor.logs import Logs


class History:
    """The file with what happened to a host's servers, over the lives of its supervisors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appended = 0

    def read(self) -> list[str]:
        """Return the latest lines that are whole, and shorten the file to them."""
        self._appended = 0
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            return []
        whole = [line for line in lines if _is_record(line)][-HISTORY_KEPT:]
        if whole != lines:
            with contextlib.suppress(OSError):
                replace(self._path, "".join(f"{line}\n" for line in whole))
        return whole

    def append(self, lines: Sequence[str]) -> None:
        """Add lines, and now and then drop the oldest; a full disk costs the file lines and nothing else."""
        try:
            with self._path.open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            get_logger().error("history not written", reason=str(error))
        self._appended += len(lines)
        if self._appended >= HISTORY_KEPT:
            self.read()


class Memory:
    """The file with what outlives a supervisor, of one run of its host: what somebody stopped, restarts, last exits.

    It has a lock: commands note here what they are asked before they return, the control thread how servers end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._run = ""
        self._servers: dict[str, Kept] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads(path.read_text())
            self._servers = {name: Kept(**one) for name, one in kept["servers"].items()}
            self._run = str(kept["run"])

    @property
    def servers(self) -> Mapping[str, Kept]:
        """What is known of each server."""
        with self._lock:
            return dict(self._servers)

    def begin(self, run: str, *, lived_through: bool) -> None:
        """Begin or go on with run `run` of the host; one that started anew is a clean slate, unless we saw it begin."""
        with self._lock:
            if run != self._run and not lived_through:
                self._servers = {}
            self._run = run
            with contextlib.suppress(OSError):
                self._write()

    def note_stopped(self, name: str, *, stopped: bool) -> None:
        """Keep that somebody stopped a server, or started it; raises OSError when that cannot be written."""
        with self._lock:
            self._servers[name] = self._servers.get(name, Kept())._replace(stopped=stopped)
            self._write()

    def note_exits(self, servers: Iterable[Server]) -> None:
        """Keep how often servers were restarted and how they ended last; a full disk costs the file alone."""
        with self._lock:
            for server in servers:
                kept = self._servers.get(server.name, Kept())
                self._servers[server.name] = kept._replace(restarts=server.restarts, last_exit=server.last_exit)
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        servers = {name: one._asdict() for name, one in self._servers.items()}
        replace(self._path, json.dumps({"run": self._run, "servers": servers}))


class Reporter:
    """Describes servers, with what their processes use."""

    def __init__(self, path: Path, logs: Logs, ill: Mapping[str, Ill]) -> None:
        self._path = path
        self._logs = logs
        self._ill = ill
        self._processes: dict[str, psutil.Process] = {}

    def make(self, servers: Iterable[Server], problem: str) -> str:
        """Return the report; it is on disk too, with what keeps the supervisor from supervising ("": nothing)."""
        report = [self._describe(server) for server in sorted(servers, key=lambda one: one.name)]
        with contextlib.suppress(OSError):  # a full disk leaves the old one
            replace(self._path, json.dumps({"problem": problem, "servers": report}))
        return json.dumps(report)

    def _describe(self, server: Server) -> dict[str, Any]:
        since = datetime.fromtimestamp(server.since_wall_s, UTC).isoformat(timespec="milliseconds")
        return {
            "name": server.name,
            "class": server.name.split("/")[0],
            "devices": list(server.registered.devices),
            "state": server.state,
            "pid": server.pid,
            "restarts": server.restarts,
            "since": since,
            "last_exit": server.last_exit or None,
            "ill": self._ill_of(server.registered.devices) if server.state == "running" else [],
            **self._measure(server.name, server.pid),
            "last_lines": self._logs.last_lines(server.name) if server.state in ("given_up", "backing_off") else [],
        }

    def _ill_of(self, devices: Iterable[str]) -> list[dict[str, str]]:
        """Return which devices need a person, and what they say."""
        found = [(device, self._ill.get(device)) for device in devices]
        return [{"device": device, **ill._asdict()} for device, ill in found if ill is not None]

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


def replace(path: Path, text: str) -> None:
    """Replace a file as a whole; raises OSError, and then the old one is there."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)
