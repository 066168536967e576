"""Every error this project raises on purpose, as one tree.

    BandoneonError
    ├── TransportError
    │   ├── LinkDown          no connection to the instrument
    │   └── ReplyTimeout      connected, but no complete reply in time
    ├── ProtocolError         a reply that does not fit the request
    ├── InstrumentFault       the instrument itself reports an error
    ├── OutOfRange            a value outside what the quantity allows
    ├── InterlockRefused      a safety condition does not permit it
    └── SiteError             a site file that cannot be used

The text of an error is one sentence a person can act on. `describe` maps each leaf to one Tango
error reason and to the one state the device shows for it.
"""

from typing import NamedTuple


class BandoneonError(Exception):
    """Base of all errors raised on purpose."""


class TransportError(BandoneonError):
    """The line to the instrument failed."""


class LinkDown(TransportError):
    """There is no connection: cable pulled, power off, host unreachable."""


class ReplyTimeout(TransportError):
    """The line is open, but no complete reply came in time."""


class ProtocolError(BandoneonError):
    """A reply that does not fit the request it answers."""

    def __init__(self, sent: bytes, received: bytes, reason: str = "does not fit the request") -> None:
        super().__init__(f"reply {received!r} to {sent!r} {reason}")
        self.sent = sent
        self.received = received


class InstrumentFault(BandoneonError):
    """The instrument reports an error of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"instrument error {code}: {text}")
        self.code = code
        self.text = text


class OutOfRange(BandoneonError):
    """A value outside what a quantity or the instrument allows."""


class InterlockRefused(BandoneonError):
    """A safety condition does not permit the action."""


class SiteError(BandoneonError):
    """A site file that cannot be used; says where and what is allowed."""

    def __init__(self, message: str, *, file: str = "", line: int | None = None, key: str = "") -> None:
        place = ":".join(str(part) for part in (file, line) if part)
        super().__init__(": ".join(part for part in (place, key, message) if part))
        self.file = file
        self.line = line
        self.key = key


class Meaning(NamedTuple):
    """What an error is called in Tango, and the state a device shows for it ("" = unchanged)."""

    reason: str
    state: str


_MEANINGS: dict[type[BandoneonError], Meaning] = {
    LinkDown: Meaning("Bandoneon_LinkDown", "UNKNOWN"),
    ReplyTimeout: Meaning("Bandoneon_ReplyTimeout", "UNKNOWN"),
    ProtocolError: Meaning("Bandoneon_ProtocolError", "UNKNOWN"),
    InstrumentFault: Meaning("Bandoneon_InstrumentFault", "FAULT"),
    OutOfRange: Meaning("Bandoneon_OutOfRange", ""),
    InterlockRefused: Meaning("Bandoneon_InterlockRefused", ""),
    SiteError: Meaning("Bandoneon_SiteError", "FAULT"),
}


def describe(error: BaseException) -> Meaning:
    """Return the Tango reason and state of `error`; anything unforeseen is an internal FAULT."""
    for kind in type(error).__mro__:
        if kind in _MEANINGS:
            return _MEANINGS[kind]
    return Meaning("Bandoneon_InternalError", "FAULT")
