# pyright: reportIncompatibleMethodOverride=false
"""The card of what needs a person: servers given up or hung, devices in FAULT, ALARM or silent."""

import time
from collections.abc import Sequence
from typing import Any

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtGui import QPainter

from gui.presenters import palette
from gui.presenters.attention import Item, heading
from gui.presenters.text import duration
from gui.widgets.basic import Card, label, set_text
from gui.widgets.painting import draw_symbol
from gui.widgets.tables import RowDelegate, Rows, Table, draw_text

_ROW = 42
_AGE_WIDTH = 56
_TOP, _BOTTOM = Qt.AlignmentFlag.AlignTop, Qt.AlignmentFlag.AlignBottom


class Shown(tuple[Item, str]):
    """An item and how long it is there."""

    @property
    def tip(self) -> str:
        """The whole text."""
        return f"{self[0].source}: {self[0].text}"


class AttentionDelegate(RowDelegate):
    """Paints an item: symbol, text, source, age."""

    def paint_cell(self, painter: QPainter, box: QRectF, _column: int, row: Any) -> None:
        """Paint an item."""
        item, age = row
        colour, symbol = palette.look(item.severity)
        draw_symbol(painter, QRectF(box.left() + 8, box.top() + 7, 13, 13), symbol, colour)
        inner = box.adjusted(30, 4, -8, -4)
        draw_text(painter, inner, item.text, colour=palette.VALUE, weight=600, align=_TOP)
        source = inner.adjusted(0, 0, -_AGE_WIDTH, 0)
        draw_text(painter, source, item.source, colour=palette.CAPTION, pixels=12, align=_BOTTOM)
        right = _BOTTOM | Qt.AlignmentFlag.AlignRight
        draw_text(painter, inner, age, colour=palette.CAPTION, pixels=12, align=right)


class AttentionCard(Card):
    """The list."""

    def __init__(self) -> None:
        super().__init__("Needs attention")
        self.body.setContentsMargins(6, 8, 6, 6)
        self.body.setSpacing(4)
        self.head.setContentsMargins(8, 0, 8, 0)
        self.count = label("", "caption")
        self.head.addStretch(1)
        self.head.addWidget(self.count)
        self.rows = Rows(["Item"])
        self.table = Table(self.rows, AttentionDelegate(), _ROW, headings=False, selectable=False)
        self.table.setMinimumHeight(2 * _ROW)
        self.body.addWidget(self.table, 1)
        self.show_items((), time.monotonic())

    def show_items(self, items: Sequence[Item], now_s: float) -> None:
        """Show the items."""
        set_text(self.count, heading(items))
        self.rows.show_rows([Shown((item, duration(now_s - item.since_s))) for item in items])
