"""Which devices a window shows, decided from the devices of the Tango database and their classes."""

from collections.abc import Iterable
from typing import NamedTuple

_ORDER = {"Archiver": 2, "Projector": 2, "Simulator": 3, "Supervisor": 4}
_HIDDEN = ("DServer", "DataBase", "Stream")


class Registered(NamedTuple):
    """A device of the Tango database."""

    device: str
    class_name: str
    server: str


class Site(NamedTuple):
    """The devices of a site by what they are for; `devices` is in the order of the device list."""

    supervisors: tuple[str, ...] = ()
    power_meters: tuple[str, ...] = ()
    rotators: tuple[str, ...] = ()
    archivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def describe_site(registered: Iterable[Registered]) -> Site:
    """Return the site: instruments first, then archivers, simulators, supervisors."""
    shown = sorted(
        (entry for entry in registered if entry.class_name not in _HIDDEN),
        key=lambda entry: (_ORDER.get(entry.class_name, 1), entry.device.lower()),
    )

    def of(class_name: str) -> tuple[str, ...]:
        return tuple(entry.device for entry in shown if entry.class_name == class_name)

    return Site(
        of("Supervisor"), of("Newport1830C"), of("ELL14"), of("Archiver"), tuple(entry.device for entry in shown)
    )
