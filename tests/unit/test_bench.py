"""The optical bench: cosine-squared law, drift, reproducibility."""

import math

import pytest

from device_servers.optical_bench import EXTINCTION, OpticalBench


def test_power_follows_cosine_squared_of_twice_the_angle() -> None:
    """A half-wave plate turned by an angle turns the polarisation by twice as much."""
    bench = OpticalBench(drift=0.0)
    for angle_deg in (0, 10, 22.5, 45, 67.5, 90, 135, -22.5):
        bench.half_wave_plate_deg = angle_deg
        law = math.cos(2 * math.radians(angle_deg)) ** 2
        assert bench.power_on_meter_w(0.0) == pytest.approx(5e-3 * (EXTINCTION + (1 - EXTINCTION) * law))


def test_source_drifts_slowly_and_within_its_bound() -> None:
    """Over an hour the source changes, by no more than its drift, and by next to nothing within 0.1 s."""
    bench = OpticalBench(seed=3)
    powers = [bench.emitted_w(time_s) for time_s in range(3600)]
    assert max(powers) - min(powers) > 0.005 * 5e-3
    assert all(abs(power - 5e-3) <= 0.01 * 5e-3 for power in powers)
    assert abs(bench.emitted_w(100.1) - bench.emitted_w(100.0)) < 1e-4 * 5e-3


def test_the_same_seed_gives_the_same_light() -> None:
    """Two benches of one seed agree at every moment; another seed does not."""
    first, again, other = OpticalBench(seed=1), OpticalBench(seed=1), OpticalBench(seed=2)
    assert [first.emitted_w(t) for t in range(50)] == [again.emitted_w(t) for t in range(50)]
    assert [first.emitted_w(t) for t in range(50)] != [other.emitted_w(t) for t in range(50)]
