"""How fast an archiver takes events and stream batches to the disk, beside a subscriber that does nothing with them.

Real processes: a Tango database, a server that pushes, and one after the other a bare pull subscriber and an Archiver.
Clocked from the command that pushes until the last event is received, or durable in the journal.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archiver.journal import Follower
from bandoneon.record import Kind
from tests.archiving import ARCHIVER, BATCH, NUMBER, STREAM, TYPES, archiver, register, types_server
from tests.support import Process, TangoDatabase, wait_until

EVENTS = 80_000
"""Fewer than sockets hold, so that nothing is lost however slow the receiver."""

BATCHES = 200
ROWS = 10_000
"""Rows of a batch: 100 ms of a fast digitiser."""

DEADLINE_S = 60.0


def run() -> list[dict[str, Any]]:
    """Measure; one row per figure."""
    with tempfile.TemporaryDirectory() as scratch, TangoDatabase(Path(scratch) / "database") as database:
        before = os.environ.get("TANGO_HOST")
        os.environ["TANGO_HOST"] = database.tango_host
        try:
            return _run(register(database), Path(scratch))
        finally:
            os.environ.pop("TANGO_HOST")
            if before is not None:
                os.environ["TANGO_HOST"] = before


def _run(site: TangoDatabase, scratch: Path) -> list[dict[str, Any]]:
    with types_server(site):
        numbers, stream = site.device(TYPES), site.device(STREAM)
        for proxy in (numbers, stream):
            proxy.set_timeout_millis(round(DEADLINE_S * 1000))

        def push() -> None:
            numbers.Count(EVENTS)

        def send() -> None:
            for _ in range(BATCHES):
                stream.Send(ROWS)

        with _bare(NUMBER, EVENTS, scratch) as received:
            bare_s = _clocked(push, received)
        with _bare(BATCH, BATCHES, scratch) as received:
            bare_stream_s = _clocked(send, received)
        with archiver(site, scratch):
            journal = _Journal(scratch / "journal" / ARCHIVER)
            archived_s = _clocked(push, journal.holds(Kind.DOUBLE, EVENTS))
            stream_s = _clocked(send, journal.holds(Kind.STREAM, BATCHES))
    return [
        _row("scalar events to the disk", EVENTS, "events/s", archived_s, bare_s),
        _row("stream rows to the disk", BATCHES * ROWS, "rows/s", stream_s, bare_stream_s),
    ]


def _row(metric: str, count: int, unit: str, ours_s: float, bare_s: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": round(count / ours_s),
        "unit": unit,
        "rival": "bare pull subscriber",
        "rival_value": round(count / bare_s),
        "ratio": round(bare_s / ours_s, 3),
    }


def _clocked(push: Callable[[], None], done: Callable[[], bool]) -> float:
    """Seconds from the beginning of `push` until `done`."""
    begun_s = time.monotonic()
    push()
    wait_until(done, DEADLINE_S, "everything has arrived")
    return time.monotonic() - begun_s


class _Journal:
    """Counts rows in a live journal."""

    def __init__(self, directory: Path) -> None:
        self._follower = Follower(directory)
        self._counted = dict.fromkeys((Kind.DOUBLE, Kind.STREAM), 0)

    def _count(self, kind: Kind) -> int:
        for commit in self._follower.poll():
            kinds = commit.table.column("kind").to_numpy()
            for one in self._counted:
                self._counted[one] += int((kinds == one).sum())
        return self._counted[kind]

    def holds(self, kind: Kind, more: int) -> Callable[[], bool]:
        """Whether so many more rows of a kind are in it than now."""
        before = self._count(kind)
        return lambda: self._count(kind) - before >= more


@contextmanager
def _bare(attribute: str, events: int, scratch: Path) -> Iterator[Callable[[], bool]]:
    """A subscriber, ready; yields whether it has received everything."""
    arguments = [sys.executable, "-m", "tests.benchmarks.archive_ingest", attribute, str(events)]
    log = scratch / f"{attribute.replace('/', '_')}.log"
    with Process(arguments, log) as process:
        wait_until(lambda: "subscribed" in process.output, 10, "it is subscribed")
        yield lambda: "received" in process.output


def _subscribe(attribute: str, events: int) -> None:
    """Receive so many events and do nothing with them."""
    import tango

    from bandoneon.tangolink.subscription import PullQueue, raise_high_water_mark

    raise_high_water_mark()
    device, _, name = attribute.rpartition("/")
    queue = PullQueue(tango.DeviceProxy(device), name, tango.EventType.ARCHIVE_EVENT)
    # the value it has when subscribed to is none of them
    wait_until(queue.take, 10, "the present value comes")
    print("subscribed", flush=True)
    received = 0

    def take() -> bool:
        nonlocal received
        received += len(queue.take())
        return received >= events

    wait_until(take, DEADLINE_S, "everything comes")
    print("received", received, flush=True)
    queue.close()


if __name__ == "__main__":
    _subscribe(sys.argv[1], int(sys.argv[2]))
