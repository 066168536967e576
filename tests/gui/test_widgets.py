"""Thin widgets: editors, buttons, tables, chips, curves."""

import time

import numpy as np
import pytest
from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QWheelEvent
from PyQt6.QtWidgets import QApplication, QComboBox, QLineEdit, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from gui.presenters.fields import EditField, Option, TwoPress
from gui.presenters.log import Log
from gui.presenters.palette import STATES
from gui.presenters.power_meter import PowerMeter
from gui.presenters.trend import Series
from gui.widgets.basic import Chip, ConfirmButton, ElidedLabel
from gui.widgets.fields import FieldWidget
from gui.widgets.reading import LargeReading, Spark
from gui.widgets.style import font
from gui.widgets.tables import Rows
from gui.widgets.trend import Trend
from tests.gui.fakes import POWER, FakeLink, put_meter


@pytest.fixture
def wavelength(qtbot: QtBot, link: FakeLink, log: Log) -> FieldWidget:
    """An editor of a number whose device answers."""
    link.put(f"{POWER}/wavelength", 1064.0)
    field = EditField("Wavelength", link.readings.get(POWER, "wavelength"), unit="nm", low=300, high=1100)
    widget = FieldWidget(field, link, log)  # type: ignore[arg-type]
    qtbot.addWidget(widget)
    widget.show()
    return widget


def type_text(qtbot: QtBot, widget: FieldWidget, text: str) -> None:
    """Type over what the editor holds."""
    assert isinstance(widget.editor, QLineEdit)
    widget.editor.setFocus()
    widget.editor.selectAll()
    qtbot.keyClicks(widget.editor, text)


def test_enter_writes_what_was_typed(qtbot: QtBot, link: FakeLink, log: Log, wavelength: FieldWidget) -> None:
    """Typing makes a pending edit, Enter writes it, the answer ends it and goes to the log."""
    type_text(qtbot, wavelength, "1000")
    assert wavelength.editor.property("pending") == "true"
    assert wavelength.note.toolTip() == "Edited, was 1064 nm"
    qtbot.keyClick(wavelength.editor, Qt.Key.Key_Return)
    (call,) = link.writes
    assert call[:3] == (POWER, "wavelength", 1000.0)
    call.done(None, None)
    assert wavelength.editor.property("pending") == "false"
    assert log.merged([], "", "DEBUG")[0].message == "Wavelength set to 1000 nm"


def test_the_focus_never_goes_to_another_control(
    qtbot: QtBot, link: FakeLink, log: Log, wavelength: FieldWidget
) -> None:
    """While a value is written the editor is disabled, and no other control takes its keys."""
    holder = QWidget()
    qtbot.addWidget(holder)
    row = QVBoxLayout(holder)
    row.addWidget(wavelength)
    row.addWidget(FieldWidget(wavelength.field, link, log))  # type: ignore[arg-type]
    holder.show()
    with qtbot.waitActive(holder):
        holder.activateWindow()
    type_text(qtbot, wavelength, "1000")
    qtbot.keyClick(wavelength.editor, Qt.Key.Key_Return)
    assert not wavelength.editor.isEnabled()
    assert holder.focusWidget() is None
    link.writes[0].done(None, None)
    focused = wavelength.editor.hasFocus()
    wavelength.setParent(None)  # it is taken down by its own fixture
    assert focused


def test_a_readback_leaves_the_typing_alone(qtbot: QtBot, link: FakeLink, wavelength: FieldWidget) -> None:
    """What is being typed stays when a reading comes."""
    type_text(qtbot, wavelength, "10")
    link.put(f"{POWER}/wavelength", 900.0)
    wavelength.refresh(time.monotonic())
    assert wavelength.text() == "10"


def test_escape_reverts(qtbot: QtBot, link: FakeLink, wavelength: FieldWidget) -> None:
    """Esc brings back what the device has, and writes nothing."""
    type_text(qtbot, wavelength, "1000")
    qtbot.keyClick(wavelength.editor, Qt.Key.Key_Escape)
    assert (wavelength.text(), wavelength.field.pending, link.writes) == ("1064", False, [])


def test_a_refused_write_stands_at_the_field(qtbot: QtBot, link: FakeLink, log: Log, wavelength: FieldWidget) -> None:
    """The sentence of the error is at the field and in the log, and the edit stays."""
    type_text(qtbot, wavelength, "1000")
    qtbot.keyClick(wavelength.editor, Qt.Key.Key_Return)
    link.writes[0].done(None, "it does not answer")
    assert (wavelength.note.toolTip(), wavelength.note.property("role")) == ("it does not answer", "error")
    assert wavelength.field.pending
    assert log.merged([], "", "ERROR")[0].message.endswith("it does not answer")


def test_an_editor_of_a_silent_device_is_disabled(wavelength: FieldWidget) -> None:
    """The last value stays to be read, and cannot be edited."""
    wavelength.refresh(time.monotonic() + 20)
    assert not wavelength.editor.isEnabled()
    assert (wavelength.text(), wavelength.note.toolTip()) == ("1064", "Offline")


def test_the_wheel_does_nothing_without_focus(qtbot: QtBot, link: FakeLink, log: Log) -> None:
    """Scrolling over a choice does not change it."""
    link.put(f"{POWER}/filter", "SLOW")
    options = (Option(0, "Slow"), Option(1, "Medium"), Option(2, "Fast"))
    field = EditField("Filter", link.readings.get(POWER, "filter"), options=options)
    widget = FieldWidget(field, link, log)  # type: ignore[arg-type]
    qtbot.addWidget(widget)
    widget.show()
    assert isinstance(widget.editor, QComboBox)
    widget.editor.clearFocus()
    event = QWheelEvent(
        QPointF(5, 5),
        widget.editor.mapToGlobal(QPointF(5, 5)),
        QPoint(0, -120),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget.editor, event)
    assert (widget.text(), field.pending) == ("Slow", False)


class Clock:
    """Stands for the monotonic clock."""

    now_s = 1000.0

    def monotonic(self) -> float:
        """Return the time a test has set."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of buttons, set by the test."""
    made = Clock()
    monkeypatch.setattr("gui.widgets.basic.time", made)
    return made


def confirm_button(qtbot: QtBot, subject: str) -> tuple[ConfirmButton, list[str]]:
    """Return a button that is bound to a subject, and what it acted on."""
    shown = ConfirmButton("Stop", "Confirm stop")
    shown.bind(subject)
    qtbot.addWidget(shown)
    acted: list[str] = []
    shown.confirmed.connect(acted.append)
    return shown, acted


def test_a_confirm_button_takes_two_presses(qtbot: QtBot, clock: Clock) -> None:
    """The first press asks, the second acts."""
    shown, acted = confirm_button(qtbot, "A/1")
    shown.click()
    assert (shown.armed, shown.text(), acted) == (True, "Confirm stop", [])
    clock.now_s += 1
    shown.click()
    assert (shown.armed, shown.text(), acted) == (False, "Stop", ["A/1"])


def test_a_late_second_press_only_asks_again(qtbot: QtBot, clock: Clock) -> None:
    """After four seconds a press is a first one."""
    shown, acted = confirm_button(qtbot, "A/1")
    shown.click()
    clock.now_s += TwoPress.WINDOW_S + 0.1
    shown.click()
    assert acted == []


def test_a_double_click_only_asks(qtbot: QtBot) -> None:
    """Its second click confirms nothing."""
    shown, acted = confirm_button(qtbot, "A/1")
    shown.show()
    for _ in range(2):
        qtbot.mouseClick(shown, Qt.MouseButton.LeftButton)
    qtbot.mouseDClick(shown, Qt.MouseButton.LeftButton)
    assert (shown.armed, acted) == (True, [])


def test_an_armed_button_acts_on_no_other_subject(qtbot: QtBot, clock: Clock) -> None:
    """Bound to another, it forgets the first press."""
    shown, acted = confirm_button(qtbot, "A/1")
    shown.click()
    shown.bind("B/1")
    assert not shown.armed
    clock.now_s += 1
    shown.click()
    assert (shown.armed, acted) == (True, [])


@pytest.mark.parametrize("state", list(STATES))
def test_every_state_can_be_drawn(qtbot: QtBot, state: str) -> None:
    """A chip paints each state and says it to a screen reader."""
    chip = Chip()
    qtbot.addWidget(chip)
    chip.show_state(state)
    assert not chip.grab().isNull()
    assert chip.accessibleName() == f"state {state}"


def test_digits_have_one_width(qapp: QApplication) -> None:
    """Tabular digits are on, so live numbers do not jitter."""
    made = font(30)
    assert made.isFeatureSet(made.featureTags()[0])
    assert qapp.font().featureTags()


def test_a_label_gives_way(qtbot: QtBot) -> None:
    """Text that does not fit is cut and whole in the tool tip."""
    shown = ElidedLabel()
    qtbot.addWidget(shown)
    shown.resize(60, 20)
    shown.set_full_text("Last value 13 s old. Reconnecting…")
    assert shown.text().endswith("…")
    assert len(shown.text()) < len(shown.toolTip())


def test_the_large_reading_and_its_curve_paint(qtbot: QtBot, link: FakeLink) -> None:
    """Number and curve are painted alive, dead, and before anything came."""
    meter = PowerMeter(POWER, link.readings)
    reading, spark = LargeReading("power"), Spark(meter.power, 60)
    for widget in (reading, spark):
        qtbot.addWidget(widget)
        assert not widget.grab().isNull()
    for number in range(20):
        put_meter(link, 1e-3 * (1 + number / 10), ago_s=20.0 - number)
    for now_s in (time.monotonic(), time.monotonic() + 20):
        reading.show_view(meter.view(now_s))
        spark.refresh(now_s)
        assert not reading.grab().isNull()
        assert not spark.grab().isNull()
    assert reading.view.stale


def test_rows_announce_only_what_changed(qtbot: QtBot) -> None:
    """A table repaints the row that changed and resets only when their number does."""
    rows = Rows(["Name"])
    changed: list[int] = []
    rows.dataChanged.connect(lambda first, _last: changed.append(first.row()))
    with qtbot.waitSignal(rows.modelReset):
        rows.show_rows(["a", "b", "c"])
    rows.show_rows(["a", "B", "c"])
    assert changed == [1]


@pytest.fixture
def trend(qtbot: QtBot, link: FakeLink) -> Trend:
    """A trend of power and two positions over the last minute."""
    for ago in range(50, 0, -1):
        put_meter(link, 1e-3 * ago, ago_s=ago)
        for device in ("lab/rotator/1", "lab/rotator/2"):
            link.readings.get(device, "position", ring=True)
            link.put(f"{device}/position", float(ago), ago_s=ago)
    power = link.readings.get(POWER, "power", ring=True)
    for ago in range(50, 0, -1):
        power.accept(1e-3 * ago, "VALID", time.time() - ago, time.monotonic() - ago)
    series = [
        Series("Power", power, "W"),
        Series("One", link.readings.get("lab/rotator/1", "position"), "deg", decimals=2),
        Series("Two", link.readings.get("lab/rotator/2", "position"), "deg", decimals=2),
    ]
    made = Trend(series, 60)
    qtbot.addWidget(made)
    made.resize(600, 400)
    made.show()
    made.refresh(time.monotonic())
    return made


def test_series_of_one_unit_share_a_plot(trend: Trend) -> None:
    """There is a plot for W and one for deg, a curve for each series, in the unit of the reading."""
    assert len(trend._plots) == 2
    assert [len(times) > 40 for times, _values in trend.drawn] == [True] * 3
    assert trend.drawn[0][1][-1] == pytest.approx(1.0)


def test_a_pause_stands_still(trend: Trend, link: FakeLink) -> None:
    """While paused new readings do not move the curve; zooming draws what is seen."""
    trend.set_paused(True)
    before = trend.drawn[0][0].copy()
    put_meter(link, 99e-3)
    trend.refresh(time.monotonic() + 5)
    assert np.array_equal(trend.drawn[0][0], before)
    end_s = time.time()
    trend._plots[0].setXRange(end_s - 20, end_s - 10, padding=0)
    assert len(trend.drawn[0][0]) < len(before)
    trend.set_paused(False)
    assert trend.drawn[0][1][-1] == pytest.approx(99.0)


def test_a_longer_window_shows_no_less(trend: Trend) -> None:
    """Another window is drawn at once."""
    trend.set_span(600)
    assert len(trend.drawn[0][0]) >= 50


def test_a_dead_device_dims_its_curve(trend: Trend) -> None:
    """The curve and its present value are grey while the device is silent."""
    bright = trend._curves[0].opts["pen"].color().name()
    trend.refresh(time.monotonic() + 30)
    assert trend._curves[0].opts["pen"].color().name() != bright
    assert trend._numbers[0][0].property("stale") == "true"


def test_the_last_value_of_an_instrument_that_is_away_is_grey(trend: Trend, link: FakeLink) -> None:
    """Its device lives and says INVALID: what stands under Now is old."""
    link.put(f"{POWER}/power", None, "INVALID")
    trend.refresh(time.monotonic() + 1)
    assert trend._numbers[0][0].property("stale") == "true"
    assert trend._numbers[1][0].property("stale") == "false"


def test_the_pointer_reads_the_curves(trend: Trend) -> None:
    """The values under the pointer are told with their units, and nothing when it leaves."""
    said: list[str] = []
    trend.pointed.connect(said.append)
    trend._point((trend._plots[0].sceneBoundingRect().center(),))
    trend._point((QPointF(-50, -50),))
    assert "mW" in said[0]
    assert "deg" in said[0]
    assert said[1] == ""
