"""What a Newport 1830-C can do, as verbs over a `Transport`.

The meter answers no set command, and a refused one is silence; so every set goes out together with a question
for the status byte. A query whose answer is garbled is asked again, a set never is.
"""

from typing import Protocol

from bandoneon.errors import InstrumentFault, OutOfRange
from device_servers.core.asking import Asking, ask
from device_servers.core.transport import Transport
from device_servers.instruments.newport_1830c import protocol
from device_servers.instruments.newport_1830c.protocol import QUANTITIES, Filter, Status, Switch, Units

_LIMITS = {quantity.name: quantity for quantity in QUANTITIES}


class _Command(Protocol):
    def encode(self) -> bytes: ...


class Newport1830C(Asking):
    """The verbs of one meter. Numbers are in the quantities' units; errors are those of `bandoneon.errors`."""

    def __init__(self, transport: Transport, *, timeout_s: float = 1.0) -> None:
        super().__init__(transport, protocol.REPLY, timeout_s=timeout_s)
        self.auto_range: bool | None = None
        """What was last set through this driver; None until then, as the meter cannot be asked."""

    def greet(self) -> None:
        """Switch the meter's echo off, which somebody may have left on: every answer would be behind its question.

        With echo on this very command still comes back; the question behind it does not.
        """
        echo = protocol.GetSwitch(Switch.ECHO)
        request = protocol.SetSwitch(Switch.ECHO, on=False).encode() + echo.encode()
        self._transport.exchange(
            request, reply=protocol.REPLY, timeout_s=self._timeout_s, accept=lambda reply: reply.strip() == b"0"
        )

    def power_w(self) -> float | None:
        """Return the latest reading; None when it was not in watts, which is then put right."""
        reading = self._ask(protocol.ReadPower())
        if self._ask(protocol.GetUnits()) is Units.WATT:
            return reading
        self._set(protocol.SetUnits(Units.WATT))
        return None

    def status(self) -> Status:
        """Return the status byte."""
        return self._ask(protocol.GetStatus())

    def wavelength_nm(self) -> int:
        """Return the wavelength the calibration is taken for."""
        return self._ask(protocol.GetWavelength())

    def set_wavelength_nm(self, wavelength_nm: float) -> None:
        """Set the wavelength; the meter takes whole nanometres only."""
        _LIMITS["wavelength"].check(wavelength_nm)
        if wavelength_nm != int(wavelength_nm):
            raise OutOfRange(f"wavelength {wavelength_nm:g} nm: the meter takes whole nanometres only")
        self._set(protocol.SetWavelength(int(wavelength_nm)))

    def range(self) -> int:
        """Return the range in use, 1 to 8."""
        return self._ask(protocol.GetRange())

    def set_range(self, number: int) -> None:
        """Set a fixed range (1 to 8), or let the meter choose (0)."""
        _LIMITS["range"].check(number)
        self._set(protocol.SetRange(number))
        self.auto_range = number == protocol.RANGE_AUTO

    def set_auto_range(self, on: bool) -> None:
        """Let the meter choose its range, or keep the one in use."""
        self.set_range(protocol.RANGE_AUTO if on else self.range())

    def filter(self) -> Filter:
        """Return the averaging."""
        return self._ask(protocol.GetFilter())

    def set_filter(self, averaging: Filter) -> None:
        """Set the averaging."""
        self._set(protocol.SetFilter(averaging))

    def is_on(self, switch: Switch) -> bool:
        """Return whether a setting is on."""
        return self._ask(protocol.GetSwitch(switch))

    def switch(self, switch: Switch, on: bool) -> None:
        """Switch a setting on or off. `Switch.ZERO` on stores the latest reading and subtracts it."""
        self._set(protocol.SetSwitch(switch, on))

    def store_reference(self) -> None:
        """Make the latest reading the reference of the meter's own dB and relative display."""
        self._set(protocol.StoreReference())

    def auto_calibrate(self) -> None:
        """Start the meter's calibration of itself; it is busy meanwhile."""
        self._set(protocol.AutoCalibrate())

    def clear_status(self) -> None:
        """Clear the status byte."""
        self._transport.send(protocol.ClearStatus().encode())

    def _set(self, command: _Command) -> None:
        """Clear the status, set, ask for the status in one write, so that a refusal is this command's own."""
        status_query = protocol.GetStatus()
        request = protocol.ClearStatus().encode() + command.encode() + status_query.encode()
        status = ask(self._transport, lambda: self._send_all(request), status_query.decode)
        sent = command.encode().decode("ascii").strip()
        if Status.PARAMETER_ERROR in status:
            raise OutOfRange(f"the meter does not accept the value in {sent}")
        if Status.COMMAND_ERROR in status:
            raise InstrumentFault(Status.COMMAND_ERROR, f"the meter does not know the command {sent}")

    def _send_all(self, request: bytes) -> bytes:
        return self._transport.exchange(request, reply=protocol.REPLY, timeout_s=self._timeout_s)
