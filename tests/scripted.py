"""An instrument that answers by a script, at the other end of a real `Line`, for tests of drivers on bytes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from device_servers.core.framing import line
from device_servers.core.links import serve_loop
from device_servers.core.transport import Line, Probe, open_transport


@contextmanager
def scripted(answers: Mapping[bytes, list[bytes]]) -> Iterator[tuple[Line, list[bytes]]]:
    """Return a connected line, and the list of what is sent: each request gets its next answer, the last for ever."""
    left = {request: list(replies) for request, replies in answers.items()}
    sent: list[bytes] = []

    def answer(data: bytes) -> bytes:
        if data == b"probe":
            return b"ok\n"
        sent.append(data)
        replies = left.get(data, [b""])
        return replies.pop(0) if len(replies) > 1 else replies[0]

    serve_loop("scripted", answer)
    connected = open_transport("loop://scripted", probe=Probe(b"probe", line(), lambda reply: reply == b"ok\n"))
    connected.reconnect()
    try:
        yield connected, sent
    finally:
        connected.close()
        serve_loop("scripted", None)
