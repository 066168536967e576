"""Device proxies with deadlines that never repeat a command, and Tango's errors in words."""

from typing import Any, Final, cast

import tango

_WORDS: Final = {
    "DB_DeviceNotDefined": "there is no device {name} in the Tango database: see `status` for those there are",
    "API_DeviceNotDefined": "there is no device {name} in the Tango database: see `status` for those there are",
    "API_DeviceNotExported": "{name} does not run: start its server",
    "API_CantConnectToDevice": "{name} does not answer: its server is down or its host unreachable",
    "API_CorbaException": "{name} does not answer: its server is down or its host unreachable",
    "API_DeviceTimedOut": "{name} did not answer in time: its server hangs or is overloaded",
    "API_CantConnectToDatabase": "the Tango database does not answer: see after its server, or bring the site up",
    "API_AttrNotFound": "{name} has no such attribute",
    "API_CommandNotFound": "{name} has no such command",
}
_TIMED_OUT: Final = "TRANSIENT_CallTimedout"
_DATABASE: Final = "sys/database/"
_UNREACHED: Final = frozenset({"API_CorbaException", "API_CantConnectToDevice", "API_DeviceTimedOut"})


def device(name: str, timeout_s: float = 3.0) -> tango.DeviceProxy:
    """Return a proxy of device `name` that gives up after `timeout_s` and never repeats a command.

    With Tango's transparent reconnection a command whose connection broke is silently sent again (a relative move made
    twice), and a quick restart of the server goes unnoticed. Raises DevFailed when the database does not know `name`,
    and when its server hangs.
    """
    proxy = tango.DeviceProxy(name)
    try:
        # setting a time-out connects too, but holds up every Python thread of the process while a server hangs
        proxy.ping()
    except tango.DevFailed as error:
        if timed_out(error):
            raise
    proxy.set_timeout_millis(round(timeout_s * 1000))
    proxy.set_transparency_reconnection(False)
    return proxy


def read(proxy: tango.DeviceProxy, attribute: str) -> Any:
    """Return an attribute's value now, None when it has none; DevFailed when it cannot be read."""
    return cast("Any", proxy.read_attribute(attribute)).value


def sentence(error: BaseException, name: str = "the device") -> str:
    """Return what went wrong with device or attribute `name` as one sentence; `error` is a DevFailed or any other."""
    if not isinstance(error, tango.DevFailed):
        return str(error) or type(error).__name__
    errors = [entry for entry in error.args if isinstance(entry, tango.DevError)]
    if _of_database(errors):
        return _WORDS["API_CantConnectToDatabase"]
    if timed_out(error):
        return _WORDS["API_DeviceTimedOut"].format(name=name)
    for entry in errors:
        if entry.reason in _WORDS:
            return _WORDS[entry.reason].format(name=name)
    return " ".join(str(errors[0].desc).split()) if errors else "unknown Tango error"


def _of_database(errors: list[tango.DevError]) -> bool:
    """Whether it is the database that does not answer: a proxy asks it for the way before it calls a device."""
    named = any(_DATABASE in str(entry.desc) for entry in errors)
    return any(
        entry.reason == "API_CantConnectToDatabase" or (named and entry.reason in _UNREACHED) for entry in errors
    )


def timed_out(error: tango.DevFailed) -> bool:
    """Whether a server took a connection or a call and did not answer."""
    entries = [entry for entry in error.args if isinstance(entry, tango.DevError)]
    return any(_TIMED_OUT in str(entry.desc) or entry.reason == "API_DeviceTimedOut" for entry in entries)


def reasons(error: BaseException) -> tuple[str, ...]:
    """Return the reasons in a DevFailed, the original first; () for any other error."""
    if not isinstance(error, tango.DevFailed):
        return ()
    return tuple(str(entry.reason) for entry in error.args if isinstance(entry, tango.DevError))
