"""The wires themselves: opening a URL, sending bytes, receiving what is there.

`serial:///dev/serial/by-id/…?baud=9600&flow=none|xonxoff|rtscts&bits=8&parity=N&stop=1` · `tcp://host:port` ·
`loop://name` (in this process, for tests). Anything wrong with a link is `LinkDown`.
"""

import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import SplitResult, parse_qs, urlsplit

import serial

from bandoneon.errors import LinkDown

WRITE_TIMEOUT_S = 1.0
"""How long the other side may hold up what we send (XOFF, a full TCP window)."""

DELIVERY_S: Final = 0.25
"""How long the other side of a TCP connection may take to acknowledge: some wait 0.2 s for more to come."""

CONNECT_TIMEOUT_S = 1.0
CHUNK = 65536
SERIAL_SETTINGS: Final = {
    "flow": ("none", "xonxoff", "rtscts"),
    "bits": ("8", "5", "6", "7"),
    "parity": ("N", "E", "O", "M", "S"),
    "stop": ("1", "1.5", "2"),
}
"""What may be set of a serial port beside its `baud` rate, and to what; the first of each is taken when none is."""


class Link(Protocol):
    """An open wire."""

    def write(self, data: bytes) -> None:
        """Send all of `data`; raise LinkDown."""
        ...

    def confirm(self) -> None:
        """Raise LinkDown when what was sent does not reach the other side, as far as the operating system can tell."""
        ...

    def read(self, timeout_s: float) -> bytes:
        """Return what is there, waiting at most `timeout_s` for something; b"" = nothing came; raise LinkDown."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def check_url(url: str) -> SplitResult:
    """Return the parts of a connection URL; raise ValueError, in a sentence, when it cannot be one."""
    parts = urlsplit(url)
    if parts.scheme == "serial":
        if not parts.path:
            raise ValueError(f"connection {url!r} names no port: write serial:///dev/serial/by-id/…?baud=9600")
        _serial_settings(parts)
    elif parts.scheme == "tcp":
        if not parts.hostname or parts.port is None:
            raise ValueError(f"connection {url!r} needs a host and a port: tcp://host:port")
    elif parts.scheme != "loop":
        raise ValueError(f"connection {url!r} is none of serial:///dev/…, tcp://host:port, loop://name")
    return parts


def open_link(url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Link:
    """Open a connection URL within `timeout_s`; raise LinkDown, or ValueError for one that cannot be right."""
    parts = check_url(url)
    if parts.scheme == "serial":
        return SerialLink(parts)
    if parts.scheme == "tcp":
        return TcpLink(parts.hostname or "", parts.port or 0, timeout_s)
    return LoopLink(parts.netloc)


def _serial_settings(parts: SplitResult) -> dict[str, object]:
    given = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    baud = given.pop("baud", "9600")
    if not baud.isdecimal() or int(baud) == 0:
        raise ValueError(f"baud {baud!r} is no rate: write a whole number above 0")
    chosen = {name: allowed[0] for name, allowed in SERIAL_SETTINGS.items()}
    for name, value in given.items():
        if name not in SERIAL_SETTINGS:
            raise ValueError(f"connection parameter {name!r} is none of baud, {', '.join(SERIAL_SETTINGS)}")
        chosen[name] = value.upper() if name == "parity" else value
        if chosen[name] not in SERIAL_SETTINGS[name]:
            raise ValueError(f"{name} {value!r} is none of {', '.join(SERIAL_SETTINGS[name])}")
    return {
        "baudrate": int(baud),
        "bytesize": int(chosen["bits"]),
        "parity": chosen["parity"],
        "stopbits": float(chosen["stop"]),
        "xonxoff": chosen["flow"] == "xonxoff",
        "rtscts": chosen["flow"] == "rtscts",
    }


class SerialLink:
    """A serial port or pseudo-terminal, used by this process alone."""

    def __init__(self, parts: SplitResult) -> None:
        self._path = parts.path
        try:
            self._port = serial.Serial(
                parts.path,
                timeout=0,
                write_timeout=WRITE_TIMEOUT_S,
                exclusive=True,
                **_serial_settings(parts),  # pyright: ignore[reportArgumentType]
            )
        except (OSError, ValueError, OverflowError, termios.error) as error:
            # the latter three: a setting that this port does not have
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise LinkDown(f"{parts.path} cannot be opened: {reason}") from error

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._port.write(data)
        except (OSError, serial.SerialException, TypeError) as error:
            # TypeError: closed by another thread after pyserial had looked whether it is open
            raise LinkDown(f"{self._path} takes no data: {error}") from error

    def confirm(self) -> None:
        """Nothing can be told: a serial port has no acknowledgement."""

    def read(self, timeout_s: float) -> bytes:
        """Return what is there."""
        try:
            descriptor = self._port.fileno()
            if not select.select([descriptor], [], [], timeout_s)[0]:
                return b""
            data = os.read(descriptor, CHUNK)
        except (OSError, serial.SerialException) as error:
            raise LinkDown(f"{self._path} is gone: {error}") from error
        if not data:
            raise LinkDown(f"{self._path} is gone: the other side hung up")
        return data

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()


class TcpLink:
    """A TCP connection."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise LinkDown(f"{self._name} does not accept a connection: {error.strerror or error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.settimeout(WRITE_TIMEOUT_S)

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise LinkDown(f"{self._name} takes no data: {error}") from error

    def confirm(self) -> None:
        """Wait until the other side has acknowledged all that was sent: one that is gone takes no notice of it."""
        deadline_s = time.monotonic() + DELIVERY_S
        try:
            while self._unacknowledged():
                if time.monotonic() > deadline_s:
                    raise LinkDown(f"{self._name} does not acknowledge what was sent")
                time.sleep(0.001)
        except (OSError, ValueError) as error:
            raise LinkDown(f"{self._name} is gone: {error}") from error

    def _unacknowledged(self) -> int:
        """How many bytes that were sent are not acknowledged (tcp(7), SIOCOUTQ)."""
        if broken := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(broken, os.strerror(broken))
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(count)

    def read(self, timeout_s: float) -> bytes:
        """Return what is there."""
        try:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return b""
            data = self._socket.recv(CHUNK)
        except (OSError, ValueError) as error:
            raise LinkDown(f"{self._name} is gone: {error}") from error
        if not data:
            raise LinkDown(f"{self._name} closed the connection")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


Answer = Callable[[bytes], bytes]

_loops: dict[str, Answer] = {}


def serve_loop(name: str, answer: Answer | None) -> None:
    """Let `loop://name` lead to `answer`, which returns what comes back for what was sent; None ends it."""
    if answer is None:
        _loops.pop(name, None)
    else:
        _loops[name] = answer


class LoopLink:
    """A wire that ends in a function of this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._buffer = b""
        self._arrived = threading.Condition()
        self._peer()

    def _peer(self) -> Answer:
        if self._name not in _loops:
            raise LinkDown(f"nothing is served at loop://{self._name}")
        return _loops[self._name]

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        answer = self._peer()(data)
        with self._arrived:
            self._buffer += answer
            self._arrived.notify_all()

    def confirm(self) -> None:
        """It has arrived: the other side is in this process."""

    def read(self, timeout_s: float) -> bytes:
        """Return what is there."""
        deadline_s = time.monotonic() + timeout_s
        with self._arrived:
            while not self._buffer:
                self._peer()
                if not self._arrived.wait(max(0.0, deadline_s - time.monotonic())) and time.monotonic() >= deadline_s:
                    return b""
            data, self._buffer = self._buffer, b""
            return data

    def close(self) -> None:
        """Forget it."""
