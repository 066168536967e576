"""The server dashboard: rows from the supervisors' reports, what the buttons may do, the counts in the header."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from gui.presenters.text import NONE, duration, fixed, plural

_LOOKS = {
    "running": ("RUNNING", "RUNNING"),
    "starting": ("INIT", "STARTING"),
    "stopping": ("INIT", "STOPPING"),
    "stopped": ("OFF", "STOPPED"),
    "backing_off": ("ALARM", "RETRYING"),
    "hung": ("ALARM", "HUNG"),
    "given_up": ("FAULT", "GIVEN UP"),
    "unknown": ("UNKNOWN", "UNKNOWN"),
}
_ABSENT = ("stopped", "given_up")


class ServerRow(NamedTuple):
    """One server as the dashboard shows it; `state` is the supervisor's word."""

    supervisor: str
    name: str
    state: str
    chip_state: str
    chip_word: str
    uptime: str
    cpu: str
    memory: str
    restarts: str
    last_exit: str
    devices: tuple[str, ...]
    tip: str

    @property
    def title(self) -> str:
        """The server's class."""
        return self.name.partition("/")[0]

    @property
    def instance(self) -> str:
        """The server's instance."""
        return self.name.partition("/")[2]

    @property
    def running(self) -> bool:
        """Whether it has a process that works."""
        return self.state == "running"


def parse_report(report: object, supervisor: str, time_s: float) -> tuple[ServerRow, ...]:
    """Return the rows in a supervisor's `report` (a JSON list); what cannot be read is no row."""
    try:
        servers = json.loads(str(report))
    except ValueError:
        return ()
    return tuple(_row(server, supervisor, time_s) for server in servers if isinstance(server, dict))


def _row(server: Mapping[str, Any], supervisor: str, time_s: float) -> ServerRow:
    state = str(server.get("state", "unknown"))
    chip_state, chip_word = _LOOKS.get(state, ("UNKNOWN", state.upper()))
    since_s = _seconds(server.get("since"))
    alive = server.get("pid") is not None
    running_s = time_s - since_s if alive and since_s is not None else None
    last_exit = str(server.get("last_exit") or "")
    last_lines = "\n".join(str(line) for line in server.get("last_lines") or ())
    return ServerRow(
        supervisor,
        str(server.get("name", NONE)),
        state,
        chip_state,
        chip_word,
        duration(running_s),
        fixed(server.get("cpu_pct") if alive else None, 1),
        fixed(server.get("memory_mib") if alive else None, 0),
        fixed(server.get("restarts", 0), 0),
        last_exit,
        tuple(str(device).lower() for device in server.get("devices") or ()),
        "\n".join(line for line in (f"Last exit: {last_exit}" if last_exit else "", last_lines) if line),
    )


def _seconds(moment: object) -> float | None:
    """Return seconds since 1970 of a time in ISO 8601, or of a number that is them already."""
    if isinstance(moment, int | float):
        return float(moment)
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return None


class ServerButtons(NamedTuple):
    """Which of the dashboard's buttons can be pressed."""

    start: bool
    stop: bool
    restart: bool


def buttons(row: ServerRow | None, supervisor_alive: bool) -> ServerButtons:
    """Return what may be done with the selected server."""
    if row is None or not supervisor_alive:
        return ServerButtons(False, False, False)
    absent = row.state in _ABSENT
    return ServerButtons(absent or row.state == "backing_off", not absent, True)


def supervisor_note(ages_s: Sequence[float | None], alive: Sequence[bool]) -> str:
    """Say when a supervisor does not answer; "" while all do."""
    if not ages_s:
        return ""
    silent = [age_s for age_s, answers in zip(ages_s, alive, strict=True) if not answers]
    if not silent:
        return ""
    known = [age_s for age_s in silent if age_s is not None]
    return f"Supervisor silent for {duration(max(known))}" if known else "Supervisor not answering yet"


class Count(NamedTuple):
    """One of the counts in the header."""

    state: str
    text: str


def header_counts(rows: Iterable[ServerRow], device_states: Iterable[str]) -> tuple[Count, ...]:
    """Return the counts above zero: servers that run, are stopped or failed; devices in alarm, fault or silent."""
    states = [row.state for row in rows]
    devices = list(device_states)
    numbers = (
        ("ON", states.count("running"), "running"),
        ("OFF", states.count("stopped"), "stopped"),
        ("ALARM", devices.count("ALARM"), "in alarm"),
        ("FAULT", devices.count("FAULT") + states.count("given_up"), "failed"),
        ("UNKNOWN", devices.count("UNKNOWN"), "no answer"),
    )
    return tuple(Count(state, f"{number} {word}") for state, number, word in numbers if number)


def action_line(name: str, verb: str, error: str | None) -> str:
    """Say how a command to the supervisor ended."""
    return f"{verb.capitalize()} {name}: {error}" if error else f"{verb.capitalize()} {name}: done"


def summary(rows: Sequence[ServerRow]) -> str:
    """Return the number of servers."""
    return plural(len(rows), "server")
