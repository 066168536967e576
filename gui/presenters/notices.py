"""The line of a card: what its device says, or for a while what became of the last command."""

SHOWN_S = 20.0

PATIENCE_S = 1.5
"""So long may a command take; then it is said that there is no answer, whenever Tango gives up waiting for it."""


class Notice:
    """A command under way, or the sentence of one that failed; the next good command, or time, takes that away."""

    def __init__(self) -> None:
        self._doing = self._text = ""
        self._began_s = self._until_s = 0.0

    def began(self, doing: str, unanswered: str, now_s: float) -> None:
        """Note what is being done, and what to say when there is no answer to it."""
        self._doing, self._text, self._began_s = doing, unanswered, now_s

    def ended(self, error: str | None, now_s: float) -> None:
        """Note how a command ended."""
        self._doing, self._text, self._until_s = "", error or "", now_s + SHOWN_S

    def waits(self, now_s: float) -> bool:
        """Whether a command is under way that may still be answered in time."""
        return bool(self._doing) and now_s - self._began_s < PATIENCE_S

    def line(self, otherwise: str, now_s: float, role: str = "caption") -> tuple[str, str]:
        """Return the line to show, and its role; `role` is that of what is shown otherwise."""
        if self.waits(now_s):
            return self._doing, "pending"
        if self._text and (self._doing or now_s < self._until_s):
            return self._text, "error"
        return otherwise, role
