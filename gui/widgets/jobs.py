"""Work that may take long (every call to Tango) in threads; its end is told to the window's thread."""

from collections.abc import Callable
from typing import Any

import tango
from PyQt6.QtCore import QObject, QThreadPool, pyqtSignal

from bandoneon.tangolink.proxy import sentence

Done = Callable[[Any, str | None], None]
"""Called in the window's thread with a result, or with the sentence of an error."""

_PROBES_AT_ONCE = 4
_COMMANDS_AT_ONCE = 16


class Jobs(QObject):
    """Two pools, so that a Stop never queues behind the probes of dead servers."""

    _finished = pyqtSignal(object, object, object)

    def __init__(self) -> None:
        super().__init__()
        self._open = True
        self._probes = QThreadPool()
        self._probes.setMaxThreadCount(_PROBES_AT_ONCE)
        self._commands = QThreadPool()
        self._commands.setMaxThreadCount(_COMMANDS_AT_ONCE)
        self._finished.connect(self._deliver)

    def probe(self, work: Callable[[], Any], done: Done) -> None:
        """Run `work` when there is time for it."""
        self._start(self._probes, work, done, "the Tango database")

    def command(self, work: Callable[[], Any], done: Done, name: str) -> None:
        """Run `work`, which acts on device `name`, now."""
        self._start(self._commands, work, done, name)

    def close(self, timeout_s: float = 4.0) -> None:
        """Deliver nothing more, and wait for what runs."""
        self._open = False
        for pool in (self._probes, self._commands):
            pool.clear()
            pool.waitForDone(round(timeout_s * 1000))

    def _start(self, pool: QThreadPool, work: Callable[[], Any], done: Done, name: str) -> None:
        def run() -> None:
            result, error = None, None
            try:
                with tango.EnsureOmniThread():
                    result = work()
            except Exception as problem:  # noqa: BLE001  whatever it is, the operator reads it and the window lives
                error = sentence(problem, name)
            if self._open:
                self._finished.emit(done, result, error)

        if self._open:
            pool.start(run)

    def _deliver(self, done: Done, result: Any, error: str | None) -> None:
        if self._open:
            done(result, error)
