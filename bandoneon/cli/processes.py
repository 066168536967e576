"""The spawner's processes of a site, seen from outside: find them, start the spawner, end them. No Tango here."""

import codecs
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import psutil

from bandoneon.cli.options import CommandError
from bandoneon.site.running import RunningSite
from device_servers.supervisor.spawner import BOOT_ID, start_ticks

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 8.0
"""The spawner gives its servers 4.5 s altogether; then this program ends what is left."""

SUPERVISOR_TIMEOUT_S = 1.0
"""A supervisor that has to end before anything else has so long."""

TAIL_BYTES = 1 << 16
"""No more than this is read of a log's end."""

FOLLOW_EVERY_S = 0.1

LONGEST_SOCKET_PATH = 107
"""What fits into sockaddr_un of Linux (man 7 unix)."""


def start_spawner(site: RunningSite, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the spawner in a session of its own and wait until its socket answers."""
    if len(os.fsencode(site.socket)) > LONGEST_SOCKET_PATH:
        raise CommandError(f"{site.socket} is too long for a socket: set BANDONEON_RUN to a shorter directory")
    site.logs.mkdir(parents=True, exist_ok=True)
    log = site.logs / "spawner.log"
    with log.open("ab") as output:
        spawner = subprocess.Popen(
            [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(site.run)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd="/",
            start_new_session=True,
        )
    ended = wait_for(lambda: spawner.poll() is not None or spawner_pid(site) is not None, START_TIMEOUT_S)
    if not ended or spawner.poll() is not None:
        raise CommandError(f"the spawner does not start; its last words: {last_line(log)} (all of them: {log})")
    return spawner


def spawner_pid(site: RunningSite) -> int | None:
    """Return the process that listens on the spawner's socket, None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(site.socket))
        except OSError:
            return None
        pid, _uid, _gid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with its number.

    `started` is its start in clock ticks after boot (proc(5), /proc/pid/stat field 22). Of the spawner's children
    `started_ns` is that in ns since 1970, and `level` the one they are started at.
    """

    name: str
    pid: int
    started: int
    started_ns: int = 0
    level: int = 0

    @property
    def lives(self) -> bool:
        """Whether it still runs."""
        return start_ticks(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send it a signal, and nobody else, should its number have another owner by now."""
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self.pid)
            try:
                if self.lives:
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)


def children(site: RunningSite) -> dict[str, Process]:
    """Return the spawner's children that live, by name, as it keeps them on disk."""
    try:
        state: dict[str, Any] = json.loads((site.run / "state.json").read_text())
        kept: dict[str, dict[str, Any]] = state["children"]
        if state.get("boot") not in (None, BOOT_ID.read_text().strip()):
            return {}  # pids of before this machine's last start
        found = [
            Process(name, one["pid"], one["started"], one["started_ns"], one["request"]["level"])
            for name, one in kept.items()
        ]
    except (OSError, ValueError, KeyError):
        return {}
    return {process.name: process for process in found if process.lives}


def spawners(site: RunningSite) -> list[Process]:
    """Return the spawner processes of a site, also one whose socket does not listen yet."""
    found: list[Process] = []
    title, module = f"bandoneon spawner {site.run}", "device_servers.supervisor.spawner"
    for process in psutil.process_iter(["cmdline"]):
        line: list[str] = process.info["cmdline"] or []
        if " ".join(line).strip() == title or line[1:] == ["-m", module, "--run", str(site.run)]:
            started = start_ticks(process.pid)
            if started is not None:
                found.append(Process("spawner", process.pid, started))
    return found


def stop(site: RunningSite, say: Callable[[str], None]) -> bool:
    """End the spawner and all its servers, each after its `make_safe`; return False when nothing ran."""
    found = {*spawners(site), *children(site).values()}
    if not found:
        return False
    say(f"Bringing down {site.site}: {len(found)} processes …")
    forced: list[Process] = []
    if spawner_pid(site) is not None:
        forced += end(spawners(site), STOP_TIMEOUT_S)
    # without a spawner the supervisor starts another one, which would start again what ends here: it goes first
    forced += end([one for one in found if one.name.startswith("Supervisor/")], SUPERVISOR_TIMEOUT_S)
    forced += end(spawners(site), STOP_TIMEOUT_S)
    forced += end({*found, *children(site).values()}, STOP_TIMEOUT_S)
    if forced:
        names = ", ".join(sorted(process.name for process in forced))
        say(f"Ended by force, since they did not end by themselves: {names}")
    return True


def end(processes: Iterable[Process], timeout_s: float) -> list[Process]:
    """End processes by SIGTERM, also stopped ones, after `timeout_s` by SIGKILL; return those that had to be killed."""
    living = [process for process in processes if process.lives]
    for process in living:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
    if wait_for(lambda: not any(process.lives for process in living), timeout_s):
        return []
    killed = [process for process in living if process.lives]
    for process in killed:
        process.send(signal.SIGKILL)
    wait_for(lambda: not any(process.lives for process in killed), STOP_TIMEOUT_S)
    return killed


class Port(NamedTuple):
    """A loopback port that nobody uses; no other `up` takes it before `claim` is closed."""

    number: int
    claim: socket.socket


def claim_port(wanted: int = 0) -> Port | None:
    """Return the loopback port `wanted` unless it is used or claimed by another; 0 is any free port.

    The claim is a socket in Linux's abstract namespace (man 7 unix), which has the port's network namespace as its
    bounds and ends with its process: a listening socket of one's own could not be handed to the database.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(("127.0.0.1", wanted))
            number = int(listener.getsockname()[1])
            claim.bind(f"\0bandoneon-port-{number}")
        except OSError:
            claim.close()
            return None
        return Port(number, claim)


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.02) -> bool:
    """Wait until `condition` holds; return whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def last_line(log: Path) -> str:
    """Return the last line of a log file that says something."""
    lines = [line for line in tail(log, 20)[0].splitlines() if line.strip()]
    return lines[-1].strip() if lines else "none"


def tail(log: Path, lines: int) -> tuple[str, int]:
    """Return the last lines of a file, at most `TAIL_BYTES`, and the offset behind them, where `follow` goes on."""
    with log.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        data = file.read(TAIL_BYTES)
    offset = start + len(data)
    whole = data.partition(b"\n")[2] if start and b"\n" in data else data
    return b"".join(whole.splitlines(keepends=True)[-lines:]).decode(errors="replace"), offset


def follow(log: Path, offset: int) -> Generator[str]:
    """Yield what is appended to a file behind `offset`, for ever; a file that was replaced is read from the start."""
    while True:
        with log.open("rb") as file:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            file.seek(offset)
            while not _replaced(log, file):
                data = file.read(TAIL_BYTES)
                if data:
                    yield decoder.decode(data)
                else:
                    time.sleep(FOLLOW_EVERY_S)
        offset = 0


def _replaced(log: Path, file: BinaryIO) -> bool:
    """Whether `log` is another file by now, or a shorter one, and `file` has nothing more to tell."""
    try:
        now = log.stat()
    except OSError:
        return False
    other = now.st_ino != os.fstat(file.fileno()).st_ino
    return now.st_size < file.tell() if not other else file.tell() >= os.fstat(file.fileno()).st_size
