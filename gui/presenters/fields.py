"""The life of an edited setting: shown, edited, sent, shown again.

A readback never overwrites an edit; a failed write keeps the edit and says why; after a good write the
field waits for the next reading, because only a poll tells what the instrument has.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from gui.presenters.readings import Reading
from gui.presenters.text import NONE

Role = Literal["caption", "pending", "error"]


READBACK_S = 3.0
"""A device polls a setting soon after it was written, and pushes it only if it changed: then that is what it has."""


class Option(NamedTuple):
    """One choice of a field: the value written and what the operator reads."""

    value: int
    label: str


class FieldView(NamedTuple):
    """What an editor shows; `text` is a number's text or a choice's label, "" when nothing is known."""

    text: str
    enabled: bool
    pending: bool
    note: str
    role: Role
    tip: str


class Sent(NamedTuple):
    """What was written, when, and the time of the reading then."""

    text: str
    sent_s: float
    reading_time_s: float | None


class EditField:
    """A setting with its edit. Numbers have `unit`, `decimals` and limits; choices have `options`."""

    sent_note = "Applied, reading back…"
    """What the note says while the field is `waiting`."""

    def __init__(
        self,
        name: str,
        reading: Reading,
        *,
        unit: str = "",
        decimals: int = 0,
        low: float | None = None,
        high: float | None = None,
        options: Sequence[Option] = (),
    ) -> None:
        self.name = name
        self.reading = reading
        self.unit = unit
        self.decimals = decimals
        self.low = low
        self.high = high
        self.options = tuple(options)
        self.error = ""
        self.busy = False
        self._edit: str | None = None
        self._sent: Sent | None = None

    def readback(self) -> object:
        """Return the value the device last reported; None before the first."""
        value = self.reading.value
        if self.options and isinstance(value, str):
            # an enum arrives as the text of its label
            return next((option.value for option in self.options if option.label.upper() == value.upper()), None)
        return value

    def hint(self) -> str:
        """Return what the note says when there is nothing else to say."""
        return ""

    def obstacle(self) -> str:
        """Return why nothing can be written now; "" when it can."""
        return ""

    def present(self, now_s: float) -> bool:
        """Whether what is shown describes the present, so that an edit of it may be written."""
        return self.reading.usable(now_s)

    def waiting(self, now_s: float) -> bool:
        """Whether a value was written a moment ago, and no reading has come since."""
        sent = self._sent
        return sent is not None and self.reading.time_s == sent.reading_time_s and now_s - sent.sent_s < READBACK_S

    @property
    def pending(self) -> bool:
        """Whether there is an edit that was not written."""
        return self._edit is not None

    @property
    def active(self) -> bool:
        """Whether its note tells of an edit, of a write, or of an error."""
        return bool(self.error) or self.busy or self._edit is not None or self._sent is not None

    def edit(self, text: str) -> None:
        """Take what the operator typed or chose; equal to the readback it is no edit."""
        self.error = ""
        self._edit = None if self.unchanged(text) else text

    def unchanged(self, text: str) -> bool:
        """Whether `text` says what the device has."""
        shown = self.format(self.readback())
        return text == shown or (self._number(text) is not None and self._number(text) == self._number(shown))

    def revert(self) -> None:
        """Forget the edit."""
        self._edit, self.error = None, ""

    def apply(self) -> int | float | None:
        """Return the value to write and be busy until `written` or `rejected`; None when there is nothing to write."""
        if self._edit is None or self.busy:
            return None
        self.error = self.obstacle()
        if self.error:
            return None
        value = self._value(self._edit)
        if value is not None:
            self.busy, self.error = True, ""
        return value

    def written(self, now_s: float) -> None:
        """Note that the device took the value."""
        self._sent = Sent(self._edit or "", now_s, self.reading.time_s)
        self._edit, self.busy, self.error = None, False, ""

    def rejected(self, error: str) -> None:
        """Note why the value was not taken; the edit stays."""
        self.busy, self.error = False, error

    def format(self, value: object) -> str:
        """Return a value as the editor shows it."""
        if value is None:
            return ""
        if self.options:
            return next((option.label for option in self.options if option.value == value), str(value))
        if isinstance(value, int | float):
            return f"{value:.{self.decimals}f}" if math.isfinite(value) else ""
        return str(value)

    def view(self, now_s: float) -> FieldView:
        """Return what the editor shows now."""
        known = self.readback() is not None
        shown = self.format(self.readback())
        if not self.waiting(now_s):
            self._sent = None
        text = self._edit if self._edit is not None else self._sent.text if self._sent else shown
        note, role = self._note(shown, now_s)
        return FieldView(text, self.present(now_s) and known and not self.busy, self.pending, note, role, self.tip())

    def tip(self) -> str:
        """Return what may be written, and the keys."""
        allowed = "" if self.low is None or self.high is None else f"{self.low:g} to {self.high:g} {self.unit}. "
        return f"{allowed}Enter applies, Esc reverts"

    def _note(self, shown: str, now_s: float) -> tuple[str, Role]:
        if self.error:
            return self.error, "error"
        if self.busy:
            return "Applying…", "caption"
        if self._edit is not None:
            return f"Edited, was {shown or NONE} {self.unit}".rstrip(), "pending"
        if not self.reading.health.alive(now_s):
            return "Offline", "caption"
        if not self.present(now_s):
            return "Not valid", "caption"
        if self._sent is not None:
            return self.sent_note, "caption"
        return self.hint(), "caption"

    def _number(self, text: str) -> float | None:
        if self.options:
            return next((option.value for option in self.options if option.label == text), None)
        try:
            number = float(text.replace(",", ".").replace("−", "-"))
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def _value(self, text: str) -> int | float | None:
        """Return the number in `text` if it may be written, else say why not."""
        value = self._number(text)
        if value is None:
            self.error = f"{text!r} is no number"
            return None
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            self.error = f"Allowed: {self.low:g} to {self.high:g} {self.unit}".rstrip()
            return None
        return value


class ApplyView(NamedTuple):
    """What the Apply and Revert buttons of a group of fields show."""

    text: str
    enabled: bool


def apply_view(fields: Sequence[EditField], now_s: float) -> ApplyView:
    """Return the state of the buttons that act on all edited fields."""
    edited = sum(field.pending for field in fields)
    possible = all(not field.busy and (field.present(now_s) or not field.pending) for field in fields)
    return ApplyView(f"Apply {edited}" if edited > 1 else "Apply", edited > 0 and possible)


class TwoPress:
    """A button that acts at the second press on the same subject within `WINDOW_S`, in place of a dialog.

    A press sooner than `PAUSE_S` after the one before belongs to a double click, and begins anew.
    """

    WINDOW_S = 4.0
    PAUSE_S = 0.5

    def __init__(self) -> None:
        self._armed_s: float | None = None
        self._subject = ""

    def press(self, now_s: float, subject: str = "") -> bool:
        """Return True when this press acts on `subject`."""
        armed_s = self._armed_s
        acts = armed_s is not None and subject == self._subject and self.PAUSE_S <= now_s - armed_s < self.WINDOW_S
        self._armed_s, self._subject = None if acts else now_s, subject
        return acts

    def disarm(self) -> None:
        """Forget the first press."""
        self._armed_s = None
