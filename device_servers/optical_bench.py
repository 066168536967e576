"""The optical bench the simulated instruments share: a source, a half-wave plate, a polariser, a detector.

Pure: no clock and no thread. Each instrument's simulator keeps its own time and asks for the light at that
time; what moves (the half-wave plate) is set by the simulator that moves it.
"""

import math
import random
from dataclasses import dataclass, field

EXTINCTION = 1e-3
"""Share of the light that a crossed polariser still passes."""

_DRIFT_PERIODS_S = (37.0, 211.0, 997.0)


@dataclass
class OpticalBench:
    """A source of about `source_power_w` at `wavelength_nm`, seen through a half-wave plate and a polariser.

    The source drifts slowly by `drift` (relative, peak) in a way that `seed` decides, and flickers by `noise`
    (relative, standard deviation of one sample), which each detector draws itself.
    """

    seed: int = 0
    source_power_w: float = 5e-3
    wavelength_nm: float = 800.0
    drift: float = 0.01
    noise: float = 0.002
    half_wave_plate_deg: float = 0.0
    _phases: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        generator = random.Random(self.seed)
        self._phases = tuple(generator.uniform(0, 2 * math.pi) for _ in _DRIFT_PERIODS_S)

    def emitted_w(self, time_s: float) -> float:
        """Return the source's power at `time_s` since the bench was built."""
        waves = (
            math.sin(2 * math.pi * time_s / period_s + phase)
            for period_s, phase in zip(_DRIFT_PERIODS_S, self._phases, strict=True)
        )
        return self.source_power_w * (1 + self.drift * sum(waves) / len(_DRIFT_PERIODS_S))

    def transmission(self) -> float:
        """Return the polariser's share: a half-wave plate turned by an angle turns the polarisation by twice it."""
        passed = math.cos(2 * math.radians(self.half_wave_plate_deg)) ** 2
        return EXTINCTION + (1 - EXTINCTION) * passed

    def power_on_meter_w(self, time_s: float) -> float:
        """Return the light on the power meter's detector, without noise."""
        return self.emitted_w(time_s) * self.transmission()
