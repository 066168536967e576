"""The power-meter card: the large reading, its last minute, Zero, and the settings with Apply and Revert."""

import time

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout

from gui.panels.commands import Commands
from gui.presenters.fields import apply_view
from gui.presenters.log import Log
from gui.presenters.notices import Notice
from gui.presenters.power_meter import PowerMeter, device_line
from gui.widgets.basic import Card, Chip, ElidedLabel, button, label, set_enabled, set_text
from gui.widgets.fields import FieldWidget
from gui.widgets.link import Link
from gui.widgets.reading import LargeReading, Spark
from gui.widgets.style import set_properties

_SPARK_S = 60
_HIGHEST = 400


class PowerMeterCard(Card):
    """One power meter."""

    def __init__(self, device: str, link: Link, log: Log) -> None:
        super().__init__("Power meter")
        self.meter = PowerMeter(device, link.readings)
        self._notice = Notice()
        self._commands = Commands(device, link, log, self._notice)
        self.line = ElidedLabel()
        self.line.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.chip = Chip(12)
        self.head.addWidget(label(device, "caption"))
        self.head.addWidget(self.line, 1)
        self.head.addWidget(self.chip)
        self.setMaximumHeight(_HIGHEST)
        self.reading = LargeReading(f"power of {device}")
        self.spark = Spark(self.meter.power, _SPARK_S)
        self.zero = button("Zero", "Stores the present reading and subtracts it from now on", on_press=self._zero)
        self.zero_note = label("", "caption")
        self.fields = [FieldWidget(field, link, log) for field in self.meter.fields]
        self.apply = button("&Apply", "Writes every edited setting; Enter in a field writes that one", kind="primary")
        self.apply.clicked.connect(self._apply)
        self.revert = button("Re&vert", "Back to what the meter has (Esc)", on_press=self._revert)
        self.body.addLayout(self._top(), 1)
        self.body.addLayout(self._bottom())
        for field in self.fields:
            field.changed.connect(self._show_buttons)
        self.refresh(time.monotonic())

    def refresh(self, now_s: float) -> None:
        """Show what the presenter says."""
        self.reading.show_view(self.meter.view(now_s))
        self.spark.refresh(now_s)
        self.chip.show_state(self.meter.device_state(now_s))
        text, role = self._notice.line(device_line(self.meter.status, now_s), now_s)
        set_properties(self.line, role=role)
        self.line.set_full_text(text)
        text, possible = self.meter.zero_button(now_s)
        set_text(self.zero, text)
        set_enabled(self.zero, possible)
        set_text(self.zero_note, f"Zero: {self.meter.zero_note(now_s).lower()}")
        for field in self.fields:
            field.refresh(now_s)
        self._show_buttons()

    def _show_buttons(self) -> None:
        view = apply_view(self.meter.fields, time.monotonic())
        set_text(self.apply, f"&{view.text}")
        set_enabled(self.apply, view.enabled)
        set_enabled(self.revert, view.enabled)

    def _apply(self) -> None:
        for field in self.fields:
            field.apply()

    def _revert(self) -> None:
        for field in self.fields:
            field.revert()

    def _zero(self) -> None:
        if self.meter.zero.value:
            self._commands.switch("zero_enabled", False, "Zero switched off", "Switching zero off…")
        else:
            self._commands.run("Zero", "Zero stored", "Storing zero…")

    def _top(self) -> QHBoxLayout:
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(self.reading, 5)
        side = QVBoxLayout()
        side.setSpacing(2)
        side.addWidget(label(f"Last {_SPARK_S} s", "caption"))
        side.addWidget(self.spark, 1)
        side.addSpacing(4)
        zero = QHBoxLayout()
        zero.addWidget(self.zero_note, 1)
        zero.addWidget(self.zero)
        side.addLayout(zero)
        top.addLayout(side, 3)
        return top

    def _buttons(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        for part in (self.apply, self.revert):
            part.setFixedWidth(84)
            column.addWidget(part)
        return column

    def _bottom(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(0)
        for column, field in enumerate(self.fields):
            grid.addWidget(field, 0, column)
            grid.setColumnStretch(column, 3)
        grid.addLayout(self._buttons(), 0, len(self.fields))
        return grid
