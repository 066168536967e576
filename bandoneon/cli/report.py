"""What runs: servers and archivers of a site, from the files they write every second, or asked by Tango.

Without Tango this takes a few milliseconds, which is why `status` looks at the files of a site of this machine first.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bandoneon.cli.processes import children
from bandoneon.site.running import RunningSite

HEALTHY = ("RUNNING", "ON")

SHOWN = ("name", "class", "devices", "state", "pid", "restarts", "since", "last_exit")
"""What `status --json` shows of a server; the supervisor's report has more."""

ARCHIVER_SHOWN = ("device", "state", "attributes", "events_per_s", "lag_s", "lost")

REPORT = "report.json"
"""The supervisor's file in the run directory; an archiver's has its device's name with _ for /."""

FRESH_S = 3.0
"""A file that is older tells nothing: its writer died or hangs."""


@dataclass
class Report:
    """A site's servers and archivers as `status` shows them.

    `may_end` are the servers whose policy lets them end well; `problems` says what is not known, and why.
    """

    site: str
    tango_host: str
    servers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    archivers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    may_end: frozenset[str] = frozenset()
    problems: list[str] = field(default_factory=list[str])

    @property
    def ready(self) -> bool:
        """Whether everything is known, every server runs or has ended as it may, and every archiver is well."""
        return (
            bool(self.servers)
            and not self.problems
            and all(server["state"] == "running" or self.ended_well(server) for server in self.servers)
            and all(archiver["state"] in HEALTHY for archiver in self.archivers)
        )

    def ended_well(self, server: dict[str, Any]) -> bool:
        """Whether a server has done what it was for."""
        return server["state"] == "stopped" and server["name"] in self.may_end and server["last_exit"] == "code 0"

    def archiver_devices(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each archiver's server and device name."""
        for server in self.servers:
            if server["class"] == "Archiver":
                yield from ((server, name) for name in server["devices"] if name.startswith("archive/"))

    def as_json(self) -> dict[str, object]:
        """Return the shape of `status --json`."""
        return {
            "site": self.site,
            "tango_host": self.tango_host,
            "ready": self.ready,
            "servers": [{key: server.get(key) for key in SHOWN} for server in self.servers],
            "archivers": self.archivers,
        }


def from_files(site: RunningSite) -> Report:
    """Return how the servers of this machine are; what its files do not tell is unknown."""
    result = Report(site.site, site.tango_host, may_end=frozenset(site.may_end))
    told = _fresh(site.run / REPORT)
    if isinstance(told, dict):
        result.servers = told["servers"]
        result.problems += told["problem"].splitlines()
    else:
        result.servers = [
            unknown_server(name, pid=process.pid) for name, process in children(site).items() if process.level > 0
        ]
        result.problems.append(
            f"the supervisor of {site.host} has written no report for {FRESH_S:g} s: it starts, hangs "
            f"(`{site.up_command}` replaces it), or its disk is full, see `./run logs Supervisor/{site.host}`"
        )
    for server, name in result.archiver_devices():
        figures = None
        if server["state"] == "running":
            figures = _fresh(archiver_file(site.run, name), datetime.fromisoformat(server["since"]).timestamp())
        shown = {key: figures.get(key) for key in ARCHIVER_SHOWN} if isinstance(figures, dict) else unknown(name)
        result.archivers.append(shown)
    return result


def unknown_server(name: str, *, devices: tuple[str, ...] = (), pid: int | None = None) -> dict[str, Any]:
    """Return what is shown of a server whose supervisor does not answer."""
    known = {"name": name, "class": name.split("/")[0], "devices": list(devices), "state": "unknown", "pid": pid}
    return {**dict.fromkeys(SHOWN), **known}


def archiver_file(run: Path, device: str) -> Path:
    """Return the file in which an archiver writes its figures."""
    return run / f"{device.replace('/', '_')}.json"


def unknown(archiver: str) -> dict[str, Any]:
    """Return what is shown of an archiver that does not answer."""
    return {**dict.fromkeys(ARCHIVER_SHOWN), "device": archiver, "state": "UNKNOWN"}


def _fresh(path: Path, not_before_s: float = 0.0) -> object:
    """Return what a JSON file holds; None when it is missing, broken, too old or from before a restart."""
    try:
        written_s = path.stat().st_mtime
        if written_s < max(time.time() - FRESH_S, not_before_s):
            return None
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
