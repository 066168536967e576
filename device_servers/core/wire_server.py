"""Serves a wire-level simulator on a real pseudo-terminal or TCP port, and breaks the line on purpose.

One thread moves bytes and lets the simulator's time pass; replies leave as late as their length takes at the line's
baud rate. Faults of the line are made here; `busy` and `instrument_error` are handed to the simulator.
"""

import contextlib
import os
import random
import select
import socket
import threading
import time
import tty
from collections import deque
from pathlib import Path
from typing import Final, Protocol

TICK_S: Final = 0.01
LATE_S: Final = 1.5
SLOW_BYTES_S: Final = 50.0
BITS_PER_BYTE: Final = 10

LINE_FAULTS: Final = ("silent", "garbage", "truncated", "late", "slow", "unplugged")
INSTRUMENT_FAULTS: Final = ("busy", "instrument_error")
FAULTS: Final = (*LINE_FAULTS, *INSTRUMENT_FAULTS)
"""`silent` answers nothing · `garbage` answers nonsense of the same length · `truncated` answers half ·
`late` answers after `LATE_S` · `slow` answers `SLOW_BYTES_S` bytes a second · `unplugged` is a pulled cable ·
`busy` and `instrument_error` are the instrument's own."""


class Wire(Protocol):
    """A simulated instrument, byte for byte."""

    @property
    def fault(self) -> str | None:
        """One of `INSTRUMENT_FAULTS` that the instrument has now."""
        ...

    @fault.setter
    def fault(self, fault: str | None) -> None: ...

    def __call__(self, data: bytes) -> bytes:
        """Take bytes of any length and return what the instrument answers at once."""
        ...

    def advance(self, dt_s: float) -> bytes:
        """Let time pass and return what the instrument says unasked."""
        ...


class WireServer:
    """Serves one wire, on a pseudo-terminal linked at `pty`, or at the TCP address `tcp` (port 0: any)."""

    def __init__(
        self, wire: Wire, *, pty: Path | None = None, tcp: tuple[str, int] | None = None, baud: int = 9600
    ) -> None:
        if (pty is None) == (tcp is None):
            raise ValueError("a simulator is served either on a pseudo-terminal or on a TCP port")
        self._wire = wire
        self._pty = pty
        self._tcp = tcp
        self._baud = baud
        self._fault: str | None = None
        self._random = random.Random(0)
        self._outbox: deque[tuple[float, bytes]] = deque()
        self._line_free_s = 0.0
        self._master = self._slave = -1
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._stopping = threading.Event()
        self._applied = threading.Condition()
        self._plugged = False
        self._thread = threading.Thread(target=self._run, name=f"wire {pty or tcp}", daemon=True)

    @property
    def address(self) -> str:
        """The `connection` URL that leads here."""
        if self._pty is not None:
            return f"serial://{self._pty}?baud={self._baud}"
        host, port = self._tcp or ("", 0)
        return f"tcp://{host}:{port}"

    @property
    def fault(self) -> str | None:
        """What is broken on purpose, one of `FAULTS`; None = nothing. Setting waits until it is so."""
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"fault {fault!r} is none of {', '.join(FAULTS)}")
        with self._applied:
            self._fault = fault
            self._wire.fault = fault if fault in INSTRUMENT_FAULTS else None
            if self._thread.is_alive():
                self._applied.wait_for(lambda: self._plugged is (fault != "unplugged"), timeout=1.0)

    def start(self) -> None:
        """Serve until `stop`; raise OSError when the address cannot be had."""
        if self._fault != "unplugged":
            self._plug()
        self._thread.start()

    def stop(self) -> None:
        """End; the link of a pseudo-terminal disappears."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._unplug()

    def _plug(self) -> None:
        if self._pty is not None:
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self._pty.parent.mkdir(parents=True, exist_ok=True)
            beside = self._pty.with_name(f".{self._pty.name}.{os.getpid()}")
            beside.unlink(missing_ok=True)
            beside.symlink_to(os.ttyname(self._slave))
            beside.replace(self._pty)
        elif self._tcp is not None:
            self._listener = socket.create_server(self._tcp)
            self._tcp = (self._tcp[0], self._listener.getsockname()[1])
        self._plugged = True

    def _unplug(self) -> None:
        if self._pty is not None and self._plugged:
            self._pty.unlink(missing_ok=True)
        for descriptor in (self._slave, self._master):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1
        for end in (self._client, self._listener):
            if end is not None:
                end.close()
        self._client = self._listener = None
        self._outbox.clear()
        self._plugged = False

    def _run(self) -> None:
        before_s = time.monotonic()
        while not self._stopping.is_set():
            self._follow_fault()
            for data in self._arrived(self._wait_s()):
                self._answer(self._wire(data) if self._fault != "silent" else b"", len(data))
            now_s = time.monotonic()
            if now_s - before_s >= TICK_S:
                self._answer(self._wire.advance(now_s - before_s), 0)
                before_s = now_s
            self._deliver()

    def _follow_fault(self) -> None:
        with self._applied:
            wanted = self._fault != "unplugged"
            if wanted and not self._plugged:
                # a port may be taken for a moment by what is still closing
                with contextlib.suppress(OSError):
                    self._plug()
            elif not wanted and self._plugged:
                self._unplug()
            self._applied.notify_all()

    def _wait_s(self) -> float:
        if not self._outbox:
            return TICK_S
        return min(TICK_S, max(0.0, self._outbox[0][0] - time.monotonic()))

    def _arrived(self, wait_s: float) -> list[bytes]:
        """Wait for input and return it; a new TCP client takes the line from the one before."""
        ends: list[int | socket.socket] = [
            end
            for end in (self._master if self._master >= 0 else None, self._listener, self._client)
            if end is not None
        ]
        if not ends:
            self._stopping.wait(wait_s)
            return []
        received: list[bytes] = []
        for end in select.select(ends, [], [], wait_s)[0]:
            if self._listener is not None and end is self._listener:
                if self._client is not None:
                    self._client.close()
                self._client, _ = self._listener.accept()
                self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            elif end is self._client:
                received.append(self._from_client())
            elif isinstance(end, int):
                with contextlib.suppress(BlockingIOError):
                    received.append(os.read(end, 65536))
        return [data for data in received if data]

    def _from_client(self) -> bytes:
        assert self._client is not None
        try:
            data = self._client.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._client.close()
            self._client = None
        return data

    def _answer(self, reply: bytes, request_length: int) -> None:
        """Queue a reply for the time at which it would have arrived whole."""
        if not reply or self._fault in ("silent", "unplugged"):
            return
        now_s = time.monotonic()
        duration_s = (len(reply) + request_length) * BITS_PER_BYTE / self._baud
        due_s = self._line_free_s = max(now_s, self._line_free_s) + duration_s
        if self._fault == "garbage":
            nonsense = self._random.choices(range(0x20, 0x7F), k=len(reply) - 1)
            reply = bytes(nonsense) + reply[-1:]
        elif self._fault == "truncated":
            reply = reply[: len(reply) // 2]
        elif self._fault == "late":
            due_s += LATE_S
        elif self._fault == "slow":
            for index in range(len(reply)):
                self._outbox.append((now_s + (index + 1) / SLOW_BYTES_S, reply[index : index + 1]))
            return
        self._outbox.append((due_s, reply))

    def _deliver(self) -> None:
        while self._outbox and self._outbox[0][0] <= time.monotonic():
            _, data = self._outbox.popleft()
            # nobody listens, or reads what was sent: as on a real line, the bytes are gone
            with contextlib.suppress(OSError):
                if self._master >= 0:
                    os.write(self._master, data)
                elif self._client is not None:
                    self._client.sendall(data)
