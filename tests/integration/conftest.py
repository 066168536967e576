"""A bench instrument behind a real line, and its device server, for tests of the device base."""

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tango

from bandoneon.tangolink.subscription import PullQueue
from device_servers.core.wire_server import WireServer
from tests.support import Process, TangoDatabase, wait_until
from tests.support_device import BenchWire


@dataclass
class BenchServer:
    """The server, its device, and the instrument at the other end of the line."""

    process: Process
    device: Any
    wire: BenchWire
    line: WireServer
    database: TangoDatabase
    environment: dict[str, str]
    safe_file: Path

    def state(self) -> str:
        """The device's state."""
        return str(self.device.state())

    def wait_for(self, state: str, timeout_s: float = 10.0) -> None:
        """Wait until the device is in a state."""
        wait_until(lambda: self.state() == state, timeout_s, f"the device is {state}")


def start_bench(database: TangoDatabase, environment: dict[str, str]) -> Process:
    """Start the server of the bench device and wait until it answers."""
    process = Process(
        [sys.executable, "-m", "tests.support_device", "t"],
        database.directory / "bench.log",
        {"TANGO_HOST": database.tango_host, **environment},
    )
    database.wait_for_device("test/bench/1", process)
    return process


@pytest.fixture
def bench(database: TangoDatabase, tmp_path: Path) -> Iterator[BenchServer]:
    """A bench device that is connected."""
    wire = BenchWire()
    line = WireServer(wire, pty=tmp_path / "bench", baud=115200)
    line.start()
    safe_file = tmp_path / "safe"
    properties = {
        "connection": line.address,
        "poll_period_s": 0.05,
        "quantity_periods_s": ["wave=0.5"],
        "timeout_s": 0.3,
        "safe_file": safe_file,
    }
    devices = {"test/bench/1": "Bench", "test/plain/1": "Plain", "stream/bench/t": "Stream"}
    database.register("Bench/t", devices, {"test/bench/1": properties})
    process = start_bench(database, {})
    server = BenchServer(process, database.device("test/bench/1"), wire, line, database, {}, safe_file)
    server.wait_for("ON")
    yield server
    server.process.stop()
    line.stop()


@contextmanager
def events(device: tango.DeviceProxy, attribute: str, kind: tango.EventType) -> Iterator[PullQueue]:
    """A subscription that is ended."""
    queue = PullQueue(device, attribute, kind)
    try:
        yield queue
    finally:
        queue.close()


def call(device: tango.DeviceProxy, command: str, duration_s: float) -> None:
    """Call a command that takes long; the call may fail, as the process may leave meanwhile."""
    with tango.EnsureOmniThread(), contextlib.suppress(tango.DevFailed):
        device.command_inout(command, duration_s)


def is_doing(device: tango.DeviceProxy, command: str) -> bool:
    """Whether a command is carried out: the device's black box tells what was called last."""
    return any(command in line for line in device.black_box(5))
