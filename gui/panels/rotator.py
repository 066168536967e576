# pyright: reportIncompatibleMethodOverride=false
"""The card of a rotation mount: position, Stop, target, jog and home; and the column of all of them."""

import time
from collections.abc import Sequence

from PyQt6.QtCore import QSize, Qt
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from gui.panels.commands import Commands
from gui.presenters.log import Log
from gui.presenters.notices import Notice
from gui.presenters.rotator import Rotator
from gui.widgets.basic import Card, Chip, ElidedLabel, button, label, set_enabled, set_text
from gui.widgets.fields import FieldWidget
from gui.widgets.link import Link
from gui.widgets.style import set_properties


class RotatorCard(Card):
    """One rotation mount."""

    def __init__(self, device: str, link: Link, log: Log) -> None:
        super().__init__("Rotator")
        self.rotator = Rotator(device, link.readings)
        self._notice = Notice()
        self._commands = Commands(device, link, log, self._notice)
        self.chip = Chip(11)
        self.position = label("No value", "position", selectable=True)
        self.unit = label("", "unit")
        self.line = ElidedLabel()
        self.stop_button = button("STOP", "Stops the mount where it is", kind="stop", on_press=self._stop)
        self.target = FieldWidget(self.rotator.target, link, log)
        self.jog_step = FieldWidget(self.rotator.jog_step, link, log)
        self.move_button = button("&Move", "Turns to the target (Enter)", kind="primary", on_press=self.target.apply)
        self.home_button = button("Home", "Looks for the home position", on_press=self._home)
        self.back = button("−", "Turns back by the jog step", kind="jog", on_press=self._back)
        self.forward = button("+", "Turns on by the jog step", kind="jog", on_press=self._forward)
        # always enabled: a display may be wrong, and a stop must not wait
        self.stop_button.setFixedWidth(84)
        for part in (self.move_button, self.home_button, self.back, self.forward):
            part.setFixedWidth(62)
        for field in (self.target, self.jog_step):
            field.note.hide()
            field.changed.connect(self._edited)
        self._arrange(device)
        self.refresh(time.monotonic())

    def refresh(self, now_s: float) -> None:
        """Show what the presenter says."""
        view = self.rotator.view(now_s)
        self.chip.show_state(view.state)
        set_text(self.position, view.position)
        set_text(self.unit, view.unit)
        set_properties(self.position, stale="true" if view.stale else "false")
        self._show_line(now_s)
        self.target.refresh(now_s)
        self.jog_step.refresh(now_s)
        self._show_buttons()

    def _edited(self) -> None:
        self._show_line(time.monotonic())
        self._show_buttons()

    def _show_line(self, now_s: float) -> None:
        view = self.rotator.view(now_s)
        text, role = self._notice.line(view.line, now_s, view.line_role)
        set_properties(self.line, role=role)
        self.line.set_full_text(text)

    def _show_buttons(self) -> None:
        can_move = self.rotator.view(time.monotonic()).can_move
        set_enabled(self.move_button, can_move and self.rotator.target.pending and not self.rotator.target.busy)
        set_enabled(self.home_button, can_move)
        jogs = can_move and not self.rotator.jog_step.pending and not self.rotator.jog_step.busy
        set_enabled(self.back, jogs)
        set_enabled(self.forward, jogs)

    def _stop(self) -> None:
        self._commands.stop()
        self._show_line(time.monotonic())

    def _home(self) -> None:
        self._commands.run("Home", "Home", "Looking for home…")

    def _back(self) -> None:
        self._commands.run("JogBackward", "Jog backward", "Jogging…")

    def _forward(self) -> None:
        self._commands.run("JogForward", "Jog forward", "Jogging…")

    def _arrange(self, device: str) -> None:
        self.body.setSpacing(4)
        self.body.setContentsMargins(12, 8, 12, 10)
        self.head.addWidget(label(device, "caption"))
        self.head.addStretch(1)
        self.head.addWidget(self.chip)
        number = QHBoxLayout()
        number.setSpacing(6)
        number.addWidget(self.position)
        number.addWidget(self.unit, 0, Qt.AlignmentFlag.AlignBottom)
        number.addStretch(1)
        left = QVBoxLayout()
        left.setSpacing(0)
        left.addLayout(number)
        left.addWidget(self.line)
        top = QHBoxLayout()
        top.addLayout(left, 1)
        top.addWidget(self.stop_button)
        self.body.addLayout(top)
        self._add_row(self.target, self.move_button, self.home_button)
        self._add_row(self.jog_step, self.back, self.forward)

    def _add_row(self, field: FieldWidget, *buttons: QPushButton) -> None:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(field, 1)
        for part in buttons:
            row.addWidget(part, 0, Qt.AlignmentFlag.AlignBottom)
        self.body.addLayout(row)


class Rotators(QScrollArea):
    """All mounts, one below the other; scrolls when they do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inner = QWidget()
        inner.setObjectName("inner")
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(10)
        self.setWidget(inner)
        viewport = self.viewport()
        if viewport is not None:
            viewport.setAutoFillBackground(False)
        self.cards: list[RotatorCard] = []

    def sizeHint(self) -> QSize:
        """As high as the mounts are, if there is room."""
        inner = self.widget()
        return super().sizeHint() if inner is None else inner.sizeHint()

    def add(self, devices: Sequence[str], link: Link, log: Log) -> None:
        """Add the cards of these mounts."""
        for device in devices:
            card = RotatorCard(device, link, log)
            self.cards.append(card)
            self._column.addWidget(card)
        self.updateGeometry()

    def refresh(self, now_s: float) -> None:
        """Show what the presenters say."""
        for card in self.cards:
            card.refresh(now_s)
