"""How a driver asks its instrument: the same for every protocol that has requests and replies.

A query whose answer is garbled is asked again. A setting or a motion is sent once, whatever comes back.
"""

from collections.abc import Callable
from typing import ClassVar, Final, Protocol, TypeVar

from bandoneon.errors import ProtocolError, ReplyTimeout
from device_servers.core.framing import Framer
from device_servers.core.transport import Accept, Transport

ATTEMPTS: Final = 3
"""How often a query is asked while its answers are garbled."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Message(Protocol[T_co]):
    """A message of a protocol, and what its answer means."""

    @property
    def accepts(self) -> Accept | None:
        """Whether a frame may be the answer; None: the line has one speaker, and what comes next is the answer."""
        ...

    def encode(self) -> bytes:
        """Return the bytes to send."""
        ...

    def decode(self, reply: bytes) -> T_co:
        """Return what the answer says; raise ProtocolError when it does not fit, or what the instrument refuses."""
        ...


class Asking:
    """What a driver is made of: a line, how replies on it are framed, and how long they may take."""

    request_end: ClassVar[bytes] = b"\n"
    """What ends a request that an engineer types."""

    def __init__(self, transport: Transport, reply: Framer, *, timeout_s: float) -> None:
        self._transport = transport
        self._reply = reply
        self._timeout_s = timeout_s

    def exchange_text(self, text: str) -> str:
        """Send what an engineer typed and return the reply; "" when none came in time, as to most commands."""
        request = text.encode("latin-1") + self.request_end
        self._collect()
        self._transport.send(request)
        try:
            reply = self._transport.receive(
                reply=self._reply, timeout_s=self._timeout_s, accept=self._answers_to(request)
            )
        except ReplyTimeout:
            return ""
        return reply.decode("latin-1").rstrip("\r\n")

    def _ask(self, query: Message[T]) -> T:
        """Return the answer to a query."""
        return ask(self._transport, lambda: self._exchange(query), query.decode, attempts=ATTEMPTS)

    def _tell(self, message: Message[T]) -> T:
        """Send a setting once; return what its answer says."""
        return ask(self._transport, lambda: self._exchange(message), message.decode)

    def _exchange(self, message: Message[object]) -> bytes:
        return self._transport.exchange(
            message.encode(), reply=self._reply, timeout_s=self._timeout_s, accept=message.accepts
        )

    def _collect(self, timeout_s: float = 0.0) -> None:
        """Take what came unasked until nothing came for `timeout_s`, so that it answers no later question."""
        while True:
            try:
                frame = self._transport.receive(reply=self._reply, timeout_s=timeout_s, accept=self._is_mine)
            except ReplyTimeout:
                return
            try:
                self._note(frame)
            except ProtocolError as error:
                self._transport.protocol_error(error)

    def _is_mine(self, frame: bytes) -> bool:
        """Whether a frame that came unasked is from this driver's instrument."""
        return True

    def _note(self, frame: bytes) -> None:
        """Learn from a frame that came unasked; raise ProtocolError when it is none."""

    def _answers_to(self, request: bytes) -> Accept | None:
        """Return what tells the answer to a request that an engineer typed."""
        return None


def ask(transport: Transport, exchange: Callable[[], bytes], decode: Callable[[bytes], T], *, attempts: int = 1) -> T:
    """Return what `decode` makes of the reply that `exchange` gets.

    A reply that does not fit is counted. It is asked for again until there were `attempts`, which only a query may
    have more than one of; then its ProtocolError is raised.
    """
    while True:
        reply = exchange()
        try:
            return decode(reply)
        except ProtocolError as error:
            transport.protocol_error(error)
            attempts -= 1
            if attempts <= 0:
                raise
