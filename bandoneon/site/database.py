"""Plans and applies a site in a real Tango database, and records there what belongs to which site.

The record is the free property object `bandoneon` of the database: one property per site, with an element
`<kind> <name>` for each entry the site owns.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import tango

from bandoneon.site.desired import Entry, Kind, Value
from bandoneon.site.diff import Change, Plan, changed_servers, diff, owned_after
from bandoneon.site.reach import address

RECORD = "bandoneon"
"""Free property object with one property per site: what it owns."""

CHANGED = "bandoneon_changed"
"""Free property object with one property per server: when its entries changed last, in ns since 1970."""

HOST = "host"
"""Property of `dserver/<server>`: the host, by the site file's name, whose supervisor runs the server. The host in the
database's own record is overwritten with the machine's name whenever a server starts."""


class SiteDatabase:
    """The part of a Tango database that a site sees."""

    def __init__(self, tango_host: str) -> None:
        """Connect to the database at NAME:PORT, of several to the first; raises DevFailed when it does not answer."""
        self._database: Any = tango.Database(*address(tango_host))

    def sites(self) -> dict[str, set[Entry]]:
        """Return what each site owns, by the site's name."""
        names = [str(name) for name in self._database.get_object_property_list(RECORD, "*")]
        if not names:
            return {}
        found = cast("Mapping[str, Iterable[str]]", self._database.get_property(RECORD, names))
        return {site: {_entry(line) for line in lines if line} for site, lines in found.items()}

    def plan(
        self, site: str, desired: Mapping[Entry, Value], *, adopt: Iterable[str] = (), prune: bool = False
    ) -> Plan:
        """Return what has to change; raises SiteError for entries that are not the site's."""
        sites = self.sites()
        owners = {entry: name for name, entries in sites.items() for entry in sorted(entries)}
        owned = sites.get(site, set())
        actual = self.read([*desired, *(entry for entry in sorted(owned) if entry not in desired)])
        return diff(site, desired, actual, owners, adopt=tuple(adopt), prune=prune)

    def apply(self, site: str, desired: Mapping[Entry, Value], plan: Plan) -> None:
        """Carry out a plan. What is about to be made is recorded first, so that a crash leaves nothing unowned."""
        owned = self.sites().get(site, set())
        after = owned_after(plan, desired, owned)
        if owned | after != owned:
            self._record(site, owned | after)
        try:
            for change in plan.changes:
                self._carry_out(change)
        finally:
            self._note_changed(changed_servers(plan, desired))
        if after != owned | after:
            self._record(site, after)

    def _note_changed(self, servers: Iterable[str]) -> None:
        now_ns = time.time_ns()
        values = {server: [str(now_ns)] for server in servers}
        if values:
            self._database.put_property(CHANGED, values)

    def changed_ns(self, servers: Iterable[str]) -> dict[str, int]:
        """Return when the entries of `servers` changed last, in ns since 1970, of those of which that is known."""
        names = list(servers)
        found = cast("Mapping[str, Sequence[str]]", self._database.get_property(CHANGED, names) if names else {})
        return {name: int(values[0]) for name, values in found.items() if values}

    def reference(self, device: str) -> str:
        """Return the CORBA reference of a device (`IOR:…`), "" when it does not run; DevFailed if there is none."""
        info: Any = self._database.import_device(device)
        return str(info.ior) if info.exported else ""

    def _record(self, site: str, entries: set[Entry]) -> None:
        self._database.put_property(RECORD, {site: [f"{entry.kind} {entry.name}" for entry in sorted(entries)]})

    def read(self, entries: Iterable[Entry]) -> dict[Entry, Value]:
        """Return those of `entries` that exist, with their values."""
        found: dict[Entry, Value] = {}
        properties: dict[str, list[Entry]] = {}
        attributes: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.kind == "property":
                properties.setdefault(_device_part(entry), []).append(entry)
            elif entry.kind == "attribute_property":
                attributes.setdefault(_device_part(entry), []).append(entry)
            else:
                value = self._server(entry.name) if entry.kind == "server" else self._device(entry.name)
                if value is not None:
                    found[entry] = value
        for device, wanted in properties.items():
            values = self._database.get_device_property(device, [entry.name.split("/")[3] for entry in wanted])
            for entry in wanted:
                elements = tuple(str(element) for element in values[entry.name.split("/")[3]])
                if elements:
                    found[entry] = elements
        for device, wanted in attributes.items():
            names = sorted({entry.name.split("/")[3] for entry in wanted})
            values = self._database.get_device_attribute_property(device, names)
            for entry in wanted:
                _, _, _, attribute, key = entry.name.split("/")
                elements = tuple(str(element) for element in values.get(attribute, {}).get(key, ()))
                if elements:
                    found[entry] = elements
        return found

    def _device(self, name: str) -> Value | None:
        try:
            info = self._database.get_device_info(name)
        except tango.DevFailed as error:
            if error.args[0].reason == "DB_DeviceNotDefined":
                return None
            raise
        return str(info.class_name), str(info.ds_full_name)

    def _server(self, name: str) -> Value | None:
        if self._device(f"dserver/{name}") is None:
            return None
        hosts = self._database.get_device_property(f"dserver/{name}", [HOST])[HOST]
        # a server that somebody registered by hand has no level at all, which get_server_info cannot read
        *_, level = (str(text).strip() for text in self._database.command_inout("DbGetServerInfo", name))
        return str(hosts[0]) if hosts else "", level or "0"

    def _carry_out(self, change: Change) -> None:
        entry, after = change.entry, change.after
        parts = entry.name.split("/")
        match entry.kind, after:
            case "server", None:
                self._delete_server(entry.name)
            case "server", (host, level):
                if change.before is None:
                    self._add_device(f"dserver/{entry.name}", "DServer", entry.name)
                info: Any = tango.DbServerInfo()
                # Mode 1 means that the host's supervisor controls the server; level 0 is the supervisor's own.
                info.name, info.host, info.mode, info.level = entry.name, host, int(level != "0"), int(level)
                self._database.put_server_info(info)
                self._database.put_device_property(f"dserver/{entry.name}", {HOST: [host]})
            case "device", None:
                self._database.delete_device(entry.name)
            case "device", (device_class, server):
                self._add_device(entry.name, device_class, server)
            case "property", None:
                self._database.delete_device_property(_device_part(entry), parts[3])
            case "property", values:
                self._database.put_device_property(_device_part(entry), {parts[3]: list(values or ())})
            case "attribute_property", None:
                self._database.delete_device_attribute_property(_device_part(entry), {parts[3]: [parts[4]]})
            case "attribute_property", values:
                self._database.put_device_attribute_property(
                    _device_part(entry), {parts[3]: {parts[4]: list(values or ())}}
                )
            case _, values:
                raise ValueError(f"{entry.kind} {entry.name} cannot be {values}")

    def _delete_server(self, name: str) -> None:
        """Delete a server, and nothing that somebody else put into it: DbDeleteServer would take all its devices."""
        admin = f"dserver/{name}"
        self._database.delete_property(CHANGED, name)
        self._database.delete_server_info(name)
        devices = [str(device).lower() for device in list(self._database.get_device_class_list(name))[::2]]
        if set(devices) <= {admin.lower()}:
            self._database.delete_server(name)
        else:
            self._database.delete_device_property(admin, HOST)

    def _add_device(self, name: str, device_class: str, server: str) -> None:
        info: Any = tango.DbDevInfo()
        info.name, info._class, info.server = name, device_class, server
        self._database.add_device(info)


def _entry(line: str) -> Entry:
    kind, _, name = line.partition(" ")
    return Entry(cast("Kind", kind), name)


def _device_part(entry: Entry) -> str:
    return "/".join(entry.name.split("/")[:3])
