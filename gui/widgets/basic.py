# pyright: reportIncompatibleMethodOverride=false
"""The small parts every card is made of: labels, cards, buttons, chips, symbols."""

import time
from collections.abc import Callable

from PyQt6.QtCore import QRectF, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QFocusEvent, QPainter, QPaintEvent, QResizeEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from gui.presenters import palette
from gui.presenters.fields import TwoPress
from gui.widgets.painting import chip_width, draw_chip, draw_symbol
from gui.widgets.style import font, set_properties

_SIZES = {"value": 14, "figure": 22, "position": 30, "caption": 12, "application": 16, "title": 14}
_NUMBERS = ("figure", "position")


def label(text: str = "", role: str = "", *, selectable: bool = False) -> QLabel:
    """Return a label of plain text in a role of the style sheet."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
        made.setFont(font(_SIZES.get(role, 13), tight=role in _NUMBERS))
    if selectable:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made


def set_text(shown: QLabel | QPushButton, text: str) -> None:
    """Set a text when it differs: Qt repaints even an equal one."""
    if shown.text() != text:
        shown.setText(text)


def set_enabled(widget: QWidget, enabled: bool) -> None:
    """Enable or disable a widget when it differs.

    Qt would pass the focus of a disabled widget on: the next key press would act on another control.
    """
    if widget.isEnabled() != enabled:
        if not enabled and widget.hasFocus():
            widget.clearFocus()
        widget.setEnabled(enabled)


class ElidedLabel(QLabel):
    """A label that gives way: it shows what fits, and all of it in the tool tip."""

    def __init__(self, role: str = "caption") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setFont(font(_SIZES.get(role, 13), 400))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._full = ""

    def set_full_text(self, text: str) -> None:
        """Show as much of `text` as fits."""
        if text != self._full:
            self._full = text
            self.setToolTip(text)
            self._elide()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the text to the new width."""
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        set_text(self, self.fontMetrics().elidedText(self._full, Qt.TextElideMode.ElideRight, self.width()))


class Card(QFrame):
    """A rounded panel with a title row (`head`) and a body (`body`)."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.setObjectName("card")
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(12, 10, 12, 12)
        self.body.setSpacing(8)
        self.head = QHBoxLayout()
        self.head.setSpacing(8)
        self.title = label(title, "title")
        self.head.addWidget(self.title)
        self.body.addLayout(self.head)


def rule() -> QFrame:
    """Return a thin horizontal line."""
    line = QFrame()
    line.setObjectName("rule")
    line.setFixedHeight(1)
    return line


def button(text: str, tip: str = "", *, kind: str = "", on_press: Callable[[], object] | None = None) -> QPushButton:
    """Return a push button; `kind` is a kind of the style sheet."""
    made = QPushButton(text)
    made.setAutoDefault(False)
    if tip:
        made.setToolTip(tip)
    if kind:
        made.setProperty("kind", kind)
    if on_press is not None:
        made.clicked.connect(lambda: on_press())
    return made


class ConfirmButton(QPushButton):
    """A button that acts on its subject at the second press within four seconds; a double click is one press."""

    confirmed = pyqtSignal(str)

    def __init__(self, text: str, confirmation: str, tip: str = "") -> None:
        super().__init__(text)
        self._text, self._confirmation = text, confirmation
        self._subject = ""
        self._presses = TwoPress()
        self.setAutoDefault(False)
        self.setToolTip(tip or "Takes two presses")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(round(TwoPress.WINDOW_S * 1000))
        self._timer.timeout.connect(self.disarm)
        self.clicked.connect(self._press)

    @property
    def armed(self) -> bool:
        """Whether the next press acts."""
        return bool(self.property("armed") == "true")

    def bind(self, subject: str) -> None:
        """Act on `subject` from now on; a first press on another one is forgotten."""
        if subject != self._subject:
            self._subject = subject
            self.disarm()

    def disarm(self) -> None:
        """Forget the first press."""
        self._presses.disarm()
        self._timer.stop()
        self.setText(self._text)
        set_properties(self, armed="false")

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Forget the first press when the operator goes elsewhere."""
        self.disarm()
        super().focusOutEvent(event)

    def _press(self) -> None:
        if self._presses.press(time.monotonic(), self._subject):
            self.disarm()
            self.confirmed.emit(self._subject)
        else:
            self.setText(self._confirmation)
            set_properties(self, armed="true")
            self._timer.start()


class Chip(QWidget):
    """A state as a chip."""

    def __init__(self, pixels: int = 11) -> None:
        super().__init__()
        self._pixels = pixels
        self.state = self.word = ""
        self.setFixedHeight(pixels + 12)
        self.show_state("UNKNOWN")

    def show_state(self, state: str, word: str = "") -> None:
        """Show a state; `word` stands in the chip instead of its name."""
        word = word or state
        if (state, word) != (self.state, self.word):
            self.state, self.word = state, word
            self.setFixedWidth(chip_width(word, self._pixels))
            self.setAccessibleName(f"state {word}")
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the chip."""
        painter = QPainter(self)
        draw_chip(painter, QRectF(self.rect()), self.state, self.word, self._pixels)


class Symbol(QWidget):
    """The symbol of a state."""

    def __init__(self, state: str) -> None:
        super().__init__()
        self._state = state
        self.setFixedSize(QSize(14, 14))

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the symbol."""
        colour, name = palette.look(self._state)
        draw_symbol(QPainter(self), QRectF(1, 1, 12, 12), name, colour)
