"""What the power-meter card shows: the big reading, its chip, dBm, the line about the device, the range in use."""

from typing import NamedTuple

from gui.presenters.fields import EditField, Option
from gui.presenters.readings import Reading, Readings, state_of
from gui.presenters.text import NONE, SiPrefix, dbm, duration, prefixed_unit, significant

_QUALITIES = {
    "VALID": ("ON", "VALID"),
    "WARNING": ("ALARM", "WARNING"),
    "ALARM": ("FAULT", "ALARM"),
    "CHANGING": ("MOVING", "CHANGING"),
}

FILTERS = (Option(0, "Slow"), Option(1, "Medium"), Option(2, "Fast"))
RANGES = (Option(0, "Auto"), *(Option(number, str(number)) for number in range(1, 9)))


class ReadingView(NamedTuple):
    """A large number as it is painted; `colour_state` is a state name, "" for the plain value colour."""

    text: str
    unit: str
    aside: str
    chip_state: str
    chip_word: str
    colour_state: str
    stale: bool


NO_VALUE = ReadingView("No value", "", "", "UNKNOWN", "NO DATA", "", True)


def present_reading(reading: Reading, prefix: SiPrefix, unit: str, now_s: float) -> ReadingView:
    """Return the large reading of a quantity in `unit`, which gets the SI prefix of `prefix`."""
    number = reading.number()
    if number is None:
        return NO_VALUE
    exponent = prefix.update(number)
    text = significant(number / 10.0**exponent).replace("-", "−")
    shown = text, prefixed_unit(unit, exponent), dbm(number) if unit == "W" else ""
    if not reading.usable(now_s):
        age = f"{duration(reading.age_s(now_s))} old"
        word = f"INVALID, {age}" if reading.health.alive(now_s) else age
        return ReadingView(*shown, "UNKNOWN", word, "", True)
    state, word = _QUALITIES.get(reading.quality, ("UNKNOWN", reading.quality))
    return ReadingView(*shown, state, word, "" if state == "ON" else state, False)


def device_line(status: Reading, now_s: float) -> str:
    """Return the sentence beside a device's chip: its Status, or since when it does not answer."""
    age_s = status.health.age_s(now_s)
    if age_s is None:
        return "No answer yet. Connecting…"
    if not status.health.alive(now_s):
        return f"Last value {duration(age_s)} old. Reconnecting…"
    return first_line(status.value)


def first_line(value: object) -> str:
    """Return the first line of a Status."""
    return str(value or "").strip().partition("\n")[0]


class RangeField(EditField):
    """The signal range: the meter reports the one in use, also when it chooses it itself."""

    def __init__(self, reading: Reading, auto: Reading) -> None:
        super().__init__("Range", reading, options=RANGES)
        self._auto = auto

    def readback(self) -> object:
        """Return 0 while the meter is known to choose its range, else the range in use."""
        return 0 if self.chosen_by_meter else super().readback()

    @property
    def chosen_by_meter(self) -> bool:
        """Whether the range is automatic, as far as known."""
        return self._auto.quality != "INVALID" and self._auto.value is True

    def hint(self) -> str:
        """Say which range the meter chose."""
        return f"Uses range {self.reading.value}" if self.chosen_by_meter and self.reading.value else ""


class PowerMeter:
    """Readings, editors and switches of one `Newport1830C`."""

    def __init__(self, device: str, readings: Readings) -> None:
        self.device = device
        self.power = readings.get(device, "power", ring=True)
        self.state = readings.get(device, "State")
        self.status = readings.get(device, "Status")
        self.zero = readings.get(device, "zero_enabled")
        self.wavelength = EditField(
            "Wavelength", readings.get(device, "wavelength"), unit="nm", decimals=0, low=300, high=1100
        )
        self.range = RangeField(readings.get(device, "range"), readings.get(device, "auto_range"))
        self.filter = EditField("Filter", readings.get(device, "filter"), options=FILTERS)
        self.fields = (self.wavelength, self.range, self.filter)
        self._prefix = SiPrefix()

    def view(self, now_s: float) -> ReadingView:
        """Return the large reading."""
        return present_reading(self.power, self._prefix, "W", now_s)

    def device_state(self, now_s: float) -> str:
        """Return the device's state."""
        return state_of(self.state, now_s)

    def zero_button(self, now_s: float) -> tuple[str, bool]:
        """Return the text of the Zero button and whether it can be pressed."""
        known = self.zero.usable(now_s)
        text = "Zero off" if known and self.zero.value else "Zero"
        return text, known and state_of(self.state, now_s) not in ("UNKNOWN", "RUNNING")

    def zero_note(self, now_s: float) -> str:
        """Say whether a zero reading is subtracted."""
        if not self.zero.usable(now_s):
            return NONE
        return "Subtracted" if self.zero.value else "Not subtracted"
