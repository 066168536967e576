"""A rotation mount: position, target, jog, home, stop, and whether it turns."""

from typing import NamedTuple

from gui.presenters.fields import EditField, Role
from gui.presenters.readings import Reading, Readings, state_of
from gui.presenters.text import duration, fixed

DECIMALS = 3


MOVABLE = ("ON", "STANDBY", "ALARM")
"""States in which a motion may be started."""


class TargetField(EditField):
    """Where the mount was last sent, and where it shall go. Nothing is sent while it turns."""

    sent_note = "Turning to the target…"

    def __init__(self, position: Reading, state: Reading) -> None:
        super().__init__("Target", position, unit="deg", decimals=DECIMALS, low=-360, high=360)
        self._state = state

    def readback(self) -> object:
        """Return the set-point."""
        return self.reading.set_value

    def unchanged(self, text: str) -> bool:
        """Nothing typed is without effect: after a jog or a stop the mount is not at its set-point."""
        return False

    def obstacle(self) -> str:
        """Return why the mount cannot be sent anywhere now."""
        state = str(self._state.value)
        if state in MOVABLE:
            return ""
        return "Still turning: wait, or press STOP" if state == "MOVING" else f"Not while {state}"

    def present(self, now_s: float) -> bool:
        """A set-point is present also while the position is not: the next one may be typed while the mount turns."""
        return self.reading.health.alive(now_s)

    def waiting(self, now_s: float) -> bool:
        """Whether the move that was started has not ended."""
        return super().waiting(now_s) or (self._sent is not None and self._state.value == "MOVING")


class RotatorView(NamedTuple):
    """What the card of a mount shows."""

    position: str
    unit: str
    stale: bool
    state: str
    line: str
    line_role: Role
    can_move: bool


class Rotator:
    """Readings and editors of one `ELL14`."""

    def __init__(self, device: str, readings: Readings) -> None:
        self.device = device
        self.position = readings.get(device, "position", ring=True)
        self.state = readings.get(device, "State")
        self.status = readings.get(device, "Status")
        self.target = TargetField(self.position, self.state)
        self.jog_step = EditField(
            "Jog step", readings.get(device, "jog_step"), unit="deg", decimals=DECIMALS, low=0.01, high=360
        )

    def view(self, now_s: float) -> RotatorView:
        """Return what the card shows."""
        state = state_of(self.state, now_s)
        number = self.position.number()
        return RotatorView(
            "No value" if number is None else fixed(number, DECIMALS),
            "" if number is None else "deg",
            not self.position.usable(now_s),
            state,
            *self._line(now_s, state),
            state in MOVABLE,
        )

    def _line(self, now_s: float, state: str) -> tuple[str, Role]:
        """Return the one line of the card: silence, then what becomes of an edit, then the status."""
        health = self.state.health
        age_s = health.age_s(now_s)
        if age_s is None:
            return "No answer yet. Connecting…", "caption"
        if not health.alive(now_s):
            return f"{duration(age_s)} old. Reconnecting…", "caption"
        for field in (self.target, self.jog_step):
            view = field.view(now_s)
            if field.active:
                return view.note, view.role
        return "Turning" if state == "MOVING" else str(self.status.value or "").strip().partition("\n")[0], "caption"
