"""Commands of a card: run in a thread; how they end goes to the card's line and to the log."""

import time
from collections.abc import Callable

from gui.presenters.log import Log
from gui.presenters.notices import Notice
from gui.widgets.link import Link


class Commands:
    """Commands and switches of one device: their `words` go to the log, what is being done to the card's line."""

    def __init__(self, device: str, link: Link, log: Log, notice: Notice) -> None:
        self._device = device
        self._link, self._log, self._notice = link, log, notice
        self._latest: tuple[int, str] = (0, "")

    def run(self, name: str, words: str, doing: str) -> None:
        """Run a command."""
        self._link.command(self._device, name, None, self._begin(words, doing))

    def switch(self, attribute: str, value: object, words: str, doing: str) -> None:
        """Write an attribute that is no field."""
        self._link.write(self._device, attribute, value, self._begin(words, doing))

    def stop(self) -> None:
        """Run Stop, unless that is being done and may still be answered in time."""
        if self._latest[1] != "Stop" or not self._notice.waits(time.monotonic()):
            self.run("Stop", "Stop", "Stopping…")

    def _begin(self, words: str, doing: str) -> Callable[[object, str | None], None]:
        latest = self._latest = self._latest[0] + 1, words
        self._notice.began(doing, f"No answer to {words}: {self._device} does not answer", time.monotonic())

        def done(_result: object, error: str | None) -> None:
            text = f"{words}: {error}" if error else words
            if latest == self._latest:
                self._notice.ended(text if error else None, time.monotonic())
            self._log.add("ERROR" if error else "INFO", self._device, text)

        return done
