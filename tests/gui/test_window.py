"""Panels and the whole window, with fake readings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QEvent, QPoint, QRect, Qt
from PyQt6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QLineEdit, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from gui.main import logging_hook, main
from gui.panels.window import Window
from gui.presenters.log import Log
from gui.presenters.opening import PANELS, Opening
from gui.widgets.basic import ElidedLabel
from tests.gui.fakes import (
    ARCHIVER,
    POWER,
    ROTATORS,
    SITE,
    SUPERVISOR,
    FakeLink,
    put_archiver,
    put_meter,
    put_report,
    put_rotator,
    server,
)
from tests.support import REPOSITORY

OPENING = Opening("localhost:1", "Optics", POWER, ROTATORS, (SUPERVISOR,), (ARCHIVER,))


def fill(link: FakeLink, *, ago_s: float = 0.0) -> None:
    """Let everything answer."""
    put_meter(link, ago_s=ago_s)
    for device in ROTATORS:
        put_rotator(link, device, 123.456, ago_s=ago_s)
    put_archiver(link, ago_s=ago_s)
    names = ("Newport1830C/power-1", "ELL14/elliptec-1", "Archiver/demo")
    put_report(link, *(server(name) for name in names), ago_s=ago_s)
    line = {"time_ns": time.time_ns(), "level": "ERROR", "source": "Archiver/demo", "message": "disk is full"}
    link.put(f"{SUPERVISOR}/log_lines", [json.dumps(line)], ago_s=ago_s)


Opener = Callable[[Opening], Window]


@pytest.fixture
def open_window(qapp: QApplication, link: FakeLink, log: Log) -> Iterator[Opener]:
    """Opens windows, and takes them down whole."""
    opened: list[Window] = []

    def open_one(opening: Opening) -> Window:
        window = Window(opening, link, log)  # type: ignore[arg-type]
        window._timer.stop()  # tests tick
        opened.append(window)
        window.resize(1280, 800)
        window.show()
        return window

    yield open_one
    for window in opened:
        window.close()
        window.deleteLater()
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def window(open_window: Opener, link: FakeLink) -> Window:
    """A window at its least size whose devices all answer."""
    link.site = SITE
    made = open_window(OPENING)
    made.adopt(SITE)
    fill(link)
    made.tick()
    return made


def shown_parts(window: Window) -> list[QWidget]:
    """Return every visible label, button and editor."""
    kinds = (QLabel, QAbstractButton, QLineEdit, QComboBox)
    return [part for part in window.findChildren(QWidget) if isinstance(part, kinds) and part.isVisible()]


def place(part: QWidget, window: Window) -> QRect:
    """Return where a part is in the window."""
    return QRect(part.mapTo(window, QPoint(0, 0)), part.size())


@pytest.mark.parametrize("size", [(1280, 800), (1600, 950), (2560, 1440)], ids=str)
@pytest.mark.parametrize("silent", [False, True], ids=["alive", "silent"])
def test_nothing_overlaps_or_is_cut(
    window: Window, size: tuple[int, int], silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every size each part has the room its text needs, inside its parent, and covers no other."""
    window.resize(*size)
    later_s = time.monotonic() + (30 if silent else 0)
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    window.tick()
    QApplication.processEvents()
    window.tick()
    QApplication.processEvents()
    parts = [part for part in shown_parts(window) if not isinstance(part.parent(), QLineEdit | QComboBox)]
    assert len(parts) > 60
    for part in parts:
        if isinstance(part, QLabel) and not isinstance(part, ElidedLabel):
            assert part.width() >= part.minimumSizeHint().width(), f"{part.text()!r} is cut"
        assert window.rect().contains(place(part, window)), f"{part} leaves the window"
    places = [(place(part, window), part) for part in parts]
    for number, (box, part) in enumerate(places):
        for other_box, other in places[number + 1 :]:
            assert not box.intersects(other_box), f"{part} {box} and {other} {other_box}"


@pytest.mark.parametrize("size", [(1280, 800), (1600, 950), (1920, 1080)], ids=str)
def test_there_is_room_for_what_needs_attention(window: Window, size: tuple[int, int]) -> None:
    """Two entries at least are seen whole, and both mounts without scrolling."""
    window.resize(*size)
    QApplication.processEvents()
    table = window.attention.table
    viewport, rows, bar = table.viewport(), table.verticalHeader(), window.rotators.verticalScrollBar()
    assert viewport is not None
    assert rows is not None
    assert bar is not None
    assert viewport.height() >= 2 * rows.defaultSectionSize()
    assert bar.maximum() == 0


def test_a_large_screen_is_used(window: Window) -> None:
    """All columns get wider, the trend most, and reading and log grow with them."""
    assert window.trend is not None
    assert window.power is not None
    parts = (window.trend, window.power.reading, window.servers, window.rotators, window.log)
    before = [part.size() for part in parts]
    window.resize(1920, 1080)
    QApplication.processEvents()
    gains = [part.width() - size.width() for part, size in zip(parts, before, strict=True)]
    assert min(gains) > 0
    assert gains[0] > gains[2] + gains[3]
    assert window.trend.height() - before[0].height() > 100
    assert window.log.height() > before[4].height()


def test_before_anything_answers_nothing_looks_real(open_window: Opener, link: FakeLink) -> None:
    """A window started before the database shows its cards without a number, and Stop alone can be pressed."""
    window = open_window(OPENING)
    window.tick()
    assert window.power is not None
    assert window.power.reading.view.text == "No value"
    assert [card.position.text() for card in window.rotators.cards] == ["No value"] * 2
    assert not any(button.isEnabled() for button in (window.power.apply, window.power.zero, window.servers.stop))
    assert all(card.stop_button.isEnabled() for card in window.rotators.cards)
    link.database_error = "the Tango database does not answer"
    window.tick()
    assert window.header.database.text() == "localhost:1 does not answer"


def test_without_a_site_file_the_database_names_the_instruments(open_window: Opener) -> None:
    """Cards come when the database has answered."""
    window = open_window(Opening("localhost:1"))
    window.tick()
    assert (window.power, window.trend, window.archivers) == (None, None, [])
    window.adopt(SITE)
    window.tick()
    assert window.power is not None
    assert window.trend is not None
    assert (len(window.rotators.cards), len(window.archivers), len(window.trend.trend.series)) == (2, 1, 3)
    assert window.rotators.isVisible()


def test_an_archiver_has_one_strip(open_window: Opener) -> None:
    """Whatever order the database names archivers in; one that was guessed and is not there goes."""
    window = open_window(OPENING)
    first = f"{ARCHIVER.rpartition('/')[0]}/0"
    window.adopt(SITE._replace(archivers=(first, ARCHIVER)))
    assert [strip.archiver.device for strip in window.archivers] == [first, ARCHIVER]
    window.adopt(SITE._replace(archivers=(first, "archive/elsewhere/1")))
    assert [strip.archiver.device for strip in window.archivers] == [first]
    assert [key for key, _part in window._parts()].count("archiver") == 1


def test_a_dead_server_greys_and_returns(window: Window, link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values stay grey with their age, editors keep their edits, and all comes back by itself."""
    assert window.power is not None
    window.power.fields[0].field.edit("1000")
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 13)
    window.tick()
    assert window.power.reading.view.chip_word == "13 s old"
    assert window.power.chip.state == window.rotators.cards[0].chip.state == "UNKNOWN"
    assert not window.power.apply.isEnabled()
    assert window.power.fields[0].field.pending
    assert window.servers.note.text() == "Supervisor silent for 13 s"
    monkeypatch.setattr(time, "monotonic", clock)
    fill(link)
    window.tick()
    assert (window.power.chip.state, window.power.apply.isEnabled()) == ("ON", True)


def test_apply_writes_every_edit_and_revert_forgets_them(qtbot: QtBot, window: Window, link: FakeLink) -> None:
    """The buttons act on all edited fields, and count them."""
    assert window.power is not None
    wavelength, signal_range, _filter = window.power.fields
    wavelength.field.edit("1000")
    signal_range.field.edit("3")
    window.tick()
    assert window.power.apply.text() == "&Apply 2"
    qtbot.mouseClick(window.power.apply, Qt.MouseButton.LeftButton)
    assert [(call.name, call.argument) for call in link.writes] == [("wavelength", 1000.0), ("range", 3)]
    for call in link.writes:
        call.done(None, "refused")
    qtbot.mouseClick(window.power.revert, Qt.MouseButton.LeftButton)
    assert not wavelength.field.pending


def test_zero_is_stored_and_switched_off(window: Window, link: FakeLink) -> None:
    """The button stores a zero, and later ends it; a failure stands on the card."""
    assert window.power is not None
    window.power.zero.click()
    assert link.commands[-1][:3] == (POWER, "Zero", None)
    link.commands[-1].done(None, "it does not answer")
    window.tick()
    assert window.power.line.toolTip() == "Zero stored: it does not answer"
    link.put(f"{POWER}/zero_enabled", True)
    window.tick()
    window.power.zero.click()
    assert link.writes[-1][:3] == (POWER, "zero_enabled", False)


def test_a_mount_moves_jogs_homes_and_stops(qtbot: QtBot, window: Window, link: FakeLink) -> None:
    """Each button sends its command; an edited jog step must be applied before a jog."""
    card = window.rotators.cards[0]
    assert not card.move_button.isEnabled()
    card.target.editor.setFocus()
    card.target.editor.selectAll()  # type: ignore[union-attr]
    qtbot.keyClicks(card.target.editor, "90")
    assert card.move_button.isEnabled()
    card.move_button.click()
    assert link.writes[-1][:3] == (ROTATORS[0], "position", 90.0)
    for part in (card.back, card.forward, card.home_button, card.stop_button):
        part.click()
    assert [call.name for call in link.commands] == ["JogBackward", "JogForward", "Home", "Stop"]
    card.jog_step.field.edit("1")
    window.tick()
    assert not card.forward.isEnabled()


def test_a_moving_mount_takes_no_new_move(window: Window, link: FakeLink) -> None:
    """While it turns only Stop can be pressed."""
    put_rotator(link, ROTATORS[0], 50.0, "MOVING")
    window.tick()
    card = window.rotators.cards[0]
    assert (card.chip.state, card.home_button.isEnabled(), card.stop_button.isEnabled()) == ("MOVING", False, True)


def test_stop_and_restart_take_two_presses(
    window: Window, link: FakeLink, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second press goes to the supervisor, and how it ended to the log."""
    window.servers.table.selectRow(1)
    window.servers.stop.click()
    assert link.commands == []
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1)
    window.servers.stop.click()
    assert link.commands[-1][:3] == (SUPERVISOR, "DevStop", "ELL14/elliptec-1")
    link.commands[-1].done(None, "refused")
    assert window.servers.line.toolTip() == "Stop ELL14/elliptec-1: refused"
    assert log.merged([], "refused", "ERROR")


def test_another_selection_disarms(window: Window, link: FakeLink) -> None:
    """A press for one server never acts on another."""
    window.servers.table.selectRow(0)
    window.servers.restart.click()
    assert window.servers.restart.armed
    window.servers.table.selectRow(2)
    assert not window.servers.restart.armed
    assert link.commands == []


def test_the_selection_follows_its_server(window: Window, link: FakeLink) -> None:
    """When servers come or go, the buttons still act on the one that was selected."""
    window.servers.table.selectRow(2)
    names = ("AAA/1", "Newport1830C/power-1", "ELL14/elliptec-1", "Archiver/demo")
    for reported in (names, tuple(reversed(names))):
        put_report(link, *(server(name) for name in reported))
        window.tick()
        assert window.servers.selected is not None
        assert window.servers.selected.name == "Archiver/demo"


def test_an_armed_stop_is_bound_to_its_server(window: Window, link: FakeLink) -> None:
    """When the report puts another server into the selected line, nothing is armed, and nothing selected."""
    window.servers.table.selectRow(0)
    window.servers.stop.click()
    assert window.servers.stop.armed
    put_report(link, server("AAA/1"), server("ELL14/elliptec-1"), server("Archiver/demo"))
    window.tick()
    assert (window.servers.selected, window.servers.stop.armed, window.servers.stop.isEnabled()) == (None, False, False)
    put_report(link, *(server(name) for name in ("AAA/1", "Newport1830C/power-1", "Archiver/demo")))
    window.tick()
    assert window.servers.selected is not None
    assert window.servers.selected.name == "Newport1830C/power-1"
    assert link.commands == []


def test_a_stop_that_is_not_answered_is_seen_at_once(
    window: Window, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card says that it stops, then that there is no answer; pressing again sends another one then."""
    card = window.rotators.cards[0]
    card.stop_button.click()
    assert card.line.toolTip() == "Stopping…"
    card.stop_button.click()
    assert len(link.commands) == 1
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1.6)
    window.tick()
    assert card.line.toolTip() == f"No answer to Stop: {ROTATORS[0]} does not answer"
    assert card.line.property("role") == "error"
    card.stop_button.click()
    assert (len(link.commands), card.line.toolTip()) == (2, "Stopping…")
    link.commands[0].done(None, "its server hangs")
    assert card.line.toolTip() == "Stopping…"
    link.commands[1].done(None, None)
    window.tick()
    assert card.line.toolTip() == "In position."


def test_enter_in_the_target_of_a_turning_mount_moves_nothing(qtbot: QtBot, window: Window, link: FakeLink) -> None:
    """The edit stays and its note says why."""
    card = window.rotators.cards[0]
    put_rotator(link, ROTATORS[0], 10.0, "MOVING")
    window.tick()
    assert isinstance(card.target.editor, QLineEdit)
    card.target.editor.setFocus()
    card.target.editor.selectAll()
    qtbot.keyClicks(card.target.editor, "90")
    qtbot.keyClick(card.target.editor, Qt.Key.Key_Return)
    assert link.writes == []
    assert card.line.toolTip() == "Still turning: wait, or press STOP"
    assert card.line.property("role") == "error"


def test_what_died_needs_attention(window: Window, link: FakeLink) -> None:
    """A server that was given up is listed, counted, and can be started."""
    put_report(link, server("Newport1830C/power-1", "given_up", last_exit="signal 9", devices=[POWER]))
    window.tick()
    assert [row[0].source for row in window.attention.rows.rows] == ["Newport1830C/power-1"]
    assert window.attention.count.text() == "1 open"
    assert window.servers.start.isEnabled()
    window.servers.start.click()
    assert link.commands[-1][:3] == (SUPERVISOR, "DevStart", "Newport1830C/power-1")


def test_keys(qtbot: QtBot, window: Window) -> None:
    """Ctrl+1 to 3 choose the window of the trend, F8 pauses, Ctrl+L goes to the filter."""
    assert window.trend is not None
    with qtbot.waitActive(window):
        window.activateWindow()
    qtbot.keyClick(window, Qt.Key.Key_3, Qt.KeyboardModifier.ControlModifier)
    assert window.trend.trend.span_s == 3600
    qtbot.keyClick(window, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    assert window.trend.trend.span_s == 60
    qtbot.keyClick(window, Qt.Key.Key_F8)
    assert (window.trend.trend.paused, window.trend.pause.text()) == (True, "Resume")
    qtbot.keyClick(window, Qt.Key.Key_F8)
    assert not window.trend.trend.paused
    qtbot.keyClick(window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    assert window.log.words.hasFocus()


def test_the_log_filters_and_stands_still_while_read(window: Window, log: Log) -> None:
    """Words and level select lines; scrolled away from the top nothing moves, and what is new is counted."""
    assert window.log.rows.rows[0][0].message == "disk is full"
    window.log.words.setText("names")
    assert ["names 5 devices" in row[0].message for row in window.log.rows.rows] == [True]
    window.log.words.setText("")
    for number in range(40):
        log.add("INFO", "test", f"line {number}")
    window.tick()
    bar = window.log.table.verticalScrollBar()
    assert bar is not None
    bar.setValue(60)
    first = window.log.rows.rows[0]
    log.add("INFO", "test", "one more")
    window.tick()
    assert (window.log.rows.rows[0], window.log.newer.text()) == (first, "1 newer line above")
    bar.setValue(0)
    window.tick()
    assert (window.log.rows.rows[0][0].message, window.log.newer.text()) == ("one more", "")


@pytest.mark.parametrize("name", list(PANELS))
def test_a_panel_alone_and_back(window: Window, name: str) -> None:
    """A named panel fills the window, and one key brings back the others."""
    window.show_panel(name)
    visible = [key for key, part in window._parts() if part.isVisible()]
    assert name in (*visible, "rotators" if window.rotators.isVisible() else "")
    assert len(visible) <= 3
    window.show_panel("")
    assert all(part.isVisible() for _key, part in window._parts())


def test_no_box_ever_opens(window: Window, link: FakeLink) -> None:
    """Errors of writes and commands stand on cards and in the log, never in a box."""
    card = window.rotators.cards[0]
    card.home_button.click()
    link.commands[-1].done(None, "the mount is stuck")
    window.tick()
    assert card.line.toolTip() == "Home: the mount is stuck"
    assert card.line.property("role") == "error"
    assert window.findChildren(QMessageBox) == []


def test_an_idle_window_paints_nothing_twice(window: Window) -> None:
    """A tick without news changes no text."""
    before = [part.text() for part in shown_parts(window) if isinstance(part, QLabel)]
    window.servers.rows.dataChanged.connect(lambda *_: pytest.fail("a row without news was painted"))
    window.tick()
    clock = window.header.clock.text()
    after = [part.text() for part in shown_parts(window) if isinstance(part, QLabel)]
    assert [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1] and pair[1] != clock] == []


def test_an_unknown_panel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The program says which panels there are, and opens nothing."""
    assert main(["kitchen"]) == 2
    assert "rotators" in capsys.readouterr().err


def test_without_a_site_the_program_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """There is one sentence and an exit code."""
    monkeypatch.setenv("BANDONEON_RUN", str(tmp_path))
    monkeypatch.delenv("TANGO_HOST", raising=False)
    assert main([]) == 1
    assert "./run up" in capsys.readouterr().err


def test_without_a_display_the_program_says_what_to_do(tmp_path: Path) -> None:
    """There is one sentence and an exit code, and no core dump."""
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment |= {"QT_QPA_PLATFORM": "xcb", "TANGO_HOST": "localhost:1", "BANDONEON_RUN": str(tmp_path)}
    command = [sys.executable, "-m", "gui"]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bandoneon: the window cannot be opened: no display answers")
    assert done.stderr.count("\n") == 1


def test_a_mistake_of_ours_goes_to_the_log(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception in the window's own code is logged, and the window lives on."""
    logging_hook(log)(ValueError, ValueError("oops"), None)
    assert log.merged([], "oops", "ERROR")
    assert "oops" in capsys.readouterr().err
