"""A bench instrument for tests of the device base: `python -m tests.support_device INSTANCE` is its server.

Its line is a real pseudo-terminal or TCP port behind a `WireServer`, its instrument a few lines: it holds a value, a
set-point and a waveform, and moves for as long as it is told.
"""

import os
import sys
import time
from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import tango
from tango import AttrQuality, DevState
from tango.server import Device, attribute, command, device_property

from bandoneon.errors import OutOfRange, ProtocolError
from bandoneon.quantity import Quantity
from bandoneon.tangolink.server import serve
from device_servers.core import batch, lifecycle
from device_servers.core.asking import Asking
from device_servers.core.device import Identity, InstrumentDevice, Value
from device_servers.core.framing import line
from device_servers.core.stream import Stream
from device_servers.core.transport import Priority, Probe, Transport

LINE = line()
WAVEFORM = 100_000


class BenchWire:
    """The instrument: `V?` value, `S?`/`S<n>` set-point, `M<s>` move for so long, `B?` busy, `I?` identity."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.setting = 5
        self.serial = "A1"
        self.moves = 0
        self.stops = 0
        self.value = 0.0
        self.received = b""
        self.moving_s = 0.0

    def __call__(self, data: bytes) -> bytes:
        self.received += data
        answer = b""
        while (end := self.received.find(b"\n")) >= 0:
            request, self.received = self.received[:end].decode("latin-1"), self.received[end + 1 :]
            answer += self._execute(request)
        return answer

    def advance(self, dt_s: float) -> bytes:
        self.moving_s = max(0.0, self.moving_s - dt_s)
        self.value += dt_s
        return b""

    def _execute(self, request: str) -> bytes:
        if request == "V?":
            return b"V%.3f\n" % self.value
        if request == "S?":
            return b"S%d\n" % self.setting
        if request == "B?":
            return b"B%d\n" % (self.moving_s > 0)
        if request == "I?":
            return f"I{self.serial}\n".encode()
        if request == "H":
            self.moving_s, self.stops = 0.0, self.stops + 1
        elif request.startswith("S"):
            self.setting = int(request[1:])
        elif request.startswith("M"):
            self.moving_s, self.moves = float(request[1:]), self.moves + 1
        return b""


class BenchDriver(Asking):
    """Its verbs."""

    def ask(self, letter: str) -> str:
        """Ask for what `letter` stands for."""
        reply = self._transport.exchange(f"{letter}?\n".encode(), reply=LINE, timeout_s=self._timeout_s)
        if not reply.startswith(letter.encode()):
            error = ProtocolError(f"{letter}?".encode(), reply)
            self._transport.protocol_error(error)
            raise error
        return reply.decode()[1:].strip()

    def tell(self, text: str) -> None:
        """Send what has no answer."""
        self._transport.send(f"{text}\n".encode())


class Parity(IntEnum):
    """Of a whole number."""

    EVEN = 0
    ODD = 1


class Bench(InstrumentDevice):
    """The Tango device of it."""

    quantities = (
        Quantity("value", "f8", unit="V", label="Value", doc="Grows by one a second.", deadband=0.5),
        Quantity("setting", "i4", label="Setting", doc="A setting.", access="rw", low=0, high=100),
        Quantity("parity", Parity, label="Parity", doc="Of the setting."),
        Quantity("level", "f8", stream=True, unit="V", label="Level", doc="The value, streamed with each poll."),
        Quantity("wave", "f8", shape=(WAVEFORM,), stream=True, unit="V", label="Wave", doc="A long waveform."),
    )
    probe = Probe(b"I?\n", LINE, lambda reply: reply.startswith(b"I"), timeout_s=0.3)

    spoilt = False

    safe_file = device_property(dtype=str, default_value="", doc="Gets a line when the device is made safe.")

    def connect(self, transport: Transport) -> BenchDriver:
        """Its verbs."""
        return BenchDriver(transport, LINE, timeout_s=self.timeout_s)

    def greet(self, driver: BenchDriver) -> Identity:
        """Its serial number."""
        serial = driver.ask("I")
        return Identity(f"Bench {serial}", serial)

    def poll(self, driver: BenchDriver, due: frozenset[str]) -> Mapping[str, Value]:
        """Read everything."""
        row: dict[str, Value] = {"value": float(driver.ask("V")), "setting": int(driver.ask("S"))}
        row["parity"] = Parity(int(row["setting"]) % 2)
        row["level"], self.spoilt = "nonsense" if self.spoilt else row["value"], False
        self.moving = driver.ask("B") == "1"
        if "wave" in due:
            row["wave"] = np.arange(WAVEFORM, dtype="f8")
        return row

    def write(self, driver: BenchDriver, name: str, value: Value) -> None:
        """Change the setting; 13 is refused."""
        if value == 13:
            raise OutOfRange("the instrument does not accept 13")
        driver.tell(f"S{value}")

    def judge(self, row: Mapping[str, Value]) -> tuple[DevState, str]:
        """MOVING while it says so."""
        return (DevState.MOVING, "Moving.") if self.moving else (DevState.ON, "Ready.")

    def make_safe(self, driver: BenchDriver) -> None:
        """Stop, and leave a trace."""
        driver.tell("H")
        if self.safe_file:
            with open(self.safe_file, "a", encoding="ascii") as file:
                file.write(f"{time.monotonic()}\n")

    @command(dtype_in=float)
    def Move(self, duration_s: float) -> None:
        """Move for a while."""

        def verb(driver: BenchDriver) -> None:
            self.refuse_repetition(f"Move {duration_s}")
            self.start(DevState.MOVING, "Moving.", lambda: driver.tell(f"M{duration_s}"))

        self.do(verb)

    @command
    def Stop(self) -> None:
        """Stop."""
        self.do(lambda driver: driver.tell("H"), priority=Priority.STOP)

    @command
    def Spoil(self) -> None:
        """Make the next row of the stream one that cannot be sent."""
        self.spoilt = True

    @command(dtype_in=float)
    def Occupy(self, duration_s: float) -> None:
        """Keep the line for a while."""
        self.do(lambda _driver: time.sleep(duration_s))

    @command(dtype_in=float)
    def Hang(self, duration_s: float) -> None:
        """Hold the device's monitor, as a badly written command does."""
        time.sleep(duration_s)


class Plain(Device):
    """What this project does not do: pushes a long array as a plain event."""

    @attribute(dtype=(float,), max_dim_x=WAVEFORM)
    def wave(self) -> np.ndarray:
        """The array."""
        return np.zeros(WAVEFORM)

    def init_device(self) -> None:
        """Push by hand."""
        super().init_device()
        self.set_archive_event("wave", True, False)
        self.set_state(DevState.ON)

    @command(dtype_in=int)
    def Push(self, count: int) -> None:
        """Push the array so many times."""
        for _ in range(count):
            self.push_archive_event("wave", np.zeros(WAVEFORM), time.time(), AttrQuality.ATTR_VALID)


if __name__ == "__main__":
    batch.FLUSH_AFTER_S = float(os.environ.get("BENCH_FLUSH_AFTER_S", batch.FLUSH_AFTER_S))  # type: ignore[misc]
    try:
        serve((Bench, Stream, Plain), "Bench", sys.argv[1], streams=True)
    except tango.DevFailed as error:
        sys.exit(str(error))
    finally:
        lifecycle.make_all_safe()
