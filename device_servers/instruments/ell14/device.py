"""Tango devices of an Elliptec line: `ElliptecBus` for the line itself, `ELL14` for each mount on it."""

from collections.abc import Callable, Mapping
from typing import Any

from tango import DevState, DispLevel
from tango.server import command, device_property

from bandoneon.errors import OutOfRange
from device_servers.core.device import Identity, InstrumentDevice, Value
from device_servers.core.transport import Line, Priority, Probe, Transport
from device_servers.instruments.ell14 import protocol
from device_servers.instruments.ell14.driver import SEARCH_TIMEOUT_S, Bus, Rotator, check_address
from device_servers.instruments.ell14.protocol import ADDRESSES, BUS_QUANTITIES, QUANTITIES, Status

_GETTERS: Mapping[str, Callable[[Rotator], Value]] = {
    "velocity_pct": Rotator.velocity_pct,
    "jog_step": Rotator.jog_step_deg,
    "home_offset": Rotator.home_offset_deg,
    "pulses_per_rev": lambda rotator: rotator.info.pulses_per_rev,
    "serial_number": lambda rotator: rotator.info.serial_number,
}

_SETTERS: Mapping[str, Callable[[Rotator, Any], None]] = {
    "velocity_pct": lambda rotator, value: rotator.set_velocity_pct(int(value)),
    "jog_step": lambda rotator, value: rotator.set_jog_step_deg(float(value)),
    "home_offset": lambda rotator, value: rotator.set_home_offset_deg(float(value)),
}


def probe_of(address: str, timeout_s: float = 0.5) -> Probe:
    """Return what proves the line: the velocity of one mount, or its being busy; asking it changes nothing."""
    question = protocol.GetVelocity(address)
    return Probe(protocol.FORGET + question.encode(), protocol.REPLY, question.proves, timeout_s)


class ELL14(InstrumentDevice):
    """One Thorlabs ELL14 rotation mount. Its line is shared: `connection` is the same as its ElliptecBus's."""

    quantities = QUANTITIES
    volatile = frozenset({"position"})

    address: Any = device_property(dtype=str, mandatory=True, doc="Address on the line, 0 to 9 or A to F.")

    def line_probe(self) -> Probe:
        """Each mount proves the line."""
        return probe_of(check_address(self.address))

    def connect(self, transport: Transport) -> Rotator:
        """Return the mount's verbs."""
        return Rotator(transport, self.address, timeout_s=self.timeout_s)

    def greet(self, driver: Rotator) -> Identity | None:
        """Model, serial number and firmware; a turning mount does not tell them."""
        info = driver.greet()
        if info is None:
            return None
        return Identity(
            f"Thorlabs ELL{info.model}, serial {info.serial_number}, firmware {info.firmware}, {info.year}",
            info.serial_number,
        )

    def poll(self, driver: Rotator, due: frozenset[str]) -> Mapping[str, Value]:
        """Read what is due. A turning mount tells nothing but that it is busy."""
        status = driver.status()
        row: dict[str, Value] = {"status_code": status if status is Status.BUSY else driver.fault}
        if status is Status.BUSY or not driver.greeted:
            return row
        if due & {"position", "position_raw"}:
            row["position_raw"] = driver.position_pulses()
            row["position"] = driver.degrees(row["position_raw"])
        for name in due & _GETTERS.keys():
            row[name] = _GETTERS[name](driver)
        return row

    def write(self, driver: Rotator, name: str, value: Any) -> None:
        """Change a setting, or start a move."""
        if name == "position":
            target_deg = float(value)
            self.start(DevState.MOVING, f"Turning to {target_deg:g} deg.", lambda: driver.move_absolute(target_deg))
        else:
            _SETTERS[name](driver, value)

    def judge(self, row: Mapping[str, Value]) -> tuple[DevState, str]:
        """MOVING while the mount is busy, ALARM after a motion that failed."""
        status = Status(row["status_code"])
        if status is Status.BUSY:
            return DevState.MOVING, "Turning."
        if status is not Status.OK:
            return DevState.ALARM, f"The mount reports {status.text}: look after it, then home it."
        return DevState.ON, "In position."

    def make_safe(self, driver: Rotator) -> None:
        """Stop the mount."""
        driver.stop()

    @command
    def Stop(self) -> None:
        """Stop at once; goes ahead of everything that waits for the line."""
        self.do(Rotator.stop, priority=Priority.STOP)

    @command
    def Home(self) -> None:
        """Start looking for home."""
        self._move("home", "Homing.", Rotator.home)

    @command(dtype_in=float, doc_in="How far to turn, deg, positive or negative")
    def MoveRelative(self, distance_deg: float) -> None:
        """Start turning by an angle; refused while an identical call of the last second still goes on."""
        self._move(
            f"MoveRelative {distance_deg:g}",
            f"Turning by {distance_deg:g} deg.",
            lambda rotator: rotator.move_relative(distance_deg),
        )

    @command
    def JogForward(self) -> None:
        """Start turning one jog step."""
        self._move("JogForward", "Jogging forward.", lambda rotator: rotator.jog(forward=True))

    @command
    def JogBackward(self) -> None:
        """Start turning one jog step back."""
        self._move("JogBackward", "Jogging backward.", lambda rotator: rotator.jog(forward=False))

    @command(display_level=DispLevel.EXPERT)
    def Optimize(self) -> None:
        """Start tuning the motors; the mount turns to and fro, for long."""
        self._move("Optimize", "Tuning its motors.", Rotator.optimize)

    @command(display_level=DispLevel.EXPERT)
    def SaveUserData(self) -> None:
        """Keep the motor's settings over a power cycle."""
        self.do(Rotator.save_user_data)

    @command(dtype_in=str, doc_in="0 to 9 or A to F", display_level=DispLevel.EXPERT)
    def ChangeAddress(self, address: str) -> None:
        """Give the mount another address until the next start; the property `address` has to be changed too."""
        self.do(lambda rotator: rotator.change_address(address.upper()))

    def _move(self, name: str, status: str, motion: Callable[[Rotator], None]) -> None:
        """Start a motion, once."""

        def verb(rotator: Rotator) -> None:
            self.refuse_repetition(name)
            self.start(DevState.MOVING, status, lambda: motion(rotator))

        self.do(verb)


class ElliptecBus(InstrumentDevice):
    """The line of Elliptec mounts itself: whether it works, and who is on it."""

    quantities = BUS_QUANTITIES
    probe = probe_of(ADDRESSES[0], SEARCH_TIMEOUT_S)

    _found: tuple[str, ...] | None = None

    def connect(self, transport: Line) -> Bus:
        """Return the line's verbs. Whatever mount is on the line proves it, so that Discover works on any."""
        for address in ADDRESSES:
            transport.add_guess(probe_of(address, SEARCH_TIMEOUT_S))
        return Bus(transport, timeout_s=self.timeout_s)

    def greet(self, driver: Bus) -> Identity:
        """Name the line: mounts prove it."""
        return Identity("Thorlabs Elliptec line")

    def poll(self, driver: Bus, due: frozenset[str]) -> Mapping[str, Value]:
        """Tell whom the last Discover found; nothing is sent."""
        return {} if self._found is None else {"addresses": self._found}

    def write(self, driver: Bus, name: str, value: Any) -> None:
        """Refuse: the line has no settings."""
        raise OutOfRange(f"{name} of the line cannot be written")

    def judge(self, row: Mapping[str, Value]) -> tuple[DevState, str]:
        """ON while a mount answers."""
        return DevState.ON, "The line works."

    def make_safe(self, driver: Bus) -> None:
        """Do nothing: each mount is stopped by its own device."""

    @command(dtype_out=(str,), doc_out="Addresses of the mounts that answered")
    def Discover(self) -> list[str]:
        """Ask all addresses, 50 ms each; others get the line in between."""
        found = [address for address in ADDRESSES if self.do(lambda bus, address=address: bus.answers(address))]
        self._found = tuple(found)
        return found
