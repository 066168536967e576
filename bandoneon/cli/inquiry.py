"""What runs, asked by Tango: the supervisors of a site and its archivers, wherever they are."""

import json
from typing import Any, cast

import tango

from bandoneon.cli.options import CommandError, Target
from bandoneon.cli.report import Report, unknown
from bandoneon.site.database import SiteDatabase
from bandoneon.tangolink.proxy import device, read, sentence

TIMEOUT_S = 1.0

_FIGURES = {"attributes": "attributes_archived", "events_per_s": "events_per_s", "lag_s": "lag_s", "lost": "lost"}
"""What `status` shows of an archiver, and the attribute it comes from."""


def ask(found: Target) -> Report:
    """Ask the supervisors of a site; raise CommandError when one of them does not answer."""
    try:
        site, supervisors = _supervisors(found)
    except tango.DevFailed as error:
        raise CommandError(sentence(error, "the Tango database")) from error
    result = Report(site, found.tango_host)
    for name in supervisors:
        result.servers += _servers(name)
    result.archivers = [_archiver(name) for _, name in result.archiver_devices()]
    return result


def supervisor_of(host: str) -> str:
    """Return the device name of a host's supervisor."""
    return f"tango/admin/{host}"


def _supervisors(found: Target) -> tuple[str, list[str]]:
    """Return the site's name and its supervisors, as the database has them."""
    sites = SiteDatabase(found.tango_host).sites()
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
    prefix = supervisor_of("")
    names = [entry.name for entry in sorted(sites.get(site, ())) if entry.kind == "device"]
    return site, [name for name in names if name.startswith(prefix)]


def _servers(supervisor: str) -> list[dict[str, Any]]:
    try:
        return json.loads(read(device(supervisor, TIMEOUT_S), "report") or "[]")
    except tango.DevFailed as error:
        reason = sentence(error, f"the supervisor {supervisor}")
        raise CommandError(f"{reason}; the instruments may run all the same, `./run up` starts it again") from error


def _archiver(name: str) -> dict[str, Any]:
    try:
        proxy = device(name, TIMEOUT_S)
        state, *values = cast("list[Any]", proxy.read_attributes(["State", *_FIGURES.values()]))
    except tango.DevFailed:
        return unknown(name)
    shown = [None if value.has_failed else value.value for value in values]
    return {"device": name, "state": str(state.value), **dict(zip(_FIGURES, shown, strict=True))}
