"""Which servers there are: for each class of server its module, the device classes in it, and what it simulates.

A new instrument is one line here; the contract tests find it by that line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Server:
    """A class of server: `<name>/<instance>` in the Tango database.

    `model` is the package below `instruments`, "" for servers that are no instruments.
    """

    module: str
    devices: tuple[str, ...]
    model: str = ""
    streams: bool = False


def _instrument(model: str, *devices: str, streams: bool = False) -> Server:
    return Server(f"device_servers.instruments.{model}.device", devices, model, streams)


SERVERS: Final[Mapping[str, Server]] = {
    "Newport1830C": _instrument("newport_1830c", "Newport1830C"),
    "ElliptecBus": _instrument("ell14", "ElliptecBus", "ELL14"),
    "Simulator": Server("device_servers.simulators.device", ("Simulator",)),
    "Supervisor": Server("device_servers.supervisor.device", ("Supervisor",)),
    "Archiver": Server("archiver.device", ("Archiver",)),
    "Projector": Server("archiver.projector", ("Projector",)),
}
