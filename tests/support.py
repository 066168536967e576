"""What tests share: waiting for a condition, a real Tango database, real server processes.

Nothing here sleeps for a fixed time to be "sure": everything waits for a condition with a deadline.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float, what: str, *, every_s: float = 0.02) -> T:
    """Return the first truthy result of `condition`, or fail saying `what` did not happen in time.

    An exception raised by `condition` counts as "not yet"; the last one is named in the failure.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    last: BaseException | None = None
    while True:
        try:
            result = condition()
            last = None
            if result:
                return result
        except Exception as error:  # noqa: BLE001  a condition that cannot be asked yet is not yet true
            last = error
        if time.monotonic() >= deadline:
            reason = f" (last: {last!r})" if last else ""
            raise AssertionError(f"not within {timeout_s:g} s: {what}{reason}")
        pause.wait(every_s)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A child process in a session of its own whose output goes to a file; ended with its group at exit."""

    def __init__(self, arguments: Iterable[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
                cwd=REPOSITORY,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, which is also its group's."""
        return self.popen.pid

    @property
    def output(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(errors="replace")

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL) and reap it."""
        self.popen.kill()
        self.popen.wait(timeout=10)

    def stop(self, timeout_s: float = 10.0) -> int:
        """End it politely (SIGTERM), by force when that takes over `timeout_s`; return its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(timeout=10)
        return self.popen.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class TangoDatabase:
    """A real Tango database (sqlite) of its own in `directory`, on a free loopback port."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.process: Process | None = None

    @property
    def tango_host(self) -> str:
        """What TANGO_HOST has to be."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        database = self.directory / "database.sqlite"
        self.process = Process(
            [sys.executable, "-m", "databaseds.database", "--host", "127.0.0.1", "--port", str(self.port), "2"],
            self.directory / "database.log",
            {"PYTANGO_DATABASE_NAME": str(database), "TANGO_HOST": self.tango_host},
        )
        process = self.process

        def ready() -> bool:
            assert process.popen.poll() is None, f"the database ended:\n{process.output}"
            import tango

            tango.Database("127.0.0.1", self.port).get_info()
            return True

        wait_until(ready, 20, "the Tango database answers")
        return self

    def stop(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def register(
        self, server: str, devices: Mapping[str, str], properties: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        """Register `devices` (name to class) of `server` ("Class/instance") with their properties."""
        import tango

        database = tango.Database("127.0.0.1", self.port)
        for name, class_name in devices.items():
            info = tango.DbDevInfo()
            info.name, info._class, info.server = name, class_name, server
            database.add_device(info)
            values = (properties or {}).get(name, {})
            if values:
                database.put_device_property(name, {key: as_strings(value) for key, value in values.items()})

    def server(
        self, class_name: str, instance: str, environment: Mapping[str, str] | None = None, *, wait_for: str = ""
    ) -> Process:
        """Start `python -m device_servers class_name instance`; wait until device `wait_for` answers a ping."""
        process = Process(
            [sys.executable, "-m", "device_servers", class_name, instance],
            self.directory / f"{class_name}_{instance}.log",
            {"TANGO_HOST": self.tango_host, **(environment or {})},
        )
        if wait_for:
            self.wait_for_device(wait_for, process)
        return process

    def wait_for_device(self, name: str, process: Process | None = None, timeout_s: float = 20.0) -> None:
        """Wait until a device answers a ping; fail with the server's output when its process ended instead."""

        def ready() -> bool:
            if process is not None and process.popen.poll() is not None:
                return True
            self.device(name).ping()
            return True

        wait_until(ready, timeout_s, f"{name} answers")
        assert process is None or process.popen.poll() is None, f"the server ended:\n{process.output}"

    def device(self, name: str) -> Any:
        """Return a proxy of device `name` of this database."""
        import tango

        return tango.DeviceProxy(f"tango://{self.tango_host}/{name}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def as_strings(value: object) -> list[str]:
    """A property value as the database keeps it."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return [str(value)]
