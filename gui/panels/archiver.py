"""The archiver strip: events per second, lag, lost events, disk, in one row."""

import time

from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QVBoxLayout

from gui.presenters import palette
from gui.presenters.archiver import Archiver
from gui.widgets.basic import Chip, label, set_text
from gui.widgets.link import Link
from gui.widgets.reading import Spark
from gui.widgets.style import set_properties

_SPARK_S = 120


class ArchiverStrip(QFrame):
    """One archiver."""

    def __init__(self, device: str, link: Link) -> None:
        super().__init__()
        self.setObjectName("card")
        self.setFixedHeight(60)
        self.archiver = Archiver(device, link.readings)
        self.chip = Chip(11)
        self._figures: list[QLabel] = []
        self._captions: list[QLabel] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(14, 4, 14, 5)
        self._row.setSpacing(22)
        name = QVBoxLayout()
        name.setSpacing(2)
        name.addWidget(label("Archiver", "title"))
        name.addWidget(label(device, "caption"))
        self._row.addLayout(name)
        self._row.addWidget(self.chip)
        for caption in ("Events per s", "Lag, ms", "Lost events", "Disk full in, hours"):
            self._add_figure(caption)
        self.disk = label("", "caption")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.bar.setMinimumWidth(160)
        column = QVBoxLayout()
        column.setSpacing(6)
        column.addStretch(1)
        column.addWidget(self.disk)
        column.addWidget(self.bar)
        column.addStretch(1)
        self._row.addLayout(column, 1)
        self.spark = Spark(self.archiver.events_per_s, _SPARK_S, palette.CURVES[1])
        self.spark.setMinimumWidth(120)
        sparks = QVBoxLayout()
        sparks.setSpacing(0)
        sparks.addWidget(label(f"Events per s, last {_SPARK_S // 60} min", "caption"))
        sparks.addWidget(self.spark, 1)
        self._row.addLayout(sparks, 1)
        self.refresh(time.monotonic())

    def refresh(self, now_s: float) -> None:
        """Show what the presenter says."""
        view = self.archiver.view(now_s)
        self.chip.show_state(view.state)
        texts = (
            ("Events per s", view.events_per_s),
            (view.lag_caption, view.lag),
            ("Lost events", view.lost),
            (view.full_caption, view.full_in),
        )
        stale = "true" if view.stale else "false"
        for (caption, text), caption_label, figure in zip(texts, self._captions, self._figures, strict=True):
            set_text(caption_label, caption)
            set_text(figure, text)
            set_properties(figure, stale=stale)
        set_properties(self._figures[2], bad="true" if view.lost_is_bad and not view.stale else "false")
        set_text(self.disk, view.disk)
        if self.bar.value() != view.disk_pct:
            self.bar.setValue(view.disk_pct)
        self.spark.refresh(now_s)

    def _add_figure(self, caption: str) -> None:
        column = QVBoxLayout()
        column.setSpacing(0)
        caption_label, figure = label(caption, "caption"), label("–", "figure", selectable=True)
        figure.setMinimumWidth(76)
        column.addWidget(caption_label)
        column.addWidget(figure)
        self._captions.append(caption_label)
        self._figures.append(figure)
        self._row.addLayout(column)
