"""The trend card: its window, pause, and the values under the pointer."""

from collections.abc import Sequence

from PyQt6.QtWidgets import QButtonGroup, QHBoxLayout, QWidget

from gui.presenters.trend import WINDOWS, Series
from gui.widgets.basic import Card, ElidedLabel, button
from gui.widgets.trend import Trend


class TrendCard(Card):
    """Series over time."""

    def __init__(self, series: Sequence[Series]) -> None:
        super().__init__("Trend")
        self.trend = Trend(series, WINDOWS[0].span_s)
        self.pointed = ElidedLabel()
        self.trend.pointed.connect(self.pointed.set_full_text)
        self._group = QButtonGroup(self)
        self.windows = [
            button(window.label, f"Shows the last {window.label} (Ctrl+{number})")
            for number, window in enumerate(WINDOWS, 1)
        ]
        self.pause = button("Pause", "Stands still (F8); then it can be dragged, and zoomed with the wheel")
        self.pause.setCheckable(True)
        self.pause.setProperty("segment", "alone")
        self.pause.setMinimumWidth(78)
        self.pause.toggled.connect(self._pause)
        self.head.addWidget(self.pointed, 1)
        self.head.addWidget(self._segments())
        self.head.addWidget(self.pause)
        self.body.addWidget(self.trend, 1)

    def show_window(self, number: int) -> None:
        """Show one of the windows."""
        self.windows[number].setChecked(True)
        self.trend.set_span(WINDOWS[number].span_s)

    def refresh(self, now_s: float) -> None:
        """Draw when it is worth it."""
        self.trend.refresh(now_s)

    def _pause(self, paused: bool) -> None:
        self.pause.setText("Resume" if paused else "Pause")
        self.trend.set_paused(paused)

    def _segments(self) -> QWidget:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for number, shown in enumerate(self.windows):
            place = "first" if number == 0 else "last" if number == len(self.windows) - 1 else "middle"
            shown.setProperty("segment", place)
            shown.setCheckable(True)
            shown.clicked.connect(lambda _checked, number=number: self.show_window(number))
            self._group.addButton(shown)
            row.addWidget(shown)
        self.windows[0].setChecked(True)
        return holder
