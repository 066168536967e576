"""Proxies of servers that hang."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import tango

from bandoneon.tangolink.proxy import device, sentence
from tests.archiving import TYPES, register, types_server
from tests.support import TangoDatabase


@contextmanager
def longest_pause_s() -> Iterator[list[float]]:
    """How long another Python thread was held up at most, meanwhile."""
    ended, worst = threading.Event(), [0.0]

    def tick() -> None:
        last_s = time.monotonic()
        while not ended.wait(0.005):
            worst[0] = max(worst[0], time.monotonic() - last_s)
            last_s = time.monotonic()
        worst[0] = max(worst[0], time.monotonic() - last_s)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield worst
    finally:
        ended.set()
        thread.join()


def test_a_server_that_hangs_holds_up_no_other_thread(database: TangoDatabase) -> None:
    """While a proxy waits for it in vain, the process goes on; then it says that the server hangs."""
    with types_server(register(database)) as server:
        name = f"tango://{database.tango_host}/{TYPES}"
        device(name).ping()
        server.send_signal(signal.SIGSTOP)
        with longest_pause_s() as worst, pytest.raises(tango.DevFailed) as refused:
            device(name, 1.0)
        assert worst[0] < 2
        assert "hangs" in sentence(refused.value)
