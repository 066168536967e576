"""What an Elliptec line and its ELL14 mounts can do, as verbs over a `Transport`.

A motion is sent once, to a mount that has just said it is idle, and never again whatever happens. Its only
answer comes at its end, unasked for; the transport keeps frames of one address while another is asked.
"""

import contextlib

from bandoneon.errors import LinkDown, OutOfRange, ProtocolError, ReplyTimeout, TransportError
from device_servers.core.asking import Asking, Message
from device_servers.core.transport import Accept, Transport
from device_servers.instruments.ell14 import protocol
from device_servers.instruments.ell14.protocol import ADDRESSES, QUANTITIES, Frame, Info, Request, Status

SEARCH_TIMEOUT_S = 0.05
"""How long an address is given to answer of which no mount is known: ten bytes at 9600 baud take 10 ms."""

_LIMITS = {quantity.name: quantity for quantity in QUANTITIES}


class Bus(Asking):
    """The verbs of the line itself."""

    request_end = b""

    def __init__(self, transport: Transport, *, timeout_s: float = 1.0) -> None:
        super().__init__(transport, protocol.REPLY, timeout_s=timeout_s)

    def answers(self, address: str) -> bool:
        """Return whether a mount answers at `address` within `SEARCH_TIMEOUT_S`; what else it says is left alone."""
        question = protocol.GetVelocity(address)  # reading the status would clear an error nobody has seen
        self._transport.send(question.encode())
        try:
            self._transport.receive(reply=protocol.REPLY, timeout_s=SEARCH_TIMEOUT_S, accept=question.proves)
        except ReplyTimeout:
            return False
        return True

    def _is_mine(self, frame: bytes) -> bool:
        return False

    def _answers_to(self, request: bytes) -> Accept:
        return lambda reply: reply[:1] == request[:1]


class Rotator(Bus):
    """The verbs of the mount at one address. Angles are in degrees; errors are those of `bandoneon.errors`.

    Until `greet` was answered nothing is known of the mount, and it can only be asked for its status and stopped.
    """

    def __init__(self, transport: Transport, address: str, *, timeout_s: float = 1.0) -> None:
        super().__init__(transport, timeout_s=timeout_s)
        self.address = check_address(address)
        self.fault = Status.OK
        """The last error the mount reported, kept until the next motion: reading an error clears it in the mount."""
        self._info: Info | None = None

    @property
    def greeted(self) -> bool:
        """Whether it is known what mount this is."""
        return self._info is not None

    @property
    def info(self) -> Info:
        """What the mount said about itself; raise LinkDown before it did."""
        if self._info is None:
            raise LinkDown(f"the mount at address {self.address} has not said yet what it is")
        return self._info

    def greet(self) -> Info | None:
        """Ask the mount what it is; return None while it turns, as it does not tell then."""
        if self.status() is Status.BUSY:
            return None
        self._info = self._ask(protocol.GetInfo(self.address))
        return self._info

    def status(self) -> Status:
        """Return what the mount says now: OK, BUSY while it turns, or an error."""
        status = self._ask(protocol.GetStatus(self.address))
        self._keep(status)
        return status

    def position_pulses(self) -> int:
        """Return the position in pulses, signed; a turning mount does not tell it."""
        return self._ask(protocol.GetPosition(self.address))

    def degrees(self, position_pulses: int) -> float:
        """Return the angle of a number of pulses of this mount."""
        return protocol.degrees(position_pulses, self.info.pulses_per_rev)

    def move_absolute(self, position_deg: float) -> None:
        """Start turning to an angle."""
        _LIMITS["position"].check(position_deg)
        self._start(protocol.MoveAbsolute(self.address, self._pulses(position_deg)))

    def move_relative(self, distance_deg: float) -> None:
        """Start turning by an angle, at most one turn."""
        _LIMITS["position"].check(distance_deg)
        self._start(protocol.MoveRelative(self.address, self._pulses(distance_deg)))

    def home(self) -> None:
        """Start looking for home."""
        self._start(protocol.Home(self.address))

    def jog(self, *, forward: bool) -> None:
        """Start turning one jog step; refused when the step is 0, which would turn without end."""
        if self._ask(protocol.GetJogStep(self.address)) == 0:
            raise OutOfRange("the mount's jog step is 0, which would turn it without end: write jog_step first")
        self._start(protocol.JogForward(self.address) if forward else protocol.JogBackward(self.address))

    def optimize(self) -> None:
        """Start tuning the motors; the mount turns to and fro, for long."""
        self._start(protocol.Optimize(self.address))

    def stop(self) -> None:
        """Stop, also before `greet`. Real mounts differ in whether and what they answer: what comes soon is taken."""
        self._transport.send(protocol.FORGET + protocol.Stop(self.address).encode())
        with contextlib.suppress(TransportError, ProtocolError):  # it was sent, and that is what counts
            self._collect(SEARCH_TIMEOUT_S)

    def velocity_pct(self) -> int:
        """Return the velocity, percent of the greatest."""
        return self._ask(protocol.GetVelocity(self.address))

    def set_velocity_pct(self, velocity_pct: int) -> None:
        """Set the velocity, percent of the greatest."""
        _LIMITS["velocity_pct"].check(velocity_pct)
        self._tell(protocol.SetVelocity(self.address, velocity_pct))

    def jog_step_deg(self) -> float:
        """Return how far one jog turns."""
        return self.degrees(self._ask(protocol.GetJogStep(self.address)))

    def set_jog_step_deg(self, step_deg: float) -> None:
        """Set how far one jog turns."""
        _LIMITS["jog_step"].check(step_deg)
        self._tell(protocol.SetJogStep(self.address, self._pulses(step_deg)))

    def home_offset_deg(self) -> float:
        """Return where home is, from the mount's own mark."""
        return self.degrees(self._ask(protocol.GetHomeOffset(self.address)))

    def set_home_offset_deg(self, offset_deg: float) -> None:
        """Set where the next homing goes, from the mount's own mark."""
        _LIMITS["home_offset"].check(offset_deg)
        self._tell(protocol.SetHomeOffset(self.address, self._pulses(offset_deg)))

    def save_user_data(self) -> None:
        """Keep the motor's settings over a power cycle."""
        self._tell(protocol.SaveUserData(self.address))

    def change_address(self, new_address: str) -> None:
        """Give the mount another address, refused when a mount answers there already."""
        check_address(new_address)
        if new_address == self.address:
            return
        if self.answers(new_address):
            raise OutOfRange(f"address {new_address} is taken by another mount on this line: choose a free one")
        self._tell(protocol.ChangeAddress(self.address, new_address))
        self.address = new_address

    def _pulses(self, angle_deg: float) -> int:
        return protocol.pulses(angle_deg, self.info.pulses_per_rev)

    def _start(self, motion: Request) -> None:
        if self.status() is Status.BUSY:
            protocol.refused(Status.BUSY, motion.encode(), b"")
        self.fault = Status.OK
        self._transport.send(motion.encode())

    def _exchange(self, message: Message[object]) -> bytes:
        self._collect()
        return super()._exchange(message)

    def _is_mine(self, frame: bytes) -> bool:
        return frame[:1] == self.address.encode()

    def _note(self, frame: bytes) -> None:
        """Keep the error with which a motion ended."""
        self._keep(Frame.decode(frame).status)

    def _keep(self, status: Status | None) -> None:
        if status not in (None, Status.OK, Status.BUSY):
            self.fault = status


def check_address(address: str) -> str:
    """Return `address` when it is one; raise OutOfRange otherwise."""
    if len(address) != 1 or address not in ADDRESSES:
        raise OutOfRange(f"address {address!r} is none: give one of 0 to 9 and A to F")
    return address
