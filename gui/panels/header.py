"""The bar at the top: the site, its database, the counts, the clock."""

import time
from collections.abc import Sequence

from PyQt6.QtWidgets import QFrame, QHBoxLayout

from gui.presenters.servers import Count
from gui.widgets.basic import Symbol, label, set_text
from gui.widgets.style import set_properties

_STATES = ("ON", "OFF", "ALARM", "FAULT", "UNKNOWN")


class Header(QFrame):
    """The bar."""

    def __init__(self, title: str, tango_host: str) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setFixedHeight(46)
        self._tango_host = tango_host
        self.database = label(tango_host, "caption")
        self.clock = label("", "value")
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 0, 20, 0)
        row.setSpacing(8)
        row.addWidget(label(title, "application"))
        row.addSpacing(6)
        row.addWidget(self.database)
        row.addStretch(1)
        self._counts = {}
        for state in _STATES:
            symbol, text = Symbol(state), label("")
            self._counts[state] = symbol, text
            row.addWidget(symbol)
            row.addWidget(text)
            row.addSpacing(10)
        row.addStretch(1)
        row.addWidget(self.clock)
        self.show_counts(())

    def show_counts(self, counts: Sequence[Count]) -> None:
        """Show the counts above zero."""
        texts = {count.state: count.text for count in counts}
        for state, (symbol, text) in self._counts.items():
            symbol.setVisible(state in texts)
            text.setVisible(state in texts)
            set_text(text, texts.get(state, ""))

    def show_database(self, answered: bool, error: str) -> None:
        """Say whether the Tango database answers."""
        note = "does not answer" if error else "" if answered else "connecting…"
        set_text(self.database, f"{self._tango_host} {note}".strip())
        set_properties(self.database, role="error" if error else "caption")
        if self.database.toolTip() != error:
            self.database.setToolTip(error)

    def show_time(self, time_s: float) -> None:
        """Show the date and the time of day."""
        set_text(self.clock, time.strftime("%a %d %b  %H:%M:%S", time.localtime(time_s)))
