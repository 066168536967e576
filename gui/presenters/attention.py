"""What needs a person, until there are alarms: servers given up or hung, devices in FAULT, ALARM or silent."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gui.presenters.servers import ServerRow

_ORDER = {"FAULT": 0, "ALARM": 1, "UNKNOWN": 2}
_SERVER_TEXTS = {
    "given_up": ("FAULT", "Given up, will not be restarted"),
    "hung": ("ALARM", "Hangs, is being restarted"),
    "backing_off": ("ALARM", "Died, will be restarted"),
}


class DeviceState(NamedTuple):
    """A device's name, what is shown of it, and the line beside it."""

    device: str
    state: str
    line: str

    @property
    def tip(self) -> str:
        """The whole line, for the tool tip of a row that cuts it."""
        return self.line


class Item(NamedTuple):
    """One line of the list; `since_s` is monotonic."""

    severity: str
    text: str
    source: str
    since_s: float


class Attention:
    """The list, which remembers since when each of its items is there."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[str, str], float] = {}

    def update(self, rows: Iterable[ServerRow], devices: Iterable[DeviceState], now_s: float) -> tuple[Item, ...]:
        """Return the items, gravest and newest first."""
        found = dict(self._servers(rows))
        absent = {device for row in rows if not row.running for device in row.devices}
        for device in devices:
            if device.state in _ORDER and device.device.lower() not in absent:
                found[device.device, device.state] = device.state, device.line or f"Is in {device.state}"
        self._since_s = {key: self._since_s.get(key, now_s) for key in found}
        items = [Item(severity, text, key[0], self._since_s[key]) for key, (severity, text) in found.items()]
        return tuple(sorted(items, key=lambda item: (_ORDER[item.severity], -item.since_s, item.source)))

    def _servers(self, rows: Iterable[ServerRow]) -> Mapping[tuple[str, str], tuple[str, str]]:
        found = {}
        for row in rows:
            if row.state in _SERVER_TEXTS:
                severity, text = _SERVER_TEXTS[row.state]
                found[row.name, row.state] = severity, f"{text} ({row.last_exit})" if row.last_exit else text
        return found


def heading(items: Iterable[Item]) -> str:
    """Return the count beside the title."""
    count = len(tuple(items))
    return f"{count} open" if count else "Nothing"
