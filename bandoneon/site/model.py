"""The site file's model: what a site may say, in pydantic, with no unknown key allowed.

`bandoneon.site.reader` makes a `Site` of a YAML file; `bandoneon.site.desired` says what it asks of the Tango
database. The JSON schema of this model is committed (`python -m bandoneon.site.schema`).
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

_PART = "[A-Za-z0-9_.-]+"

DeviceName = Annotated[str, StringConstraints(pattern=f"^{_PART}/{_PART}/{_PART}$")]
"""A Tango device name: domain/family/member."""

Word = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]+$")]
"""A name that becomes part of server names and paths."""

TangoHost = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+:\d+$")]
"""The address of a Tango database: NAME:PORT."""

Port = Annotated[int, Field(ge=1, le=65535)]

PropertyValue = str | int | float | bool
"""One element of a Tango property; the database keeps it as text."""


class Section(BaseModel):
    """Base of every part of the site file: unknown keys are refused, text is not cut or converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Database(Section):
    """The Tango database of the site."""

    kind: Literal["embedded", "external"] = "embedded"
    """`embedded`: an sqlite database of the site's own, started by `up`; `external`: one that runs already."""
    host: TangoHost | None = None
    """Address of an external database, NAME:PORT."""
    port: Port | None = None
    """Port of the embedded database; without it 10000 when free, else any free one, and the same next time."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "external" and self.host is None:
            raise ValueError("an external database needs `host: NAME:PORT`")
        if self.kind == "embedded" and self.host is not None:
            raise ValueError("an embedded database has no `host` (it is on loopback); `port` is allowed")
        if self.kind == "external" and self.port is not None:
            raise ValueError("an external database has its port in `host: NAME:PORT`")
        return self


class Host(Section):
    """A machine or container that runs servers; its supervisor is `tango/admin/<name>`."""

    name: Word
    """The supervisor's name."""
    public_host: str | None = None
    """Name under which clients on other machines reach this host; without it servers bind to loopback."""
    ports: tuple[Port, Port] | None = None
    """First and last port servers of a public host may use."""

    @model_validator(mode="after")
    def _ports_in_order(self) -> Self:
        if self.ports is not None and self.ports[0] > self.ports[1]:
            raise ValueError("ports are [first, last], and first is larger here")
        if self.public_host is not None and self.ports is None:
            raise ValueError("a public_host needs `ports: [first, last]`, three for each of its servers")
        return self


class Simulate(Section):
    """A wire-level simulator in place of the instrument."""

    model: str
    """Package name of the instrument: newport_1830c, ell14."""
    setup: str | None = None
    """Which variant of the model, by a name it knows."""
    seed: int | None = None
    """Seed of the model's noise and drift."""


class QuantitySettings(Section):
    """What a site may set for one quantity of an instrument; values are in the quantity's unit."""

    period_s: Annotated[float, Field(gt=0)] | None = None
    """How often it is polled."""
    deadband: Annotated[float, Field(ge=0)] | None = None
    """Change below which no CHANGE event is sent (Tango's abs_change); archiving stays complete."""
    min_value: float | None = None
    """Smallest value that may be written."""
    max_value: float | None = None
    """Largest value that may be written."""
    min_warning: float | None = None
    """Readings below have quality WARNING."""
    max_warning: float | None = None
    """Readings above have quality WARNING."""
    min_alarm: float | None = None
    """Readings below have quality ALARM."""
    max_alarm: float | None = None
    """Readings above have quality ALARM."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        for kind in ("value", "warning", "alarm"):
            low, high = getattr(self, f"min_{kind}"), getattr(self, f"max_{kind}")
            if low is not None and high is not None and low >= high:
                raise ValueError(f"min_{kind} {low:g} is not below max_{kind} {high:g}")
        return self


class Instrument(Section):
    """One instrument device, and how it is reached: exactly one of `connection`, `simulate`, `bus`."""

    name: DeviceName
    """Tango device name: domain/family/member."""
    device_class: Annotated[str, Field(alias="class")]
    """Tango class: Newport1830C, ElliptecBus, ELL14."""
    connection: str | None = None
    """URL of its line: serial:///dev/serial/by-id/…?baud=9600 or tcp://host:port."""
    simulate: Simulate | None = None
    """Use a wire-level simulator instead of a connection."""
    bus: DeviceName | None = None
    """The device whose line it shares; both live in one server."""
    host: Word | None = None
    """Which host runs it; the first when left out."""
    poll_period_s: Annotated[float, Field(gt=0)] | None = None
    """How often its quantities are polled, unless they have a period of their own."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """Longest wait for a reply."""
    expected_serial: str | None = None
    """Serial number it must have; writes are refused when another instrument answers."""
    properties: dict[Word, PropertyValue | list[PropertyValue]] = {}
    """Further device properties of its class."""
    quantities: dict[Word, QuantitySettings] = {}
    """Settings of single quantities."""

    @model_validator(mode="after")
    def _reached_one_way(self) -> Self:
        ways = [way for way in ("connection", "simulate", "bus") if getattr(self, way) is not None]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            raise ValueError(f"needs exactly one of connection, simulate, bus; it has {found}")
        own = {"connection", "poll_period_s", "timeout_s", "expected_serial"} & self.properties.keys()
        if own:
            raise ValueError(f"{min(own)} is a key of the instrument, not one of its properties")
        return self


class ArchiverSettings(Section):
    """One archiver: what it stores, and which files are made of it."""

    name: Annotated[str, StringConstraints(pattern=r"^archive/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+$")]
    """Device name: archive/<site>/<n>."""
    attributes: Annotated[list[str], Field(min_length=1)]
    """Patterns of attribute names: lab/*/*/*."""
    excluded: list[str] = []
    """Patterns of attribute names that are not archived."""
    projections: list[Literal["hdf5"]] = ["hdf5"]
    """Files made of the journal by a projector."""
    max_size_gb: Annotated[float, Field(gt=0)] | None = None
    """Size of the journal at which it raises an alarm."""
    host: Word | None = None
    """Which host runs it; the first when left out."""


class Policy(Section):
    """How a server that ends is restarted."""

    restart: Literal["permanent", "transient", "temporary"] | None = None
    """`permanent`: always; `transient`: unless it left with exit code 0; `temporary`: never."""
    max_restarts: Annotated[int, Field(ge=0)] | None = None
    """At most so many restarts in `window_s`, then it is given up."""
    window_s: Annotated[float, Field(gt=0)] | None = None
    """The sliding window restarts are counted in."""
    backoff_s: Annotated[float, Field(gt=0)] | None = None
    """Wait before the second restart in a row, doubled for each further one; the first restart is immediate."""
    backoff_max_s: Annotated[float, Field(gt=0)] | None = None
    """Longest wait before a restart."""
    stable_s: Annotated[float, Field(gt=0)] | None = None
    """Time a server has to stay up before its back-off starts again from the beginning."""


class Supervision(Policy):
    """The policy of all servers, and of those whose name fits a pattern."""

    servers: dict[str, Policy] = {}
    """Server name pattern (Newport1830C/*) to policy; later patterns win over earlier ones."""


class Panels(Section):
    """What the operator's window shows."""

    title: str = ""
    power_meter: DeviceName | None = None
    rotators: list[DeviceName] = []


class Site(Section):
    """A whole site."""

    site: Word
    """The site's name: part of device names, run and data directories."""
    database: Database = Database()
    hosts: Annotated[list[Host], Field(min_length=1)] = [Host(name="local")]
    instruments: list[Instrument] = []
    archivers: list[ArchiverSettings] = []
    supervision: Supervision = Supervision()
    panels: Panels = Panels()
    adopt: list[str] = []
    """Patterns of devices that exist in the database already, belong to no site, and become this site's."""

    def host_of(self, part: Instrument | ArchiverSettings) -> str:
        """Return the name of the host that runs `part`."""
        return part.host or self.hosts[0].name

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield where (a path of keys and indices) and what is wrong between the parts of the site."""
        yield from self._duplicates()
        hosts = [host.name for host in self.hosts]
        names = {one.name.lower(): one for one in self.instruments}
        for section, parts in (("instruments", self.instruments), ("archivers", self.archivers)):
            for n, part in enumerate(parts):
                if part.host is not None and part.host not in hosts:
                    yield (section, n, "host"), f"{part.host!r} is none of the hosts: {', '.join(hosts)}"
        for n, one in enumerate(self.instruments):
            if one.bus is not None:
                bus = names.get(one.bus.lower())
                if bus is None or bus.bus is not None:
                    lines = [other.name for other in self.instruments if other.bus is None]
                    yield (
                        ("instruments", n, "bus"),
                        f"{one.bus} is no instrument with a line of its own: {', '.join(lines) or 'there is none'}",
                    )
                elif self.host_of(bus) != self.host_of(one):
                    yield ("instruments", n, "host"), f"must be that of its bus: {self.host_of(bus)}"
        shown = [("power_meter", self.panels.power_meter), *(("rotators", name) for name in self.panels.rotators)]
        for key, name in shown:
            if name is not None and name.lower() not in names:
                known = ", ".join(other.name for other in self.instruments)
                yield ("panels", key), f"{name} is none of the instruments: {known or 'there are none'}"

    def _duplicates(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        named = (("hosts", self.hosts), ("instruments", self.instruments), ("archivers", self.archivers))
        for section, parts in named:
            seen: set[str] = set()
            for n, part in enumerate(parts):
                if part.name.lower() in seen:
                    yield (section, n, "name"), f"{part.name} is there twice; every name must be its own"
                seen.add(part.name.lower())
        yield from self._collisions()

    def _collisions(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield instruments and archivers that would take the device or the server of another part."""
        taken = {f"tango/admin/{host.name.lower()}": f"the supervisor of {host.name}" for host in self.hosts}
        for n, one in enumerate(self.archivers):
            for name in (one.name.lower(), one.name.lower().replace("archive/", "project/", 1)):
                taken.setdefault(name, f"archivers.{n}")
        instances: dict[str, str] = {}
        for n, one in enumerate(self.instruments):
            name, place = one.name.lower(), ("instruments", n, "name")
            if name in taken:
                yield place, f"{one.name} is the name of {taken[name]}; every name must be its own"
            if one.simulate is not None:
                simulator = simulator_name(name)
                if simulator in taken:
                    yield (
                        ("instruments", n, "simulate"),
                        f"its simulator would be {simulator}, the name of {taken[simulator]}: change family or member",
                    )
                taken.setdefault(simulator, f"the simulator of {one.name}")
            other = instances.setdefault(instance(name), name)
            if other != name:
                yield place, f"its server would be …/{instance(name)}, and so is that of {other}: change the name"


def instance(device: str) -> str:
    """Return a device name as the instance of a server: underscores for slashes."""
    return device.lower().replace("/", "_")


def simulator_name(instrument: str) -> str:
    """Return the device name of an instrument's simulator: sim/<family>/<n>."""
    _, family, member = instrument.lower().split("/")
    return f"sim/{family}/{member}"
