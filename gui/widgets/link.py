"""The window's link to Tango: taurus listeners feed readings; commands, writes and probes run in threads.

One `ServerWatch` per server says when it answers, first or again: only then are its attributes listened to, anew each
time, and its devices' proxies made. So a restarted server is heard again within about a second of its answer (Tango's
own recovery takes 8 to 18 s), and two traps of taurus 5.4.1 are avoided: an attribute made while the database is down
never recovers, and an enum made while its server is down fails for ever. Nor is a proxy ever made of a server that
hangs: to set its time-out PyTango connects with the interpreter locked, and the window would stand still meanwhile.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import tango

from bandoneon.errors import LinkDown
from bandoneon.tangolink.proxy import device as device_proxy
from bandoneon.tangolink.proxy import sentence
from bandoneon.tangolink.subscription import ServerRun, ServerWatch
from gui.presenters.readings import Reading, Readings
from gui.presenters.site import Registered, Site, describe_site
from gui.widgets.jobs import Done, Jobs

with warnings.catch_warnings():
    # taurus 5.4.1 uses a name that its units library is about to drop
    warnings.simplefilter("ignore", DeprecationWarning)
    import taurus
    from taurus.core import TaurusEventType
    from taurus.core.tango.tangoattribute import TangoAttribute, TangoAttrValue
    from taurus.core.tango.util.tango_taurus import quality_from_tango

taurus.setLogLevel(taurus.Critical)

RETRY_S = 2.0
REDISCOVER_S = 10.0


class ListenedAttribute(TangoAttribute):
    """An attribute that can lose its value: taurus 5.4.1 raises on an enum without one, and tells no listener."""

    def decode(self, attr_value: Any) -> Any:
        """Return what taurus makes of a value; of one that is not valid its time and quality alone."""
        if attr_value.quality != tango.AttrQuality.ATTR_INVALID:
            return super().decode(attr_value)
        decoded = TangoAttrValue(attr=self)
        decoded.time, decoded.quality = attr_value.time, quality_from_tango(attr_value.quality)
        return decoded


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
                self._reading.accept(value, quality, event.time.totime(), time.monotonic(), plain(event.wvalue))
        except Exception as problem:  # noqa: BLE001  an exception here would end taurus's event thread
            self._reading.fail(repr(problem))


def plain(value: Any) -> object:
    """Return a value without taurus's unit and numpy's type; a state by its name."""
    value = getattr(value, "magnitude", value)
    if isinstance(value, Enum | tango.DevState):
        return value.name
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


class WatchedServer:
    """What the window wants of one server. Whatever calls Tango here runs in the thread of its watch."""

    def __init__(self, name: str, tango_host: str) -> None:
        self._tango_host = tango_host
        self._wanted: dict[str, Reading] = {}
        self._listeners: dict[str, Listener] = {}
        self._retry_s = 0.0
        self.proxies: Mapping[str, tango.DeviceProxy] = {}
        self.watch = ServerWatch(name, self._came, lambda _reason: None, self._tend)

    def want(self, reading: Reading) -> None:
        """Listen to an attribute: within a ping if the server runs, else when it comes."""
        self._wanted[reading.name.lower()] = reading

    def close(self) -> None:
        """Listen to nothing any more; `watch` has been stopped."""
        self.watch.join()
        self._unlisten()

    def _came(self, _run: ServerRun) -> None:
        # what belongs to the run before is dead; while one of its subscriptions is left Tango does not make the others
        # anew, but waits for its own recovery
        self._unlisten()
        self.proxies = {}
        self._listen()

    def _tend(self) -> None:
        if len(self._listeners) < len(self._wanted) and time.monotonic() >= self._retry_s:
            self._listen()

    def _listen(self) -> None:
        """Listen to what is not listened to yet; what fails is tried again soon, and keeps nothing else waiting."""
        for name, reading in list(self._wanted.items()):
            if name in self._listeners:
                continue
            try:
                self._make_proxy(reading.health.device)
                full_name = f"tango://{self._tango_host}/{reading.name}"
                taurus.Factory("tango").registerAttributeClass(full_name, ListenedAttribute)
                self._listeners[name] = Listener(reading, taurus.Attribute(full_name))
            except Exception as problem:  # noqa: BLE001  taurus raises what it likes, and this thread must go on
                reading.fail(sentence(problem, reading.name))
                self._retry_s = time.monotonic() + RETRY_S

    def _make_proxy(self, device: str) -> None:
        if device.lower() not in self.proxies:
            made = device_proxy(f"tango://{self._tango_host}/{device}")
            self.proxies = {**self.proxies, device.lower(): made}

    def _unlisten(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


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
        self._waiting: list[Reading] = []
        self._registered: dict[str, str] = {}
        """Server of each device."""
        self._servers: dict[str, WatchedServer] = {}
        self._asking = False
        self._ask_s = 0.0

    def tick(self, now_s: float) -> None:
        """Ask the database when that is due, and hand what is wanted to the watches of its servers."""
        if not self._asking and now_s >= self._ask_s:
            self._asking = True
            self._jobs.probe(self._discover, self._discovered)
        waiting, self._waiting = self._waiting, []
        for reading in waiting:
            server = self._server_of(reading.health.device)
            if server is None:
                self._waiting.append(reading)
            else:
                server.want(reading)

    def command(self, device: str, name: str, argument: object, done: Done) -> None:
        """Run a command of a device, once; `argument` None is none."""

        def work() -> object:
            proxy = self._proxy(device)
            return proxy.command_inout(name) if argument is None else proxy.command_inout(name, argument)

        self._jobs.command(work, done, device)

    def write(self, device: str, attribute: str, value: object, done: Done) -> None:
        """Write an attribute of a device, once."""
        self._jobs.command(lambda: self._proxy(device).write_attribute(attribute, value), done, device)

    def close(self) -> None:
        """Listen to nothing any more."""
        for server in self._servers.values():
            server.watch.stop()
        for server in self._servers.values():
            server.close()

    def _proxy(self, device: str) -> tango.DeviceProxy:
        """Return the proxy made when the device's server last came; it is used also while that seems to be gone."""
        server = self._servers.get(self._registered.get(device.lower(), ""))
        proxy = server.proxies.get(device.lower()) if server is not None else None
        if proxy is None:
            reason = server.watch.reason if server is not None else "the Tango database has not named its server"
            raise LinkDown(f"{device} has not answered yet: {reason}")
        return proxy

    def _server_of(self, device: str) -> WatchedServer | None:
        name = self._registered.get(device.lower())
        if name is None:
            return None
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = WatchedServer(name, self.tango_host)
            server.watch.start()
        return server

    def _discover(self) -> tuple[Registered, ...]:
        host, _, port = self.tango_host.rpartition(":")
        database = tango.Database(host, int(port))
        found = []
        for server in database.get_server_list():
            names = list(database.get_device_class_list(server))
            found += [Registered(*pair, server) for pair in zip(names[::2], names[1::2], strict=True)]
        return tuple(found)

    def _discovered(self, registered: tuple[Registered, ...] | None, error: str | None) -> None:
        self._asking = False
        self._ask_s = time.monotonic() + (RETRY_S if error else REDISCOVER_S)
        self.database_error = error or ""
        if registered is None:
            return
        self._registered = {entry.device.lower(): entry.server for entry in registered}
        site = describe_site(registered)
        if site != self.site:
            self.site = site
            self._on_site(site)

    def _wanted(self, reading: Reading) -> None:
        self._waiting.append(reading)
