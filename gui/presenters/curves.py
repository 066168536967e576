"""From readings to what a trend draws: steps, extension to now, thinning, axis limits, statistics."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gui.presenters.readings import Floats, Reading
from gui.presenters.text import NONE, fixed

HOLD_S = 1.5
"""Points further apart were not sent because nothing changed: the line stays, and then steps."""

_BEFORE_GAP_S = 0.01

BUCKETS = 900


def visible(reading: Reading, start_s: float, end_s: float, now_s: float) -> tuple[Floats, Floats]:
    """Return the points of a curve between two times: held where nothing changed, and up to `end_s` while alive."""
    assert reading.ring is not None
    times, values = reading.ring.since(start_s)
    keep = times <= end_s
    times, values = times[keep], values[keep]
    if not len(times):
        return times, values
    times, values = stepped(times, values)
    until_s = held_until(reading, end_s, now_s)
    if until_s > times[-1] and np.isfinite(values[-1]):
        times, values = np.append(times, until_s), np.append(values, values[-1])
    if times[0] < start_s:
        times[0] = start_s
    return times, values


def held_until(reading: Reading, end_s: float, now_s: float) -> float:
    """Return until when the last value is known to hold: up to `end_s` while its device lives."""
    heard_s = reading.health.last_good_time_s
    return end_s if heard_s is None or reading.health.alive(now_s) else min(end_s, heard_s)


def stepped(times: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Insert the previous value just before a point or a gap that follows a long pause."""
    pause_s = np.where(np.isfinite(values[1:]), HOLD_S, _BEFORE_GAP_S)
    after = np.nonzero((np.diff(times) > pause_s) & np.isfinite(values[:-1]))[0] + 1
    if not len(after):
        return times, values
    return np.insert(times, after, times[after] - 1e-3), np.insert(values, after, values[after - 1])


def thinned(times: Floats, values: Floats, buckets: int = BUCKETS) -> tuple[Floats, Floats]:
    """Keep the least and the greatest of each bucket, so no peak is lost; a bucket with a gap keeps the gap."""
    if len(times) <= 2 * buckets:
        return times, values
    width = len(times) // buckets
    rest = len(times) % width
    grid_t, grid_v = times[rest:].reshape(-1, width), values[rest:].reshape(-1, width)
    gaps = np.isnan(grid_v)
    low = np.where(gaps, np.inf, grid_v).argmin(axis=1)
    high = np.where(gaps, -np.inf, grid_v).argmax(axis=1)
    rows = np.arange(len(grid_v))
    gap = np.where(gaps.any(axis=1), gaps.argmax(axis=1), high)
    columns = np.sort(np.stack((low, high, gap), axis=1), axis=1)
    return grid_t[rows[:, None], columns].ravel(), grid_v[rows[:, None], columns].ravel()


class Axis:
    """Limits of a value axis: they grow at once and shrink only when the curve fills less than 60 %.

    `least` is the margin a curve that does not change gets.
    """

    def __init__(self, least: float = 1e-15) -> None:
        self._least = least
        self.limits: tuple[float, float] | None = None

    def update(self, low: float, high: float) -> tuple[float, float]:
        """Return the limits for a curve between `low` and `high`."""
        margin = max((high - low) * 0.12, abs(high) * 1e-3, self._least)
        wanted = low - margin, high + margin
        old = self.limits
        if (
            old is None
            or low - margin * 0.3 < old[0]
            or high + margin * 0.3 > old[1]
            or wanted[1] - wanted[0] < 0.6 * (old[1] - old[0])
        ):
            self.limits = wanted
        assert self.limits is not None
        return self.limits


class Statistics(NamedTuple):
    """One row under the trend, ready to show."""

    now: str
    least: str
    greatest: str
    mean: str
    deviation: str
    samples: str


NO_STATISTICS = Statistics(*(NONE,) * 6)


def statistics(reading: Reading, start_s: float, end_s: float, now_s: float, scale: float, decimals: int) -> Statistics:
    """Return the statistics of a curve between two times, each times `scale`.

    Every value counts for as long as it held: events come when something changes, not at even times.
    """
    assert reading.ring is not None
    times, values = reading.ring.since(start_s)
    number = reading.number()
    current = fixed(None if number is None else number * scale, decimals)
    ends = np.append(times[1:], held_until(reading, end_s, now_s))
    weights = np.minimum(ends, end_s) - np.maximum(times, start_s)
    arrived = (times >= start_s) & (times <= end_s) & np.isfinite(values)
    shown = np.isfinite(values) & (arrived | (weights > 0))
    if not shown.any():
        return NO_STATISTICS._replace(now=current, samples="0")
    values, weights = values[shown] * scale, np.maximum(weights[shown], 0.0)
    if not weights.any():
        weights = np.ones_like(values)
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return Statistics(
        current,
        fixed(float(values.min()), decimals),
        fixed(float(values.max()), decimals),
        fixed(mean, decimals),
        fixed(deviation, decimals + 1),
        fixed(int(arrived.sum()), 0),
    )


def limits(curves: Sequence[Floats]) -> tuple[float, float] | None:
    """Return the least and greatest finite value of several curves; None when there is none."""
    finite = [values[np.isfinite(values)] for values in curves]
    finite = [values for values in finite if len(values)]
    if not finite:
        return None
    return float(min(values.min() for values in finite)), float(max(values.max() for values in finite))
