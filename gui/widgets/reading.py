# pyright: reportIncompatibleMethodOverride=false, reportArgumentType=false
"""The large reading, and the small curve of the last minute beside it."""

import time

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from gui.presenters import palette
from gui.presenters.curves import limits, thinned, visible
from gui.presenters.power_meter import NO_VALUE, ReadingView
from gui.presenters.readings import Reading
from gui.widgets.painting import chip_width, draw_chip
from gui.widgets.style import font

_CHIP_PIXELS = 12
_LARGEST = 190


class LargeReading(QWidget):
    """One number as large as fits, its unit, and below it a chip and an aside."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.view = NO_VALUE
        self.setMinimumSize(260, 104)
        self.setAccessibleName(name)

    def show_view(self, view: ReadingView) -> None:
        """Show what the presenter says."""
        if view != self.view:
            self.view = view
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw number, unit, chip and aside."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        view = self.view
        size = int(min((self.height() - _CHIP_PIXELS - 12) / 1.06, self.width() / 3.6, _LARGEST))
        big = font(size, 500, tight=True) if view.unit else font(int(size * 0.5), 500)
        painter.setFont(big)
        colour = palette.look(view.colour_state).colour if view.colour_state else palette.VALUE
        painter.setPen(QColor(palette.CAPTION if view.stale else colour))
        baseline = size * 0.86
        painter.drawText(QPointF(0, baseline), view.text)
        right = QFontMetricsF(big).horizontalAdvance(view.text) + size * 0.16
        painter.setFont(font(int(size * 0.34), 400))
        painter.setPen(QColor(palette.CAPTION))
        painter.drawText(QPointF(right, baseline), view.unit)
        line = QRectF(0, baseline + size * 0.14, self.width(), _CHIP_PIXELS + 14)
        draw_chip(painter, line, view.chip_state, view.chip_word, _CHIP_PIXELS)
        painter.setFont(font(14, 400))
        painter.setPen(QColor(palette.CAPTION))
        aside = line.adjusted(chip_width(view.chip_word, _CHIP_PIXELS) + 10, 0, 0, 0)
        painter.drawText(aside, Qt.AlignmentFlag.AlignVCenter, view.aside)


class Spark(QWidget):
    """The last seconds of a reading, without axes."""

    def __init__(self, reading: Reading | None, span_s: float, colour: str = palette.CURVES[0]) -> None:
        super().__init__()
        self.reading = reading
        self._span_s = span_s
        self._colour = colour
        self._drawn: tuple[int, bool] | None = None
        self.setMinimumSize(60, 24)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def refresh(self, now_s: float) -> None:
        """Repaint when there is something new."""
        if self.reading is None:
            return
        drawn = self.reading.health.silences + self.reading.sequence, self.reading.health.alive(now_s)
        if drawn != self._drawn:
            self._drawn = drawn
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the curve over a base line, and a dot at its end."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(1, 5, -6, -5)
        painter.setPen(QPen(QColor(palette.LINE), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        if self.reading is None:
            return
        end_s, now_s = time.time(), time.monotonic()
        start_s = end_s - self._span_s
        times, values = thinned(*visible(self.reading, start_s, end_s, now_s), max(40, int(area.width() / 2)))
        found = limits([values])
        if found is None:
            return
        low, high = found
        span = max(high - low, abs(high) * 1e-3, 1e-15)
        x = area.left() + (times - start_s) / self._span_s * area.width()
        y = area.bottom() - (values - low) / span * area.height()
        colour = QColor(self._colour if self.reading.health.alive(now_s) else palette.CAPTION)
        painter.setPen(QPen(colour, 1.3))
        finite = np.isfinite(values)
        for part in np.split(np.arange(len(values)), np.nonzero(~finite)[0]):
            points = [QPointF(x[i], y[i]) for i in part if finite[i]]
            painter.drawPolyline(QPolygonF(points))
        if finite[-1]:
            painter.setBrush(colour)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.drawEllipse(QPointF(x[-1], y[-1]), 3, 3)
