"""Commands of a card: run in a thread; how they end goes to the card's line and to the log."""

import time
from collections.abc import Callable

from gui.presenters.log import Log
from gui.presenters.notices import Notice
from gui.widgets.link import Link


class Commands:
    """Commands and switches of one device."""

    def __init__(self, device: str, link: Link, log: Log, notice: Notice) -> None:
        self._device = device
        self._link, self._log, self._notice = link, log, notice

    def run(self, name: str, words: str, argument: object = None) -> None:
        """Run a command; `words` say it in the log."""
        self._link.command(self._device, name, argument, self._ending(words))

    def switch(self, attribute: str, value: object, words: str) -> None:
        """Write an attribute that is no field."""
        self._link.write(self._device, attribute, value, self._ending(words))

    def _ending(self, words: str) -> Callable[[object, str | None], None]:
        def done(_result: object, error: str | None) -> None:
            self._notice.ended(f"{words}: {error}" if error else None, time.monotonic())
            self._log.add("ERROR" if error else "INFO", self._device, f"{words}: {error}" if error else words)

        return done
