"""The spawner's socket, from the other end."""

import itertools
import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bandoneon.errors import BandoneonError
from device_servers.supervisor.spawner import PAGE

DATABASE = "DataBaseds/2"
"""Name of an embedded database among a spawner's children: its device is sys/database/2."""

ANSWER_TIMEOUT_S = 5.0
LARGEST_MESSAGE = 1 << 18


class SpawnerError(BandoneonError):
    """The spawner refuses."""


class SpawnerGone(SpawnerError):
    """There is no spawner, or no longer, or it does not answer."""


class SpawnerRefusal(SpawnerError):
    """The spawner is there, and does not do what was asked."""


class SpawnerClient:
    """One connection to a spawner. Used by one thread at a time.

    Who does not read for long loses the connection (SpawnerGone), and finds what it missed through another one.
    """

    def __init__(self, path: Path) -> None:
        self.run = ""
        """Which run of the host it is, known after `children`: a spawner that has adopted children goes on with one."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise SpawnerGone(f"no spawner answers at {path}: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._numbers = itertools.count(1)
        self._exits: list[dict[str, Any]] = []

    def fork(self, *, name: str, module: str, argv: Sequence[str], env: Mapping[str, str], log: str, level: int) -> int:
        """Start `python -m module argv…` as child `name`; return its pid."""
        answer = self._ask(op="fork", name=name, module=module, argv=list(argv), env=dict(env), log=log, level=level)
        return int(answer["pid"])

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a child; nothing happens when it has ended."""
        self._ask(op="signal", name=name, signal=int(number))

    def children(self) -> list[dict[str, Any]]:
        """Return all children, {name, pid, level, started_ns}; exits that are kept come as `exits`."""
        found: list[dict[str, Any]] = []
        for start in itertools.count(step=PAGE):
            page = self._ask(op="list", start=start)
            found += page["children"]
            self.run = page.get("run", "")
            if start + PAGE >= max(page["total"], page.get("exits", 0)):
                break
        return found

    def acknowledge(self, name: str, pid: int) -> None:
        """Let the spawner forget the exit of a child that was process `pid`."""
        self._ask(op="ack", name=name, pid=pid)

    def exits(self, timeout_s: float) -> list[dict[str, Any]]:
        """Return exits that have not been seen on this connection, waiting at most `timeout_s` for one."""
        deadline_s = time.monotonic() + timeout_s
        while not self._exits and self._readable(max(0.0, deadline_s - time.monotonic())):
            self._exits.append(self._receive())
        while self._readable(0.0):
            self._exits.append(self._receive())
        found, self._exits = self._exits, []
        return found

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _ask(self, **request: object) -> dict[str, Any]:
        number = next(self._numbers)
        try:
            self._socket.send(json.dumps({"id": number, **request}).encode())
        except OSError as error:
            raise SpawnerGone(f"the spawner is gone: {error.strerror}") from error
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while self._readable(max(0.0, deadline_s - time.monotonic())):
            message = self._receive()
            if "event" in message:
                self._exits.append(message)
            elif message.get("re") == number:
                if message.get("error"):
                    raise SpawnerRefusal(str(message["error"]))
                return message
        raise SpawnerGone(f"the spawner did not answer within {ANSWER_TIMEOUT_S:g} s")

    def _readable(self, timeout_s: float) -> bool:
        return bool(self._poll.poll(timeout_s * 1000))

    def _receive(self) -> dict[str, Any]:
        try:
            data = self._socket.recv(LARGEST_MESSAGE)
        except OSError as error:
            raise SpawnerGone(f"the spawner is gone: {error.strerror}") from error
        if not data:
            raise SpawnerGone("the spawner is gone")
        return json.loads(data)
