"""Servers and devices of a site together: table rows, the counts of the header, what needs a person."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gui.presenters.attention import Attention, DeviceState, Item
from gui.presenters.log import Line, parse_lines
from gui.presenters.power_meter import first_line
from gui.presenters.readings import Readings, state_of
from gui.presenters.servers import Count, ServerRow, header_counts, parse_report, supervisor_note
from gui.presenters.text import duration

PATIENCE_S = 6.0
"""A device that never answered needs a person only after so long: at first the window is still connecting."""


class Supervisor:
    """Readings of one `Supervisor` device."""

    def __init__(self, device: str, readings: Readings) -> None:
        self.device = device
        self.state = readings.get(device, "State")
        self.report = readings.get(device, "report")
        self.log_lines = readings.get(device, "log_lines")
        self._parsed_sequence = -1
        self._lines: list[Line] = []

    def rows(self, now_s: float, time_s: float) -> tuple[ServerRow, ...]:
        """Return the servers of its last report; while it is silent their uptimes stand still."""
        if self.report.value is None:
            return ()
        silent_s = 0.0 if self.alive(now_s) else self.state.health.age_s(now_s) or 0.0
        return parse_report(self.report.value, self.device, time_s - silent_s)

    def lines(self) -> list[Line]:
        """Return the lines of its log."""
        if self.log_lines.sequence != self._parsed_sequence:
            self._parsed_sequence = self.log_lines.sequence
            self._lines = parse_lines(self.log_lines.value)
        return self._lines

    def alive(self, now_s: float) -> bool:
        """Whether it answers."""
        return self.state.health.alive(now_s)


class Device:
    """State and Status of one device of the list."""

    def __init__(self, name: str, readings: Readings, now_s: float) -> None:
        self.name = name
        self.since_s = now_s
        self.state = readings.get(name, "State")
        self.status = readings.get(name, "Status")

    def shown(self, now_s: float) -> DeviceState:
        """Return its line of the list."""
        age_s = self.state.health.age_s(now_s)
        if age_s is None:
            line = "No answer yet"
        elif not self.state.health.alive(now_s):
            line = f"No answer for {duration(age_s)}"
        else:
            line = first_line(self.status.value)
        return DeviceState(self.name, state_of(self.state, now_s), line)

    def judged(self, now_s: float) -> bool:
        """Whether its state may call for a person yet."""
        return self.state.value is not None or now_s - self.since_s > PATIENCE_S


class OverviewView(NamedTuple):
    """What the dashboard and the header show."""

    rows: tuple[ServerRow, ...]
    devices: tuple[DeviceState, ...]
    counts: tuple[Count, ...]
    items: tuple[Item, ...]
    note: str
    stale: bool


class Overview:
    """The supervisors and devices of a site; names come when they are known."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._attention = Attention()
        self.supervisors: dict[str, Supervisor] = {}
        self.devices: dict[str, Device] = {}
        self._ordered: tuple[str, ...] = ()
        self._reported: set[str] = set()

    def add_supervisors(self, names: Iterable[str]) -> None:
        """Listen to these supervisors too."""
        for name in names:
            self.supervisors.setdefault(name.lower(), Supervisor(name, self._readings))

    def order_devices(self, names: Sequence[str]) -> None:
        """Take the order of the device list, and the devices to list where no supervisor reports any."""
        self._ordered, self._reported = tuple(names), set()

    def _list_devices(self, rows: Iterable[ServerRow], now_s: float) -> None:
        """List the devices of the reported servers: a database may hold those of a whole facility."""
        reported = {device for row in rows for device in row.devices} | set(self.supervisors)
        if reported == self._reported:
            return
        if len(reported) > len(self.supervisors):
            ordered = [name for name in self._ordered if name.lower() in reported]
            missing = reported - {name.lower() for name in ordered}
            self._reported = reported
            self.show_devices([*ordered, *sorted(missing)], now_s)

    def show_devices(self, names: Sequence[str], now_s: float) -> None:
        """List these devices, in this order."""
        known = self.devices
        self.devices = {name.lower(): known.get(name.lower()) or Device(name, self._readings, now_s) for name in names}

    def lines(self) -> list[Line]:
        """Return the lines of all supervisors' logs."""
        return [line for supervisor in self.supervisors.values() for line in supervisor.lines()]

    @property
    def log_sequence(self) -> int:
        """Grows with every change of a supervisor's log."""
        return sum(supervisor.log_lines.sequence for supervisor in self.supervisors.values())

    def supervisor_alive(self, name: str, now_s: float) -> bool:
        """Whether a supervisor answers."""
        supervisor = self.supervisors.get(name.lower())
        return supervisor is not None and supervisor.alive(now_s)

    def view(self, now_s: float, time_s: float) -> OverviewView:
        """Return what to show now."""
        supervisors = list(self.supervisors.values())
        rows = tuple(row for supervisor in supervisors for row in supervisor.rows(now_s, time_s))
        self._list_devices(rows, now_s)
        devices = [(device, device.shown(now_s)) for device in self.devices.values()]
        shown = tuple(state for _device, state in devices)
        alive = [supervisor.alive(now_s) for supervisor in supervisors]
        current = tuple(row for row in rows if self.supervisor_alive(row.supervisor, now_s))
        judged = [
            state if device.state.health.alive(now_s) else state._replace(line="Does not answer")
            for device, state in devices
            if device.judged(now_s)
        ]
        return OverviewView(
            rows,
            shown,
            header_counts(current, (state.state for state in judged)),
            self._attention.update(current, judged, now_s),
            supervisor_note([supervisor.state.health.age_s(now_s) for supervisor in supervisors], alive),
            bool(supervisors) and not any(alive),
        )
