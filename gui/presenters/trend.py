"""What a trend shows: its series with their units, its windows, the text of axes and of the cursor."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gui.presenters.curves import Statistics, statistics
from gui.presenters.readings import Floats, Reading
from gui.presenters.text import NONE, SiPrefix, fixed, prefixed_unit

STATISTICS = ("Now", "Min", "Max", "Mean", "Std", "Samples")
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_CURSOR_S = 2.0


class Window(NamedTuple):
    """A length of time a trend can show."""

    label: str
    span_s: float


WINDOWS = (Window("1 min", 60), Window("10 min", 600), Window("1 h", 3600))


class Series:
    """One curve. Without `decimals`, the greatest value drawn chooses the SI prefix of its unit and the decimals."""

    def __init__(self, name: str, reading: Reading, unit: str, *, decimals: int | None = None) -> None:
        self.name = name
        self.reading = reading
        self.unit = unit
        self._fixed = decimals
        self._prefix = SiPrefix()
        self._greatest = 0.0

    def fit(self, values: Floats) -> None:
        """Choose prefix and decimals for the values that are to be drawn."""
        sizes = np.abs(values[np.isfinite(values)])
        if self._fixed is None and len(sizes):
            self._greatest = float(sizes.max())
            self._prefix.update(self._greatest)

    @property
    def shown_unit(self) -> str:
        """The unit with its prefix."""
        return prefixed_unit(self.unit, self._prefix.exponent or 0)

    @property
    def title(self) -> str:
        """Name and unit, as in the table under the trend."""
        return f"{self.name}, {self.shown_unit}"

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be in `shown_unit`."""
        return 10.0 ** -(self._prefix.exponent or 0)

    @property
    def least_margin(self) -> float:
        """What an axis leaves free about a curve that does not change, in `shown_unit`."""
        return 1e-15 if self._fixed is None else 10 * 10.0**-self._fixed

    @property
    def decimals(self) -> int:
        """Decimals of its numbers: given, or such that the greatest has four digits."""
        if self._fixed is not None:
            return self._fixed
        size = self._greatest * self.scale
        return max(0, 4 - (math.floor(math.log10(size)) + 1 if size >= 1 else 1))

    def statistics(self, start_s: float, end_s: float, now_s: float) -> Statistics:
        """Return its row of the table."""
        return statistics(self.reading, start_s, end_s, now_s, self.scale, self.decimals)

    def at(self, times: Floats, values: Floats, time_s: float) -> str:
        """Return the value that was drawn at a time, with its unit."""
        if not len(times):
            return NONE
        index = min(int(np.searchsorted(times, time_s)), len(times) - 1)
        if index and abs(times[index - 1] - time_s) < abs(times[index] - time_s):
            index -= 1
        if abs(times[index] - time_s) > _CURSOR_S and not times[0] <= time_s <= times[-1]:
            return NONE
        return f"{fixed(float(values[index]), self.decimals)} {self.shown_unit}"


def short_name(device: str) -> str:
    """Return a device's name without its domain."""
    return device.partition("/")[2] or device


def redraw_period_s(span_s: float) -> float:
    """Return how often a window is worth drawing: a pixel of a long one lasts longer than a tick."""
    return min(1.0, max(0.15, span_s / 900))


def clock_ticks(start_s: float, end_s: float, most: int) -> tuple[float, list[float]]:
    """Return the distance of at most `most` time ticks, and the ticks."""
    span_s = max(end_s - start_s, 1.0)
    step = next((step for step in _TICKS_S if span_s / step <= max(most, 1)), _TICKS_S[-1])
    first = math.ceil(start_s / step) * step
    return step, [first + number * step for number in range(int((end_s - first) // step) + 1)]


def clock_text(time_s: float, step_s: float) -> str:
    """Return a time tick's text."""
    return time.strftime("%H:%M:%S" if step_s < 60 else "%H:%M", time.localtime(time_s))


def value_ticks(low: float, high: float, most: int) -> tuple[float, list[float]]:
    """Return the distance (1, 2 or 5 times a power of ten) of at most `most` value ticks, and the ticks."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return 1.0, []
    power = 10.0 ** math.floor(math.log10(span / max(most, 1)))
    step = next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= max(most, 1))
    first = math.ceil(low / step - 1e-9)
    return step, [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def value_text(value: float, step: float) -> str:
    """Return a value tick's text, with the decimals that tell it from the next tick."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return fixed(0.0 if abs(value) < step / 1e6 else value, min(decimals, 9))


def cursor_text(series: Sequence[Series], drawn: Sequence[tuple[Floats, Floats]], time_s: float) -> str:
    """Return what stands in the head of the trend while the pointer is over it."""
    values = [one.at(times, values, time_s) for one, (times, values) in zip(series, drawn, strict=True)]
    return "   ".join([time.strftime("%H:%M:%S", time.localtime(time_s)), *values])
