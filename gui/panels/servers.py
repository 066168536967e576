# pyright: reportIncompatibleMethodOverride=false
"""The dashboard: the supervisors' servers with Start, Stop and Restart, and the list of devices."""

import time
from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtGui import QPainter
from PyQt6.QtWidgets import QHBoxLayout, QHeaderView

from gui.presenters import palette
from gui.presenters.attention import DeviceState
from gui.presenters.log import Log
from gui.presenters.notices import Notice
from gui.presenters.overview import Overview, OverviewView
from gui.presenters.servers import ServerRow, action_line, buttons, summary
from gui.widgets.basic import Card, ConfirmButton, ElidedLabel, button, label, rule, set_enabled, set_text
from gui.widgets.link import Link
from gui.widgets.painting import chip_width, draw_chip
from gui.widgets.style import set_properties
from gui.widgets.tables import RowDelegate, Rows, Table, draw_text

_HEADINGS = ("Server", "State", "Uptime", "CPU %", "MiB", "Restarts")
_WIDTHS = {1: 94, 2: 53, 3: 48, 4: 40, 5: 58}
_SERVER_ROW = 39
_DEVICE_ROW = 38
_HEADING = 24
_TOP, _BOTTOM = Qt.AlignmentFlag.AlignTop, Qt.AlignmentFlag.AlignBottom
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class ServerDelegate(RowDelegate):
    """Paints a server: class and instance, chip, figures."""

    def paint_cell(self, painter: QPainter, box: QRectF, column: int, row: Any) -> None:
        """Paint one of the columns."""
        server: ServerRow = row
        grey = self.stale or not server.running
        if column == 0:
            inner = box.adjusted(9, 3, 1, -3)
            colour = palette.CAPTION if grey else palette.VALUE
            draw_text(painter, inner, server.title, colour=colour, weight=600, align=_TOP)
            draw_text(painter, inner, server.instance, colour=palette.CAPTION, pixels=12, align=_BOTTOM)
        elif column == 1:
            chip = ("UNKNOWN", "UNKNOWN") if self.stale else (server.chip_state, server.chip_word)
            draw_chip(painter, box.adjusted(2, 0, 0, 0), *chip, 11)
        else:
            text = (server.uptime, server.cpu, server.memory, server.restarts)[column - 2]
            calm = column == 5 and server.restarts == "0"
            colour = palette.CAPTION if grey or calm else palette.TEXT
            draw_text(painter, box.adjusted(0, 0, -6, 0), text, colour=colour, align=_RIGHT)


class DeviceDelegate(RowDelegate):
    """Paints a device: name, line, chip."""

    def paint_cell(self, painter: QPainter, box: QRectF, _column: int, row: Any) -> None:
        """Paint the row."""
        device: DeviceState = row
        width = chip_width(device.state, 11)
        right = box.right() - 6 - width
        draw_chip(painter, QRectF(right, box.top(), width, box.height()), device.state, device.state, 11)
        inner = QRectF(box.left() + 10, box.top() + 3, right - box.left() - 18, box.height() - 6)
        draw_text(painter, inner, device.device, colour=palette.VALUE, weight=500, align=_TOP)
        draw_text(painter, inner, device.line, colour=palette.CAPTION, pixels=12, align=_BOTTOM)


class ServersCard(Card):
    """Servers above, devices below."""

    def __init__(self, link: Link, log: Log, overview: Overview) -> None:
        super().__init__("Servers")
        self._link, self._log, self._overview = link, log, overview
        self._notice = Notice()
        self._selected = self._bound = ""
        self._note = ""
        self.note = label("", "caption")
        self.rows = Rows(_HEADINGS, right_from=2)
        self._delegate = ServerDelegate()
        self.table = Table(self.rows, self._delegate, _SERVER_ROW, headings=True)
        start = self._act("start", "DevStart")
        self.start = button("&Start", "Starts the selected server", on_press=lambda: start(self._bound))
        self.stop = ConfirmButton("S&top", "Confirm stop", "Stops the selected server (two presses)")
        self.restart = ConfirmButton("&Restart", "Confirm restart", "Restarts the selected server (two presses)")
        self.stop.confirmed.connect(self._act("stop", "DevStop"))
        self.restart.confirmed.connect(self._act("restart", "DevRestart"))
        self.line = ElidedLabel()
        self.devices = Rows(("Device",))
        self.device_table = Table(self.devices, DeviceDelegate(), _DEVICE_ROW, headings=False, selectable=False)
        self._arrange()
        selection = self.table.selectionModel()
        assert selection is not None
        selection.currentRowChanged.connect(self._chosen)

    @property
    def selected(self) -> ServerRow | None:
        """The server the buttons act on."""
        found = self.table.selected()
        return found if isinstance(found, ServerRow) else None

    def show_view(self, view: OverviewView, now_s: float) -> None:
        """Show what the presenter says; the selection follows the server, not the line."""
        self._note = view.note
        set_text(self.note, view.note or (summary(view.rows) if view.rows else "Connecting…"))
        if self._delegate.stale != view.stale:
            self._delegate.stale = view.stale
            viewport = self.table.viewport()
            if viewport is not None:
                viewport.update()
        names = [row.name for row in view.rows]
        moved = names != [row.name for row in self.rows.rows]
        self.rows.show_rows(view.rows)
        if moved and names:
            wanted = self._selected or names[0]
            self.table.select(names.index(wanted) if wanted in names else None)
        self.table.setMaximumHeight(_HEADING + _SERVER_ROW * max(len(names), 2) + 2)
        self.devices.show_rows(view.devices)
        self._show_buttons(now_s)

    def _show_buttons(self, now_s: float) -> None:
        row = self.selected
        alive = row is not None and self._overview.supervisor_alive(row.supervisor, now_s)
        possible = buttons(row, alive)
        self._bound = row.name if row is not None else ""
        for confirmed in (self.stop, self.restart):
            confirmed.bind(self._bound)
        set_enabled(self.start, possible.start)
        set_enabled(self.stop, possible.stop)
        set_enabled(self.restart, possible.restart)
        otherwise = f"Buttons act on {row.name}" if row else "No server selected"
        text, role = self._notice.line(otherwise, now_s)
        set_properties(self.line, role=role)
        self.line.set_full_text(text)

    def _chosen(self) -> None:
        row = self.selected
        if row is not None:
            self._selected = row.name
        self._show_buttons(time.monotonic())

    def _act(self, verb: str, command: str) -> Callable[[str], None]:
        def act(name: str) -> None:
            row = next((row for row in self.rows.rows if row.name == name), None)
            if row is None:
                return

            def done(_result: object, error: str | None) -> None:
                line = action_line(name, verb, error)
                self._notice.ended(line if error else None, time.monotonic())
                self._log.add("ERROR" if error else "INFO", row.supervisor, line)
                self._show_buttons(time.monotonic())

            self._log.add("INFO", row.supervisor, f"{verb.capitalize()} {name}: asked for")
            self._link.command(row.supervisor, command, name, done)

        return act

    def _arrange(self) -> None:
        self.body.setContentsMargins(6, 10, 6, 10)
        self.head.setContentsMargins(10, 0, 10, 0)
        self.head.addStretch(1)
        self.head.addWidget(self.note)
        header = self.table.horizontalHeader()
        assert header is not None
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in _WIDTHS.items():
            self.table.setColumnWidth(column, width)
        self.table.setMinimumHeight(_HEADING + 2 * _SERVER_ROW + 2)
        self.table.setAccessibleName("servers")
        self.device_table.setMinimumHeight(2 * _DEVICE_ROW)
        self.device_table.setAccessibleName("devices")
        acts = QHBoxLayout()
        acts.setContentsMargins(10, 0, 10, 0)
        acts.setSpacing(8)
        for part in (self.start, self.stop, self.restart):
            acts.addWidget(part, 1)
        self.line.setContentsMargins(10, 0, 10, 0)
        devices = label("Devices", "title")
        devices.setContentsMargins(10, 2, 10, 0)
        self.body.addWidget(self.table, 3)
        self.body.addLayout(acts)
        self.body.addWidget(self.line)
        self.body.addWidget(rule())
        self.body.addWidget(devices)
        self.body.addWidget(self.device_table, 2)
