"""What a window opens on: which database, and what the site file says it shows."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bandoneon.errors import SiteError
from bandoneon.site.running import RunningSite
from gui.presenters.site import Site

PANELS: Mapping[str, str] = {
    "servers": "servers and devices",
    "power": "power meter and trend",
    "rotators": "rotators and trend",
    "trend": "trend alone",
    "archiver": "archiver and log",
    "attention": "what needs a person",
    "log": "log alone",
}
"""The panels a window can be opened on, and what they hold."""


@dataclass(frozen=True)
class Opening:
    """Where the database is and what to show; empty names are found in the database once it answers."""

    tango_host: str
    title: str = ""
    power_meter: str = ""
    rotators: tuple[str, ...] = ()
    supervisors: tuple[str, ...] = ()
    archivers: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """What stands at the top left."""
        return self.title or "Bandoneon"


def find_opening(root: Path, tango_host: str) -> Opening:
    """Return what to open on. `tango_host` ("" is none) wins over the site last brought up; SiteError without both."""
    if not tango_host:
        return from_site(RunningSite.find(root))
    for running in known_sites(root):
        if running.tango_host == tango_host:
            return from_site(running)
    return Opening(tango_host)


def known_sites(root: Path) -> list[RunningSite]:
    """Return the sites that were brought up under `root`, the last one first."""
    found = []
    for name in (None, *sorted(path.parent.name for path in root.glob("*/site.json"))):
        try:
            found.append(RunningSite.find(root, name))
        except SiteError:
            continue
    return found


def from_site(running: RunningSite) -> Opening:
    """Return what the panels section of a site file asks for."""
    rotators = running.panels.get("rotators")
    return Opening(
        running.tango_host,
        str(running.panels.get("title") or running.site),
        str(running.panels.get("power_meter") or ""),
        tuple(str(name) for name in rotators) if isinstance(rotators, list | tuple) else (),
        (f"tango/admin/{running.host}",) if running.host else (),
        (f"archive/{running.site}/1",),
    )


def completed(opening: Opening, site: Site) -> Opening:
    """Return the opening with what it leaves open taken from the database."""
    return replace(
        opening,
        power_meter=opening.power_meter or next(iter(site.power_meters), ""),
        rotators=opening.rotators or site.rotators,
        supervisors=_with(opening.supervisors, site.supervisors),
        archivers=_own_archivers(opening.archivers, site.archivers),
    )


def _own_archivers(expected: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the archivers found: those of the expected ones' site if there are any, else all there are."""
    families = {name.lower().rpartition("/")[0] for name in expected}
    own = tuple(name for name in found if name.lower().rpartition("/")[0] in families)
    return own or found or expected


def _with(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    known = {name.lower() for name in first}
    return (*first, *(name for name in second if name.lower() not in known))


def panel_named(arguments: list[str]) -> tuple[str, str]:
    """Return the panel asked for ("" is all of them) and, if it cannot be, the sentence that says so."""
    if not arguments:
        return "", ""
    name = arguments[0].lower()
    if len(arguments) == 1 and name in PANELS:
        return name, ""
    known = ", ".join(PANELS)
    wrong = f"there is no panel {arguments[0]!r}" if len(arguments) == 1 else "at most one panel can be named"
    return "", f"{wrong}; there are: {known}"


def tango_host_of(environment: Mapping[str, str] = os.environ) -> str:
    """Return TANGO_HOST, "" when it is not set."""
    return environment.get("TANGO_HOST", "").partition(",")[0].strip()
