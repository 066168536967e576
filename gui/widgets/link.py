"""The window's link to Tango: taurus listeners feed readings; commands, writes and probes run in threads.

Two traps of taurus 5.4.1 shape it: an attribute made while the database is down never recovers, and an enum made
while its server is down fails for ever. So an attribute is made only after its device has answered a ping, and the
pings start when the database has answered.
"""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import tango

from bandoneon.tangolink.proxy import device as device_proxy
from gui.presenters.readings import Reading, Readings
from gui.presenters.site import Registered, Site, describe_site
from gui.widgets.jobs import Done, Jobs

with warnings.catch_warnings():
    # taurus 5.4.1 uses a name that its units library is about to drop
    warnings.simplefilter("ignore", DeprecationWarning)
    import taurus
    from taurus.core import TaurusEventType

taurus.setLogLevel(taurus.Critical)

RETRY_S = 2.0
REDISCOVER_S = 10.0


class Listener:
    """Puts the events of one taurus attribute into a reading; called from any thread, raises nothing."""

    def __init__(self, reading: Reading, attribute: Any) -> None:
        self._reading = reading
        self._attribute = attribute  # taurus holds attributes and listeners weakly
        attribute.addListener(self)

    def close(self) -> None:
        """Listen no more."""
        self._attribute.removeListener(self)

    def eventReceived(self, _source: object, kind: Any, event: Any) -> None:
        """Take an event of taurus."""
        try:
            if kind == TaurusEventType.Error:
                self._reading.fail(str(event))
            elif kind in (TaurusEventType.Change, TaurusEventType.Periodic) and event is not None:
                value = plain(event.rvalue)
                quality = str(event.quality).rpartition(".")[2].removeprefix("ATTR_")
                self._reading.accept(value, quality, event.time.totime(), time.monotonic())
        except Exception as problem:  # noqa: BLE001  an exception here would end taurus's event thread
            self._reading.fail(repr(problem))


def plain(value: Any) -> object:
    """Return a value without taurus's unit and numpy's type; a state by its name."""
    value = getattr(value, "magnitude", value)
    if isinstance(value, tango.DevState):
        return value.name
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


class Link:
    """Everything the window asks of Tango. `readings` makes a reading when a presenter first names it.

    `tick` is called by the window's timer. `site` is what the database holds, None until it has answered;
    `on_site` is called when it changes. `database_error` is "" while the database answers.
    """

    def __init__(self, tango_host: str, jobs: Jobs, on_site: Callable[[Site], None]) -> None:
        self.tango_host = tango_host
        self.readings = Readings(self._wanted)
        self.site: Site | None = None
        self.database_error = ""
        self._jobs = jobs
        self._on_site = on_site
        self._waiting: dict[str, list[Reading]] = {}
        self._connecting: set[str] = set()
        self._retry_s: dict[str, float] = {}
        self._proxies: dict[str, tango.DeviceProxy] = {}
        self._listeners: list[Listener] = []
        self._asking = False
        self._ask_s = 0.0

    def tick(self, now_s: float) -> None:
        """Start the probes that are due."""
        if not self._asking and now_s >= self._ask_s:
            self._asking = True
            self._jobs.probe(self._discover, self._discovered)
        if self.site is None:
            return
        for device in list(self._waiting):
            if device not in self._connecting and now_s >= self._retry_s.get(device, 0.0):
                self._connect(device)

    def command(self, device: str, name: str, argument: object, done: Done) -> None:
        """Run a command of a device; `argument` None is none."""

        def work() -> object:
            proxy = self._proxy(device)
            return proxy.command_inout(name) if argument is None else proxy.command_inout(name, argument)

        self._jobs.command(work, done, device)

    def write(self, device: str, attribute: str, value: object, done: Done) -> None:
        """Write an attribute of a device."""
        self._jobs.command(lambda: self._proxy(device).write_attribute(attribute, value), done, device)

    def close(self) -> None:
        """Listen to nothing any more."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _proxy(self, device: str) -> tango.DeviceProxy:
        """Return a connected proxy: one that is kept works while the database is away.

        A proxy that never repeats a command also fails once after its server was restarted; a ping takes that.
        """
        proxy = self._proxies.get(device)
        if proxy is None:
            proxy = self._proxies[device] = device_proxy(f"tango://{self.tango_host}/{device}")
        with contextlib.suppress(tango.DevFailed):
            proxy.ping()
        return proxy

    def _wanted(self, reading: Reading) -> None:
        self._waiting.setdefault(reading.health.device, []).append(reading)

    def _discover(self) -> Site:
        host, _, port = self.tango_host.rpartition(":")
        database = tango.Database(host, int(port))
        found = []
        for server in database.get_server_list():
            names = list(database.get_device_class_list(server))
            found += [Registered(*pair, server) for pair in zip(names[::2], names[1::2], strict=True)]
        return describe_site(found)

    def _discovered(self, site: Site | None, error: str | None) -> None:
        self._asking = False
        self._ask_s = time.monotonic() + (RETRY_S if error else REDISCOVER_S)
        self.database_error = error or ""
        if site is not None and site != self.site:
            self.site = site
            self._on_site(site)

    def _connect(self, device: str) -> None:
        readings = self._waiting[device]
        self._connecting.add(device)

        def work() -> list[Listener]:
            self._proxies.setdefault(device, device_proxy(f"tango://{self.tango_host}/{device}")).ping()
            return [
                Listener(reading, taurus.Attribute(f"tango://{self.tango_host}/{reading.name}"))
                for reading in list(readings)
            ]

        def done(listeners: list[Listener] | None, error: str | None) -> None:
            self._connecting.discard(device)
            if error or listeners is None:
                self._retry_s[device] = time.monotonic() + RETRY_S
                self.readings.health(device).error = error or ""
                return
            self._listeners += listeners
            left = readings[len(listeners) :]
            self._waiting.pop(device)
            if left:
                self._waiting[device] = left

        self._jobs.probe(work, done)
