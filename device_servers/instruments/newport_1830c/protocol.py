"""Newport 1830-C optical power meter: its quantities and its messages, bytes in and values out.

Pages are of the Newport 1830-C instruction manual (easymanua.ls/newport/1830-c). A command is one letter
with an optional parameter, ended by LF; a reply ends with LF alone (p. 21). A set command is never
answered, and a wrong one is silence too: it shows in the status byte (p. 38). There is no identification
query; the meter is known by a four-digit answer to `W?`.
"""

import re
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from typing import ClassVar

from bandoneon.errors import ProtocolError
from bandoneon.quantity import Quantity
from device_servers.core.framing import line

REPLY = line(b"\n")
"""How long a reply is: up to its LF."""

WAVELENGTH_LOW_NM, WAVELENGTH_HIGH_NM = 300, 1100
RANGE_AUTO, RANGE_HIGH = 0, 8


class Filter(IntEnum):
    """How many samples one reading averages: 16, 4 or 1 (codes 1, 2, 3 on the wire)."""

    SLOW = 0
    MEDIUM = 1
    FAST = 2


class Units(IntEnum):
    """What `D?` is expressed in, with its code on the wire (p. 9): 2 is dB, 3 is dBm."""

    WATT = 1
    DB = 2
    DBM = 3
    RELATIVE = 4


class Switch(Enum):
    """A setting that is off or on, with its letter on the wire."""

    ATTENUATOR = "A"
    BEEPER = "B"
    ECHO = "E"
    RUN = "G"
    LOCKOUT = "L"
    ZERO = "Z"


class Status(IntFlag):
    """The bits of the status byte (p. 38 and appendix A, p. 52)."""

    PARAMETER_ERROR = 1
    COMMAND_ERROR = 2
    SATURATED = 4
    OVER_RANGE = 8
    MESSAGE_AVAILABLE = 16
    BUSY = 32
    SERVICE_REQUEST = 64
    READ_DONE = 128


_SETTINGS_PERIOD_S = 2.0

QUANTITIES = (
    Quantity("power", "f8", unit="W", label="Power", format="%.4e", deadband=1e-9, doc="Light on the detector."),
    Quantity("power_dbm", "f8", unit="dBm", label="Power (dBm)", format="%.2f", deadband=0.01, doc="Power over 1 mW."),
    Quantity(
        "wavelength", "f8", unit="nm", label="Wavelength", format="%.0f", access="rw", period_s=_SETTINGS_PERIOD_S,
        low=WAVELENGTH_LOW_NM, high=WAVELENGTH_HIGH_NM, resolution=1.0,
        doc="Wavelength the meter's calibration is taken for, in whole nanometres.",
    ),
    Quantity(
        "range", "i4", label="Range", access="rw", low=RANGE_AUTO, high=RANGE_HIGH, period_s=1.0,
        doc="Signal range in use, 1 (lowest signal) to 8, each ten times the one below; write 0 for automatic.",
    ),
    Quantity(
        "auto_range", "bool", label="Automatic range", access="rw", period_s=_SETTINGS_PERIOD_S,
        doc="Whether the meter chooses its range. It cannot be asked: invalid until this server has set it.",
    ),
    Quantity(
        "attenuator", "bool", label="Attenuator", access="rw", period_s=_SETTINGS_PERIOD_S,
        doc="Whether the meter takes the detector's attenuator to be mounted.",
    ),
    Quantity(
        "filter", Filter, label="Filter", access="rw", period_s=_SETTINGS_PERIOD_S,
        doc="Averaging: SLOW takes 16 samples, MEDIUM 4, FAST 1.",
    ),
    Quantity(
        "zero_enabled", "bool", label="Zero", access="rw", period_s=_SETTINGS_PERIOD_S,
        doc="Whether a stored reading is subtracted; switching it on stores the latest reading.",
    ),
    Quantity(
        "hold", "bool", label="Hold", access="rw", period_s=1.0,
        doc="Whether the meter holds its last reading instead of taking new ones.",
    ),
    Quantity("beeper", "bool", label="Beeper", access="rw", period_s=_SETTINGS_PERIOD_S, doc="Sound at a key press."),
    Quantity(
        "lockout", "bool", label="Keys locked", access="rw", period_s=_SETTINGS_PERIOD_S,
        doc="Whether the front panel's keys are locked.",
    ),
    Quantity("saturated", "bool", label="Saturated", doc="The light saturates the detector: the reading is too low."),
    Quantity("over_range", "bool", label="Over range", doc="The signal exceeds the range: the reading is too low."),
    Quantity("busy", "bool", label="Busy", doc="Changing range, calibrating itself or starting up."),
    Quantity("status_byte", "i4", label="Status byte", doc="All status bits as the meter sends them (0 to 255)."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Query:
    """A letter and a question mark, which is answered."""

    letter: ClassVar[str]

    @property
    def accepts(self) -> None:
        """What comes next is the answer: the meter never speaks unasked."""

    def encode(self) -> bytes:
        """Return the query's bytes."""
        return f"{self.letter}?\n".encode()

    def _matched(self, pattern: str, reply: bytes) -> str:
        """Return the reply's text; raise ProtocolError unless all of it fits `pattern`."""
        text = reply.decode("ascii", "replace").strip()
        if not re.fullmatch(pattern, text):
            raise ProtocolError(self.encode(), reply)
        return text


@dataclass(frozen=True, slots=True)
class _Command:
    """A letter and perhaps a parameter, which is never answered."""

    letter: ClassVar[str]

    def encode(self) -> bytes:
        """Return the command's bytes."""
        return f"{self.letter}{self._parameter()}\n".encode()

    def _parameter(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class ReadPower(_Query):
    """`D?`: the last reading in the units in use; it clears READ DONE (appendix A, p. 52)."""

    letter: ClassVar[str] = "D"

    def decode(self, reply: bytes) -> float:
        """Return the reading; the meter writes `5E-9`, `+.75E-9` or `-15.24`."""
        return float(self._matched(r"[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d+)?", reply))


@dataclass(frozen=True, slots=True)
class GetWavelength(_Query):
    """`W?`: wavelength in nm, always four digits; what the link is proved with."""

    letter: ClassVar[str] = "W"

    def decode(self, reply: bytes) -> int:
        """Return the wavelength in nm."""
        wavelength_nm = int(self._matched(r"\d{4}", reply))
        if not WAVELENGTH_LOW_NM <= wavelength_nm <= WAVELENGTH_HIGH_NM:
            raise ProtocolError(self.encode(), reply, "is not a wavelength of this meter")
        return wavelength_nm


@dataclass(frozen=True, slots=True)
class SetWavelength(_Command):
    """`Wnnnn`: wavelength in nm, 300 to 1100; anything else is a parameter error."""

    letter: ClassVar[str] = "W"

    wavelength_nm: int

    def _parameter(self) -> str:
        return f"{self.wavelength_nm:04d}"


@dataclass(frozen=True, slots=True)
class GetUnits(_Query):
    """`U?`: the units of `D?` (p. 9)."""

    letter: ClassVar[str] = "U"

    def decode(self, reply: bytes) -> Units:
        """Return the units."""
        return Units(int(self._matched("[1-4]", reply)))


@dataclass(frozen=True, slots=True)
class SetUnits(_Command):
    """`U1` to `U4`: the units of `D?` (p. 9)."""

    letter: ClassVar[str] = "U"

    units: Units

    def _parameter(self) -> str:
        return str(self.units.value)


@dataclass(frozen=True, slots=True)
class GetRange(_Query):
    """`R?`: the range in use, 1 to 8, also when the meter chooses it."""

    letter: ClassVar[str] = "R"

    def decode(self, reply: bytes) -> int:
        """Return the range in use."""
        return int(self._matched("[1-8]", reply))


@dataclass(frozen=True, slots=True)
class SetRange(_Command):
    """`R0` to `R8`: 0 automatic, 1 the lowest signals (highest gain), each next one decade more (p. 39)."""

    letter: ClassVar[str] = "R"

    number: int

    def _parameter(self) -> str:
        return str(self.number)


@dataclass(frozen=True, slots=True)
class GetFilter(_Query):
    """`F?`: the averaging, 1 slow (16 samples), 2 medium (4), 3 fast (1)."""

    letter: ClassVar[str] = "F"

    def decode(self, reply: bytes) -> Filter:
        """Return the averaging."""
        return Filter(int(self._matched("[1-3]", reply)) - 1)


@dataclass(frozen=True, slots=True)
class SetFilter(_Command):
    """`F1` to `F3`: the averaging, 1 slow (16 samples), 2 medium (4), 3 fast (1)."""

    letter: ClassVar[str] = "F"

    filter: Filter

    def _parameter(self) -> str:
        return str(self.filter.value + 1)


@dataclass(frozen=True, slots=True)
class GetSwitch(_Query):
    """`A?`, `B?`, `E?`, `G?`, `L?`, `Z?`: a setting that is off (0) or on (1)."""

    switch: Switch

    def encode(self) -> bytes:
        """Return the query's bytes."""
        return f"{self.switch.value}?\n".encode()

    def decode(self, reply: bytes) -> bool:
        """Return whether it is on."""
        return self._matched("[01]", reply) == "1"


@dataclass(frozen=True, slots=True)
class SetSwitch(_Command):
    """`A0`, `A1` …: switch a setting off or on. `Z1` stores the latest reading and subtracts it (p. 9)."""

    switch: Switch
    on: bool

    def encode(self) -> bytes:
        """Return the command's bytes."""
        return f"{self.switch.value}{self.on:d}\n".encode()


@dataclass(frozen=True, slots=True)
class StoreReference(_Command):
    """`S`: the latest reading becomes the reference of dB and REL; it is 1 mW at power-up (p. 9)."""

    letter: ClassVar[str] = "S"


@dataclass(frozen=True, slots=True)
class AutoCalibrate(_Command):
    """`O`: the meter calibrates itself and is BUSY meanwhile (appendix A, p. 52)."""

    letter: ClassVar[str] = "O"


@dataclass(frozen=True, slots=True)
class ClearStatus(_Command):
    """`C`: clears every bit of the status byte but MESSAGE AVAILABLE (p. 38)."""

    letter: ClassVar[str] = "C"


@dataclass(frozen=True, slots=True)
class GetStatus(_Query):
    """`Q?`: the status byte, one to three digits (p. 38)."""

    letter: ClassVar[str] = "Q"

    def decode(self, reply: bytes) -> Status:
        """Return the bits."""
        value = int(self._matched(r"\d{1,3}", reply))
        if value > 255:
            raise ProtocolError(self.encode(), reply, "is more than a byte")
        return Status(value)
