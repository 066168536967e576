"""Work in threads whose end is told to the window's thread."""

import threading
from collections.abc import Iterator

import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from gui.widgets.jobs import Jobs


@pytest.fixture
def jobs(qapp: QApplication) -> Iterator[Jobs]:
    """The two pools, in an application."""
    assert qapp is not None
    made = Jobs()
    yield made
    made.close()


def test_the_end_is_told_in_the_thread_of_the_window(qtbot: QtBot, jobs: Jobs) -> None:
    """The work is done in another one."""
    threads: list[threading.Thread] = []
    told: list[tuple[object, str | None, threading.Thread]] = []

    def work() -> int:
        threads.append(threading.current_thread())
        return 42

    jobs.command(work, lambda result, error: told.append((result, error, threading.current_thread())), "lab/power/1")
    qtbot.waitUntil(lambda: bool(told))
    assert told == [(42, None, threading.main_thread())]
    assert threads[0] is not threading.main_thread()


def test_an_error_becomes_a_sentence(qtbot: QtBot, jobs: Jobs) -> None:
    """Whatever it is."""
    told: list[tuple[object, str | None]] = []
    jobs.command(lambda: 1 / 0, lambda *end: told.append(end), "lab/power/1")
    qtbot.waitUntil(lambda: bool(told))
    assert told == [(None, "division by zero")]


def test_a_command_does_not_wait_for_probes(qtbot: QtBot, jobs: Jobs) -> None:
    """However many of them hang."""
    hung, told = threading.Event(), []
    for _ in range(20):
        jobs.probe(hung.wait, lambda *_end: None)
    jobs.command(lambda: "stopped", lambda *end: told.append(end), "lab/rotator/1")
    qtbot.waitUntil(lambda: bool(told))
    assert told == [("stopped", None)]
    hung.set()


def test_after_the_window_is_closed_nothing_is_told(qtbot: QtBot, jobs: Jobs) -> None:
    """Nor begun."""
    going, told = threading.Event(), []
    jobs.command(going.wait, lambda *end: told.append(end), "lab/rotator/1")
    going.set()
    jobs.close()
    jobs.command(lambda: told.append("begun"), lambda *end: told.append(end), "lab/rotator/1")
    qtbot.wait(1)
    assert told == []
