"""Whether servers answer: their admin device, and State of each of their devices, each call with a deadline.

What a device in ALARM, FAULT or UNKNOWN says of it is kept.

Proxies are kept while a server runs, so that a database that is away or frozen is not taken for a hanging server.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# (pytango's stubs are not complete)

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

import tango

from bandoneon.tangolink.proxy import device, reasons

TIMEOUT_S: Final = 3.0

_TIMED_OUT: Final = "TRANSIENT_CallTimedout"
_DATABASE: Final = "sys/database/"
_NO_DATABASE: Final = "API_CantConnectToDatabase"
_MISSING: Final = frozenset({"API_DeviceNotExported", "API_DeviceNotDefined"})
_NOT_REACHED: Final = frozenset({"API_CantConnectToDevice", "API_CorbaException"})


class Answer(Enum):
    """What asking a server, or one of its devices, came to."""

    READY = "it answers, and none of its devices is in INIT"
    STARTING = "it answers, but a device is in INIT or not exported"
    UNKNOWN = "cannot be said, for one because the database does not answer"
    SILENT = "it did not answer in time"


_WORST_FIRST: Final = (Answer.SILENT, Answer.UNKNOWN, Answer.STARTING)


ILL: Final = frozenset({"ALARM", "FAULT", "UNKNOWN"})
"""States of a device that need a person."""


class Ill(NamedTuple):
    """State and Status of a device that needs a person."""

    state: str
    status: str


class _Known(NamedTuple):
    pid: int
    proxies: dict[str, tango.DeviceProxy]


class Health:
    """Asks servers, from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self.ill: dict[str, Ill] = {}
        """The devices that needed a person when they were last asked."""

    def check(self, name: str, pid: int, devices: tuple[str, ...]) -> Answer:
        """Ask server `name`, which has to be process `pid`, and its devices."""
        admin = f"dserver/{name}"
        known = self._known.get(name)
        if known is None or known.pid != pid:
            try:
                if tango.Database().get_device_info(admin).pid != pid:
                    return Answer.UNKNOWN
            except tango.DevFailed:
                return Answer.UNKNOWN
            known = self._known[name] = _Known(pid, {})
        answer = _ask(known.proxies, admin, _ping)
        if answer is not Answer.READY:
            return Answer.SILENT if answer is Answer.SILENT else Answer.UNKNOWN
        found: set[Answer] = set()
        for one in devices:
            found.add(_ask(known.proxies, one, partial(self._state, one)))
            if Answer.SILENT in found:
                break
        return next((answer for answer in _WORST_FIRST if answer in found), Answer.READY)

    def _state(self, name: str, proxy: tango.DeviceProxy) -> Answer:
        # the command, since the CORBA attribute `state` does not carry what a device says of its failure
        state = str(proxy.command_inout("State"))
        if state in ILL:
            self.ill[name] = Ill(state, str(proxy.command_inout("Status")))
        else:
            self.ill.pop(name, None)
        return Answer.STARTING if state == "INIT" else Answer.READY


def _ask(proxies: dict[str, tango.DeviceProxy], name: str, call: Callable[[tango.DeviceProxy], Answer]) -> Answer:
    try:
        if name not in proxies:
            proxies[name] = device(name, TIMEOUT_S)
        return call(proxies[name])
    except tango.DevFailed as error:
        return judge(error)


def _ping(proxy: tango.DeviceProxy) -> Answer:
    proxy.ping()
    return Answer.READY


def judge(error: tango.DevFailed) -> Answer:
    """Return what a failed call of a device says about its server.

    A proxy whose last call failed asks the database for the way before it calls again: then it is the database that
    did not answer, which says nothing about the server. A device that answers with an error of its own answers.
    """
    texts = [str(entry.desc) for entry in error.args]
    found = set(reasons(error))
    if found & _MISSING:
        return Answer.STARTING
    if _NO_DATABASE in found or any(_DATABASE in text for text in texts):
        return Answer.UNKNOWN
    if any(_TIMED_OUT in text for text in texts):
        return Answer.SILENT
    return Answer.UNKNOWN if found & _NOT_REACHED else Answer.READY
