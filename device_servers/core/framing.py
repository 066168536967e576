"""Where one reply ends: pure functions from the bytes received so far to the length of the first complete reply."""

from collections.abc import Callable

from bandoneon.errors import ProtocolError

Framer = Callable[[bytes], int]
"""Length of the first complete reply in the bytes, 0 = need more; raises ProtocolError when it can never be one."""


def line(terminator: bytes = b"\n", *, longest: int = 4096) -> Framer:
    """Return a framer of replies that end with `terminator`, at most `longest` bytes with it."""

    def frame(data: bytes) -> int:
        end = data.find(terminator)
        if end < 0 and len(data) >= longest:
            raise ProtocolError(b"", data[:32], f"is longer than {longest} bytes and has no end")
        return end + len(terminator) if end >= 0 else 0

    return frame


def fixed(length: int) -> Framer:
    """Return a framer of replies of exactly `length` bytes."""
    return lambda data: length if len(data) >= length else 0


def block488(terminator: bytes = b"\n", *, longest: int = 256 * 2**20) -> Framer:
    """Return a framer of IEEE 488.2 definite length blocks `#<digits><length><data>` (section 8.7.9) with terminator.

    A reply that is no block at all (an error text) is framed as a line.
    """
    as_line = line(terminator)

    def frame(data: bytes) -> int:
        if not data.startswith(b"#"):
            return as_line(data) if data else 0
        digits = data[1:2]
        if not digits:
            return 0
        if not digits.isdigit() or digits == b"0":
            raise ProtocolError(b"", data[:32], "is no block of definite length")
        head = 2 + int(digits)
        length = data[2:head]
        if len(length) < int(digits):
            return 0
        if not length.isdigit() or int(length) > longest:
            raise ProtocolError(b"", data[:32], "is a block without a usable length")
        end = head + int(length) + len(terminator)
        if len(data) < end:
            return 0
        if data[end - len(terminator) : end] != terminator:
            raise ProtocolError(b"", data[:32], "is a block that does not end where it says")
        return end

    return frame
