"""A link without Tango: tests put readings in, and see what was commanded and written."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from gui.presenters.readings import Reading, Readings
from gui.presenters.site import Site

Done = Callable[[object, str | None], None]

POWER, ROTATORS = "lab/power/1", ("lab/rotator/1", "lab/rotator/2")
SUPERVISOR, ARCHIVER = "tango/admin/local", "archive/demo/1"
SITE = Site((SUPERVISOR,), (POWER,), ROTATORS, (ARCHIVER,), (POWER, *ROTATORS, ARCHIVER, SUPERVISOR))


class Call(NamedTuple):
    """A command or a write; `done` ends it."""

    device: str
    name: str
    argument: object
    done: Done


class FakeLink:
    """Stands for `Link`."""

    def __init__(self) -> None:
        self.readings = Readings()
        self.site: Site | None = None
        self.database_error = ""
        self.commands: list[Call] = []
        self.writes: list[Call] = []

    def tick(self, now_s: float) -> None:
        """Do nothing."""

    def command(self, device: str, name: str, argument: object, done: Done) -> None:
        """Keep a command."""
        self.commands.append(Call(device, name, argument, done))

    def write(self, device: str, attribute: str, value: object, done: Done) -> None:
        """Keep a write."""
        self.writes.append(Call(device, attribute, value, done))

    def put(
        self, name: str, value: object, quality: str = "VALID", *, ago_s: float = 0.0, set_value: object = None
    ) -> Reading:
        """Let a reading (domain/family/member/attribute) come, `ago_s` seconds ago."""
        device, _, attribute = name.rpartition("/")
        reading = self.readings.get(device, attribute)
        reading.accept(value, quality, time.time() - ago_s, time.monotonic() - ago_s, set_value)
        return reading


def server(name: str, state: str = "running", **values: object) -> dict[str, object]:
    """Return one entry of a supervisor's report."""
    since = datetime.fromtimestamp(time.time() - 125, UTC).isoformat(timespec="milliseconds")
    entry: dict[str, object] = {
        "name": name,
        "class": name.partition("/")[0],
        "devices": [],
        "state": state,
        "pid": 4711 if state == "running" else None,
        "restarts": 0,
        "since": since,
        "last_exit": None,
        "cpu_pct": 1.5,
        "memory_mib": 61,
        "descriptors": 20,
        "last_lines": [],
    }
    return entry | values


def put_report(link: FakeLink, *servers: dict[str, object], ago_s: float = 0.0) -> None:
    """Let a supervisor's report come."""
    link.put(f"{SUPERVISOR}/State", "ON", ago_s=ago_s)
    link.put(f"{SUPERVISOR}/report", json.dumps(servers), ago_s=ago_s)


def put_meter(link: FakeLink, power: float = 4.962e-3, *, ago_s: float = 0.0) -> None:
    """Let the readings of a power meter come."""
    values = {
        "State": "ON", "Status": "Measuring.", "power": power, "wavelength": 1064.0, "range": 5, "auto_range": True,
        "filter": "MEDIUM", "zero_enabled": False,
    }  # fmt: skip
    for name, value in values.items():
        link.put(f"{POWER}/{name}", value, ago_s=ago_s)


def put_rotator(
    link: FakeLink,
    device: str,
    position: float,
    state: str = "ON",
    *,
    target: float | None = None,
    ago_s: float = 0.0,
) -> None:
    """Let the readings of a mount come; it was sent to `target`, or to where it is."""
    status = {"ON": "In position.", "MOVING": "Turning."}.get(state, "")
    for name, value in {"State": state, "Status": status, "jog_step": 5.0}.items():
        link.put(f"{device}/{name}", value, ago_s=ago_s)
    link.put(f"{device}/position", position, ago_s=ago_s, set_value=position if target is None else target)


def put_archiver(link: FakeLink, *, lost: int = 0, ago_s: float = 0.0) -> None:
    """Let the readings of an archiver come."""
    values = {
        "State": "ON", "Status": "Archiving.", "events_per_s": 424.0, "lag_s": 0.032, "lost": lost,
        "disk_used_pct": 61.0, "disk_free_gib": 88.4, "hours_to_full": 1128.0,
    }  # fmt: skip
    for name, value in values.items():
        link.put(f"{ARCHIVER}/{name}", value, ago_s=ago_s)
