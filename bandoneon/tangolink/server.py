"""What every device server process of ours does: logs, a process title, one way to run, errors as Tango's."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# (pytango's stubs are not complete)

import os
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

import psutil
import tango
import tango.server

from bandoneon.errors import describe
from bandoneon.logging import add_sink, get_logger

INCARNATION_NS: Final = round(psutil.Process().create_time() * 1e9)
"""Start of this process in ns since 1970: tells one run of a server from the next."""

EVENTS_KEPT: Final = 100_000
"""High-water mark of events for a client that is behind."""

EVENTS_KEPT_WITH_STREAMS: Final = 256

EXIT_DATABASE_UNREACHABLE: Final = 75
"""Exit status (EX_TEMPFAIL of sysexits.h) of a start for which the database did not answer or could not write."""


def failed(error: BaseException, origin: str) -> tango.DevFailed:
    """Return an error of ours as Tango's: its one reason, its sentence, who says it."""
    one = tango.DevError()
    one.reason, one.desc, one.origin = describe(error).reason, str(error), origin
    one.severity = tango.ErrSeverity.ERR
    return tango.DevFailed(one)


def serve(classes: Sequence[type], server: str, instance: str, *, streams: bool = False) -> None:
    """Run device classes as server `server/instance` until it is told to end; raises what kept it from starting."""
    add_sink(_to_tango)
    # set, not defaulted: the supervisor's own value is in the environment of the servers it starts
    os.environ["TANGO_DS_EVENT_BUFFER_HWM"] = str(EVENTS_KEPT_WITH_STREAMS if streams else EVENTS_KEPT)
    options = _endpoints()
    began_s = time.monotonic()

    def ready() -> None:
        get_logger().info("ready", after_s=round(time.monotonic() - began_s, 3), pid=os.getpid())

    tango.server.run(classes, [server, instance, *options], post_init_callback=ready, raises=True, msg_stream=None)


def push(device: Any, values: Mapping[str, Any]) -> bool:
    """Push values as CHANGE and ARCHIVE events, after State and Status of the device as they are.

    What Tango sends for those two is what its own device holds, so they have to be set before. Returns whether all
    were pushed: a command may hold the device for seconds, or it is going down.
    """
    try:
        for name, value in {"State": device.get_state(), "Status": device.get_status(), **values}.items():
            device.push_change_event(name, value)
            device.push_archive_event(name, value)
    except tango.DevFailed:
        return False
    return True


def database_answers() -> bool:
    """Whether the Tango database answers now."""
    try:
        tango.Database().get_info()
    except tango.DevFailed:
        return False
    return True


def _endpoints() -> list[str]:
    """Return the ORB's options for where to listen: loopback, or published ports under a public name.

    `BANDONEON_PUBLIC_HOST` and `BANDONEON_PORTS` (giop,event,heartbeat) come from the site file by way of the
    supervisor; otherwise nothing but this machine reaches the server (cppTango: ORBendPoint, TANGO_ZMQ_EVENT_PORT).
    """
    host, ports = os.environ.get("BANDONEON_PUBLIC_HOST"), os.environ.get("BANDONEON_PORTS")
    if not host or not ports:
        return ["-ORBendPoint", "giop:tcp:127.0.0.1:"]
    giop, event, heartbeat = ports.split(",")
    os.environ["TANGO_ZMQ_EVENT_PORT"], os.environ["TANGO_ZMQ_HEARTBEAT_PORT"] = event, heartbeat
    return ["-ORBendPoint", f"giop:tcp:0.0.0.0:{giop}", "-ORBendPointPublish", f"giop:tcp:{host}:{giop}"]


_LEVELS: Final = {"debug": "debug", "info": "info", "warning": "warn", "error": "error", "critical": "fatal"}


def _to_tango(record: MutableMapping[str, Any]) -> None:
    """Give a device's log records to Tango's own logging too, whose targets a client may have set."""
    name = record.get("device")
    if name is None:
        return
    try:
        device: Any = tango.Util.instance().get_device_by_name(str(name))
        text = " ".join(
            [str(record.get("event", "")), *(f"{key}={record[key]}" for key in ("state", "reason") if key in record)]
        )
        getattr(device, f"{_LEVELS.get(str(record.get('level')), 'info')}_stream")("%s", text)
    except tango.DevFailed:
        return
