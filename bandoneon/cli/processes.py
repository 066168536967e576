"""The spawner's processes of a site, seen from outside: find them, start the spawner, end them. No Tango here."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bandoneon.cli.options import CommandError
from bandoneon.site.running import RunningSite

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 8.0
"""The spawner gives its servers 4.5 s altogether; then this program ends what is left."""

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


def children(site: RunningSite) -> dict[str, int]:
    """Return the spawner's children that live, by name, as it keeps them on disk."""
    try:
        kept: dict[str, dict[str, Any]] = json.loads((site.run / "state.json").read_text())["children"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: child["pid"] for name, child in kept.items() if same_process(child["pid"], child.get("started"))}


def same_process(pid: int, started: object) -> bool:
    """Whether process `pid` lives and, when that is known, is the one that started then (clock ticks after boot)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and started in (None, int(fields[19]))


def stop(site: RunningSite, say: Callable[[str], None]) -> bool:
    """End the spawner and all its servers, each after its `make_safe`; return False when nothing ran."""
    spawner, servers = spawner_pid(site), children(site)
    if spawner is None and not servers:
        return False
    say(f"Bringing down {site.site}: {len(servers)} processes …")
    pids = [*servers.values()]
    with contextlib.suppress(ProcessLookupError):
        for pid in [spawner] if spawner is not None else pids:
            os.kill(pid, signal.SIGTERM)
    if spawner is not None:
        pids.append(spawner)
    if not wait_for(lambda: not any(same_process(pid, None) for pid in pids), STOP_TIMEOUT_S):
        for pid in pids:
            if same_process(pid, None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        names = ", ".join(name for name, pid in servers.items() if same_process(pid, None)) or "the spawner"
        say(f"Ended by force after {STOP_TIMEOUT_S:.0f} s: {names}")
        wait_for(lambda: not any(same_process(pid, None) for pid in pids), STOP_TIMEOUT_S)
    return True


def free_port(wanted: int | None = None) -> int | None:
    """Return `wanted` when nobody uses that loopback port, else None; without `wanted` any free port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", wanted or 0))
        except OSError:
            return None
        return listener.getsockname()[1]


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
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "none"


def follow(log: Path) -> Iterator[str]:
    """Yield what is appended to a file, for ever, from its present end; a file that was replaced is opened anew."""
    file = log.open(errors="replace")
    file.seek(0, os.SEEK_END)
    while True:
        text = file.read()
        if text:
            yield text
            continue
        time.sleep(0.1)
        try:
            now = log.stat()
        except OSError:
            continue
        if now.st_ino != os.fstat(file.fileno()).st_ino or now.st_size < file.tell():
            file.close()
            file = log.open(errors="replace")
