"""The Tango servers whose attributes an archiver wants: found in the database, subscribed to when they run.

One `ServerWatch` per server tells when it comes and goes. While it runs, its devices' configuration is read again every
few seconds: changed units and new attributes show without a restart.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import tango

from archiver.ingest import Ingest
from archiver.sources import tango_streams
from archiver.sources.selection import Selection
from archiver.sources.tango_pull import PullSource
from archiver.sources.tango_streams import StreamSource
from bandoneon.record import AttributeDefinition, Format
from bandoneon.tangolink.proxy import device, read, reasons, sentence
from bandoneon.tangolink.subscription import ServerRun, ServerWatch

DISCOVERY_PERIOD_S: Final = 2.0
CONFIGURATION_PERIOD_S: Final = 5.0

REFUSED_PERIOD_S: Final = 60.0
"""How often an attribute that pushes nothing is tried again: its server may have begun to."""

_DISCOVERIES_PER_REVIEW: Final = 15
"""So often new devices are looked for until those known are asked again which server they belong to."""

_PUSHES_NOTHING: Final = ("API_AttributePollingNotStarted", "API_EventPropertiesNotSet")

State = Literal["archived", "failed", "waiting", "not pushed"]


@dataclass(frozen=True, slots=True)
class Status:
    """How one attribute is archived: by which source, or why not."""

    name: str
    source: str
    state: State
    reason: str = ""


class WatchedServer:
    """Subscribes to what is wanted of one server, each time it comes."""

    def __init__(self, server: str, selection: Selection, ingest: Ingest, tango_host: str) -> None:
        self._selection = selection
        self._ingest = ingest
        self._tango_host = tango_host
        self._status: dict[str, Status] = {}
        self._definitions: dict[str, AttributeDefinition] = {}
        self._attached: dict[str, PullSource | StreamSource] = {}
        self._refused_s: dict[str, float] = {}
        self._run: ServerRun | None = None
        self._tended_s = 0.0
        self.watch = ServerWatch(server, self._came, self._went, self._tend, self._heard)

    @property
    def status(self) -> list[Status]:
        """How each of its attributes is archived."""
        return list(self._status.copy().values())

    def _came(self, run: ServerRun) -> None:
        self._run = run
        self._definitions.clear()
        self._refused_s.clear()
        self._review(run)

    def _heard(self) -> float:
        return max((source.heard_s for source in self._attached.values()), default=0.0)

    def _went(self, reason: str) -> None:
        for name in self._attached:
            self._ingest.detach(name, "server_down")
        # a subscription made while one of the run before is left is taken for that one's by Tango, and gets no events
        self._ingest.settle()
        self._attached.clear()
        for name, status in self._status.copy().items():
            self._status[name] = Status(name, status.source, "waiting", reason)

    def _tend(self) -> None:
        if time.monotonic() - self._tended_s >= CONFIGURATION_PERIOD_S and self._run is not None:
            # the next ping tells whether the server is gone
            with contextlib.suppress(tango.DevFailed):
                self._review(self._run)

    def _review(self, run: ServerRun) -> None:
        """Subscribe to what is new in the server, and tell what has changed; DevFailed when it does not answer."""
        self._tended_s = time.monotonic()
        admin = device(f"dserver/{run.server}")
        listed = [str(entry).split("::") for entry in cast("Sequence[str]", admin.command_inout("QueryDevice"))]
        for class_name, name in listed:
            if class_name == "Stream":
                self._try(name.lower(), self._review_stream)
        for _, name in listed:
            if self._selection.wants_device(name):
                self._try(name.lower(), lambda device_name: self._review_device(device_name, run))

    def _try(self, device_name: str, review: Callable[[str], None]) -> None:
        """Review a device; one that does not answer does not keep the others waiting, and is tried again."""
        try:
            review(device_name)
            self._status.pop(device_name, None)
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, it is shown, and the others are archived
            self._status[device_name] = Status(device_name, "", "failed", sentence(error, device_name))

    def _review_device(self, name: str, run: ServerRun) -> None:
        proxy = device(name)
        configuration = _configuration(proxy)
        incarnation = _incarnation(proxy, configuration) or run.started_ns
        for info in configuration:
            definition = define(info, name, self._tango_host)
            if not self._selection.wants(definition.name):
                continue
            before = self._definitions.get(definition.name)
            if before is not None and (before.type, before.format) != (definition.type, definition.format):
                # another attribute by the same name: Tango sends its events only to who subscribes to it again
                self._ingest.detach(definition.name, "unsubscribed")
                before = None
            if before is not None:
                if definition != before:
                    self._ingest.configure(definition)
                    self._definitions[definition.name] = definition
            elif time.monotonic() >= self._refused_s.get(definition.name, 0.0) + REFUSED_PERIOD_S:
                self._status[definition.name] = self._subscribe(proxy, definition, incarnation, info.writable)

    def _subscribe(
        self, proxy: tango.DeviceProxy, definition: AttributeDefinition, incarnation: int, access: tango.AttrWriteType
    ) -> Status:
        name = definition.name
        try:
            source = PullSource(proxy, definition.attribute, writable=access != tango.AttrWriteType.READ)
        except tango.DevFailed as error:
            return self._refused(name, error)
        self._ingest.attach(definition, source, incarnation)
        self._attached[name] = source
        self._definitions[name] = definition
        return Status(name, PullSource.name, "archived")

    def _refused(self, name: str, error: tango.DevFailed) -> Status:
        if not set(reasons(error)) & set(_PUSHES_NOTHING):
            return Status(name, PullSource.name, "failed", sentence(error, name))
        self._refused_s[name] = time.monotonic()
        reason = "its server pushes no archive events of it"
        return Status(name, "", "failed" if self._selection.names(name) else "not pushed", reason)

    def _review_stream(self, name: str) -> None:
        """Subscribe to a stream device if it carries something wanted, once."""
        batch = f"{name}/{tango_streams.ATTRIBUTE}"
        if batch in self._attached:
            return
        proxy = device(name)
        carried = [
            str(attribute).lower()
            for attribute in cast("Sequence[str]", read(proxy, tango_streams.CARRIED) or ())
            if self._selection.wants(str(attribute))
        ]
        if not carried:
            return
        source = StreamSource(proxy)
        definitions = [_definition_of(attribute, self._tango_host) for attribute in carried]
        for definition in definitions:
            self._definitions[definition.name] = definition
            self._status[definition.name] = Status(definition.name, StreamSource.name, "archived")
        own = define(_configuration(proxy, tango_streams.ATTRIBUTE)[0], name, self._tango_host)
        self._ingest.attach_stream(own, definitions, source)
        self._attached[batch] = source


class WatchedServers:
    """All servers that have wanted attributes, found in the database by a thread of its own."""

    def __init__(self, selection: Selection, ingest: Ingest, tango_host: str) -> None:
        self.problem = ""
        self._selection = selection
        self._ingest = ingest
        self._tango_host = tango_host
        self._servers: dict[str, WatchedServer] = {}
        self._known: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archiver discovery", daemon=True)

    def start(self) -> None:
        """Begin to look for servers."""
        self._thread.start()

    def stop(self) -> None:
        """End every thread; what is subscribed stays with the ingest."""
        self._stopping.set()
        self._thread.join()
        watches = [server.watch for server in self._servers.values()]
        for watch in watches:
            watch.stop()
        for watch in watches:
            watch.join()

    @property
    def status(self) -> list[Status]:
        """How each wanted attribute is archived, and each server that was not seen yet."""
        found: list[Status] = []
        for name, server in self._servers.copy().items():
            found += server.status or [Status(f"dserver/{name.lower()}", "", "waiting", server.watch.reason)]
        return found

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            count = 0
            while True:
                if count % _DISCOVERIES_PER_REVIEW == 0:
                    self._known.clear()
                count += 1
                try:
                    self._discover()
                    self.problem = ""
                except tango.DevFailed as error:
                    self.problem = sentence(error)
                if self._stopping.wait(DISCOVERY_PERIOD_S):
                    return

    def _discover(self) -> None:
        database = tango.Database()
        for pattern in self._selection.device_patterns:
            for name in cast("Sequence[str]", database.command_inout("DbGetDeviceWideList", pattern)):
                if name.lower() not in self._known:
                    server = str(database.get_device_info(name).ds_full_name)
                    self._watch(server)
                    self._known.add(name.lower())

    def _watch(self, server: str) -> None:
        if server and server not in self._servers:
            watched = WatchedServer(server, self._selection, self._ingest, self._tango_host)
            self._servers[server] = watched
            watched.watch.start()


def define(info: Any, device_name: str, tango_host: str) -> AttributeDefinition:
    """Return the definition, still without id, of an attribute from its Tango configuration (AttributeInfoEx)."""
    return AttributeDefinition(
        id=-1,
        name=f"{device_name}/{info.name}".lower(),
        tango_host=tango_host,
        type=int(info.data_type),
        format=cast("Format", str(info.data_format)),
        unit="" if info.unit == "No unit" else info.unit,
        label=info.label,
        min_value=_limit(info.min_value),
        max_value=_limit(info.max_value),
        min_warning=_limit(info.alarms.min_warning),
        max_warning=_limit(info.alarms.max_warning),
        min_alarm=_limit(info.alarms.min_alarm),
        max_alarm=_limit(info.alarms.max_alarm),
        enum_labels=tuple(info.enum_labels),
    )


def _limit(text: str) -> str:
    return "" if text == "Not specified" else text


def _configuration(proxy: tango.DeviceProxy, attribute: str | None = None) -> list[Any]:
    wanted = list(proxy.get_attribute_list()) if attribute is None else [attribute]
    return list(cast("Any", proxy.get_attribute_config_ex(wanted)))


def _definition_of(attribute: str, tango_host: str) -> AttributeDefinition:
    device_name, _, name = attribute.rpartition("/")
    return define(_configuration(device(device_name), name)[0], device_name, tango_host)


def _incarnation(proxy: tango.DeviceProxy, configuration: list[Any]) -> int:
    """Return when the device's server process started, as our own servers say it themselves; 0 for others."""
    if not any(info.name == "incarnation" for info in configuration):
        return 0
    return int(cast("int", read(proxy, "incarnation")))
