"""A driver's exchange through the line against the same exchange with bare pyserial, on the same pseudo-terminal.

The instrument at the other end answers at once and takes no time at all, so that what is measured is our own cost.
"""

import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import serial

from device_servers.core.framing import line
from device_servers.core.transport import Probe, open_transport

EXCHANGES = 3000
ROUNDS = 5
REQUEST, REPLY = b"D?\n", b"5.0000E-3\n"


@contextmanager
def echo() -> Iterator[str]:
    """A pseudo-terminal whose other end answers every line at once."""
    master, slave = os.openpty()
    tty.setraw(slave)

    def answer() -> None:
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:
                return
            if b"END" in data:
                return
            os.write(master, REPLY * data.count(b"\n"))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        os.write(slave, b"END")
        thread.join()
        os.close(slave)
        os.close(master)


def per_exchange_us(exchange: Callable[[], bytes]) -> float:
    """The time of one exchange, over `EXCHANGES` of them."""
    began_s = time.perf_counter()
    for _ in range(EXCHANGES):
        if exchange() != REPLY:
            raise RuntimeError("the wrong reply")
    return (time.perf_counter() - began_s) / EXCHANGES * 1e6


def run() -> list[dict[str, Any]]:
    """Measure both in turn; return the medians."""
    framer = line()
    ours: list[float] = []
    bare: list[float] = []
    with echo() as port:
        for _ in range(ROUNDS):
            transport = open_transport(f"serial://{port}?baud=115200", probe=Probe(REQUEST, framer, lambda _: True))
            transport.reconnect()
            ours.append(per_exchange_us(lambda: transport.exchange(REQUEST, reply=framer, timeout_s=1.0)))  # noqa: B023
            transport.close()
            with serial.Serial(port, 115200, timeout=1.0) as plain:

                def exchange(plain: serial.Serial = plain) -> bytes:
                    plain.write(REQUEST)
                    return plain.read_until(b"\n")

                bare.append(per_exchange_us(exchange))
    ours_us, bare_us = median(ours), median(bare)
    return [
        {
            "metric": "exchange over a pseudo-terminal",
            "value": ours_us,
            "unit": "us",
            "rival": "bare pyserial",
            "rival_value": bare_us,
            "ratio": ours_us / bare_us,
        }
    ]
