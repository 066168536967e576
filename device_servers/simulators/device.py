"""Tango device `Simulator`: hosts one wire-level simulator on a real pseudo-terminal or TCP port.

Instruments reach it through their `connection` property like real hardware. All Simulator devices of a process
share one optical bench. Its `fault` attribute breaks the line or the instrument on purpose.
"""

import os
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from tango import AttrWriteType, DevState
from tango.server import Device, attribute, device_property

from device_servers.core.wire_server import FAULTS, WireServer
from device_servers.optical_bench import OpticalBench
from device_servers.simulators.models import MODELS, build

Fault: Any = IntEnum("Fault", ["NONE", *(name.upper() for name in FAULTS)], start=0)


@cache
def shared_bench() -> OpticalBench:
    """Return the one optical bench of this process."""
    return OpticalBench()


class Simulator(Device):
    """One simulated instrument, or one line of them, byte for byte."""

    model: Any = device_property(dtype=str, mandatory=True, doc="What to simulate: the name of an instrument package.")
    setup: Any = device_property(dtype=str, default_value="", doc="Which of the model's set-ups; empty: its default.")
    seed: Any = device_property(dtype=int, default_value=0, doc="Decides the noise: the same seed, the same noise.")
    pty: Any = device_property(
        dtype=str,
        default_value="",
        doc="Path that becomes a link to the pseudo-terminal; empty with no `tcp`: $BANDONEON_RUN_DIR/pty/<device>.",
    )
    tcp: Any = device_property(dtype=str, default_value="", doc="HOST:PORT to listen on instead of a pseudo-terminal.")

    def init_device(self) -> None:
        """Read the properties and serve the simulator."""
        super().init_device()
        self._server: WireServer | None = None
        wire = build(self.model, shared_bench(), setup=self.setup, seed=self.seed)
        host, _, port = self.tcp.rpartition(":")
        self._server = WireServer(
            wire,
            pty=None if self.tcp else self._link(),
            tcp=(host, int(port)) if self.tcp else None,
            baud=MODELS[self.model].baud,
        )
        self._server.start()
        self.set_state(DevState.ON)
        self.set_status(f"Simulating {self.model} at {self._server.address}.")

    def delete_device(self) -> None:
        """Stop serving; the link disappears."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @attribute(dtype=str, doc="The `connection` an instrument needs to reach this simulator.")
    def address(self) -> str:
        """URL of the simulated line."""
        return self._running.address

    fault: Any = attribute(
        dtype=Fault,
        access=AttrWriteType.READ_WRITE,
        fget="read_fault",
        fset="write_fault",
        doc="What is broken on purpose: the line (SILENT, GARBAGE, TRUNCATED, LATE, SLOW, UNPLUGGED) or the "
        "instrument (BUSY, INSTRUMENT_ERROR). NONE heals.",
    )

    def read_fault(self) -> int:
        """Return what is broken on purpose."""
        return Fault[(self._running.fault or "none").upper()]

    def write_fault(self, fault: int) -> None:
        """Break something, or heal it."""
        name = Fault(fault).name.lower()
        self._running.fault = None if name == "none" else name
        self.set_state(DevState.ON if name == "none" else DevState.ALARM)
        broken = "" if name == "none" else f"Fault {name.upper()} was asked for. "
        self.set_status(f"{broken}Simulating {self.model} at {self._running.address}.")

    @property
    def _running(self) -> WireServer:
        assert self._server is not None
        return self._server

    def _link(self) -> Path:
        if self.pty:
            return Path(self.pty)
        return Path(os.environ["BANDONEON_RUN_DIR"]) / "pty" / self.get_name().replace("/", "_")
