"""The archiver strip: events per second, lag, lost events, disk."""

from typing import NamedTuple

from gui.presenters.readings import Reading, Readings, state_of
from gui.presenters.text import NONE, fixed

_HOURS_SHOWN_AS_DAYS = 72


class ArchiverView(NamedTuple):
    """What the strip shows; `lost_is_bad` colours the count."""

    state: str
    events_per_s: str
    lag: str
    lag_caption: str
    lost: str
    lost_is_bad: bool
    disk: str
    disk_pct: int
    full_in: str
    full_caption: str
    stale: bool


class Archiver:
    """Readings of one `Archiver` device."""

    def __init__(self, device: str, readings: Readings) -> None:
        self.device = device
        self.state = readings.get(device, "State")
        self.status = readings.get(device, "Status")
        self.events_per_s = readings.get(device, "events_per_s", ring=True)
        self.lag_s = readings.get(device, "lag_s")
        self.lost = readings.get(device, "lost")
        self.disk_used_pct = readings.get(device, "disk_used_pct")
        self.disk_free_gib = readings.get(device, "disk_free_gib")
        self.hours_to_full = readings.get(device, "hours_to_full")

    def view(self, now_s: float) -> ArchiverView:
        """Return what the strip shows."""

        def number(reading: Reading) -> float | None:
            """The last one, unless the archiver says now that there is none."""
            return reading.number() if reading.usable(now_s) or not reading.health.alive(now_s) else None

        lag_s = number(self.lag_s)
        in_ms = lag_s is not None and lag_s < 1
        lost = number(self.lost)
        used_pct = number(self.disk_used_pct)
        free = fixed(number(self.disk_free_gib), 1)
        full_in, full_caption = full_text(number(self.hours_to_full))
        return ArchiverView(
            state_of(self.state, now_s),
            fixed(number(self.events_per_s), 0),
            fixed(None if lag_s is None else lag_s * 1000 if in_ms else lag_s, 0 if in_ms else 1),
            "Lag, ms" if in_ms or lag_s is None else "Lag, s",
            fixed(lost, 0),
            bool(lost),
            f"Disk used {fixed(used_pct, 0)} %, {free} GiB free" if used_pct is not None else f"Disk used {NONE}",
            round(used_pct or 0),
            full_in,
            full_caption,
            not self.state.health.alive(now_s),
        )


def full_text(hours: float | None) -> tuple[str, str]:
    """Return how long the disk lasts, and the caption with its unit; no number means that it does not fill."""
    if hours is None or hours < 0:
        return NONE, "Disk full in"
    if hours < _HOURS_SHOWN_AS_DAYS:
        return fixed(hours, 0), "Disk full in, hours"
    days = hours / 24
    return (fixed(days, 0), "Disk full in, days") if days <= 999 else (">999", "Disk full in, days")
