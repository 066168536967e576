"""Colours of the panels, what a state looks like, and the contrast arithmetic that proves them readable.

Colour is used for state alone, and never without a symbol and a word. Contrast is the ratio of WCAG 2.1,
section 1.4.3: 4.5 for text, 3 for the border of an input.
"""

from collections.abc import Iterator
from typing import NamedTuple

BACKGROUND = "#0E1217"
PANEL = "#151A21"
RAISED = "#1E252E"
INPUT = "#0B0F13"
LINE = "#252D38"
INPUT_BORDER = "#6B7A8C"
SELECTED = "#1D2836"
VALUE = "#F4F7FA"
TEXT = "#C6CFD9"
CAPTION = "#8C99A8"
ACCENT = "#8AB4F8"
PENDING = "#C9B6FF"
DISABLED = "#5B6775"

GREEN, BLUE, GREY, AMBER, RED, PINK = "#26D08D", "#3EAEF2", "#929FAF", "#F7BF45", "#FD764F", "#F2BEF2"

CURVES = ("#E8EDF2", BLUE, AMBER, GREEN, "#D99AC5")
"""Colours of curves in the order they are given out."""


class Look(NamedTuple):
    """How a state is drawn: colour and the name of its symbol."""

    colour: str
    symbol: str


STATES: dict[str, Look] = {
    "ON": Look(GREEN, "dot"),
    "OPEN": Look(GREEN, "dot"),
    "EXTRACT": Look(GREEN, "dot"),
    "RUNNING": Look(GREEN, "play"),
    "MOVING": Look(BLUE, "half"),
    "INIT": Look(BLUE, "half"),
    "OFF": Look(GREY, "ring"),
    "CLOSE": Look(GREY, "ring"),
    "INSERT": Look(GREY, "ring"),
    "STANDBY": Look(GREY, "bars"),
    "DISABLE": Look(GREY, "slash"),
    "ALARM": Look(AMBER, "triangle"),
    "WARNING": Look(AMBER, "triangle"),
    "FAULT": Look(RED, "cross"),
    "UNKNOWN": Look(PINK, "question"),
}
"""Every Tango state, and WARNING."""


def look(state: str) -> Look:
    """Return how `state` is drawn; what is not known looks UNKNOWN."""
    return STATES.get(state, STATES["UNKNOWN"])


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(ground: str, colour: str, share: float) -> str:
    """Return `ground` tinted by `share` (0 to 1) of `colour`."""
    pairs = zip(_channels(ground), _channels(colour), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def chip_ground(colour: str) -> str:
    """Return the ground of a chip whose text has `colour`."""
    return mix(PANEL, colour, 0.16)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.1)."""

    def linear(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(channel) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


class Pair(NamedTuple):
    """A colour on a ground as panels use it, and the least contrast it needs."""

    name: str
    colour: str
    ground: str
    least: float


def pairs() -> Iterator[Pair]:
    """Yield every pair of colours that panels put on each other."""
    grounds = {"background": BACKGROUND, "panel": PANEL, "raised": RAISED, "input": INPUT}
    texts = {"value": VALUE, "text": TEXT, "caption": CAPTION, "accent": ACCENT, "pending": PENDING}
    for text_name, text in texts.items():
        for ground_name, ground in grounds.items():
            yield Pair(f"{text_name} on {ground_name}", text, ground, 4.5)
    for state in ("ON", "MOVING", "OFF", "ALARM", "FAULT", "UNKNOWN"):
        colour = STATES[state].colour
        yield Pair(f"{state} on its chip", colour, chip_ground(colour), 4.5)
        yield Pair(f"{state} on raised", colour, RAISED, 4.5)
        yield Pair(f"{state} on panel", colour, PANEL, 4.5)
    yield Pair("caption on selected row", CAPTION, SELECTED, 4.5)
    yield Pair("input border on panel", INPUT_BORDER, PANEL, 3)
    yield Pair("input border on input", INPUT_BORDER, INPUT, 3)
    yield Pair("primary button", INPUT, ACCENT, 4.5)
    yield Pair("stop button", INPUT, RED, 4.5)
    for number, colour in enumerate(CURVES):
        yield Pair(f"curve {number}", colour, PANEL, 4.5)
