"""Refuses names in a site file that nothing has: quantities, properties, simulators, server patterns. Pure."""

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bandoneon.errors import SiteError
from bandoneon.site.model import Instrument, Simulate, Site

TANGO_PROPERTIES: Final = frozenset(
    {
        "logging_level",
        "logging_target",
        "logging_rft",
        "polled_attr",
        "polled_cmd",
        "poll_ring_depth",
        "min_poll_period",
    }
)
"""Device properties that Tango itself reads, of every device."""


@dataclass(frozen=True)
class Names:
    """What there is; the caller knows it, for registries and device classes lie above this package.

    `setups` are those of each simulator, by model; `of_class` returns the quantities and the properties of a class.
    """

    setups: Mapping[str, Collection[str]]
    of_class: Callable[[str], tuple[Collection[str], Collection[str]]]


def check_names(site: Site, names: Names) -> None:
    """Raise SiteError for the first name of an instrument that its class or simulator does not have."""
    for n, one in enumerate(site.instruments):
        key = f"instruments.{n}"
        if one.simulate is not None:
            _check_simulator(f"{key}.simulate", one.simulate, names.setups)
        _check_instrument(key, one, *names.of_class(one.device_class))


def _check_instrument(key: str, one: Instrument, quantities: Collection[str], properties: Collection[str]) -> None:
    for name in one.quantities:
        _check(f"{key}.quantities.{name}", f"{one.device_class} has no quantity {name}", name, quantities)
    own = set(Instrument.model_fields) | {"quantity_periods_s"}
    for name in one.properties:
        if name.lower() not in TANGO_PROPERTIES:
            allowed = [known for known in properties if known not in own]
            _check(f"{key}.properties.{name}", f"{one.device_class} has no property {name}", name, allowed)


def _check_simulator(key: str, simulate: Simulate, setups: Mapping[str, Collection[str]]) -> None:
    _check(f"{key}.model", f"there is no simulator {simulate.model}", simulate.model, setups)
    if simulate.setup is not None:
        _check(
            f"{key}.setup", f"{simulate.model} has no setup {simulate.setup}", simulate.setup, setups[simulate.model]
        )


def check_patterns(site: Site, servers: Collection[str]) -> None:
    """Raise SiteError for a pattern under `supervision.servers` that fits none of the site's `servers`."""
    for pattern in site.supervision.servers:
        if not any(fnmatch.fnmatch(server, pattern) for server in servers):
            raise SiteError(f"fits no server; {_allowed(pattern, servers)}", key=f"supervision.servers.{pattern}")


def _check(key: str, problem: str, name: str, known: Iterable[str]) -> None:
    """Raise SiteError unless `name` is known; Tango tells no upper from lower case."""
    names = list(known)
    if name.lower() not in {one.lower() for one in names}:
        raise SiteError(f"{problem}; {_allowed(name, names)}", key=key)


def _allowed(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}Allowed are: {', '.join(names) or 'none'}"
