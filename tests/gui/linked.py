"""A window's link in a process of its own, for tests: Tango keeps the first database that a process asked for good.

Reads requests as lines of JSON, does them in the thread of an event loop as a window does, and answers each with what
is known by then.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any, Self

from PyQt6.QtCore import QCoreApplication, QSocketNotifier, QTimer

from gui.presenters.readings import Reading
from gui.widgets.jobs import Jobs
from gui.widgets.link import Link
from tests.support import REPOSITORY, wait_until

TICK_MS = 20


class Program:
    """The other process: a link that ticks, and the longest time its event loop stood still."""

    def __init__(self, tango_host: str) -> None:
        self.application = QCoreApplication([])
        self.jobs = Jobs()
        self.link = Link(tango_host, self.jobs, lambda _site: None)
        self.readings: dict[str, Reading] = {}
        self.answers: list[tuple[str, str | None]] = []
        self.stall_s = 0.0
        self._ticked_s = time.monotonic()
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        self._input = QSocketNotifier(sys.stdin.fileno(), QSocketNotifier.Type.Read)  # pyright: ignore
        self._input.activated.connect(self._take)

    def run(self) -> None:
        """Run until the input ends."""
        self.application.exec()
        self.link.close()
        self.jobs.close()

    def _tick(self) -> None:
        now_s = time.monotonic()
        self.stall_s = max(self.stall_s, now_s - self._ticked_s)
        self._ticked_s = now_s
        self.link.tick(now_s)

    def _take(self) -> None:
        line = sys.stdin.readline()
        if not line:
            self.application.quit()
            return
        kind, *arguments = json.loads(line)
        getattr(self, f"do_{kind}")(*arguments)
        known = {
            name: {"value": one.value, "set": one.set_value, "quality": one.quality, "time_s": one.time_s}
            for name, one in self.readings.items()
        }
        answer = {
            "readings": known,
            "answers": self.answers,
            "stall_s": self.stall_s,
            "database_error": self.link.database_error,
            "devices": self.link.site.devices if self.link.site is not None else None,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def do_look(self) -> None:
        """Do nothing."""

    def do_forget(self) -> None:
        """Forget how long the event loop stood still."""
        self.stall_s = 0.0

    def do_want(self, device: str, attribute: str) -> None:
        """Listen to an attribute."""
        self.readings[attribute] = self.link.readings.get(device, attribute)

    def do_command(self, device: str, name: str, argument: object) -> None:
        """Run a command."""
        self.link.command(device, name, argument, lambda _result, error: self.answers.append((name, error)))

    def do_write(self, device: str, attribute: str, value: object) -> None:
        """Write an attribute."""
        self.link.write(device, attribute, value, lambda _result, error: self.answers.append((attribute, error)))


class Linked:
    """A `Program` that runs, seen from a test."""

    def __init__(self, tango_host: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.gui.linked", tango_host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TANGO_HOST": tango_host},
        )

    def ask(self, kind: str = "look", *arguments: object) -> dict[str, Any]:
        """Send a request and return what is known."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps([kind, *arguments]) + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())

    def wait_value(
        self, attribute: str, value: object = None, *, after_s: float = 0.0, timeout_s: float = 10.0
    ) -> None:
        """Wait until an attribute has a value (any, or this one) that is younger than `after_s` since 1970."""

        def there() -> bool:
            known = self.ask()["readings"][attribute]
            right = known["value"] is not None if value is None else known["value"] == value
            return right and known["quality"] == "VALID" and known["time_s"] > after_s

        wait_until(there, timeout_s, f"{attribute} is {value or 'known'}")

    def wait_answer(self, name: str, timeout_s: float = 10.0) -> str:
        """Wait until a command or a write ended; return its error, "" when it ended well."""

        def ended() -> list[str]:
            return [error or "" for known, error in self.ask()["answers"] if known == name]

        return wait_until(ended, timeout_s, f"{name} ended")[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.communicate(timeout=20)
        assert self._popen.returncode == 0


if __name__ == "__main__":
    Program(sys.argv[1]).run()
