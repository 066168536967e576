"""Fixtures of the window's tests: the look, a link without Tango, a log."""

import pytest
from PyQt6.QtWidgets import QApplication

from gui.presenters.log import Log
from gui.presenters.readings import Readings
from gui.widgets.style import apply_style
from tests.gui.fakes import FakeLink


@pytest.fixture(scope="session")
def qapp(qapp: QApplication) -> QApplication:
    """The application, in the look of the panels."""
    apply_style(qapp)
    return qapp


@pytest.fixture
def link() -> FakeLink:
    """A link without Tango."""
    return FakeLink()


@pytest.fixture
def readings() -> Readings:
    """Readings of a window."""
    return Readings()


@pytest.fixture
def log() -> Log:
    """A log of a window."""
    return Log()
