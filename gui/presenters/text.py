"""Numbers and times as a person reads them, always the same width for the same quantity."""

import math

NONE = "–"
"""What stands for a value that is not there."""

_PREFIXES = {12: "T", 9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f"}


class SiPrefix:
    """The SI prefix of one reading: it follows the value, but does not flicker where two meet.

    Upwards it changes at 1000, downwards only below 0.9, so 0.998 mW stays in mW.
    """

    def __init__(self) -> None:
        self.exponent: int | None = None

    def update(self, value: float) -> int:
        """Return the exponent of ten (a multiple of three) to show `value` with."""
        size = abs(value)
        if size == 0 or not math.isfinite(size):
            return self.exponent or 0
        if self.exponent is None or not 0.9 <= size / 10.0**self.exponent < 1000:
            whole = 3 * math.floor(math.log10(size) / 3 + 1e-12)
            self.exponent = min(max(whole, min(_PREFIXES)), max(_PREFIXES))
        return self.exponent


def prefixed_unit(unit: str, exponent: int) -> str:
    """Return `unit` with the SI prefix of `exponent`."""
    return _PREFIXES[exponent] + unit


def significant(value: float, digits: int = 4) -> str:
    """Return `value` with about `digits` digits and no exponent; zero and its neighbours keep the same width."""
    if not math.isfinite(value):
        return NONE
    whole = math.floor(math.log10(abs(value))) + 1 if abs(value) >= 1 else 1
    return f"{value:.{max(0, digits - whole)}f}"


def fixed(value: object, decimals: int) -> str:
    """Return a number with `decimals` decimals; "–" when it is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    text = f"{value:z,.{decimals}f}".replace(",", "\u202f")
    return text.replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return how long something lasted in one number and one unit."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def dbm(power_w: float) -> str:
    """Return an optical power over 1 mW in dBm; "" where it has none."""
    return f"{10 * math.log10(power_w / 1e-3):+.3f} dBm".replace("-", "−") if power_w > 0 else ""


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"
