"""What is known of attributes: values that outlive their server, ages, rings with gaps."""

import math

import numpy as np
import pytest

from gui.presenters.curves import Axis, limits, statistics, stepped, thinned, visible
from gui.presenters.readings import ALIVE_S, Readings, Ring, state_of


def test_a_value_stays_when_its_device_falls_silent(readings: Readings) -> None:
    """The last value is kept, and no longer usable, once nothing came for the time a device may be silent."""
    power = readings.get("lab/power/1", "power")
    power.accept(1.5e-3, "VALID", 1000.0, 10.0)
    assert power.usable(10.0 + ALIVE_S - 0.1)
    assert not power.usable(10.0 + ALIVE_S)
    assert power.value == 1.5e-3
    assert power.age_s(23.0) == pytest.approx(13.0)


def test_any_event_keeps_a_device_alive(readings: Readings) -> None:
    """A constant value stays usable while its device's State still comes."""
    power, state = readings.get("lab/power/1", "power"), readings.get("LAB/POWER/1", "State")
    power.accept(1.5e-3, "VALID", 1000.0, 10.0)
    state.accept("ON", "VALID", 1020.0, 30.0)
    assert power.usable(31.0)


def test_an_invalid_reading_keeps_the_last_good_value(readings: Readings) -> None:
    """INVALID changes the quality and leaves value and its age."""
    power = readings.get("lab/power/1", "power")
    power.accept(1.0, "VALID", 1000.0, 10.0)
    power.accept(None, "VALID", 1005.0, 15.0)
    assert (power.value, power.quality) == (1.0, "INVALID")
    assert not power.usable(15.0)
    assert power.age_s(16.0) == pytest.approx(6.0)


def test_an_error_makes_a_value_unusable_until_the_next_good_one(readings: Readings) -> None:
    """An error is no sign of life and goes away by itself."""
    power = readings.get("lab/power/1", "power")
    power.accept(1.0, "VALID", 1000.0, 10.0)
    power.fail("no answer")
    assert not power.usable(10.1)
    power.accept(1.1, "VALID", 1001.0, 11.0)
    assert power.usable(11.0)


def test_a_state_is_unknown_as_soon_as_its_device_is_silent(readings: Readings) -> None:
    """A device that says nothing is UNKNOWN, whatever it said last."""
    state = readings.get("lab/power/1", "State")
    assert state_of(state, 0.0) == "UNKNOWN"
    state.accept("MOVING", "VALID", 1000.0, 10.0)
    assert state_of(state, 11.0) == "MOVING"
    assert state_of(state, 20.0) == "UNKNOWN"


def test_a_ring_keeps_the_latest_points_in_order() -> None:
    """A full ring forgets its oldest points, and takes none that is older than its last."""
    ring = Ring(4)
    for number in range(6):
        ring.append(float(number), float(number * 10))
    ring.append(1.0, 99.0)
    times, values = ring.since(-1.0)
    assert times.tolist() == [2, 3, 4, 5]
    assert values.tolist() == [20, 30, 40, 50]
    assert ring.since(4.5)[0].tolist() == [4, 5], "the point before the start draws the line up to it"


def test_a_silence_leaves_a_gap_in_the_curve(readings: Readings) -> None:
    """A point after a silence is preceded by a break of the line."""
    power = readings.get("lab/power/1", "power", ring=True)
    power.accept(1.0, "VALID", 1000.0, 10.0)
    power.accept(2.0, "VALID", 1009.0, 19.0)
    assert power.ring is not None
    values = power.ring.since(0.0)[1]
    assert [math.isnan(value) for value in values] == [False, True, False]


def test_a_living_curve_reaches_to_now_and_a_dead_one_does_not(readings: Readings) -> None:
    """The line of a value that did not change goes on to the end while its device lives."""
    power = readings.get("lab/power/1", "power", ring=True)
    power.accept(1.0, "VALID", 1000.0, 10.0)
    times, values = visible(power, 990.0, 1003.0, 13.0)
    assert (times[-1], values[-1]) == (1003.0, 1.0)
    times, _values = visible(power, 990.0, 1060.0, 70.0)
    assert times[-1] == 1000.0


def test_a_value_that_held_steps_to_the_next() -> None:
    """Between points far apart the line is level and then steps."""
    times, values = stepped(np.array([0.0, 10.0]), np.array([1.0, 2.0]))
    assert times.tolist() == pytest.approx([0.0, 9.999, 10.0])
    assert values.tolist() == [1.0, 1.0, 2.0]


def test_thinning_keeps_peaks_and_gaps() -> None:
    """The one peak and the one gap in many points are still there after thinning."""
    times, values = np.arange(100_000.0), np.zeros(100_000)
    values[43_210], values[70_001] = 5.0, np.nan
    thin_times, thin_values = thinned(times, values)
    assert len(thin_times) < 4000
    assert np.nanmax(thin_values) == 5.0
    assert np.isnan(thin_values).sum() >= 1
    assert (np.diff(thin_times) >= 0).all()


def test_axis_limits_do_not_follow_every_wiggle() -> None:
    """Limits grow at once, and shrink only when the curve fills little of them."""
    axis = Axis()
    first = axis.update(0.0, 1.0)
    assert axis.update(0.1, 0.9) == first
    assert axis.update(0.0, 2.0)[1] > 2.0
    assert axis.update(0.0, 0.1)[1] < 0.2


def test_statistics_are_weighted_by_the_time_a_value_held(readings: Readings) -> None:
    """A value that changed seldom counts for as long as it held; samples are those that came inside the window."""
    power = readings.get("lab/power/1", "power", ring=True)
    for second in range(10):
        power.health.good(10.0 + second, 1000.0 + second)
        if second in (0, 8, 9):
            power.accept({0: 1e-3, 8: 2e-3, 9: 3e-3}[second], "VALID", 1000.0 + second, 10.0 + second)
    row = statistics(power, 1004.0, 1011.0, 20.0, 1e3, 2)
    assert row == ("3.00", "1.00", "3.00", "1.71", "0.881", "2")


def test_statistics_leave_gaps_out(readings: Readings) -> None:
    """A time without a value weighs nothing, nor does the time after a device fell silent."""
    power = readings.get("lab/power/1", "power", ring=True)
    power.accept(1.0, "VALID", 1000.0, 10.0)
    power.accept(None, "INVALID", 1001.0, 11.0)
    power.accept(3.0, "VALID", 1006.0, 16.0)
    power.accept(3.0, "VALID", 1007.0, 17.0)
    assert statistics(power, 1000.0, 1060.0, 70.0, 1.0, 1)[1:5] == ("1.0", "3.0", "2.0", "1.00")


def test_what_is_no_number_is_a_dash_in_the_statistics(readings: Readings) -> None:
    """NaN is not 0."""
    power = readings.get("lab/power/1", "power", ring=True)
    power.accept(float("nan"), "VALID", 1000.0, 10.0)
    assert statistics(power, 990.0, 1001.0, 11.0, 1.0, 3).now == "–"


def test_what_is_no_number_is_a_gap_in_the_curve(readings: Readings) -> None:
    """The value before NaN is not drawn on to now as if the instrument still measured it."""
    power = readings.get("lab/power/1", "power", ring=True)
    power.accept(1.0, "VALID", 1000.0, 10.0)
    power.accept(float("nan"), "VALID", 1001.0, 11.0)
    times, values = visible(power, 990.0, 1003.0, 13.0)
    assert np.isnan(values[-1])
    assert times[-1] == 1001.0


def test_nothing_has_no_limits() -> None:
    """Curves without a finite value have no limits."""
    assert limits([np.array([np.nan]), np.array([])]) is None


def test_a_value_that_held_is_drawn_up_to_the_gap(readings: Readings) -> None:
    """A mount that stood for a while, turned and stood again is two levels with a gap between them."""
    position, state = readings.get("lab/rotator/1", "position", ring=True), readings.get("lab/rotator/1", "State")
    position.accept(60.0, "VALID", 1000.0, 10.0)
    for second in range(1, 10):
        state.accept("ON", "VALID", 1000.0 + second, 10.0 + second)
    position.accept(None, "INVALID", 1009.5, 19.5)
    position.accept(90.0, "VALID", 1010.5, 20.5)
    times, values = visible(position, 990.0, 1012.0, 22.0)
    assert times[np.nonzero(values == 60.0)[0]].tolist() == pytest.approx([1000.0, 1009.499])
    assert np.isnan(values).sum() == 1


def test_a_value_is_not_drawn_through_a_silence(readings: Readings) -> None:
    """The gap begins at the last sign of life, not where the next value comes."""
    position, state = readings.get("lab/rotator/1", "position", ring=True), readings.get("lab/rotator/1", "State")
    position.accept(60.0, "VALID", 1000.0, 10.0)
    state.accept("ON", "VALID", 1002.0, 12.0)
    position.accept(60.0, "VALID", 1030.0, 40.0)
    times, values = visible(position, 990.0, 1031.0, 41.0)
    gap = int(np.nonzero(np.isnan(values))[0][0])
    assert times[gap] == 1002.0
    assert times[gap - 1] == pytest.approx(1001.999)


def test_a_short_stop_between_two_gaps_is_a_line() -> None:
    """A value that held for less than a pause is drawn up to its gap, else it would be a point that nobody sees."""
    times, values = stepped(np.array([0.0, 1.0, 1.3]), np.array([5.0, np.nan, 6.0]))
    assert times.tolist() == pytest.approx([0.0, 0.999, 1.0, 1.3])
    assert values[:2].tolist() == [5.0, 5.0]
