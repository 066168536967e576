"""Simulated Elliptec ELL14 rotation mounts on one multidrop line: motors that take time, and the manual's frames.

Written from the manual alone, without the protocol's decoders: it has to be able to contradict the driver.
"""

import random
from collections.abc import Callable

from device_servers.optical_bench import OpticalBench

SETUPS = ("default", "factory")
"""`default`: mounts 2 and 3, loaded with optics, which `st` stops anywhere. `factory`: one mount as delivered, at
address 0 and as fast as its data sheet says, which finishes a limited move in spite of `st`, as a user of real
mounts reports (TapyrLabs/tl_elliptec, docs/guide/stop.md): there only an endless turn and `om` can be stopped."""

PULSES_PER_REV = 143360
DATA_SHEET_SPEED_DEG_S = 430.0
LOADED_SPEED_DEG_S = 90.0
OPTIMIZE_S = 5.0
PARTIAL_FRAME_S = 2.0

_OK, _MECHANICAL_TIMEOUT, _COMMAND_ERROR, _VALUE_OUT_OF_RANGE, _BUSY = 0, 2, 3, 4, 9
_DATA_LENGTHS = {"ho": 1, "ca": 1, "ma": 8, "mr": 8, "sj": 8, "so": 8, "sv": 2}
_HEX_DIGITS = "0123456789ABCDEF"


class Model:
    """One mount: an angle that a motor changes with a finite speed. Time comes in through `advance`."""

    def __init__(
        self,
        serial_number: str,
        *,
        speed_deg_s: float = LOADED_SPEED_DEG_S,
        stops_anywhere: bool = True,
        on_turn: Callable[[float], None] = lambda _angle_deg: None,
        seed: int = 0,
    ) -> None:
        self.serial_number = serial_number
        self.velocity_pct = 100
        self.jog_step = PULSES_PER_REV // 8
        self.home_offset = 0
        self.stuck = False
        self._speed = speed_deg_s / 360 * PULSES_PER_REV
        self._stops_anywhere = stops_anywhere
        self._on_turn = on_turn
        self._random = random.Random(seed)
        self._angle = 0.0
        self._zero = 0
        self._target: float | None = None
        self._endless = 0
        self._optimizing_s = 0.0
        self._homing = False
        on_turn(0.0)

    @property
    def moving(self) -> bool:
        """Whether the motor runs."""
        return self._target is not None or self._endless != 0 or self._optimizing_s > 0

    @property
    def position(self) -> int:
        """Pulses since home, within one turn either way: the mount itself turns without end."""
        position = round(self._angle - self._zero)
        return position if abs(position) <= PULSES_PER_REV else position - (position // PULSES_PER_REV) * PULSES_PER_REV

    def move_to(self, position: int) -> None:
        """Start turning to `position`."""
        self._target = self._angle + position - self.position

    def move_by(self, distance: int) -> None:
        """Start turning by `distance`."""
        self._target = self._angle + distance

    def home(self) -> None:
        """Start looking for home, `home_offset` behind the mark."""
        self._target = float(
            round((self._angle - self.home_offset) / PULSES_PER_REV) * PULSES_PER_REV + self.home_offset
        )
        self._homing = True

    def jog(self, direction: int) -> None:
        """Start turning one jog step, or without end when the step is 0 (`direction` is 1 or -1)."""
        if self.jog_step:
            self.move_by(direction * self.jog_step)
        else:
            self._endless = direction

    def optimize(self) -> None:
        """Start tuning the motors."""
        self._optimizing_s = OPTIMIZE_S

    def stop(self) -> None:
        """Stop what can be stopped."""
        self._endless = 0
        self._optimizing_s = 0.0
        if self._stops_anywhere:
            self._target = None
            self._homing = False

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass: turn as far as the motor gets."""
        if not self.moving or self.stuck:
            return
        step = self._speed * self.velocity_pct / 100 * dt_s
        self._optimizing_s = max(0.0, self._optimizing_s - dt_s)
        if self._endless:
            self._angle += self._endless * step
        elif self._target is not None:
            left = self._target - self._angle
            if abs(left) <= step:
                self._arrive(self._target)
            else:
                self._angle += step if left > 0 else -step
        self._on_turn(self._angle / PULSES_PER_REV * 360)

    def _arrive(self, target: float) -> None:
        self._target = None
        self._angle = target
        if self._homing:
            self._homing = False
            self._zero = round(target)
        else:
            self._angle += self._random.choice((-1, 0, 0, 1))  # the controller settles within a pulse


class Wire:
    """The line: finds frames in what is sent, lets the addressed mount act, gathers what the mounts say."""

    def __init__(self, mounts: dict[str, Model]) -> None:
        self.mounts = mounts
        self.fault: str | None = None
        self._status = dict.fromkeys(mounts, _OK)
        self._awaited: dict[str, str] = {}
        self._stuck_s: dict[str, float] = {}
        self._input = ""
        self._silence_s = 0.0

    def __call__(self, data: bytes) -> bytes:
        """Take bytes of any length and return the replies to every frame they complete, in order."""
        self._silence_s = 0.0
        answer = ""
        for character in data.decode("latin-1"):
            if character in "\r\n":
                self._input = ""
                continue
            self._input += character
            if self._input[0] not in _HEX_DIGITS:
                self._input = ""
            elif len(self._input) >= 3 and len(self._input) == 3 + _DATA_LENGTHS.get(self._input[1:3], 0):
                frame, self._input = self._input, ""
                answer += self._execute(frame[0], frame[1:3], frame[3:])
        return answer.encode("latin-1")

    def advance(self, dt_s: float) -> bytes:
        """Let time pass: motors turn, half a frame is forgotten; return the final replies of moves that ended."""
        self._silence_s += dt_s
        if self._silence_s >= PARTIAL_FRAME_S:
            self._input = ""
        answer = ""
        for address, mount in self.mounts.items():
            mount.stuck = self.fault == "instrument_error"
            mount.advance(dt_s)
            answer += self._final(address, mount, dt_s)
        return answer.encode("latin-1")

    def _final(self, address: str, mount: Model, dt_s: float) -> str:
        """The one answer to a motion, once it has ended, or after a second without any progress."""
        if address not in self._awaited:
            return ""
        if mount.stuck:
            self._stuck_s[address] = self._stuck_s.get(address, 0.0) + dt_s
            if self._stuck_s[address] < 1.0:
                return ""
            mount.stop()
            self._status[address] = _MECHANICAL_TIMEOUT
        elif mount.moving:
            return ""
        self._stuck_s.pop(address, None)
        letters = self._awaited.pop(address)
        if mount.stuck or letters == "om":
            return self._take_status(address)
        return _position(address, mount)

    def _execute(self, address: str, letters: str, data: str) -> str:
        mount = self.mounts.get(address)
        if mount is None:
            return ""
        if letters == "st":
            mount.stop()
            return _status(address, _OK)
        if mount.moving or self.fault == "busy":
            return _status(address, _BUSY)
        if any(digit not in _HEX_DIGITS for digit in data):
            return _status(address, _COMMAND_ERROR)
        if letters == "gs":
            return self._take_status(address)
        if letters == "ca":
            return self._change_address(address, data)
        if letters in ("ho", "ma", "mr", "fw", "bw", "om"):
            return self._move(address, mount, letters, data)
        if letters in ("so", "sj", "sv", "us"):
            return _status(address, _set(mount, letters, data))
        return _get(address, mount, letters)

    def _move(self, address: str, mount: Model, letters: str, data: str) -> str:
        if letters == "ho" and data not in ("0", "1"):
            return _status(address, _VALUE_OUT_OF_RANGE)
        if letters in ("ma", "mr") and abs(_number(data)) > PULSES_PER_REV:
            return _status(address, _VALUE_OUT_OF_RANGE)
        if letters == "ma":
            mount.move_to(_number(data))
        elif letters == "mr":
            mount.move_by(_number(data))
        elif letters == "ho":
            mount.home()
        elif letters == "om":
            mount.optimize()
        else:
            mount.jog(1 if letters == "fw" else -1)
        self._awaited[address] = letters
        return ""

    def _change_address(self, address: str, new_address: str) -> str:
        if new_address != address and new_address in self.mounts:
            return _status(address, _VALUE_OUT_OF_RANGE)
        self.mounts[new_address] = self.mounts.pop(address)
        self._status[new_address] = self._status.pop(address)
        return _status(new_address, _OK)

    def _take_status(self, address: str) -> str:
        status, self._status[address] = self._status[address], _OK
        return _status(address, status)


def _set(mount: Model, letters: str, data: str) -> int:
    """Change a setting; return the status."""
    if letters == "sv":
        if not 50 <= int(data, 16) <= 100:
            return _VALUE_OUT_OF_RANGE
        mount.velocity_pct = int(data, 16)
    elif letters == "sj":
        if not 0 <= _number(data) <= PULSES_PER_REV:
            return _VALUE_OUT_OF_RANGE
        mount.jog_step = _number(data)
    elif letters == "so":
        if abs(_number(data)) > PULSES_PER_REV:
            return _VALUE_OUT_OF_RANGE
        mount.home_offset = _number(data)
    return _OK


def _get(address: str, mount: Model, letters: str) -> str:
    """The answer to a query, or a command error when there is no such query."""
    if letters == "in":
        return f"{address}IN0E{mount.serial_number:0>8}20181701{360:04X}{PULSES_PER_REV:08X}\r\n"
    if letters == "gp":
        return _position(address, mount)
    if letters == "gj":
        return f"{address}GJ{mount.jog_step & 0xFFFFFFFF:08X}\r\n"
    if letters == "go":
        return f"{address}HO{mount.home_offset & 0xFFFFFFFF:08X}\r\n"
    if letters == "gv":
        return f"{address}GV{mount.velocity_pct:02X}\r\n"
    if letters in ("i1", "i2"):
        return f"{address}{letters.upper()}100428FFFFFFFF00BD008B\r\n"
    return _status(address, _COMMAND_ERROR)


def _number(data: str) -> int:
    value = int(data, 16)
    return value - (1 << 32) if value >= 1 << 31 else value


def _position(address: str, mount: Model) -> str:
    return f"{address}PO{mount.position & 0xFFFFFFFF:08X}\r\n"


def _status(address: str, code: int) -> str:
    return f"{address}GS{code:02X}\r\n"


def build(bench: OpticalBench, setup: str, seed: int) -> Wire:
    """Return the line as `setup` says; mount 2 of the default one turns the bench's half-wave plate."""
    if setup == "factory":
        return Wire({"0": Model("11400017", speed_deg_s=DATA_SHEET_SPEED_DEG_S, stops_anywhere=False, seed=seed)})

    def turn_half_wave_plate(angle_deg: float) -> None:
        bench.half_wave_plate_deg = angle_deg

    return Wire(
        {
            "2": Model("11400517", on_turn=turn_half_wave_plate, seed=seed),
            "3": Model("11400284", seed=seed + 1),
        }
    )
