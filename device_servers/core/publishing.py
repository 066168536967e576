"""Keeps a device's readings and pushes them as events; used by the poll loop's thread alone, but for `reading`.

ARCHIVE: every reading. CHANGE: as `states.changed` says. INVALID: on transition and once a minute. State and Status:
both events on change, State also once a second. Tango's own detection is off; criteria and limits set in the database
or by a client are read again each second.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportAttributeAccessIssue=false, reportUnknownArgumentType=false
# (pytango's stubs are not complete)

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
        self._feed: Feed | None = None
        self._shown: Shown | None = None
        self._state_pushed_s = self._figures_pushed_s = 0.0
        self.failed_pushes = 0

    def prepare(self) -> None:
        """Tell Tango that this device pushes by itself; for `init_device`."""
        names = [name for name, quantity in self._quantities.items() if quantity.readable and not quantity.stream]
        for name in ("State", "Status", *names):
            self._device.set_change_event(name, True, False)
            self._device.set_archive_event(name, True, False)
        streamed = [quantity for quantity in self._quantities.values() if quantity.stream]
        if streamed and self._feed is None:
            from device_servers.core.stream import feed_of  # loads pyarrow: only for servers that stream

            self._feed = feed_of(self._device.get_name(), streamed)
        self._change_pushed.clear()
        self._archive_pushed.clear()

    def reading(self, name: str) -> Reading:
        """Return the last reading; any thread may ask."""
        return self._readings[name]

    def publish(self, values: Mapping[str, Value | None], time_s: float) -> None:
        """Keep values read at `time_s` (since 1970), None = could not be read, and push what is to be pushed."""
        for name, value in values.items():
            quantity = self._quantities[name]
            reading = Reading(value, time_s, quality_of(value, self._criteria[name]))
            self._readings[name] = reading
            if quantity.stream:
                continue
            if reading.quality != INVALID or changed(self._archive_pushed.get(name), reading, Criteria()):
                self._archive_pushed[name] = reading
                self._push(self._device.push_archive_event, quantity, reading)
            if changed(self._change_pushed.get(name), reading, self._criteria[name]):
                self._change_pushed[name] = reading
                self._push(self._device.push_change_event, quantity, reading)
            if quantity.writable and value is not None and name not in self._written:
                self._written.add(name)
                self._show_set_point(name, value)

        streamed = {name: self._readings[name] for name in values if self._quantities[name].stream}
        if self._feed is not None and streamed:
            self._feed.add(round(time_s * 1e9), streamed)

    def tend(self, shown: Shown, figures: Mapping[str, Value | None]) -> None:
        """Push State and Status on change, State each second; each second also the figures."""
        now_s = time.monotonic()
        # what is pushed for State and Status is what Tango's own device holds, whatever value is given with it
        self._device.set_state(DevState.names[shown.state])
        self._device.set_status(shown.status)
        if self._shown is None or self._shown.status != shown.status:
            self._push_plain("Status", shown.status)
        if self._shown is None or self._shown.state != shown.state or now_s - self._state_pushed_s >= STATE_EVERY_S:
            self._push_plain("State", DevState.names[shown.state])
            self._state_pushed_s = now_s
        self._shown = shown
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

    def _push(self, push: Any, quantity: Quantity, reading: Reading) -> None:
        try:
            push(quantity.name, *as_tango(quantity, reading))
        except tango.DevFailed:
            # a command holds the monitor for seconds, or the device is going: the next reading comes anyway
            self.failed_pushes += 1

    def _push_plain(self, name: str, value: Any) -> None:
        try:
            self._device.push_change_event(name, value)
            self._device.push_archive_event(name, value)
        except tango.DevFailed:
            self.failed_pushes += 1
