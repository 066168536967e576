"""A simulated Newport 1830-C: the physics of a detector and its amplifier, and the manual's grammar.

Written from the manual alone, without the protocol's decoders: it has to be able to contradict the driver.
The manual names no sampling rate, counts or detector; those are assumptions and are constants below.
"""

import math
import random
from collections import deque

from device_servers.optical_bench import OpticalBench

SETUPS = ("default", "flaky")
"""`flaky` garbles about one reading in 500, as real meters do."""

SAMPLE_S = 0.05
RANGING_S = 0.1
CALIBRATION_S = 2.0
FLAKY_RATE = 1 / 500

_FULL_SCALE_RANGE_1_W = 2e-9
_COUNTS = 20_000
_SATURATION_W = 20e-3
_ATTENUATION = 1e-3
_SAMPLES = {1: 16, 2: 4, 3: 1}

_PARAMETER_ERROR, _COMMAND_ERROR, _SATURATED, _OVER_RANGE, _BUSY, _READ_DONE = 1, 2, 4, 8, 32, 128
_LIMITS = {
    "A": (0, 1), "B": (0, 1), "E": (0, 1), "F": (1, 3), "G": (0, 1), "K": (0, 2), "L": (0, 1),
    "R": (0, 8), "U": (1, 4), "W": (300, 1100), "Z": (0, 1),
}  # fmt: skip
_POWER_UP = {"A": 0, "B": 1, "E": 0, "F": 2, "G": 1, "K": 1, "L": 0, "U": 1, "Z": 0}


class Model:
    """A silicon detector on the bench and the amplifier behind it. Time comes in through `advance`."""

    def __init__(self, bench: OpticalBench, seed: int = 0) -> None:
        self.bench = bench
        self.settings = dict(_POWER_UP)
        self.wavelength_nm = round(bench.wavelength_nm)
        self.auto_range = True
        self.range = 8
        self.reading_w = 0.0
        self.reference_w = 1e-3
        self.read_done = False
        self.stuck_busy = False
        self.defective = False
        self._zero_w = 0.0
        self._saturated = False
        self._over_range = False
        self._samples: deque[float] = deque(maxlen=16)
        self._random = random.Random(seed)
        self._time_s = 0.0
        self._next_sample_s = 0.0
        self._ready_s = 0.0

    @property
    def full_scale_w(self) -> float:
        """Largest power of the range in use; each range is a decade above the one below (p. 39)."""
        attenuated = 1 / _ATTENUATION if self.settings["A"] else 1.0
        return _FULL_SCALE_RANGE_1_W * 10 ** (self.range - 1) * attenuated

    @property
    def resolution_w(self) -> float:
        """One count of the range in use."""
        return self.full_scale_w / _COUNTS

    @property
    def busy(self) -> bool:
        """Changing range or calibrating itself (p. 52)."""
        return self.stuck_busy or self._time_s < self._ready_s

    @property
    def condition(self) -> int:
        """The status bits that follow what the meter is doing."""
        return (
            _SATURATED * (self._saturated or self.defective)
            | _OVER_RANGE * self._over_range
            | _BUSY * self.busy
            | _READ_DONE * self.read_done
        )

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass: take the samples that are due."""
        end_s = self._time_s + dt_s
        while self._next_sample_s <= end_s:
            self._time_s = self._next_sample_s
            if not self.busy and self.settings["G"]:
                self._sample()
            self._next_sample_s += SAMPLE_S
        self._time_s = end_s

    def choose_range(self, number: int) -> None:
        """Take a fixed range (1 to 8), or let the meter choose (0)."""
        self.auto_range = number == 0
        if number:
            self.range = number
        self._samples.clear()

    def calibrate(self) -> None:
        """Start an autocalibration."""
        self._ready_s = self._time_s + CALIBRATION_S

    def zero(self, on: bool) -> None:
        """Store the latest reading and subtract it from now on, or stop doing so."""
        self._zero_w = self._zero_w + self.reading_w if on else 0.0
        self._samples.clear()

    def _sample(self) -> None:
        light_w = self.bench.power_on_meter_w(self._time_s) * (1 + self._random.gauss(0, self.bench.noise))
        limit_w = _SATURATION_W / (_ATTENUATION if self.settings["A"] else 1.0)
        self._saturated = light_w > limit_w
        seen_w = min(light_w, limit_w) * _responsivity(self.bench.wavelength_nm) / _responsivity(self.wavelength_nm)
        self._over_range = seen_w > self.full_scale_w
        if self.auto_range and self._change_range(seen_w):
            return
        counts = min(seen_w, self.full_scale_w) / self.resolution_w + self._random.gauss(0, 0.3)
        self._samples.append(round(counts) * self.resolution_w)
        recent = list(self._samples)[-_SAMPLES[self.settings["F"]] :]
        self.reading_w = sum(recent) / len(recent) - self._zero_w
        self.read_done = not (self._over_range or self._saturated)

    def _change_range(self, seen_w: float) -> bool:
        step = 1 if self._over_range and self.range < 8 else -1 if seen_w < 0.09 * self.full_scale_w else 0
        if step == 0 or not 1 <= self.range + step <= 8:
            return False
        self.range += step
        self._over_range = False
        self._samples.clear()
        self._ready_s = self._time_s + RANGING_S
        return True


def _responsivity(wavelength_nm: float) -> float:
    """Relative responsivity of a silicon detector, largest at 950 nm."""
    return math.exp(-(((wavelength_nm - 950.0) / 350.0) ** 2))


class Wire:
    """The RS-232 side (section 5): one letter, an optional parameter, LF; white space and case do not matter."""

    def __init__(self, model: Model, *, seed: int = 0, flaky: bool = False) -> None:
        self.model = model
        self._errors = 0
        self._fault: str | None = None
        self._input = bytearray()
        self._flaky = flaky
        self._random = random.Random(seed)
        self._time_s = 0.0

    @property
    def fault(self) -> str | None:
        """`instrument_error`: the detector saturates in the dark; `busy`: calibrates for ever; None: well."""
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = fault
        self.model.defective = fault == "instrument_error"
        self.model.stuck_busy = fault == "busy"

    def advance(self, dt_s: float) -> bytes:
        """Let time pass; this meter never speaks unasked."""
        self.model.advance(dt_s)
        return b""

    def __call__(self, data: bytes) -> bytes:
        """Take bytes of any length and return the replies to every command they complete, in order."""
        answer = bytearray()
        for byte in data:
            if self.model.settings["E"]:
                answer.append(byte)
            if byte not in b"\r\n":
                self._input.append(byte)
                continue
            command = "".join(self._input.decode("ascii", "replace").split()).upper()
            self._input.clear()
            if command:
                answer += self._execute(command).encode()
        return bytes(answer)

    def _execute(self, command: str) -> str:
        letter, parameter = command[0], command[1:]
        if parameter == "?":
            return self._query(letter)
        if letter in _LIMITS:
            self._set(letter, parameter)
        elif command == "S":
            self.model.reference_w = self.model.reading_w
        elif command == "O":
            self.model.calibrate()
        elif command in ("C", "CS"):
            self._errors = 0
            self.model.read_done = False
        else:
            self._errors |= _COMMAND_ERROR
        return ""

    def _set(self, letter: str, parameter: str) -> None:
        low, high = _LIMITS[letter]
        if not parameter.isdecimal() or not low <= int(parameter) <= high:
            self._errors |= _PARAMETER_ERROR
            return
        value = int(parameter)
        if letter == "R":
            self.model.choose_range(value)
        elif letter == "W":
            self.model.wavelength_nm = value
        else:
            self.model.settings[letter] = value
            if letter == "Z":
                self.model.zero(value == 1)

    def _query(self, letter: str) -> str:
        model = self.model
        if letter == "D":
            model.read_done = False
            text = self._reading()
            if self._flaky and self._random.random() < FLAKY_RATE:
                text = text[:1] + "?" + text[2:]
            return text + "\n"
        if letter == "Q":
            return f"{self._errors | model.condition}\n"
        if letter == "W":
            return f"{model.wavelength_nm:04d}\n"
        if letter == "R":
            return f"{model.range}\n"
        if letter in model.settings:
            return f"{model.settings[letter]}\n"
        self._errors |= _COMMAND_ERROR
        return ""

    def _reading(self) -> str:
        """The last reading in the units in use, written as the meter does: `+.75E-9`, `-15.24`."""
        reading_w, units = self.model.reading_w, self.model.settings["U"]
        if units == 1:
            exponent = 3 * math.floor(math.log10(self.model.full_scale_w) / 3 + 1e-9)
            decimals = max(0, exponent - math.floor(math.log10(self.model.resolution_w) + 1e-9))
            return f"{_without_leading_zero(reading_w / 10**exponent, decimals)}E{exponent}"
        if units == 4:
            return _without_leading_zero(reading_w / self.model.reference_w, 4)
        reference_w = self.model.reference_w if units == 2 else 1e-3
        ratio = reading_w / reference_w
        return _without_leading_zero(10 * math.log10(ratio) if ratio > 1e-10 else -100.0, 2)


def _without_leading_zero(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    return text[0] + text[2:] if text[1] == "0" and decimals else text


def build(bench: OpticalBench, setup: str, seed: int) -> Wire:
    """Return a meter on `bench`, as `setup` says, with noise of its own decided by `seed`."""
    return Wire(Model(bench, seed), seed=seed, flaky=setup == "flaky")
