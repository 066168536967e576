"""The operator's window as a program."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

os.environ.setdefault("QT_API", "pyqt6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt6")

from PyQt6.QtCore import QMessageLogContext, QtMsgType, qInstallMessageHandler
from PyQt6.QtWidgets import QApplication

from bandoneon.errors import SiteError
from bandoneon.site.running import default_root
from gui.panels.window import Window
from gui.presenters.log import Log
from gui.presenters.opening import find_opening, panel_named, tango_host_of
from gui.presenters.site import Site
from gui.widgets.jobs import Jobs
from gui.widgets.link import Link
from gui.widgets.style import apply_style

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], None]


def main(arguments: list[str]) -> int:
    """Open the window, on the panel that is named if one is, and return the exit code when it is closed."""
    panel, wrong = panel_named(arguments)
    if wrong:
        sys.stderr.write(f"bandoneon: {wrong}\n")
        return 2
    try:
        opening = find_opening(default_root(), tango_host_of())
    except SiteError as error:
        sys.stderr.write(f"bandoneon: {error}\n")
        return 1
    os.environ["TANGO_HOST"] = opening.tango_host
    application = open_application()
    application.setApplicationName("bandoneon")
    application.setDesktopFileName("bandoneon")
    apply_style(application)
    log, jobs = Log(), Jobs()
    windows: list[Window] = []

    def adopt(site: Site) -> None:
        for window in windows:
            window.adopt(site)

    link = Link(opening.tango_host, jobs, adopt)
    window = Window(opening, link, log, panel)
    windows.append(window)
    sys.excepthook = logging_hook(log)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Python runs this between two ticks of the window's timer
        signal.signal(number, lambda _number, _frame: window.close())
    window.show()
    code = application.exec()
    link.close()
    jobs.close()
    return code


def open_application() -> QApplication:
    """Return the application; without a display, say so and end the process: Qt would abort it."""
    heard: list[str] = []

    def hear(kind: QtMsgType, _where: QMessageLogContext, text: str | None) -> None:
        if kind != QtMsgType.QtFatalMsg:
            heard.append(text or "")
            return
        absent = any("could not connect to display" in line for line in heard)
        reason = "no display answers; set DISPLAY, as a desktop or `ssh -X` does" if absent else heard[-1] or text
        sys.stderr.write(f"bandoneon: the window cannot be opened: {reason}\n")
        sys.stderr.flush()
        os._exit(1)

    qInstallMessageHandler(hear)
    application = QApplication(["bandoneon"])
    qInstallMessageHandler(None)
    return application


def logging_hook(log: Log) -> Hook:
    """Return an exception hook that tells the log: PyQt would end the process."""

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        log.add("ERROR", "window", f"{kind.__name__}: {error}")
        traceback.print_exception(kind, error, where)

    return hook


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
