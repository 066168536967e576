"""Keeps a device's readings and pushes them as events; used by one thread at a time, but for `reading`.

The thread is the poll loop's, or Init's while the device is on no line.

ARCHIVE: every reading. CHANGE: as `states.changed` says. INVALID: on transition and once a minute. State and Status:
both events on change, State also once a second. Tango's own detection is off; criteria and limits set in the database
or by a client are read again each second.

A push fails when a command holds the device's monitor for more than 3.2 s. It is counted and tried again at each
`tend`, with the latest reading by then; meanwhile nothing else is tried, so that the loop is held up once and not for
each quantity.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportAttributeAccessIssue=false, reportUnknownArgumentType=false
# (pytango's stubs are not complete)

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import tango
from tango import DevState

from bandoneon.quantity import Quantity
from device_servers.core.attributes import as_tango, criteria_of
from device_servers.core.states import (
    INVALID,
    STATE_EVERY_S,
    VALID,
    Criteria,
    Reading,
    Shown,
    Value,
    changed,
    quality_of,
)

if TYPE_CHECKING:
    from device_servers.core.stream import Feed

FIGURES_EVERY_S = 1.0

MONITOR_HELD: Final = "API_CommandTimedOut"
"""Reason of a push that could not get the device's monitor (cppTango: TangoMonitor::get_monitor)."""


class Publisher:
    """The readings of one device."""

    def __init__(self, device: Any, quantities: Sequence[Quantity]) -> None:
        self._device = device
        self._quantities = {quantity.name: quantity for quantity in quantities}
        self._readings = {name: Reading(None, time.time(), INVALID) for name in self._quantities}
        self._change_pushed: dict[str, Reading] = {}
        self._archive_pushed: dict[str, Reading] = {}
        self._criteria = {name: Criteria() for name in self._quantities}
        self._written: set[str] = set()
        self._owed: dict[tuple[str, str], Reading] = {}
        """What could not be pushed, by kind of event and name."""
        self._declared = False
        self._feed: Feed | None = None
        self._shown = Shown("", "")
        """State and status as they were pushed last."""
        self._state_pushed_s = self._figures_pushed_s = 0.0
        self.failed_pushes = 0

    def prepare(self) -> None:
        """Begin anew, at each Init: everything is pushed again."""
        if not self._declared:
            self._declare()
            self._declared = True
        self._change_pushed.clear()
        self._archive_pushed.clear()
        self._owed.clear()

    def _declare(self) -> None:
        """Tell Tango that this device pushes by itself.

        Once for each device object: declaring it again makes Tango forget that the last event was INVALID but not that
        there was one, and compare the next value with one that is not there, which ends the process by SIGSEGV
        (cppTango up to 10.3.3: Attribute::set_archive_event, EventSupplier::detect_change).
        """
        names = [name for name, quantity in self._quantities.items() if quantity.readable and not quantity.stream]
        for name in ("State", "Status", *names):
            self._device.set_change_event(name, True, False)
            self._device.set_archive_event(name, True, False)
        streamed = [quantity for quantity in self._quantities.values() if quantity.stream]
        if streamed:
            from device_servers.core.stream import feed_of  # loads pyarrow: only for servers that stream

            self._feed = feed_of(self._device.get_name(), streamed)

    def reading(self, name: str) -> Reading:
        """Return the last reading; any thread may ask."""
        return self._readings[name]

    def publish(self, values: Mapping[str, Value | None], time_s: float) -> None:
        """Keep values read at `time_s` (since 1970), None = could not be read, and push what is to be pushed."""
        for name, value in values.items():
            quantity = self._quantities[name]
            reading = Reading(value, time_s, quality_of(value, self._criteria[name]))
            self._readings[name] = reading
            if quantity.writable and value is not None and name not in self._written:
                self._written.add(name)
                self._show_set_point(name, value)  # before the event, which carries it
            if quantity.stream:
                continue
            if reading.quality != INVALID or changed(self._archive_pushed.get(name), reading, Criteria()):
                self._archive_pushed[name] = reading
                self._push("archive", name, reading)
            if changed(self._change_pushed.get(name), reading, self._criteria[name]):
                self._change_pushed[name] = reading
                self._push("change", name, reading)
        streamed = {name: self._readings[name] for name in values if self._quantities[name].stream}
        if self._feed is not None and streamed:
            self._feed.add(round(time_s * 1e9), streamed)

    def tend(self, shown: Shown, figures: Mapping[str, Value | None]) -> None:
        """Push State and Status on change, State each second; each second also the figures; and what is owed."""
        now_s = time.monotonic()
        # what is pushed for State and Status is what Tango's own device holds, whatever value is given with it
        self._device.set_state(DevState.names[shown.state])
        self._device.set_status(shown.status)
        if self._push_shown(shown, now_s):
            self._push_owed()
        if now_s - self._figures_pushed_s >= FIGURES_EVERY_S:
            self._figures_pushed_s = now_s
            self._read_criteria()
            self.publish(figures, time.time())
        else:
            self.know(figures)

    def know(self, figures: Mapping[str, Value | None]) -> None:
        """Keep values without pushing them."""
        now = time.time()
        for name, value in figures.items():
            self._readings[name] = Reading(value, now, INVALID if value is None else VALID)

    def _read_criteria(self) -> None:
        attributes: Any = self._device.get_device_attr()
        for name in self._quantities:
            self._criteria[name] = criteria_of(attributes.get_attr_by_name(name))

    def _show_set_point(self, name: str, value: Value) -> None:
        """A set-point that nobody has written yet shows what the instrument has, not 0."""
        try:
            with tango.AutoTangoMonitor(self._device):
                self._device.get_device_attr().get_w_attr_by_name(name).set_write_value(value)
        except tango.DevFailed:
            self._written.discard(name)

    def _push(self, kind: str, name: str, reading: Reading) -> None:
        """Push a reading, or owe it when it cannot be pushed now."""
        if self._owed or not self._pushed(kind, name, *as_tango(self._quantities[name], reading)):
            self.failed_pushes += 1
            self._owed[kind, name] = reading

    def _push_owed(self) -> None:
        for (kind, name), reading in list(self._owed.items()):
            if not self._pushed(kind, name, *as_tango(self._quantities[name], reading)):
                return
            del self._owed[kind, name]

    def _push_shown(self, shown: Shown, now_s: float) -> bool:
        """Push State and Status when it is time; return whether nothing of them is left to be pushed."""
        if self._shown.status != shown.status:
            if not self._pushed_both("Status", shown.status):
                return False
            self._shown = self._shown._replace(status=shown.status)
        if self._shown.state != shown.state or now_s - self._state_pushed_s >= STATE_EVERY_S:
            if not self._pushed_both("State", DevState.names[shown.state]):
                return False
            self._shown = self._shown._replace(state=shown.state)
            self._state_pushed_s = now_s
        return True

    def _pushed_both(self, name: str, value: Any) -> bool:
        pushed = self._pushed("change", name, value) and self._pushed("archive", name, value)
        self.failed_pushes += not pushed
        return pushed

    def _pushed(self, kind: str, name: str, *value: Any) -> bool:
        """Push; return False when the device's monitor is held, so that it has to be done again."""
        push = self._device.push_archive_event if kind == "archive" else self._device.push_change_event
        try:
            push(name, *value)
        except tango.DevFailed as error:
            if error.args[0].reason == MONITOR_HELD:
                return False
            # wrong in itself, or the device is going: it would fail the next time too
            self.failed_pushes += 1
        return True
