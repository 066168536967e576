# pyright: reportIncompatibleMethodOverride=false
"""Tables of rows that a delegate paints; only rows that changed are painted again."""

from collections.abc import Sequence
from typing import Any

from PyQt6.QtCore import QAbstractTableModel, QModelIndex, QRect, QRectF, Qt
from PyQt6.QtGui import QColor, QPainter
from PyQt6.QtWidgets import QAbstractItemView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QTableView

from gui.presenters import palette
from gui.widgets.style import font

_NO_INDEX = QModelIndex()


class Rows(QAbstractTableModel):
    """Any rows under some headings; a delegate gets a whole row as the user role."""

    def __init__(self, headings: Sequence[str], right_from: int = 99) -> None:
        super().__init__()
        self._headings = tuple(headings)
        self._right_from = right_from
        self.rows: tuple[Any, ...] = ()

    def rowCount(self, _parent: QModelIndex = _NO_INDEX) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def columnCount(self, _parent: QModelIndex = _NO_INDEX) -> int:
        """Return the number of columns."""
        return len(self._headings)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Return a heading or its alignment."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self._headings[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if section >= self._right_from else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Return the row of an index."""
        if role == Qt.ItemDataRole.UserRole:
            return self.rows[index.row()]
        tip = getattr(self.rows[index.row()], "tip", "") if role == Qt.ItemDataRole.ToolTipRole else ""
        return tip or None

    def show_rows(self, rows: Sequence[Any]) -> None:
        """Show other rows; the selection stays where it is while their number does."""
        old, self.rows = self.rows, tuple(rows)
        if len(old) != len(self.rows):
            self.rows = old
            self.beginResetModel()
            self.rows = tuple(rows)
            self.endResetModel()
            return
        for number, (before, after) in enumerate(zip(old, self.rows, strict=True)):
            if before != after:
                self.dataChanged.emit(self.index(number, 0), self.index(number, len(self._headings) - 1))


class RowDelegate(QStyledItemDelegate):
    """Paints the ground of a row, and leaves the rest to `paint_cell`. `stale` greys all of them."""

    stale = False

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Paint one cell."""
        assert painter is not None
        if isinstance(option.widget, Table) and option.widget.cuts(option.rect):
            return
        painter.save()
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(option.rect, QColor(palette.SELECTED))
            if index.column() == 0:
                mark = QRect(option.rect.left(), option.rect.top() + 4, 3, option.rect.height() - 8)
                focused = option.widget is not None and option.widget.hasFocus()
                painter.fillRect(mark, QColor(palette.ACCENT if focused else palette.INPUT_BORDER))
        self.paint_cell(painter, QRectF(option.rect), index.column(), index.data(Qt.ItemDataRole.UserRole))
        painter.restore()

    def paint_cell(self, painter: QPainter, box: QRectF, column: int, row: Any) -> None:
        """Paint the content of a cell; for subclasses."""
        raise NotImplementedError


def draw_text(
    painter: QPainter,
    box: QRectF,
    text: str,
    *,
    colour: str = palette.TEXT,
    pixels: int = 13,
    weight: int = 400,
    align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignVCenter,
) -> None:
    """Draw a line of text, cut where it does not fit."""
    painter.setFont(font(pixels, weight))
    painter.setPen(QColor(colour))
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(box.width()))
    painter.drawText(box, align, shown)


class Table(QTableView):
    """A table view in the look of the panels."""

    def __init__(
        self, model: Rows, delegate: RowDelegate, row_height: int, *, headings: bool, selectable: bool = True
    ) -> None:
        super().__init__()
        self._delegate = delegate  # Qt does not own it
        self._rows = model
        self.setModel(model)
        self.setItemDelegate(delegate)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        mode = QAbstractItemView.SelectionMode
        self.setSelectionMode(mode.SingleSelection if selectable else mode.NoSelection)
        if not selectable:
            self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        vertical, horizontal = self.verticalHeader(), self.horizontalHeader()
        assert vertical is not None
        assert horizontal is not None
        vertical.hide()
        vertical.setMinimumSectionSize(row_height)
        vertical.setDefaultSectionSize(row_height)
        horizontal.setVisible(headings)
        horizontal.setHighlightSections(False)
        horizontal.setSectionsClickable(False)
        horizontal.setFixedHeight(24)
        horizontal.setStretchLastSection(True)

    def cuts(self, cell: QRect) -> bool:
        """Whether a cell does not end inside the table: half a line of text is worse than none."""
        viewport = self.viewport()
        return viewport is not None and cell.bottom() >= viewport.height()

    def select(self, row: int | None) -> None:
        """Select a row, or none."""
        self.setCurrentIndex(_NO_INDEX if row is None else self._rows.index(row, 0))

    def selected(self) -> Any | None:
        """Return the selected row."""
        index = self.currentIndex()
        return self._rows.rows[index.row()] if index.isValid() and index.row() < len(self._rows.rows) else None
