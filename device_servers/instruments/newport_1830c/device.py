"""Tango device `Newport1830C`: an optical power meter."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tango import DevState
from tango.server import command

from bandoneon.errors import ProtocolError
from device_servers.core.device import Identity, InstrumentDevice, Value
from device_servers.core.transport import Probe, Transport
from device_servers.instruments.newport_1830c import protocol
from device_servers.instruments.newport_1830c.driver import Newport1830C as Driver
from device_servers.instruments.newport_1830c.protocol import QUANTITIES, Filter, Status, Switch

_STATUS = frozenset({"saturated", "over_range", "busy", "status_byte"})

_GETTERS: Mapping[str, Callable[[Driver], Value | None]] = {
    "wavelength": lambda driver: float(driver.wavelength_nm()),
    "range": Driver.range,
    "auto_range": lambda driver: driver.auto_range,
    "attenuator": lambda driver: driver.is_on(Switch.ATTENUATOR),
    "filter": Driver.filter,
    "zero_enabled": lambda driver: driver.is_on(Switch.ZERO),
    "hold": lambda driver: not driver.is_on(Switch.RUN),
    "beeper": lambda driver: driver.is_on(Switch.BEEPER),
    "lockout": lambda driver: driver.is_on(Switch.LOCKOUT),
}

_SETTERS: Mapping[str, Callable[[Driver, Any], None]] = {
    "wavelength": lambda driver, value: driver.set_wavelength_nm(float(value)),
    "range": lambda driver, value: driver.set_range(int(value)),
    "auto_range": lambda driver, value: driver.set_auto_range(bool(value)),
    "attenuator": lambda driver, value: driver.switch(Switch.ATTENUATOR, bool(value)),
    "filter": lambda driver, value: driver.set_filter(Filter(value)),
    "zero_enabled": lambda driver, value: driver.switch(Switch.ZERO, bool(value)),
    "hold": lambda driver, value: driver.switch(Switch.RUN, not value),
    "beeper": lambda driver, value: driver.switch(Switch.BEEPER, bool(value)),
    "lockout": lambda driver, value: driver.switch(Switch.LOCKOUT, bool(value)),
}


def _is_wavelength(reply: bytes) -> bool:
    """Whether a reply answers `W?`: no other reply of the meter is four digits from 0300 to 1100."""
    try:
        protocol.GetWavelength().decode(reply)
    except ProtocolError:
        return False
    return True


class Newport1830C(InstrumentDevice):
    """A Newport 1830-C optical power meter."""

    quantities = QUANTITIES
    volatile = frozenset({"range"})
    probe = Probe(protocol.GetWavelength().encode(), protocol.REPLY, _is_wavelength)

    def connect(self, transport: Transport) -> Driver:
        """Return the meter's verbs."""
        return Driver(transport, timeout_s=self.timeout_s)

    def greet(self, driver: Driver) -> Identity:
        """Switch its echo off; it has no identification query. The first reading puts it into watts."""
        driver.greet()
        return Identity("Newport 1830-C")

    def poll(self, driver: Driver, due: frozenset[str]) -> Mapping[str, Value]:
        """Read what is due; what cannot be read now is left out."""
        row: dict[str, Value] = {}
        if due & {"power", "power_dbm"}:
            power_w = driver.power_w()
            if power_w is not None:
                row["power"] = power_w
                if power_w > 0:
                    row["power_dbm"] = 10 * math.log10(power_w / 1e-3)
        if due & _STATUS:
            status = driver.status()
            row["saturated"] = Status.SATURATED in status
            row["over_range"] = Status.OVER_RANGE in status
            row["busy"] = Status.BUSY in status
            row["status_byte"] = int(status)
        for name in due & _GETTERS.keys():
            value = _GETTERS[name](driver)
            if value is not None:
                row[name] = value
        return row

    def write(self, driver: Driver, name: str, value: Any) -> None:
        """Change a setting."""
        _SETTERS[name](driver, value)

    def judge(self, row: Mapping[str, Value]) -> tuple[DevState, str]:
        """ALARM while a reading would be too low, RUNNING while the meter is busy, STANDBY while it holds."""
        if row.get("saturated"):
            return DevState.ALARM, "The light saturates the detector: use the attenuator or less light."
        if row.get("over_range"):
            return DevState.ALARM, "The signal exceeds the range: choose a higher one, or automatic range."
        if row.get("busy"):
            return DevState.RUNNING, "Changing range or calibrating."
        if row.get("hold"):
            return DevState.STANDBY, "Holding its last reading: write hold to go on."
        return DevState.ON, "Measuring."

    def make_safe(self, driver: Driver) -> None:
        """Do nothing: a meter that only looks harms nobody."""

    @command
    def Zero(self) -> None:
        """Store the latest reading and subtract it from now on; zero_enabled = False ends it."""
        self.do(lambda driver: driver.switch(Switch.ZERO, True))

    @command
    def StoreReference(self) -> None:
        """Make the latest reading the reference of the dB and REL display on the meter's front panel."""
        self.do(Driver.store_reference)

    @command
    def AutoCalibrate(self) -> None:
        """Start the meter's calibration of itself; State is RUNNING meanwhile."""
        self.do(lambda driver: self.start(DevState.RUNNING, "Calibrating.", driver.auto_calibrate))

    @command
    def ClearStatus(self) -> None:
        """Clear the status byte."""
        self.do(Driver.clear_status)
