"""What a device shows and when it says so: pure functions and small records, without Tango and without a clock.

`Latch` keeps the state of a long action until a poll that began after it; `changed` decides whether a reading is a
CHANGE event; `quality_of` compares with the limits that are set in the database.
"""

import math
import numbers
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeGuard

from bandoneon.errors import describe
from bandoneon.quantity import Scalar

Value = Scalar | Sequence[Scalar]
"""What a quantity holds: a scalar, or a sequence (a numpy array too) for spectra and images."""

VALID, INVALID, ALARM, CHANGING, WARNING = range(5)
"""Tango's attribute qualities, by number."""

CHANGE_AT_LEAST_S: Final = 10.0
"""A CHANGE event is pushed at least so often while the reading is good."""

REPEAT_INVALID_S: Final = 60.0
"""An INVALID reading is pushed on transition and then so often."""

STATE_EVERY_S: Final = 1.0


class Reading(NamedTuple):
    """A value as it was read: None with INVALID. `time_s` since 1970."""

    value: Value | None
    time_s: float
    quality: int


@dataclass(frozen=True, slots=True)
class Criteria:
    """What the Tango database says of an attribute's events and limits; None = not set."""

    abs_change: float | None = None
    rel_change_pct: float | None = None
    min_alarm: float | None = None
    max_alarm: float | None = None
    min_warning: float | None = None
    max_warning: float | None = None


def quality_of(value: Value | None, criteria: Criteria) -> int:
    """Return the quality of a value: INVALID when there is none, ALARM or WARNING outside the limits."""
    if value is None:
        return INVALID
    if not _is_number(value):
        return VALID
    if _outside(value, criteria.min_alarm, criteria.max_alarm):
        return ALARM
    return WARNING if _outside(value, criteria.min_warning, criteria.max_warning) else VALID


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number with a size, numpy's scalars too; a bool is none."""
    return not isinstance(value, bool) and isinstance(value, numbers.Real)


def _outside(value: float, low: float | None, high: float | None) -> bool:
    return (low is not None and value < low) or (high is not None and value > high)


def changed(before: Reading | None, now: Reading, criteria: Criteria) -> bool:
    """Whether `now` is a CHANGE event after `before`, the one pushed last.

    Yes on the first, on another quality, after `CHANGE_AT_LEAST_S` (`REPEAT_INVALID_S` while INVALID), and when the
    value moved by at least one of the criteria; without criteria any difference counts.
    """
    if before is None or before.quality != now.quality:
        return True
    every_s = REPEAT_INVALID_S if now.quality == INVALID else CHANGE_AT_LEAST_S
    if now.time_s - before.time_s >= every_s:
        return True
    if now.quality == INVALID:
        return False
    old, new = before.value, now.value
    if _is_number(old) and _is_number(new):
        return _moved(float(old), float(new), criteria)
    same: Any = old == new  # of numpy arrays: an array
    return not bool(getattr(same, "all", lambda: same)())


def _moved(old: float, new: float, criteria: Criteria) -> bool:
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) != math.isnan(new)
    if criteria.abs_change is None and criteria.rel_change_pct is None:
        return old != new
    if criteria.abs_change is not None and abs(new - old) >= criteria.abs_change > 0:
        return True
    return criteria.rel_change_pct is not None and abs(new - old) * 100 >= abs(old) * criteria.rel_change_pct > 0


class Shown(NamedTuple):
    """State (a Tango state's name) and status."""

    state: str
    status: str


def shown_after(error: Exception) -> Shown:
    """Return what a device shows after a poll that failed: what the error stands for, UNKNOWN when for no state."""
    return Shown(describe(error).state or "UNKNOWN", as_sentence(str(error) or type(error).__name__))


def as_sentence(text: str) -> str:
    """Return `text` as a status: a sentence in latin-1, which Tango's strings are."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    return f"{text[0].upper()}{text[1:]}."


class Latch:
    """The state a device shows: the last poll's verdict, unless an action that was begun since holds its own.

    A poll counts only when it began after the action was sent, so a reading of the moment before never ends it.
    """

    def __init__(self, shown: Shown) -> None:
        self._lock = threading.Lock()
        self._shown = self._before = shown
        self._held_since_s: float | None = None

    @property
    def shown(self) -> Shown:
        """What the device shows now."""
        return self._shown

    def hold(self, shown: Shown, now_s: float) -> None:
        """Show `shown` from now on: an action is about to be sent."""
        with self._lock:
            self._before, self._shown = self._shown, shown
            self._held_since_s = now_s

    def sent(self, now_s: float) -> None:
        """The instrument has the action now: only a poll begun from here on may end it."""
        with self._lock:
            if self._held_since_s is not None:
                self._held_since_s = now_s

    def withdraw(self) -> None:
        """The action was not sent after all: show again what was before, unless `release` has come since."""
        with self._lock:
            if self._held_since_s is not None:
                self._held_since_s = None
                self._shown = self._before

    def release(self, shown: Shown) -> None:
        """Show `shown` whatever is held: the instrument cannot be asked."""
        with self._lock:
            self._held_since_s = None
            self._shown = shown

    def judge(self, shown: Shown, poll_began_s: float) -> bool:
        """Show the verdict of a poll unless it began before the held action; return whether it counted."""
        with self._lock:
            if self._held_since_s is not None and poll_began_s < self._held_since_s:
                return False
            self._held_since_s = None
            self._shown = shown
            return True


class Settings:
    """The settings an instrument had, and how they differ after an outage, until somebody accepts or writes them."""

    def __init__(self) -> None:
        self._known: dict[str, Value] = {}
        self._expected: dict[str, Value] = {}

    @property
    def differences(self) -> list[str]:
        """What an outage changed, in words."""
        return [
            f"{name} was {value} and is {self._known[name]}"
            for name, value in self._expected.items()
            if name in self._known and self._known[name] != value
        ]

    def written(self, name: str) -> None:
        """A setting was changed by us: it is known again when it has been read."""
        self._known.pop(name, None)
        self._expected.pop(name, None)

    def lost(self) -> None:
        """The instrument was away: everything is expected to be as it was. What differed before still does."""
        self._expected = {**self._known, **self._expected}

    def accept(self) -> None:
        """What is now is right."""
        self._expected.clear()

    def read(self, values: Mapping[str, Value]) -> None:
        """Settings were read."""
        self._known.update(values)
        for name, value in values.items():
            if name in self._expected and self._expected[name] == value:
                del self._expected[name]
