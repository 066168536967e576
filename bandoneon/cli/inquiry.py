"""What runs, asked by Tango: the supervisors of a site and its archivers, wherever they are."""

import json
from collections.abc import Collection
from typing import Any, cast

import tango

from bandoneon.cli.options import CommandError, Target
from bandoneon.cli.report import Report, unknown, unknown_server
from bandoneon.site.database import SiteDatabase
from bandoneon.site.desired import Entry
from bandoneon.site.reach import endpoint, reach
from bandoneon.tangolink.proxy import device, read, sentence

TIMEOUT_S = 1.0

_FIGURES = {"attributes": "attributes_archived", "events_per_s": "events_per_s", "lag_s": "lag_s", "lost": "lost"}
"""What `status` shows of an archiver, and the attribute it comes from."""

_SUPERVISOR = "tango/admin/"


class Silent(CommandError):
    """A device whose server does not answer."""


def ask(found: Target, hosts: Collection[str] = ()) -> Report:
    """Ask the supervisors of a site, or only those of some hosts; raise CommandError when the database does not answer.

    The servers of a supervisor that does not answer are unknown.
    """
    try:
        database = SiteDatabase(found.tango_host)
        site, entries = _entries(found, database)
        result = Report(site, found.tango_host)
        supervisors = [entry.name for entry in entries if entry.kind == "device" and entry.name.startswith(_SUPERVISOR)]
        for name in supervisors:
            if hosts and name.removeprefix(_SUPERVISOR) not in hosts:
                continue
            try:
                result.servers += _servers(database, name)
            except (tango.DevFailed, Silent) as error:
                result.servers += _unknown_servers(database, entries, name.removeprefix(_SUPERVISOR))
                result.problems.append(
                    f"{sentence(error, f'the supervisor {name}')}; the instruments may run all the same, "
                    f"`{'./run up SITE' if found.running is None else found.running.up_command}` starts it again"
                )
        stopped = [server["name"] for server in result.servers if server["state"] == "stopped"]
        result.may_end = _may_end(database, stopped)
        result.archivers = [_archiver(database, name) for _, name in result.archiver_devices()]
    except tango.DevFailed as error:
        raise CommandError(sentence(error, "the Tango database")) from error
    return result


def supervisor_of(host: str) -> str:
    """Return the device name of a host's supervisor."""
    return f"tango/admin/{host}"


def _entries(found: Target, database: SiteDatabase) -> tuple[str, list[Entry]]:
    """Return the site's name and what it owns, as the database has it."""
    sites = database.sites()
    if found.running is not None:
        site = found.running.site
    elif len(sites) == 1:
        site = next(iter(sites))
    else:
        known = ", ".join(sorted(sites))
        raise CommandError(
            f"the database at {found.tango_host} has {'the sites ' + known if known else 'no site'}: "
            f"{'name one by --site' if known else 'apply one with `./run apply`'}"
        )
    return site, sorted(sites.get(site, ()))


def _servers(database: SiteDatabase, supervisor: str) -> list[dict[str, Any]]:
    return json.loads(read(_proxy(database, supervisor), "report") or "[]")


def _proxy(database: SiteDatabase, name: str) -> tango.DeviceProxy:
    """Return a proxy of a device whose server answers: with a frozen one its making alone takes Tango seconds."""
    reference = database.reference(name)
    if not reference:
        raise Silent(f"{name} does not run")
    if reach(endpoint(reference), TIMEOUT_S) != "answers":
        raise Silent(f"{name} does not answer within {TIMEOUT_S:g} s")
    return device(name, TIMEOUT_S)


def _unknown_servers(database: SiteDatabase, entries: list[Entry], host: str) -> list[dict[str, Any]]:
    """Return what the database says of a host's servers."""
    values = database.read(entry for entry in entries if entry.kind in ("server", "device"))
    devices = [(entry.name, server) for entry, (_, server) in values.items() if entry.kind == "device"]
    return [
        unknown_server(entry.name, devices=tuple(name for name, server in devices if server == entry.name))
        for entry, value in values.items()
        if entry.kind == "server" and value[0] == host and value[1] != "0"
    ]


def _may_end(database: SiteDatabase, servers: list[str]) -> frozenset[str]:
    """Return those of `servers` whose policy lets them end well."""
    values = database.read(Entry("property", f"dserver/{name}/restart") for name in servers)
    return frozenset(entry.parent.name for entry, value in values.items() if value[0] != "permanent")


def _archiver(database: SiteDatabase, name: str) -> dict[str, Any]:
    try:
        state, *values = cast("list[Any]", _proxy(database, name).read_attributes(["State", *_FIGURES.values()]))
    except (tango.DevFailed, Silent):
        return unknown(name)
    shown = [None if value.has_failed else value.value for value in values]
    return {"device": name, "state": str(state.value), **dict(zip(_FIGURES, shown, strict=True))}
