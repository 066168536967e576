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

from bandoneon.cli.options import Target, answers

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
    """A site's servers and archivers as `status` shows them."""

    site: str
    tango_host: str
    servers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    archivers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def ready(self) -> bool:
        """Whether every server runs and every archiver is well."""
        return (
            bool(self.servers)
            and all(server["state"] == "running" for server in self.servers)
            and all(archiver["state"] in HEALTHY for archiver in self.archivers)
        )

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


def from_files(found: Target) -> Report | None:
    """Return how a site of this machine is; None when its files do not tell all of it."""
    site = found.running
    if site is None or site.hosts != [site.host] or not answers(site.socket):
        return None
    servers = _fresh(site.run / REPORT)
    if not isinstance(servers, list):
        return None
    result = Report(site.site, found.tango_host, servers)
    for server, name in result.archiver_devices():
        if server["state"] != "running":
            result.archivers.append(unknown(name))
            continue
        figures = _fresh(archiver_file(site.run, name), datetime.fromisoformat(server["since"]).timestamp())
        if not isinstance(figures, dict):
            return None
        result.archivers.append({key: figures.get(key) for key in ARCHIVER_SHOWN})
    return result


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
