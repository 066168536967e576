"""What is known of an attribute and of its device, fed by listeners in any thread and read by presenters.

A device is alive while any good event of any of its attributes came within `ALIVE_S`: devices push their
State at least once a second. Times named `now_s` are of the monotonic clock; `time_s` is seconds since 1970.
"""

import math
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALIVE_S = 4.0
SILENCE_S = 2.5
"""A device that said nothing for so long leaves a gap in its curves."""


class Ring:
    """The latest `capacity` points (time, value) of a curve; one thread appends, another looks."""

    def __init__(self, capacity: int = 40_000) -> None:
        self._points = np.full((2, capacity), np.nan)
        self._count = 0
        self._lock = threading.Lock()

    def append(self, time_s: float, value: float) -> None:
        """Add a point; NaN breaks the curve. A point older than the last one is not kept."""
        with self._lock:
            capacity = self._points.shape[1]
            if self._count and time_s < self._points[0, (self._count - 1) % capacity]:
                return
            self._points[:, self._count % capacity] = time_s, value
            self._count += 1

    def since(self, start_s: float) -> tuple[Floats, Floats]:
        """Return times and values from `start_s` on, and the one point before it."""
        with self._lock:
            capacity = self._points.shape[1]
            if self._count <= capacity:
                points = self._points[:, : self._count]
            else:
                head = self._count % capacity
                points = np.concatenate((self._points[:, head:], self._points[:, :head]), axis=1)
            first = max(int(np.searchsorted(points[0], start_s)) - 1, 0)
            return points[0, first:].copy(), points[1, first:].copy()


class Health:
    """Whether one device answers."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.last_good_s: float | None = None
        self.last_good_time_s: float | None = None
        self.silences = 0
        self.silence_from_s: float | None = None

    def good(self, now_s: float, time_s: float) -> None:
        """Note a good event."""
        if self.last_good_s is not None and now_s - self.last_good_s > SILENCE_S:
            self.silences += 1
            self.silence_from_s = self.last_good_time_s
        self.last_good_s, self.last_good_time_s = now_s, time_s

    def age_s(self, now_s: float) -> float | None:
        """Return the seconds since the last good event; None before the first."""
        return None if self.last_good_s is None else max(0.0, now_s - self.last_good_s)

    def alive(self, now_s: float) -> bool:
        """Whether a good event came lately."""
        return self.last_good_s is not None and now_s - self.last_good_s < ALIVE_S


class Reading:
    """The last value of one attribute, with its set-point, quality, time and error, and a ring for curves.

    `set_value` is what was last written, None while that is not known. `quality` is VALID, INVALID, ALARM, CHANGING or
    WARNING. `value` stays when the attribute becomes invalid or its server dies; `sequence` grows with everything that
    happened.
    """

    def __init__(self, health: Health, attribute: str, *, ring: bool = False) -> None:
        self.health = health
        self.attribute = attribute
        self.value: object = None
        self.set_value: object = None
        self.quality = "INVALID"
        self.time_s: float | None = None
        self.good_s: float | None = None
        self.error = ""
        self.sequence = 0
        self.ring = Ring() if ring else None
        self._silences = 0

    @property
    def name(self) -> str:
        """Full name, domain/family/member/attribute."""
        return f"{self.health.device}/{self.attribute}"

    def accept(self, value: object, quality: str, time_s: float, now_s: float, set_value: object = None) -> None:
        """Take a value that arrived, and the set-point that came with it; None is a reading that is not valid."""
        self.health.good(now_s, time_s)
        if value is None or quality == "INVALID":
            self.quality, self.error = "INVALID", ""
            self._mark_gap(time_s)
        else:
            self.value, self.quality, self.time_s, self.error, self.good_s = value, quality, time_s, "", now_s
            self.set_value = set_value
            self._draw(time_s)
        self.sequence += 1

    def fail(self, error: str) -> None:
        """Take an error instead of a value."""
        self.error = error
        self.sequence += 1

    def number(self) -> float | None:
        """Return the last value as a finite number, or None."""
        if isinstance(self.value, int | float | np.integer | np.floating) and math.isfinite(self.value):
            return float(self.value)
        return None

    def usable(self, now_s: float) -> bool:
        """Whether the value describes the present."""
        return self.health.alive(now_s) and self.quality != "INVALID" and not self.error and self.value is not None

    def age_s(self, now_s: float) -> float | None:
        """Return the age of what is shown: of the last good value, or of the device's last sign of life."""
        if self.good_s is None:
            return None
        if self.quality == "INVALID" or self.error:
            return max(0.0, now_s - self.good_s)
        return self.health.age_s(now_s)

    def _draw(self, time_s: float) -> None:
        if self.ring is None:
            return
        number = self.number()
        if number is None:
            self._mark_gap(time_s)
            return
        if self.health.silences != self._silences:
            self._silences = self.health.silences
            self._mark_gap(self.health.silence_from_s or time_s)
        self.ring.append(time_s, number)

    def _mark_gap(self, time_s: float) -> None:
        if self.ring is not None:
            self.ring.append(time_s, math.nan)


class Readings:
    """All readings of a window, made when first asked for; one `Health` per device."""

    def __init__(self, on_new: Callable[[Reading], None] = lambda _reading: None) -> None:
        self._healths: dict[str, Health] = {}
        self._readings: dict[str, Reading] = {}
        self._on_new = on_new

    def health(self, device: str) -> Health:
        """Return the health of a device."""
        return self._healths.setdefault(device.lower(), Health(device))

    def get(self, device: str, attribute: str, *, ring: bool = False) -> Reading:
        """Return the reading of an attribute; who first asks for a ring gets one that starts then."""
        name = f"{device}/{attribute}".lower()
        reading = self._readings.get(name)
        if reading is None:
            reading = self._readings[name] = Reading(self.health(device), attribute, ring=ring)
            self._on_new(reading)
        elif ring and reading.ring is None:
            reading.ring = Ring()
        return reading


def state_of(state: Reading, now_s: float) -> str:
    """Return the device state to show: UNKNOWN as soon as the device does not answer."""
    if not state.health.alive(now_s) or state.value is None:
        return "UNKNOWN"
    return str(state.value).rpartition(".")[2].upper()
