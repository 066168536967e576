"""The end of a server process: every instrument is made safe, quickly, whatever else hangs.

Tango's signal thread calls `make_all_safe` (it needs no device monitor and no database), and so do the device's
`delete_device` at shutdown and the server's main function; only the first call does anything. The process leaves after
`LEAVE_S` even when Tango's own shutdown hangs, as it does with a frozen database.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from bandoneon.logging import get_logger

MAKE_SAFE_S: Final = 2.0
LEAVE_S: Final = 4.0

_lock = threading.Lock()
_safe_stops: dict[str, Callable[[], None]] = {}
_begun = threading.Event()
_done = threading.Event()


def at_exit(name: str, make_safe: Callable[[], None]) -> None:
    """Call `make_safe` when this process ends."""
    with _lock:
        _safe_stops[name] = make_safe


def ending() -> bool:
    """Whether the instruments of this process have been, or are being, made safe."""
    return _begun.is_set()


def make_all_safe(exit_status: int = 0) -> None:
    """Make every instrument of this process safe, in parallel, within `MAKE_SAFE_S`; once."""
    with _lock:
        first = not _begun.is_set()
        _begun.set()
        safe_stops = list(_safe_stops.items())
    if not first:
        _done.wait(MAKE_SAFE_S)
        return
    leave = threading.Timer(LEAVE_S, os._exit, [exit_status])
    leave.daemon = True
    leave.start()
    threads = [
        threading.Thread(target=_guarded, args=item, name=f"make safe {item[0]}", daemon=True) for item in safe_stops
    ]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + MAKE_SAFE_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
        if thread.is_alive():
            get_logger().error("not made safe in time", what=thread.name, timeout_s=MAKE_SAFE_S)
    _done.set()


def _guarded(name: str, make_safe: Callable[[], None]) -> None:
    try:
        make_safe()
    except Exception as error:  # noqa: BLE001  the other instruments' safety does not depend on this one
        get_logger(device=name).error("could not be made safe", reason=str(error))
