# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
"""Curves over time: a plot for each unit, a common clock axis, and the statistics below."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph
from PyQt6.QtCore import QPointF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from gui.presenters import palette
from gui.presenters.curves import Axis, limits, thinned, visible
from gui.presenters.readings import Floats
from gui.presenters.trend import (
    STATISTICS,
    Series,
    clock_text,
    clock_ticks,
    cursor_text,
    redraw_period_s,
    value_text,
    value_ticks,
)
from gui.widgets.basic import label, set_text
from gui.widgets.style import font, set_properties

_AXIS_WIDTH = 64
_CLOCK_WIDTH = 74
_VALUE_HEIGHT = 18
_STATISTICS_S = 0.95
_DIM = 0.45
_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight


class ClockAxis(pyqtgraph.AxisItem):
    """Times of day."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """Return as many round times as fit."""
        return [clock_ticks(minVal, maxVal, int(size // _CLOCK_WIDTH))]

    def tickStrings(self, values: Sequence[float], _scale: float, spacing: float) -> list[str]:
        """Return the times as text."""
        return [clock_text(value, spacing) for value in values]


class ValueAxis(pyqtgraph.AxisItem):
    """Values in the shown unit, all with the same decimals."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """Return as many round values as fit."""
        return [value_ticks(minVal, maxVal, int(size // _VALUE_HEIGHT))]

    def tickStrings(self, values: Sequence[float], _scale: float, spacing: float) -> list[str]:
        """Return the values as text."""
        return [value_text(value, spacing) for value in values]


class Swatch(QWidget):
    """A piece of line in the colour of a curve."""

    def __init__(self, colour: str) -> None:
        super().__init__()
        self._colour = colour
        self.setFixedSize(16, 12)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the line."""
        painter = QPainter(self)
        painter.setPen(QPen(QColor(self._colour), 2))
        painter.drawLine(QPointF(0, 6), QPointF(16, 6))


class Trend(QWidget):
    """Series over the last `span_s`. Series of one unit share a plot. While paused it can be dragged and zoomed."""

    pointed = pyqtSignal(str)

    def __init__(self, series: Sequence[Series], span_s: float) -> None:
        super().__init__()
        self.series = tuple(series)
        self.span_s = span_s
        self.paused = False
        self._end_s = time.time()
        self._drawn_s = self._counted_s = float("-inf")
        empty = np.empty(0)
        self.drawn: list[tuple[Floats, Floats]] = [(empty, empty)] * len(self.series)
        self._alive: list[bool | None] = [None] * len(self.series)
        self._units = list(dict.fromkeys(one.unit for one in self.series))
        self._axes = [Axis(next(one.least_margin for one in self.series if one.unit == unit)) for unit in self._units]
        self._scales: list[float] = [0.0] * len(self._units)
        self._canvas = self._make_canvas()
        self._plots = [self._make_plot(row) for row in range(len(self._units))]
        self._curves = [self._make_curve(number) for number in range(len(self.series))]
        self._cursors = [self._make_cursor(plot) for plot in self._plots]
        self._titles: list[QLabel] = []
        self._numbers: list[list[QLabel]] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self._canvas, 1)
        column.addLayout(self._make_statistics())
        self._proxy = pyqtgraph.SignalProxy(self._canvas.scene().sigMouseMoved, rateLimit=30, slot=self._point)
        if self._plots:
            self._plots[0].sigXRangeChanged.connect(self._moved)

    def set_span(self, span_s: float) -> None:
        """Show another length of time."""
        self.span_s = span_s
        for axis in self._axes:
            axis.limits = None
        self._draw(self._end_s - span_s, self._end_s, time.monotonic())

    def set_paused(self, paused: bool) -> None:
        """Stand still, or go on."""
        self.paused = paused
        for plot in self._plots:
            plot.setMouseEnabled(x=paused, y=False)
        self._drawn_s = float("-inf")
        self.refresh(time.monotonic())

    def refresh(self, now_s: float) -> None:
        """Draw when it is worth it."""
        if self.paused or not self.isVisible() or now_s - self._drawn_s < redraw_period_s(self.span_s):
            return
        self._drawn_s = now_s
        self._end_s = time.time()
        self._draw(self._end_s - self.span_s, self._end_s, now_s)

    def _draw(self, start_s: float, end_s: float, now_s: float) -> None:
        curves = [thinned(*visible(one.reading, start_s, end_s, now_s)) for one in self.series]
        for number, (one, (times, values)) in enumerate(zip(self.series, curves, strict=True)):
            alike = [curve[1] for other, curve in zip(self.series, curves, strict=True) if other.unit == one.unit]
            one.fit(np.concatenate(alike))
            self.drawn[number] = times, values * one.scale
            self._curves[number].setData(*self.drawn[number])
            alive = one.reading.health.alive(now_s)
            if alive != self._alive[number]:
                self._alive[number] = alive
                self._curves[number].setPen(_pen(number, alive))
            self._mark_stale(number, not one.reading.usable(now_s))
        for row in range(len(self._units)):
            self._fit(row)
        if self._plots and not self.paused:
            self._plots[0].setXRange(start_s, end_s, padding=0)
        if now_s - self._counted_s >= _STATISTICS_S or self.paused:
            self._counted_s = now_s
            self._count(start_s, end_s, now_s)

    def _fit(self, row: int) -> None:
        members = [number for number, one in enumerate(self.series) if one.unit == self._units[row]]
        first = self.series[members[0]]
        if first.scale != self._scales[row]:
            self._scales[row] = first.scale
            self._axes[row].limits = None
            self._plots[row].getAxis("left").setLabel(first.shown_unit)
        found = limits([self.drawn[number][1] for number in members])
        self._plots[row].getAxis("left").setStyle(showValues=found is not None)
        if found is not None:
            old = self._axes[row].limits
            new = self._axes[row].update(*found)
            if new != old:
                self._plots[row].setYRange(*new, padding=0)

    def _count(self, start_s: float, end_s: float, now_s: float) -> None:
        for number, one in enumerate(self.series):
            set_text(self._titles[number], one.title)
            for shown, text in zip(self._numbers[number], one.statistics(start_s, end_s, now_s), strict=True):
                set_text(shown, text)

    def _mark_stale(self, number: int, stale: bool) -> None:
        set_properties(self._numbers[number][0], stale="true" if stale else "false")

    def _moved(self, _plot: object, shown: tuple[float, float]) -> None:
        if self.paused:
            self._draw(*shown, time.monotonic())

    def _point(self, event: tuple[QPointF]) -> None:
        point = event[0]
        plot = next((plot for plot in self._plots if plot.sceneBoundingRect().contains(point)), None)
        for cursor in self._cursors:
            cursor.setVisible(plot is not None)
        if plot is None:
            self.pointed.emit("")
            return
        time_s = float(plot.getViewBox().mapSceneToView(point).x())
        for cursor in self._cursors:
            cursor.setPos(time_s)
        self.pointed.emit(cursor_text(self.series, self.drawn, time_s))

    def _make_canvas(self) -> Any:
        canvas: Any = pyqtgraph.GraphicsLayoutWidget()
        canvas.setBackground(palette.PANEL)
        canvas.setFrameShape(QFrame.Shape.NoFrame)
        canvas.ci.layout.setSpacing(6)
        canvas.ci.setContentsMargins(0, 2, 6, 0)
        canvas.setMinimumHeight(60 + 50 * len(self._units))
        return canvas

    def _make_plot(self, row: int) -> Any:
        last = row == len(self._units) - 1
        plot = self._canvas.addPlot(
            row=row, col=0, axisItems={"bottom": ClockAxis(orientation="bottom"), "left": ValueAxis(orientation="left")}
        )
        plot.hideButtons()
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(x=False, y=False)
        for name in ("left", "bottom"):
            axis = plot.getAxis(name)
            axis.setPen(pyqtgraph.mkPen(palette.LINE))
            axis.setTextPen(pyqtgraph.mkPen(palette.CAPTION))
            axis.setStyle(tickFont=font(11, 400), tickLength=-4, tickTextOffset=6)
            axis.enableAutoSIPrefix(False)
        plot.getAxis("left").label.setFont(font(12, 400))
        plot.getAxis("left").setWidth(_AXIS_WIDTH)
        plot.showGrid(x=True, y=True, alpha=0.13)
        if not last:
            plot.getAxis("bottom").setStyle(showValues=False)
            plot.getAxis("bottom").setHeight(2)
        if row:
            plot.setXLink(self._canvas.getItem(0, 0))
        self._canvas.ci.layout.setRowStretchFactor(row, 3 if row == 0 else 2)
        return plot

    def _make_curve(self, number: int) -> Any:
        plot = self._plots[self._units.index(self.series[number].unit)]
        return plot.plot(pen=_pen(number, False), connect="finite")

    def _make_cursor(self, plot: Any) -> Any:
        pen = pyqtgraph.mkPen(palette.INPUT_BORDER, width=1, style=Qt.PenStyle.DashLine)
        cursor = pyqtgraph.InfiniteLine(angle=90, movable=False, pen=pen)
        plot.addItem(cursor, ignoreBounds=True)
        cursor.hide()
        return cursor

    def _make_statistics(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        for column, heading in enumerate(STATISTICS, 2):
            grid.addWidget(label(heading, "caption"), 0, column, _RIGHT)
            grid.setColumnStretch(column, 1)
        for row, one in enumerate(self.series, 1):
            grid.addWidget(Swatch(palette.CURVES[(row - 1) % len(palette.CURVES)]), row, 0)
            title = label(one.title)
            self._titles.append(title)
            grid.addWidget(title, row, 1, _LEFT)
            numbers = [label("–", "number") for _heading in STATISTICS]
            self._numbers.append(numbers)
            for column, shown in enumerate(numbers, 2):
                grid.addWidget(shown, row, column, _RIGHT)
        return grid


def _pen(number: int, alive: bool) -> Any:
    colour = palette.CURVES[number % len(palette.CURVES)]
    return pyqtgraph.mkPen(colour if alive else palette.mix(palette.PANEL, colour, _DIM), width=1.5)
