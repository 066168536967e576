"""What a site file asks of the database, its names checked against what device classes and simulators have."""

import importlib

from bandoneon.site.desired import Entry, Value, desired_of
from bandoneon.site.names import Names
from bandoneon.site.reader import SiteFile
from bandoneon.site.running import default_root
from device_servers.registry import SERVERS
from device_servers.simulators.models import MODELS


def wanted_of(file: SiteFile) -> dict[Entry, Value]:
    """Return every entry a site file asks for; SiteError says where a name is none."""
    setups = {model: entry.setups for model, entry in MODELS.items()}
    return desired_of(file, default_root() / file.site.site, SERVERS, Names(setups, names_of))


def names_of(device_class: str) -> tuple[set[str], set[str]]:
    """Return the names of a device class's quantities and of its properties."""
    (server,) = (one for one in SERVERS.values() if device_class in one.devices)
    found = getattr(importlib.import_module(server.module), device_class)
    quantities = {quantity.name for base in found.__mro__ for quantity in base.__dict__.get("quantities", ())}
    return quantities, set(found.TangoClassClass.device_property_list)
