"""What a site asks of the Tango database: servers, devices, properties, attribute properties. Pure.

The names follow the rules of the documentation's reference: a server is `<Class>/<device name with underscores>`,
a simulator `sim/<family>/<n>`, and so on. Which classes live in which server is told by the caller (the registry of
device servers lies above this package).
"""

import difflib
import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from bandoneon.errors import SiteError
from bandoneon.site.model import (
    ArchiverSettings,
    Host,
    Instrument,
    Policy,
    PropertyValue,
    QuantitySettings,
    Site,
    instance,
    simulator_name,
)
from bandoneon.site.names import Names, check_names, check_patterns
from bandoneon.site.reader import SiteFile

Kind = Literal["server", "device", "property", "attribute_property"]

Value = tuple[str, ...]
"""Of a server (host, level), of a device (class, server), of a property its elements."""


class Entry(NamedTuple):
    """One thing in the database.

    `name` is `Class/instance`, `domain/family/member`, that with `/property`, or with `/attribute/property`.
    A property of a server belongs to its admin device `dserver/Class/instance`.
    """

    kind: Kind
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """What Tango tells entries apart by: no upper from lower case."""
        return self.kind, self.name.lower()

    @property
    def parent(self) -> "Entry":
        """The device or server a property belongs to; a device or server itself."""
        if self.kind in ("server", "device"):
            return self
        owner = "/".join(self.name.split("/")[:3])
        return Entry("server", owner[len("dserver/") :]) if owner.startswith("dserver/") else Entry("device", owner)


class ServerClass(Protocol):
    """What has to be known of a server: the classes that live in it."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the device classes."""
        ...

    @property
    def streams(self) -> bool:
        """Whether it has a stream device beside them."""
        ...


LEVELS = {"Supervisor": 0, "Simulator": 1, "Archiver": 3, "Projector": 3}
"""Start level by server class; the supervisor itself is not started by the supervisor. Instruments have 2."""

INSTRUMENT_LEVEL = 2

PORTS_PER_SERVER = 3
"""A server of a public host listens on three: CORBA's, events, heartbeats."""

SIMULATED_LINE = "baud=9600"
"""A pseudo-terminal accepts any rate; every simulated instrument is opened with this one."""


def desired(site: Site, run: Path, servers: Mapping[str, ServerClass]) -> dict[Entry, Value]:
    """Return every entry the site asks for, in the order in which they have to be made.

    `run` is where simulators put their pseudo-terminals; `servers` maps a server's class to what lives in it.
    Raises SiteError for a class that no server has.
    """
    entries: dict[Entry, Value] = {}
    for host in site.hosts:
        _register(entries, f"Supervisor/{host.name}", host.name, {f"tango/admin/{host.name}": "Supervisor"})
    for one in site.instruments:
        _instrument(entries, site, one, run, servers)
    for one in site.archivers:
        _archiver(entries, site, one)
    for entry in [entry for entry in entries if entry.kind == "server"]:
        if _is_kept(entry):
            _properties(entries, f"dserver/{entry.name}", dict(_policy(site, entry.name)))
    for n, host in enumerate(site.hosts):
        if host.ports is not None:
            _give_ports(entries, host, host.ports, f"hosts.{n}.ports")
    return entries


def desired_of(
    file: SiteFile, run: Path, servers: Mapping[str, ServerClass], names: Names | None = None
) -> dict[Entry, Value]:
    """As `desired`; the SiteError says where in the file. With `names` those that nothing has are refused too."""
    try:
        entries = desired(file.site, run, servers)
        if names is not None:
            check_names(file.site, names)
            check_patterns(file.site, [entry.name for entry in entries if entry.kind == "server" and _is_kept(entry)])
        return entries
    except SiteError as error:
        raise file.located(error) from None


def _is_kept(server: Entry) -> bool:
    """Whether a server is the supervisor's to keep alive: itself it is not."""
    return not server.name.startswith("Supervisor/")


def supervisor_ports(host: Host) -> str:
    """Return the ports of a public host's supervisor, its first ones: giop,event,heartbeat."""
    first = host.ports[0] if host.ports is not None else 0
    return ",".join(str(first + n) for n in range(PORTS_PER_SERVER))


def _give_ports(entries: dict[Entry, Value], host: Host, ports: tuple[int, int], key: str) -> None:
    """Give every server of a public host its ports: clients outside reach it only by published ones."""
    servers = [entry.name for entry, value in entries.items() if entry.kind == "server" and value[0] == host.name]
    servers = [name for name in servers if not name.startswith("Supervisor/")]
    for n, name in enumerate(servers, 1):
        first = ports[0] + n * PORTS_PER_SERVER
        if first + PORTS_PER_SERVER - 1 > ports[1]:
            need = ports[0] + (len(servers) + 1) * PORTS_PER_SERVER - 1
            raise SiteError(f"its {len(servers) + 1} servers need the ports {ports[0]} to {need}", key=key)
        texts = ",".join(str(first + port) for port in range(PORTS_PER_SERVER))
        entries[Entry("property", f"dserver/{name}/ports")] = (texts,)


def server_of(site: Site, one: Instrument, servers: Mapping[str, ServerClass]) -> str:
    """Return the server an instrument lives in: its own, or that of the device whose line it shares."""
    classes = {device: server for server, known in servers.items() for device in known.devices}
    if one.device_class not in classes:
        near = difflib.get_close_matches(one.device_class, classes, n=1)
        known = f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(classes))}"
        raise SiteError(f"there is no class {one.device_class}; {known}", key=_key(site, one, "class"))
    line = one
    if one.bus is not None:
        line = next(other for other in site.instruments if other.name.lower() == (one.bus or "").lower())
        if classes.get(line.device_class) != classes[one.device_class]:
            raise SiteError(
                f"a {one.device_class} cannot be on the line of a {line.device_class}", key=_key(site, one, "bus")
            )
    return f"{classes[line.device_class]}/{instance(line.name)}"


def _key(site: Site, one: Instrument, key: str) -> str:
    return f"instruments.{site.instruments.index(one)}.{key}"


def _instrument(
    entries: dict[Entry, Value], site: Site, one: Instrument, run: Path, servers: Mapping[str, ServerClass]
) -> None:
    name, host = one.name.lower(), site.host_of(one)
    properties: dict[str, PropertyValue | list[PropertyValue] | None] = {
        "connection": _connection(site, one, run),
        "poll_period_s": one.poll_period_s,
        "timeout_s": one.timeout_s,
        "expected_serial": one.expected_serial,
        **one.properties,
    }
    periods = {key: settings.period_s for key, settings in one.quantities.items() if settings.period_s is not None}
    if periods:
        properties["quantity_periods_s"] = [f"{key}={_text(period)}" for key, period in periods.items()]
    if one.simulate is not None:
        simulator = simulator_name(name)
        _register(entries, f"Simulator/{site.site}", host, {simulator: "Simulator"})
        settings = {"model": one.simulate.model, "setup": one.simulate.setup, "seed": one.simulate.seed}
        _properties(entries, simulator, {**settings, "pty": str(_pty(run, one.name))})
    server = server_of(site, one, servers)
    _register(entries, server, host, {name: one.device_class})
    if servers[server.split("/")[0]].streams:
        _register(entries, server, host, {f"stream/{server.lower()}": "Stream"})
    _properties(entries, name, properties)
    for quantity, settings in one.quantities.items():
        for key, value in _attribute_properties(settings).items():
            entries[Entry("attribute_property", f"{name}/{quantity}/{key}")] = (_text(value),)


def _archiver(entries: dict[Entry, Value], site: Site, one: ArchiverSettings) -> None:
    host, name = site.host_of(one), one.name.lower()
    _, family, member = name.split("/")
    _register(entries, f"Archiver/{family}_{member}", host, {name: "Archiver"})
    _properties(
        entries,
        name,
        {"attributes": list(one.attributes), "excluded": list(one.excluded), "max_size_gb": one.max_size_gb},
    )
    if one.projections:
        projector = f"project/{family}/{member}"
        _register(entries, f"Projector/{family}_{member}", host, {projector: "Projector"})
        _properties(entries, projector, {"archiver": name, "projections": list(one.projections)})


def _register(entries: dict[Entry, Value], server: str, host: str, devices: Mapping[str, str]) -> None:
    level = LEVELS.get(server.split("/")[0], INSTRUMENT_LEVEL)
    entries.setdefault(Entry("server", server), (host, str(level)))
    for device, device_class in devices.items():
        entries[Entry("device", device)] = (device_class, server)


def _properties(
    entries: dict[Entry, Value], device: str, values: Mapping[str, PropertyValue | list[PropertyValue] | None]
) -> None:
    for key, value in values.items():
        elements = value if isinstance(value, list) else [value]
        texts = tuple(_text(element) for element in elements if element is not None)
        if texts:  # Tango has no empty property
            entries[Entry("property", f"{device}/{key}")] = texts


def _connection(site: Site, one: Instrument, run: Path) -> str | None:
    if one.bus is not None:
        bus = next(other for other in site.instruments if other.name.lower() == (one.bus or "").lower())
        return _connection(site, bus, run)
    if one.simulate is not None:
        return f"serial://{_pty(run, one.name)}?{SIMULATED_LINE}"
    return one.connection


def _pty(run: Path, instrument: str) -> Path:
    return run / "pty" / instance(instrument)


def _attribute_properties(settings: QuantitySettings) -> dict[str, float]:
    """Return Tango's attribute properties; its CHANGE criterion is called abs_change."""
    values = settings.model_dump(exclude={"period_s", "deadband"}, exclude_none=True)
    if settings.deadband is not None:
        values["abs_change"] = settings.deadband
    return values


def _policy(site: Site, server: str) -> Iterator[tuple[str, PropertyValue]]:
    """Yield the supervision policy of a server: the general one, then each pattern that fits it."""
    policies: list[Policy] = [site.supervision]
    policies += [found for pattern, found in site.supervision.servers.items() if fnmatch.fnmatch(server, pattern)]
    for policy in policies:
        for key in Policy.model_fields:
            value = getattr(policy, key)
            if value is not None:
                yield key, value


def _text(value: PropertyValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
