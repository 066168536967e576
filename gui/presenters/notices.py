"""The line of a card: what its device says, or for a while how the last command ended."""

SHOWN_S = 20.0


class Notice:
    """The sentence of a command that failed; the next good command, or time, takes it away."""

    def __init__(self) -> None:
        self._text = ""
        self._until_s = 0.0

    def ended(self, error: str | None, now_s: float) -> None:
        """Note how a command ended."""
        self._text, self._until_s = error or "", now_s + SHOWN_S

    def line(self, otherwise: str, now_s: float) -> tuple[str, str]:
        """Return the line to show, and its role."""
        if self._text and now_s < self._until_s:
            return self._text, "error"
        return otherwise, "caption"
