"""Whether servers answer: their admin device, and State of each of their devices, each call with a deadline.

Proxies are kept while a server runs, so that a database that is away or frozen is not taken for a hanging server.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# (pytango's stubs are not complete)

from typing import Final, NamedTuple

import tango

from bandoneon.tangolink.proxy import device

TIMEOUT_S: Final = 3.0

_TIMED_OUT: Final = "TRANSIENT_CallTimedout"
_DATABASE: Final = "sys/database/"


class _Known(NamedTuple):
    pid: int
    admin: tango.DeviceProxy
    devices: tuple[tango.DeviceProxy, ...]


class Health:
    """Asks servers, from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def check(self, name: str, pid: int, devices: tuple[str, ...]) -> bool | None:
        """Whether server `name` with process `pid` answers: False = not in time, None = cannot be said."""
        try:
            known = self._known.get(name)
            if known is None or known.pid != pid:
                if tango.Database().get_device_info(f"dserver/{name}").pid != pid:
                    return None
                known = _Known(
                    pid,
                    device(f"dserver/{name}", TIMEOUT_S),
                    tuple(device(one, TIMEOUT_S) for one in devices),
                )
                self._known[name] = known
            known.admin.ping()
            for proxy in known.devices:
                proxy.state()
        except tango.DevFailed as error:
            return False if hangs(error) else None
        return True


def hangs(error: tango.DevFailed) -> bool:
    """Whether a failed call means that the server did not answer in time.

    A proxy whose last call failed asks the database for the way before it calls again: then it is the database that
    did not answer, which says nothing about the server.
    """
    entries = [(str(entry.reason), str(entry.desc)) for entry in error.args]
    if any(reason == "API_CantConnectToDatabase" or _DATABASE in text for reason, text in entries):
        return False
    return any(_TIMED_OUT in text for _, text in entries)
