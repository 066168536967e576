"""Thorlabs Elliptec ELL14 rotation mount: its quantities and its messages, bytes in and values out.

Sections are of the ELLx modules protocol manual (Thorlabs, issue 7). Up to 16 mounts share one line. A
request is the mount's address (one upper-case hexadecimal digit), two lower-case letters and upper-case
hexadecimal data of a fixed length, without any terminator. A reply has two upper-case letters and ends with
CR LF. An absent address is silent. A move is answered once, when it has ended; until then the mount answers
every request with status 9 (busy).
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from bandoneon.errors import InstrumentFault, InterlockRefused, OutOfRange, ProtocolError
from bandoneon.quantity import Quantity
from device_servers.core.framing import line

REPLY = line(b"\n")
"""How long a reply is: up to the LF of its CR LF, so that one with a garbled CR still ends."""

FORGET = b"\r"
"""Between requests a CR means nothing; behind half of one it makes the mounts forget it. Whatever is sent first over a
line that was cut begins with it: otherwise its first digit could complete a motion that was cut short."""

ADDRESSES = "0123456789ABCDEF"
VELOCITY_LOW_PCT, VELOCITY_HIGH_PCT = 50, 100


class Status(IntEnum):
    """What `GS` reports (section "GS"); reading it clears it."""

    OK = 0
    COMMUNICATION_TIMEOUT = 1
    MECHANICAL_TIMEOUT = 2
    COMMAND_ERROR = 3
    VALUE_OUT_OF_RANGE = 4
    ISOLATED = 5
    OUT_OF_ISOLATION = 6
    INITIALISING_ERROR = 7
    THERMAL_ERROR = 8
    BUSY = 9
    SENSOR_ERROR = 10
    MOTOR_ERROR = 11
    OUT_OF_RANGE = 12
    OVER_CURRENT = 13

    @property
    def text(self) -> str:
        """The status in words."""
        return self.name.lower().replace("_", " ")


_SETTINGS_PERIOD_S = 5.0

QUANTITIES = (
    Quantity(
        "position", "f8", unit="deg", label="Position", format="%.3f", access="rw", low=-360.0, high=360.0,
        resolution=360 / 143360, deadband=0.005,
        doc="Angle since home. Writing starts a move. A mount that turns does not tell its angle.",
    ),
    Quantity("position_raw", "i4", unit="pulse", label="Position (pulses)", doc="Angle in encoder pulses."),
    Quantity(
        "velocity_pct", "i4", unit="%", label="Velocity", access="rw", low=VELOCITY_LOW_PCT, high=VELOCITY_HIGH_PCT,
        period_s=_SETTINGS_PERIOD_S, doc="Share of the greatest velocity.",
    ),
    Quantity(
        "jog_step", "f8", unit="deg", label="Jog step", format="%.3f", access="rw", low=0.01, high=360.0,
        period_s=_SETTINGS_PERIOD_S, doc="How far one jog turns.",
    ),
    Quantity(
        "home_offset", "f8", unit="deg", label="Home offset", format="%.3f", access="rw", low=-360.0, high=360.0,
        period_s=_SETTINGS_PERIOD_S, doc="Where home is, from the mount's own mark; used by the next homing.",
    ),
    Quantity(
        "status_code", "i4", label="Status code",
        doc="Last status: 0 OK, 1 communication time-out, 2 mechanical time-out, 3 command error, 4 value out of "
        "range, 5 isolated, 6 out of isolation, 7 initialising error, 8 thermal error, 9 busy, 10 sensor error, "
        "11 motor error, 12 out of range, 13 over-current. An error stays until the next motion.",
    ),
    Quantity("pulses_per_rev", "i4", unit="pulse", label="Pulses per turn", period_s=60.0, doc="From the mount."),
    Quantity("serial_number", "str", label="Serial number", period_s=60.0, doc="From the mount."),
)  # fmt: skip

BUS_QUANTITIES = (
    Quantity("addresses", "str", shape=(16,), label="Addresses", doc="Mounts found by the last Discover."),
)


def pulses(angle_deg: float, pulses_per_rev: int) -> int:
    """Return the whole number of pulses nearest to an angle."""
    return round(angle_deg / 360.0 * pulses_per_rev)


def degrees(position_pulses: int, pulses_per_rev: int) -> float:
    """Return the angle of a number of pulses."""
    return position_pulses / pulses_per_rev * 360.0


def _signed(value: int) -> bytes:
    """A signed 32-bit number in two's complement, eight hexadecimal digits."""
    return b"%08X" % (value & 0xFFFFFFFF)


def _from_signed(text: str) -> int:
    value = int(text, 16)
    return value - (1 << 32) if value >= 1 << 31 else value


_FRAME = re.compile(rb"([0-9A-F])([A-Z][A-Z0-9])([0-9A-F]*)\r?\n?")


@dataclass(frozen=True, slots=True)
class Frame:
    """One reply: who sent it, its two letters, its data."""

    address: str
    code: str
    data: str

    @classmethod
    def decode(cls, reply: bytes, sent: bytes = b"") -> "Frame":
        """Return the frame in `reply`; raise ProtocolError when it is none."""
        found = _FRAME.fullmatch(reply)
        if not found:
            raise ProtocolError(sent, reply, "is not a frame")
        return cls(*(part.decode("ascii") for part in found.groups()))

    @property
    def status(self) -> Status | None:
        """The status of a `GS` frame; None of any other frame and of a reserved code."""
        if self.code != "GS" or len(self.data) != 2 or int(self.data, 16) not in set(Status):
            return None
        return Status(int(self.data, 16))


@dataclass(frozen=True, slots=True)
class Request:
    """What every message to a mount has: an address, two letters, perhaps data."""

    letters: ClassVar[str]
    answer: ClassVar[str] = "GS"
    length: ClassVar[int] = 2

    address: str

    def _data(self) -> bytes:
        return b""

    def encode(self) -> bytes:
        """Return the request's bytes."""
        return self.address.encode() + self.letters.encode() + self._data()

    def accepts(self, reply: bytes) -> bool:
        """Whether `reply` may be the answer: from this mount, with the expected letters or a status; or no frame."""
        return not _FRAME.fullmatch(reply) or self._answered_by(reply)

    def _answered_by(self, reply: bytes) -> bool:
        return reply[:1] == self.address.encode() and reply[1:3] in (self.answer.encode(), b"GS")

    def _payload(self, reply: bytes) -> str:
        """Return the answer's data; a status instead of it is the mount's refusal."""
        frame = Frame.decode(reply, self.encode())
        if frame.code == "GS" and self.answer != "GS":
            refused(frame.status, self.encode(), reply)
        if frame.address != self.address or frame.code != self.answer or len(frame.data) != self.length:
            raise ProtocolError(self.encode(), reply)
        return frame.data


def refused(status: Status | None, sent: bytes, reply: bytes) -> None:
    """Raise what a status given instead of an answer means."""
    if status is None or status is Status.OK:
        raise ProtocolError(sent, reply)
    if status is Status.BUSY:
        raise InterlockRefused("the mount is turning: wait until it has arrived, or stop it")
    if status in (Status.VALUE_OUT_OF_RANGE, Status.OUT_OF_RANGE):
        raise OutOfRange(f"the mount does not accept {sent.decode('ascii')}: {status.text}")
    raise InstrumentFault(status, status.text)


@dataclass(frozen=True, slots=True)
class Info:
    """What a mount says about itself."""

    model: int
    serial_number: str
    year: int
    firmware: str
    hardware: int
    travel_deg: int
    pulses_per_rev: int


@dataclass(frozen=True, slots=True)
class GetInfo(Request):
    """`in` (section "IN"): 30 digits. An ELL14 gives its pulses per turn, 143360, not per degree."""

    letters: ClassVar[str] = "in"
    answer: ClassVar[str] = "IN"
    length: ClassVar[int] = 30

    def decode(self, reply: bytes) -> Info:
        """Return what the mount says about itself."""
        text = self._payload(reply)
        if not text[10:14].isdecimal() or int(text[22:30], 16) == 0:
            raise ProtocolError(self.encode(), reply)
        return Info(
            model=int(text[0:2], 16),
            serial_number=text[2:10],
            year=int(text[10:14]),
            firmware=text[14:16],
            hardware=int(text[16:18], 16) & 0x7F,
            travel_deg=int(text[18:22], 16),
            pulses_per_rev=int(text[22:30], 16),
        )


@dataclass(frozen=True, slots=True)
class GetStatus(Request):
    """`gs` (section "GS"): the status since it was last read; 9 while the mount moves."""

    letters: ClassVar[str] = "gs"

    def decode(self, reply: bytes) -> Status:
        """Return the status."""
        self._payload(reply)
        status = Frame.decode(reply).status
        if status is None:
            raise ProtocolError(self.encode(), reply, "is a status the manual reserves")
        return status


@dataclass(frozen=True, slots=True)
class _GetNumber(Request):
    length: ClassVar[int] = 8

    def decode(self, reply: bytes) -> int:
        """Return the number of pulses, signed."""
        return _from_signed(self._payload(reply))


@dataclass(frozen=True, slots=True)
class GetPosition(_GetNumber):
    """`gp` (section "PO"): pulses since home, signed."""

    letters: ClassVar[str] = "gp"
    answer: ClassVar[str] = "PO"


@dataclass(frozen=True, slots=True)
class GetJogStep(_GetNumber):
    """`gj` (section "GJ"): pulses of one jog; 0 means turning until stopped."""

    letters: ClassVar[str] = "gj"
    answer: ClassVar[str] = "GJ"


@dataclass(frozen=True, slots=True)
class GetHomeOffset(_GetNumber):
    """`go` (section "HO"): pulses from the mount's mark to home."""

    letters: ClassVar[str] = "go"
    answer: ClassVar[str] = "HO"


@dataclass(frozen=True, slots=True)
class GetVelocity(Request):
    """`gv` (section "GV"): percent of the greatest velocity, two hexadecimal digits."""

    letters: ClassVar[str] = "gv"
    answer: ClassVar[str] = "GV"

    def decode(self, reply: bytes) -> int:
        """Return the percentage."""
        return int(self._payload(reply), 16)

    def proves(self, reply: bytes) -> bool:
        """Whether `reply` can come from this mount only, and only now: its velocity, or that it is busy."""
        address = self.address.encode()
        return reply.startswith((address + b"GV", address + b"GS09"))


@dataclass(frozen=True, slots=True)
class _Set(Request):
    def decode(self, reply: bytes) -> None:
        """Return when the mount accepted it; raise what it answered otherwise."""
        self._payload(reply)
        status = Frame.decode(reply).status
        if status is not Status.OK:
            refused(status, self.encode(), reply)


@dataclass(frozen=True, slots=True)
class SetJogStep(_Set):
    """`sj` (section "GJ"): pulses of one jog."""

    letters: ClassVar[str] = "sj"

    step_pulses: int

    def _data(self) -> bytes:
        return _signed(self.step_pulses)


@dataclass(frozen=True, slots=True)
class SetHomeOffset(_Set):
    """`so` (section "HO"): pulses from the mount's mark to home."""

    letters: ClassVar[str] = "so"

    offset_pulses: int

    def _data(self) -> bytes:
        return _signed(self.offset_pulses)


@dataclass(frozen=True, slots=True)
class SetVelocity(_Set):
    """`sv` (section "GV"): percent of the greatest velocity, 32 to 64 hexadecimal."""

    letters: ClassVar[str] = "sv"

    velocity_pct: int

    def _data(self) -> bytes:
        return b"%02X" % self.velocity_pct


@dataclass(frozen=True, slots=True)
class SaveUserData(_Set):
    """`us` (section "US"): keep the motor's settings over a power cycle."""

    letters: ClassVar[str] = "us"


@dataclass(frozen=True, slots=True)
class ChangeAddress(_Set):
    """`ca` (section "CA"): the mount answers from its NEW address."""

    letters: ClassVar[str] = "ca"

    new_address: str

    def _data(self) -> bytes:
        return self.new_address.encode()

    def _answered_by(self, reply: bytes) -> bool:
        """A status from the new address, or a refusal from the old."""
        return reply[:1] in (self.new_address.encode(), self.address.encode()) and reply[1:3] == b"GS"

    def decode(self, reply: bytes) -> None:
        """Return when the mount answered from its new address."""
        frame = Frame.decode(reply, self.encode())
        if frame.status is not Status.OK or frame.address != self.new_address:
            refused(frame.status, self.encode(), reply)
            raise ProtocolError(self.encode(), reply)


@dataclass(frozen=True, slots=True)
class MoveAbsolute(Request):
    """`ma` (section "MA"): turn to a position; answered once, at the end, with `PO` or a status."""

    letters: ClassVar[str] = "ma"

    position_pulses: int

    def _data(self) -> bytes:
        return _signed(self.position_pulses)


@dataclass(frozen=True, slots=True)
class MoveRelative(Request):
    """`mr` (section "MR"): turn by an angle; answered once, at the end, with `PO` or a status."""

    letters: ClassVar[str] = "mr"

    distance_pulses: int

    def _data(self) -> bytes:
        return _signed(self.distance_pulses)


@dataclass(frozen=True, slots=True)
class Home(Request):
    """`ho` (section "HO"): look for home, clockwise (0) or not (1); answered once, at the end."""

    letters: ClassVar[str] = "ho"

    clockwise: bool = True

    def _data(self) -> bytes:
        return b"0" if self.clockwise else b"1"


@dataclass(frozen=True, slots=True)
class JogForward(Request):
    """`fw` (section "FW"): turn one jog step; answered once, at the end."""

    letters: ClassVar[str] = "fw"


@dataclass(frozen=True, slots=True)
class JogBackward(Request):
    """`bw` (section "BW"): turn one jog step back; answered once, at the end."""

    letters: ClassVar[str] = "bw"


@dataclass(frozen=True, slots=True)
class Optimize(Request):
    """`om` (section "OM"): tune the motors, turning to and fro for long; answered once, at the end."""

    letters: ClassVar[str] = "om"


@dataclass(frozen=True, slots=True)
class Stop(Request):
    """`st` (section "ST"): stop; what follows may be a status, the move's `PO`, both or nothing."""

    letters: ClassVar[str] = "st"
