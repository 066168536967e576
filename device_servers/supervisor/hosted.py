"""Which servers the Tango database gives to a host's supervisor, and how they are to be kept alive."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false
# (pytango's stubs are not complete)

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import tango

from device_servers.supervisor.fleet import Registered
from device_servers.supervisor.policy import Policy

PROPERTIES: Final = ["host", "ports", *(field.name for field in fields(Policy))]
"""Properties of `dserver/<server>`; the site file's model has the same names."""

CONTROLLED: Final = 1


def hosted_servers(host: str, log: Any) -> list[Registered]:
    """Return the servers that belong to `host`, are controlled and have a level above 0; raises DevFailed."""
    database = tango.Database()
    found: list[Registered] = []
    for name in map(str, database.get_server_list("*")):
        values = database.get_device_property(f"dserver/{name}", PROPERTIES)
        properties = {key: [str(element) for element in elements] for key, elements in values.items()}
        if properties["host"] != [host]:
            continue
        mode, level = _mode_and_level(database, name)
        if mode != CONTROLLED or level <= 0:
            continue
        devices = [str(one) for one in list(database.get_device_class_list(name))[::2]]
        ports = properties["ports"]
        found.append(
            Registered(
                name,
                tuple(one for one in devices if not one.lower().startswith("dserver/")),
                level,
                _policy(name, properties, log),
                (("BANDONEON_PORTS", ports[0]),) if ports else (),
            )
        )
    return found


def _mode_and_level(database: tango.Database, name: str) -> tuple[int, int]:
    # a server that somebody registered by hand has neither, which get_server_info cannot read
    *_, mode, level = (str(text).strip() for text in database.command_inout("DbGetServerInfo", name))
    return int(mode or 0), int(level or 0)


def _policy(name: str, properties: Mapping[str, Sequence[str]], log: Any) -> Policy:
    try:
        return Policy.from_properties(properties)
    except ValueError as error:
        log.error("policy not usable", reason=f"{name}: {error}; the default policy is used")
        return Policy()
