"""Symbols and chips, drawn, so that no font can lack them and every state has its own shape."""

from collections.abc import Callable

from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QFontMetrics, QPainter, QPen, QPolygonF

from gui.presenters import palette
from gui.widgets.style import font


def _dot(painter: QPainter, centre: QPointF, size: float, colour: QColor) -> None:
    painter.setBrush(colour)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawEllipse(centre, size * 0.8, size * 0.8)


def _polygon(*corners: tuple[float, float]) -> Callable[[QPainter, QPointF, float, QColor], None]:
    def draw(painter: QPainter, centre: QPointF, size: float, colour: QColor) -> None:
        painter.setBrush(colour)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawPolygon(QPolygonF([QPointF(centre.x() + x * size, centre.y() + y * size) for x, y in corners]))

    return draw


def _lines(*lines: tuple[float, float, float, float], ring: bool = False) -> Callable[..., None]:
    def draw(painter: QPainter, centre: QPointF, size: float, _colour: QColor) -> None:
        if ring:
            painter.drawEllipse(centre, size * 0.75, size * 0.75)
        for x1, y1, x2, y2 in lines:
            start = QPointF(centre.x() + x1 * size, centre.y() + y1 * size)
            painter.drawLine(start, QPointF(centre.x() + x2 * size, centre.y() + y2 * size))

    return draw


def _half(painter: QPainter, centre: QPointF, size: float, colour: QColor) -> None:
    radius = size * 0.75
    painter.drawEllipse(centre, radius, radius)
    painter.setBrush(colour)
    painter.drawPie(QRectF(centre.x() - radius, centre.y() - radius, 2 * radius, 2 * radius), 90 * 16, 180 * 16)


def _question(painter: QPainter, centre: QPointF, size: float, _colour: QColor) -> None:
    painter.setFont(font(round(size * 2.2), 700))
    box = QRectF(centre.x() - 2 * size, centre.y() - 2 * size, 4 * size, 4 * size)
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, "?")


SYMBOLS: dict[str, Callable[[QPainter, QPointF, float, QColor], None]] = {
    "dot": _dot,
    "play": _polygon((-0.6, -0.85), (0.9, 0), (-0.6, 0.85)),
    "triangle": _polygon((0, -1), (1, 0.8), (-1, 0.8)),
    "half": _half,
    "ring": _lines(ring=True),
    "slash": _lines((-0.5, 0.5, 0.5, -0.5), ring=True),
    "bars": _lines((-0.38, -0.75, -0.38, 0.75), (0.38, -0.75, 0.38, 0.75)),
    "cross": _lines((-0.75, -0.75, 0.75, 0.75), (-0.75, 0.75, 0.75, -0.75)),
    "question": _question,
}


def draw_symbol(painter: QPainter, box: QRectF, name: str, colour: str) -> None:
    """Draw the symbol `name` of `palette.STATES` into a box."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    pen = QPen(QColor(colour), 2.2 if name == "cross" else 1.8)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    SYMBOLS[name](painter, box.center(), min(box.width(), box.height()) / 2, QColor(colour))
    painter.restore()


def chip_width(word: str, pixels: int) -> int:
    """Return the width of a chip in pixels."""
    return QFontMetrics(font(pixels, 600)).horizontalAdvance(word) + pixels + 24


def draw_chip(painter: QPainter, box: QRectF, state: str, word: str, pixels: int) -> None:
    """Draw a chip (symbol and word in the colour of `state`) at the left of a box, in its middle."""
    colour, symbol = palette.look(state)
    height = pixels + 10
    shape = QRectF(box.left(), box.center().y() - height / 2, min(chip_width(word, pixels) - 2, box.width()), height)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    pen = QPen(QColor(palette.mix(palette.PANEL, colour, 0.45)), 1)
    if state == "UNKNOWN":
        pen = QPen(QColor(colour), 1, Qt.PenStyle.DashLine)
    painter.setPen(pen)
    painter.setBrush(QColor(palette.chip_ground(colour)))
    painter.drawRoundedRect(shape.adjusted(0.5, 0.5, -0.5, -0.5), height / 2 - 1, height / 2 - 1)
    draw_symbol(painter, QRectF(shape.left() + 8, shape.center().y() - pixels / 2, pixels, pixels), symbol, colour)
    painter.setFont(font(pixels, 600))
    painter.setPen(QColor(colour))
    text_box = shape.adjusted(pixels + 13, 0, -2, 0)
    painter.drawText(text_box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, word)
    painter.restore()
