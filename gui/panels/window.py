"""The operator's window: all cards, one timer, the keys."""

import time
from collections.abc import Callable, Iterator, Sequence

from PyQt6.QtCore import QSize, Qt, QTimer
from PyQt6.QtGui import QKeySequence, QShortcut
from PyQt6.QtWidgets import QMainWindow, QSplitter, QVBoxLayout, QWidget

from gui.panels.archiver import ArchiverStrip
from gui.panels.attention import AttentionCard
from gui.panels.header import Header
from gui.panels.log import LogCard
from gui.panels.power_meter import PowerMeterCard
from gui.panels.rotator import Rotators
from gui.panels.servers import ServersCard
from gui.panels.trend import TrendCard
from gui.presenters.log import Log
from gui.presenters.opening import Opening, completed
from gui.presenters.overview import Overview
from gui.presenters.site import Site
from gui.presenters.trend import WINDOWS, Series, short_name
from gui.widgets.basic import button, label
from gui.widgets.link import Link

TICK_MS = 200
MINIMUM = 1280, 800
_CONTENTS = {
    "servers": ("servers", "attention", "log"),
    "power": ("power", "trend"),
    "rotators": ("rotators", "trend"),
    "trend": ("trend",),
    "archiver": ("archiver", "log"),
    "attention": ("attention", "log"),
    "log": ("log",),
}


class Window(QMainWindow):
    """The window. `link` may not have reached the database yet; what it lacks comes by `adopt`."""

    def __init__(self, opening: Opening, link: Link, log: Log, panel: str = "") -> None:
        super().__init__()
        self.opening = opening
        self._link, self._log = link, log
        self._panel = panel
        self.overview = Overview(link.readings)
        self.header = Header(opening.heading, opening.tango_host)
        self.servers = ServersCard(link, log, self.overview)
        self.power: PowerMeterCard | None = None
        self.trend: TrendCard | None = None
        self.rotators = Rotators()
        self.archivers: list[ArchiverStrip] = []
        self.log = LogCard(log, self.overview)
        self.attention = AttentionCard()
        self._waiting = label("Waiting for the Tango database to name the instruments…", "caption")
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._all = button("All panels", "Shows every panel (Ctrl+0)", on_press=lambda: self.show_panel(""))
        self.setWindowTitle(f"{opening.heading} – operator")
        self.setMinimumSize(*MINIMUM)
        screen = self.screen()
        self.resize(QSize(1600, 950).boundedTo(screen.availableSize()) if screen is not None else QSize(*MINIMUM))
        self._arrange()
        self._bind_keys()
        self._show_opening()
        self.show_panel(panel)
        log.add("INFO", "window", f"Opened on {opening.tango_host}")
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._timer.start()
        self.servers.table.setFocus()

    def adopt(self, site: Site) -> None:
        """Show what the database holds, where the site file says nothing."""
        self.opening = completed(self.opening, site)
        self._log.add("INFO", "window", f"The database at {self.opening.tango_host} names {len(site.devices)} devices")
        self.overview.order_devices(site.devices)
        if not self.opening.supervisors:
            self.overview.show_devices(site.devices, time.monotonic())
        self._show_opening()
        self.show_panel(self._panel)

    def show_panel(self, name: str) -> None:
        """Show one panel of `PANELS` alone, or all of them ("")."""
        self._panel = name
        shown = set(_CONTENTS.get(name, ()))
        for key, part in self._parts():
            part.setVisible(not shown or key in shown)
        self._centre.setVisible(not shown or bool(shown & {"power", "trend"}))
        self._side.setVisible(not shown or bool(shown & {"rotators", "attention"}))
        self._columns.setVisible(not shown or shown - {"log", "archiver"} != set())
        self.rotators.setVisible(bool(self.rotators.cards) and (not shown or "rotators" in shown))
        self._all.setVisible(bool(name))

    def tick(self) -> None:
        """Show what changed since the last tick."""
        now_s, time_s = time.monotonic(), time.time()
        self._link.tick(now_s)
        view = self.overview.view(now_s, time_s)
        self.servers.show_view(view, now_s)
        self.attention.show_items(view.items, now_s)
        self.header.show_counts(view.counts)
        self.header.show_database(self._link.site is not None, self._link.database_error)
        self.header.show_time(time_s)
        for part in (self.power, self.rotators, self.trend, self.log, *self.archivers):
            if part is not None:
                part.refresh(now_s)

    def _show_opening(self) -> None:
        """Make the cards whose devices are known by now."""
        opening = self.opening
        self.overview.add_supervisors(opening.supervisors)
        if not self.overview.devices:
            known = (opening.power_meter, *opening.rotators, *opening.archivers, *opening.supervisors)
            self.overview.show_devices([name for name in known if name], time.monotonic())
        self._show_archivers(opening.archivers)
        complete = self.power is not None or not (opening.power_meter or opening.rotators)
        if opening.power_meter and self.power is None:
            self.power = PowerMeterCard(opening.power_meter, self._link, self._log)
            self._centre_column.insertWidget(0, self.power, 2)
        if opening.rotators and not self.rotators.cards:
            self.rotators.add(opening.rotators, self._link, self._log)
            complete = False
        if not complete:
            self._make_trend()
        self._waiting.setVisible(self.trend is None)

    def _show_archivers(self, devices: Sequence[str]) -> None:
        """Have one strip for each archiver, in this order."""
        known = {strip.archiver.device.lower(): strip for strip in self.archivers}
        self.archivers = [known.pop(device.lower(), None) or ArchiverStrip(device, self._link) for device in devices]
        for strip in known.values():
            self._strips.removeWidget(strip)
            strip.deleteLater()
        for number, strip in enumerate(self.archivers):
            self._strips.insertWidget(number, strip)

    def _make_trend(self) -> None:
        series = []
        if self.power is not None:
            series.append(Series("Power", self.power.meter.power, "W"))
        for card in self.rotators.cards[:4]:
            rotator = card.rotator
            series.append(Series(short_name(rotator.device), rotator.position, "deg", decimals=2))
        if self.trend is not None:
            self._centre_column.removeWidget(self.trend)
            self.trend.deleteLater()
        self.trend = TrendCard(series)
        self._centre_column.addWidget(self.trend, 3)

    def _parts(self) -> Iterator[tuple[str, QWidget]]:
        yield "servers", self.servers
        yield "log", self.log
        yield "attention", self.attention
        for strip in self.archivers:
            yield "archiver", strip
        if self.power is not None:
            yield "power", self.power
        if self.trend is not None:
            yield "trend", self.trend

    def _arrange(self) -> None:
        root = QWidget()
        root.setObjectName("root")
        self.setCentralWidget(root)
        outer = QVBoxLayout(root)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(self.header)
        header_row = self.header.layout()
        assert header_row is not None
        header_row.addWidget(self._all)
        self._centre = QWidget()
        self._centre_column = QVBoxLayout(self._centre)
        self._centre_column.setContentsMargins(0, 0, 0, 0)
        self._centre_column.setSpacing(10)
        self._centre_column.addWidget(self._waiting, 1)
        self._side = QWidget()
        side = QVBoxLayout(self._side)
        side.setContentsMargins(0, 0, 0, 0)
        side.setSpacing(10)
        side.addWidget(self.rotators)
        side.addWidget(self.attention, 1)
        self._columns = _splitter(Qt.Orientation.Horizontal)
        for part, least, share in ((self.servers, 420, 1), (self._centre, 520, 4), (self._side, 300, 1)):
            part.setMinimumWidth(least)
            self._columns.addWidget(part)
            self._columns.setStretchFactor(self._columns.count() - 1, share)
        self._columns.setSizes([440, 820, 320])
        self._rows = _splitter(Qt.Orientation.Vertical)
        for part, share in ((self._columns, 5), (self.log, 1)):
            self._rows.addWidget(part)
            self._rows.setStretchFactor(self._rows.count() - 1, share)
        self._rows.setSizes([700, 130])
        self._strips = QVBoxLayout()
        self._strips.setSpacing(10)
        body = QVBoxLayout()
        body.setContentsMargins(10, 10, 10, 10)
        body.setSpacing(10)
        body.addLayout(self._strips)
        body.addWidget(self._rows, 1)
        outer.addLayout(body, 1)

    def _bind_keys(self) -> None:
        for number in range(len(WINDOWS)):
            self._bind(f"Ctrl+{number + 1}", lambda number=number: self.trend and self.trend.show_window(number))
        self._bind("F8", lambda: self.trend and self.trend.pause.toggle())
        self._bind("Ctrl+L", self.log.focus_filter)
        self._bind("Ctrl+0", lambda: self.show_panel(""))

    def _bind(self, key: str, act: Callable[[], object]) -> None:
        shortcut = QShortcut(QKeySequence(key), self)
        shortcut.activated.connect(lambda: act())


def _splitter(orientation: Qt.Orientation) -> QSplitter:
    made = QSplitter(orientation)
    made.setHandleWidth(10)
    made.setChildrenCollapsible(False)
    return made
