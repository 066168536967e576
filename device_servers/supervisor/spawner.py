"""The spawner: a small single-threaded process that forks servers on request and keeps how they ended.

It is the main process of a host (PID 1 in a container). It has loaded what every server needs (Tango's library, numpy),
so that a server is ready a fraction of a second after its fork; our own packages are imported after the fork, so an
upgrade takes effect with the next start. Requests and events: see the reference, "Spawner socket".

It restarts children of level 0 (database, supervisor) itself; the supervisor decides about the others. When it dies its
children live on, and the next spawner of the same run directory adopts them.
"""

import argparse
import contextlib
import fcntl
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import setproctitle

MODULES_LOADED_BEFORE: Final = (
    "numpy",
    "psutil",
    "pydantic",
    "serial",
    "structlog",
    "tango",
    "tango.server",
)
"""What stays single-threaded when it is imported; pyarrow, for one, does not."""

STOP_S: Final = 4.5
SHARES_S: Final = {0: 0.4, 1: 0.4, 3: 1.0}
"""What the servers of a level get of `STOP_S`; instruments, level 2, get what is left."""

SUPERVISOR_SHARE_S: Final = 0.3
SAFE_LEVEL: Final = 2
"""Servers from this level up get SIGTERM at once when the host ends: instruments have to be safe within 2 s."""

RESTART_FIRST_S: Final = 0.05
RESTART_MAX_S: Final = 5.0
MOST_DOUBLINGS: Final = 16
STABLE_S: Final = 10.0
PAGE: Final = 100
"""So many children, and so many exits, come with one answer to `list`: they fit into a socket's buffer."""

KILLED_WITHIN_S: Final = 1.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
LARGEST_MESSAGE: Final = 1 << 18
LARGEST_DESCRIPTOR: Final = 1 << 20


@dataclass
class Child:
    """A process that was forked here, or adopted (then it has a `pidfd`, and how it ends stays unknown)."""

    name: str
    pid: int
    started: int
    started_ns: int
    request: dict[str, Any]
    pidfd: int = -1
    failures: int = 0

    @property
    def level(self) -> int:
        """When it is stopped: high levels first."""
        return int(self.request["level"])

    def send(self, number: int) -> None:
        """Send it a signal, and nobody else, should its number have another owner by now."""
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            else:  # our own child keeps its number until it is reaped
                os.kill(self.pid, number)


@dataclass
class Spawner:
    """The loop, and what it knows."""

    run: Path
    children: dict[str, Child] = field(default_factory=dict)
    exits: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: list[socket.socket] = field(default_factory=list)
    restarts: dict[str, tuple[float, Child]] = field(default_factory=dict)
    stopping: bool = False
    run_id: str = ""
    """Names this run of the host, from its start until nothing of it lives: an adopting spawner takes it over."""

    def __post_init__(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = self.run / "spawner.sock"
        self._be_the_only_one()
        self._wake, wake_in = os.pipe()
        for end in (self._wake, wake_in):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self.boot = BOOT_ID.read_text().strip()
        # who connects finds what was adopted
        self._adopt()
        self._restart_due()
        self._write_state()
        self._listener = self._listen()

    def _be_the_only_one(self) -> None:
        # the lock ends with this process, however it ends; children close theirs
        self._lock = os.open(self.run / "spawner.lock", os.O_WRONLY | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"a spawner of {self.run} runs already")

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        listener.listen()
        return listener

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, then end all children."""
        while not self.stopping:
            pidfds = {child.pidfd: child for child in self.children.values() if child.pidfd >= 0}
            clients = {client.fileno(): client for client in self.clients}
            for end in readable([self._wake, self._listener.fileno(), *clients, *pidfds], self._wait_s()):
                if end == self._listener.fileno():
                    self.clients.append(self._listener.accept()[0])
                elif end == self._wake:
                    self._take_signals()
                elif end in pidfds:
                    self._ended(pidfds[end], None, None)
                elif clients[end] in self.clients:
                    self._take_request(clients[end])
            self._reap()
            self._restart_due()
        self._stop_all()
        self._path.unlink(missing_ok=True)

    def _wait_s(self) -> float | None:
        if not self.restarts:
            return None
        return max(0.0, min(at_s for at_s, _ in self.restarts.values()) - time.monotonic())

    def _take_signals(self) -> None:
        numbers = os.read(self._wake, 4096)
        self.stopping |= signal.SIGTERM in numbers or signal.SIGINT in numbers

    def _take_request(self, client: socket.socket) -> None:
        try:
            data = client.recv(LARGEST_MESSAGE)
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        request: dict[str, Any] = {}
        try:
            request = json.loads(data)
            answer = self._answer(request, client)
        except (ValueError, KeyError, TypeError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        self._send(client, {"re": request.get("id"), **answer})

    def _answer(self, request: dict[str, Any], client: socket.socket) -> dict[str, Any]:
        match request["op"]:
            case "fork":
                return self._fork_request(request)
            case "signal":
                child = self.children.get(request["name"])
                if child is not None:
                    child.send(request["signal"])
                return {}
            case "list":
                page = slice(request["start"], request["start"] + PAGE)
                for event in list(self.exits.values())[page]:
                    self._send(client, event)
                listed = sorted(self.children.values(), key=lambda child: child.name)
                children = [
                    {"name": child.name, "pid": child.pid, "level": child.level, "started_ns": child.started_ns}
                    for child in listed[page]
                ]
                return {"children": children, "total": len(listed), "exits": len(self.exits), "run": self.run_id}
            case "ack":
                kept = self.exits.get(request["name"])
                # without a pid, as before there was one: whichever exit it is
                if kept is not None and request.get("pid", kept["pid"]) == kept["pid"]:
                    del self.exits[request["name"]]
                return {}
            case other:
                return {"error": f"there is no request {other!r}: fork, signal, list, ack"}

    def _send(self, client: socket.socket, message: dict[str, Any]) -> None:
        try:
            client.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        except OSError:
            # it does not read: it has lost this, and finds it in the list when it comes again
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        if client in self.clients:
            self.clients.remove(client)
            client.close()

    def _fork_request(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        if name in self.children:
            return {"error": f"{name} runs already, with pid {self.children[name].pid}"}
        self.restarts.pop(name, None)
        kept = {key: request[key] for key in ("name", "module", "argv", "env", "log", "level")}
        child = self.spawn(kept)
        return {"pid": child.pid}

    def spawn(self, request: dict[str, Any]) -> Child:
        """Fork a child that becomes the requested program as soon as its pid is on disk.

        If this process is killed in between, the child ends too: none runs that the next spawner does not know.
        """
        everything = signal.valid_signals()
        go, let_go = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        try:
            pid = os.fork()
            if pid == 0:
                os.close(let_go)
                become(request, go)
            child = Child(request["name"], pid, start_ticks(pid) or 0, time.time_ns(), request)
            self.children[child.name] = child
            self._write_state()
            os.write(let_go, b"!")
        finally:
            os.close(go)
            os.close(let_go)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, everything)
        return child

    def _reap(self) -> None:
        """Collect every child that ended, and in a container also other processes' orphans."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self.children.values():
                if child.pid == pid:
                    self._ended(child, status, usage)
                    break

    def _ended(self, child: Child, status: int | None, usage: resource.struct_rusage | None) -> None:
        del self.children[child.name]
        if child.pidfd >= 0:
            os.close(child.pidfd)
        self._write_state()
        event = {
            "event": "exit",
            "name": child.name,
            "pid": child.pid,
            "code": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            "core": status is not None and os.WCOREDUMP(status),
            "unknown": status is None,
            "utime_s": usage.ru_utime if usage else None,
            "maxrss_kb": usage.ru_maxrss if usage else None,
            "at_ns": time.time_ns(),
        }
        if child.level == 0:
            self._restart_later(child)
        else:
            self.exits[child.name] = event
        if not self.stopping:  # at the end of the host the supervisor has nothing to start again
            for client in list(self.clients):
                self._send(client, event)

    def _restart_later(self, child: Child) -> None:
        """Restart a child of level 0 soon, later and later while it fails at once."""
        if self.stopping:
            return
        ran_s = time.clock_gettime(time.CLOCK_BOOTTIME) - child.started / TICKS_PER_S
        child.failures = failures_in_a_row(child.failures, ran_s)
        wait_s = restart_wait_s(child.failures)
        self.restarts[child.name] = (time.monotonic() + wait_s, child)
        say(f"{child.name} ended; it starts again in {wait_s:.2f} s")

    def _restart_due(self) -> None:
        now_s = time.monotonic()
        for name in [name for name, (at_s, _) in self.restarts.items() if at_s <= now_s]:
            _, before = self.restarts.pop(name)
            try:
                self.spawn(before.request).failures = before.failures
            except OSError as error:
                say(f"{name} not started: {error.strerror}; it is tried again")
                self.restarts[name] = (now_s + RESTART_MAX_S, before)

    def _write_state(self) -> None:
        """Keep on disk who the children are, for the next spawner and for those who look in from outside.

        A full disk does not end the host: what is there stays, and the next change is written again.
        """
        children = {
            child.name: {
                "pid": child.pid,
                "started": child.started,
                "started_ns": child.started_ns,
                "request": child.request,
            }
            for child in self.children.values()
        }
        new = self.run / "state.json.new"
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR)
            with os.fdopen(descriptor, "w") as file:
                state = {"spawner": os.getpid(), "run": self.run_id, "boot": self.boot, "children": children}
                json.dump(state, file)
            new.replace(self.run / "state.json")
        except OSError as error:
            say(f"state.json not written: {error.strerror}")

    def _adopt(self) -> None:
        """Take over the children of an earlier spawner that still live: same boot, same pid, same start.

        Where some do, the host goes on, and those of level 0 that do not are started again.
        """
        self.run_id = uuid4().hex
        try:
            state = json.loads((self.run / "state.json").read_text())
            # there was no boot id in the first version
            kept = state["children"] if state.get("boot", self.boot) == self.boot else {}
        except (OSError, ValueError, KeyError):
            return
        lost: list[Child] = []
        for name, one in kept.items():
            child = Child(name, one["pid"], one["started"], one["started_ns"], one["request"])
            with contextlib.suppress(OSError):
                child.pidfd = os.pidfd_open(child.pid)
            if child.pidfd >= 0 and start_ticks(child.pid) == child.started:
                self.children[name] = child
                continue
            if child.pidfd >= 0:
                os.close(child.pidfd)
            lost.append(child)
        if self.children:
            self.run_id = state.get("run", self.run_id)
            self.restarts = {child.name: (time.monotonic(), child) for child in lost if child.level == 0}
        say(f"adopted {len(self.children)} of {len(kept)} children")

    def _stop_all(self) -> None:
        """End supervisor, instruments and archivers at once, what these need after them; SIGKILL to who is late.

        Levels are waited for downwards, each for its share of the time.
        """
        self.restarts.clear()
        end_s = time.monotonic() + STOP_S
        supervisors = [child for child in self.children.values() if child.name.startswith("Supervisor/")]
        at_once = [*supervisors, *(child for child in self.children.values() if child.level >= SAFE_LEVEL)]
        terminate(at_once)
        self._wait_for(supervisors, SUPERVISOR_SHARE_S)
        levels = sorted({child.level for child in self.children.values()}, reverse=True)
        for level in levels:
            later_s = sum(SHARES_S.get(lower, 0.4) for lower in levels if lower < level)
            share_s = SHARES_S.get(level, end_s - later_s - time.monotonic())
            group = [child for child in self.children.values() if child.level == level]
            if level < SAFE_LEVEL:
                terminate(group)
            self._wait_for(group, share_s)

    def _wait_for(self, group: list[Child], share_s: float) -> None:
        """Wait until children have ended, and kill those that have not after `share_s`."""
        self._reap_until(group, time.monotonic() + share_s)
        for child in self._living(group):
            child.send(signal.SIGKILL)
        self._reap_until(group, time.monotonic() + KILLED_WITHIN_S)

    def _reap_until(self, group: list[Child], deadline_s: float) -> None:
        while self._living(group) and time.monotonic() < deadline_s:
            pidfds = {child.pidfd: child for child in self.children.values() if child.pidfd >= 0}
            for end in readable([self._wake, *pidfds], max(0.0, deadline_s - time.monotonic())):
                if end == self._wake:
                    os.read(self._wake, 4096)
                else:
                    self._ended(pidfds[end], None, None)
            self._reap()

    def _living(self, group: list[Child]) -> list[Child]:
        return [child for child in group if self.children.get(child.name) is child]


def terminate(group: Iterable[Child]) -> None:
    """Ask children to end; one that was stopped (SIGSTOP) hears it too."""
    for child in group:
        child.send(signal.SIGTERM)
        child.send(signal.SIGCONT)


def readable(descriptors: Iterable[int], timeout_s: float | None) -> list[int]:
    """Return which descriptors can be read, once some can or the time is over; None: however long that takes."""
    poll = select.poll()  # select.select takes no descriptor above 1023
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]


def failures_in_a_row(before: int, ran_s: float) -> int:
    """Return how often in a row a child of level 0 failed that did `before` times, and now ended after `ran_s`."""
    return 0 if ran_s > STABLE_S else before + 1


def restart_wait_s(failures: int) -> float:
    """Return how long a child of level 0 waits for its restart that failed so often in a row."""
    return min(RESTART_FIRST_S * 2 ** min(failures, MOST_DOUBLINGS), RESTART_MAX_S)


def say(text: str) -> None:
    """Write a line to the log; a full disk costs the line and nothing else."""
    with contextlib.suppress(OSError):
        print(text, flush=True)  # noqa: T201


def become(request: dict[str, Any], go: int) -> None:
    """In the child: be the requested program once `go` says so; never returns."""
    code = 1
    try:
        if not os.read(go, 1):
            raise SystemExit("the spawner ended before it had this process on record")
        os.setsid()
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        Path(request["log"]).parent.mkdir(parents=True, exist_ok=True)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, LARGEST_DESCRIPTOR)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        os.environ.update(request["env"])
        for path in reversed(request["env"].get("PYTHONPATH", "").split(os.pathsep)):
            if path and path not in sys.path:
                sys.path.insert(0, path)
        sys.argv = [request["module"], *request["argv"]]
        setproctitle.setproctitle(" ".join(["python -m", *sys.argv]))
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
    except BaseException:  # noqa: BLE001  whatever it was has to be in the log, and must not run the parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def start_ticks(pid: int) -> int | None:
    """Return a process's start in clock ticks after boot (proc(5), /proc/pid/stat field 22); None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def own_supervisor(run: Path, host: str) -> dict[str, Any]:
    """Return the request that starts a host's supervisor, which then starts the rest."""
    environment = {"BANDONEON_RUN_DIR": str(run), "BANDONEON_HOST": host}
    log = str(run / "logs" / f"Supervisor_{host}.log")
    return {
        "name": f"Supervisor/{host}",
        "module": "device_servers",
        "argv": ["Supervisor", host],
        "env": environment,
        "log": log,
        "level": 0,
    }


def main() -> None:
    """Run a spawner for a run directory; with `--host` it starts that host's supervisor itself."""
    parser = argparse.ArgumentParser(prog="spawner", description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run directory, which gets the socket")
    parser.add_argument("--host", help="start the supervisor of this host too")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for module in MODULES_LOADED_BEFORE:
        __import__(module)
    setproctitle.setproctitle(f"bandoneon spawner {arguments.run}")
    gc.collect()
    gc.freeze()
    spawner = Spawner(arguments.run.absolute())
    if arguments.host and f"Supervisor/{arguments.host}" not in spawner.children:
        spawner.spawn(own_supervisor(spawner.run, arguments.host))
    spawner.serve()


if __name__ == "__main__":
    main()
