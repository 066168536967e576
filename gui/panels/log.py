"""The log card: supervisors' and own lines, newest first, a level and words to filter by."""

import time
from typing import Any

from PyQt6.QtCore import QRectF
from PyQt6.QtGui import QPainter
from PyQt6.QtWidgets import QComboBox, QLineEdit

from gui.presenters import palette
from gui.presenters.log import LEVEL_STATES, Line, Log
from gui.presenters.overview import Overview
from gui.presenters.text import plural
from gui.widgets.basic import Card, label, set_text
from gui.widgets.painting import draw_symbol
from gui.widgets.tables import RowDelegate, Rows, Table, draw_text

_ROW = 22
_WIDTHS = (78, 92, 190)
_LEVELS = {"All levels": "DEBUG", "Information": "INFO", "Warnings and errors": "WARNING", "Errors": "ERROR"}


class LogLine(tuple[Line]):
    """A line whose whole text is its tool tip."""

    @property
    def tip(self) -> str:
        """The message."""
        return self[0].message


class LogDelegate(RowDelegate):
    """Paints time, level, source and message."""

    def paint_cell(self, painter: QPainter, box: QRectF, column: int, row: Any) -> None:
        """Paint one of the four."""
        line: Line = row[0]
        inner = box.adjusted(8, 0, -4, 0)
        state = LEVEL_STATES.get(line.level, "")
        if column == 0:
            draw_text(painter, inner, line.clock, colour=palette.CAPTION, pixels=12)
        elif column == 1:
            colour, symbol = palette.look(state)
            if state:
                draw_symbol(painter, QRectF(inner.left(), inner.center().y() - 5.5, 11, 11), symbol, colour)
            colour, weight = (colour, 600) if state else (palette.CAPTION, 400)
            draw_text(painter, inner.adjusted(17, 0, 0, 0), line.level, colour=colour, pixels=12, weight=weight)
        elif column == 2:
            draw_text(painter, inner, line.source, colour=palette.CAPTION, pixels=12)
        else:
            draw_text(painter, inner, line.message, colour=palette.VALUE if state else palette.TEXT, pixels=12)


class LogCard(Card):
    """The log. While it is scrolled away from its top it stands still and counts what is new."""

    def __init__(self, log: Log, overview: Overview) -> None:
        super().__init__("Log")
        self._log, self._overview = log, overview
        self._shown: tuple[object, ...] = ()
        self.body.setContentsMargins(6, 8, 6, 8)
        self.body.setSpacing(4)
        self.head.setContentsMargins(8, 0, 6, 0)
        self.newer = label("", "caption")
        self.level = QComboBox()
        self.level.addItems(list(_LEVELS))
        self.level.setProperty("role", "small")
        self.level.setMinimumWidth(160)
        self.level.setAccessibleName("least level")
        self.words = QLineEdit()
        self.words.setPlaceholderText("Filter (Ctrl+L)")
        self.words.setProperty("role", "small")
        self.words.setFixedWidth(190)
        self.words.setClearButtonEnabled(True)
        self.words.setAccessibleName("log filter")
        self.head.addStretch(1)
        for part in (self.newer, self.level, self.words):
            self.head.addWidget(part)
        self.rows = Rows(["Time", "Level", "Source", "Message"])
        self.table = Table(self.rows, LogDelegate(), _ROW, headings=False, selectable=False)
        self.table.setMinimumHeight(2 * _ROW)
        for column, width in enumerate(_WIDTHS):
            self.table.setColumnWidth(column, width)
        self.body.addWidget(self.table, 1)
        self.level.currentIndexChanged.connect(self._filtered)
        self.words.textChanged.connect(self._filtered)

    def focus_filter(self) -> None:
        """Put the cursor into the filter."""
        self.words.setFocus()
        self.words.selectAll()

    def refresh(self, _now_s: float) -> None:
        """Show new lines."""
        wanted = self._log.sequence, self._overview.log_sequence, self.words.text(), self.level.currentText()
        if wanted == self._shown and not self.newer.text():
            return
        self._shown = wanted
        least = _LEVELS[self.level.currentText()]
        lines = [LogLine((line,)) for line in self._log.merged(self._overview.lines(), self.words.text(), least)]
        bar = self.table.verticalScrollBar()
        if bar is not None and bar.value() > 0 and self.rows.rows:
            newer = _newer(lines, self.rows.rows[0])
            set_text(self.newer, f"{plural(newer, 'newer line')} above" if newer else "")
            return
        set_text(self.newer, "")
        self.rows.show_rows(lines)

    def _filtered(self) -> None:
        bar = self.table.verticalScrollBar()
        if bar is not None:
            bar.setValue(0)
        self.refresh(time.monotonic())


def _newer(lines: list[LogLine], first: LogLine) -> int:
    return next((number for number, line in enumerate(lines) if line == first), len(lines))
