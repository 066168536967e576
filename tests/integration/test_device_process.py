"""A device's process as a whole: clients that stall, streams, the end."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import tango

from bandoneon.tangolink.subscription import PullQueue
from tests.integration.conftest import BenchServer, call, events, is_doing, start_bench
from tests.support import Process, TangoDatabase, wait_until

ARCHIVE = tango.EventType.ARCHIVE_EVENT


class TestStalledClients:
    def test_a_stopped_client_never_blocks_the_device(self, bench: BenchServer, tmp_path: Path) -> None:
        """Subscribed to everything, a 100,000-element waveform too: calls are as quick as without it, polls go on."""
        with events(bench.database.device("stream/bench/t"), "batch", ARCHIVE) as queue:
            before = called(bench, queue, waveforms=6)
            with stalled_client(bench, tmp_path, "test/bench/1", "stream/bench/t"):
                # twelve megabytes: more than the sockets hold
                during = called(bench, queue, waveforms=15)
        assert statistics.median(during.took_s) < 0.1
        assert statistics.quantiles(during.took_s, n=20)[-1] < 0.1
        # a machine at work holds up a call or two in either run; a blocked device holds up each one, for seconds
        assert max(during.took_s) < 3 * max(0.1, *before.took_s)
        assert during.polls_per_s > before.polls_per_s / 2
        assert len(during.rows[-1]) == 100_000

    def test_a_plain_array_event_would_have_blocked_it(self, bench: BenchServer, tmp_path: Path) -> None:
        """The same waveform as a plain event: after some of them the push hangs, which is why there are streams."""
        plain = bench.database.device("test/plain/1")
        plain.set_timeout_millis(3000)
        blocked = False
        with stalled_client(bench, tmp_path, "test/plain/1"):
            for _ in range(20):
                try:
                    plain.command_inout("Push", 200)
                except tango.DevFailed:
                    blocked = True
                    break
        assert blocked


class TestStream:
    def test_nothing_that_was_read_is_held_back_at_the_end(self, bench: BenchServer) -> None:
        """The last rows do not fill a batch; a clean stop sends them all the same."""
        bench.process.stop()
        bench.process = start_bench(bench.database, {"BENCH_FLUSH_AFTER_S": "60"})
        bench.wait_for("ON")
        with (
            events(bench.database.device("stream/bench/t"), "batch", ARCHIVE) as batches,
            events(bench.device, "value", ARCHIVE) as values,
        ):
            wait_until(lambda: bench.device.read_attribute("poll_count").value > 15, 10, "some polls")
            assert bench.process.stop() == 0
            read_s = [event.attr_value.time.totime() for event in values.take() if not event.err]
            rows_s: list[float] = []

            def last_came() -> bool:
                rows_s.extend(time_ns / 1e9 for table in tables_of(batches) for time_ns in table["time_ns"].to_pylist())
                return max(rows_s) > max(read_s) - 0.001

            wait_until(last_came, 5, "the last reading came as a row too")

    def test_a_row_that_is_no_row_is_told_and_the_next_ones_come(self, bench: BenchServer) -> None:
        """What a driver returns may be nonsense: ALARM with words, a count, and the numbers show what is missing."""
        stream = bench.database.device("stream/bench/t")
        with events(stream, "batch", ARCHIVE) as queue:
            bench.device.command_inout("Spoil")
            wait_until(lambda: stream.read_attribute("failed_batches").value > 0, 5, "it is counted")
            numbers: list[int] = []

            def goes_on() -> bool:
                numbers.extend(int(table.schema.metadata[b"seq"]) for table in tables_of(queue))
                return is_torn(numbers)

            wait_until(goes_on, 5, "batches go on behind a missing number")
        wait_until(lambda: str(stream.state()) == "ALARM", 5, "it is shown")
        assert "test/bench/1" in stream.status()


class TestEnd:
    def test_sigterm_makes_safe_once_and_leaves_with_0(self, bench: BenchServer) -> None:
        """The instrument was stopped exactly once, within two seconds."""
        began_s = time.monotonic()
        assert bench.process.stop() == 0
        safe = [float(line) for line in bench.safe_file.read_text().splitlines()]
        assert len(safe) == 1
        assert safe[0] - began_s < 2
        assert bench.wire.stops == 1

    def test_sigterm_makes_safe_over_a_line_whose_replies_are_broken(self, bench: BenchServer) -> None:
        """The device is UNKNOWN, and its instrument is stopped all the same."""
        bench.line.fault = "garbage"
        bench.wait_for("UNKNOWN")
        bench.process.stop()
        assert bench.wire.stops == 1

    def test_sigterm_makes_safe_during_a_command_of_six_seconds(self, bench: BenchServer) -> None:
        """A command that holds the device's monitor does not hold up the safe stop; the process leaves in time."""
        thread = threading.Thread(target=call, args=[bench.device, "Hang", 6.0])
        thread.start()
        wait_until(lambda: is_doing(bench.device, "Hang"), 5, "the monitor is held")
        began_s = time.monotonic()
        bench.process.send_signal(signal.SIGTERM)
        wait_until(bench.safe_file.exists, 5, "it was made safe")
        assert time.monotonic() - began_s < 2
        wait_until(lambda: bench.process.popen.poll() is not None, 6, "the process has left")
        assert time.monotonic() - began_s < 5
        thread.join()

    def test_sigterm_makes_safe_with_a_frozen_database(self, bench: BenchServer) -> None:
        """The database does not answer: the safe stop does not need it, and the process leaves all the same."""
        assert bench.database.process is not None
        bench.database.process.send_signal(signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            bench.process.send_signal(signal.SIGTERM)
            wait_until(bench.safe_file.exists, 5, "it was made safe")
            assert time.monotonic() - began_s < 2
            wait_until(lambda: bench.process.popen.poll() is not None, 6, "the process has left")
        finally:
            bench.database.process.send_signal(signal.SIGCONT)

    def test_kill_makes_nothing_safe_and_the_next_start_takes_over(self, bench: BenchServer) -> None:
        """After SIGKILL the instrument is as it was; a new server polls it."""
        bench.process.kill()
        bench.process = start_bench(bench.database, bench.environment)
        bench.wait_for("ON")
        assert bench.wire.stops == 0

    def test_a_start_without_a_database_leaves_with_its_own_code(self, database: TangoDatabase) -> None:
        """The supervisor has to know that nothing is wrong with the server itself."""
        done = subprocess.run(
            [sys.executable, "-m", "device_servers", "Simulator", "nowhere"],
            env={**os.environ, "TANGO_HOST": "127.0.0.1:1"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 75
        assert "the Tango database does not answer" in done.stderr


@contextmanager
def stalled_client(bench: BenchServer, directory: Path, *devices: str) -> Iterator[None]:
    """A client that subscribed to everything of some devices and was then stopped with SIGSTOP."""
    code = (
        "import sys, tango, threading\n"
        "kept = []\n"
        "for name in sys.argv[1:]:\n"
        "    device = tango.DeviceProxy(name)\n"
        "    for attribute in device.get_attribute_list():\n"
        "        for kind in (tango.EventType.CHANGE_EVENT, tango.EventType.ARCHIVE_EVENT):\n"
        "            try:\n"
        "                kept.append(device.subscribe_event(attribute, kind, lambda event: None))\n"
        "            except tango.DevFailed:\n"
        "                pass\n"
        "print('subscribed', len(kept), flush=True)\n"
        "threading.Event().wait()\n"
    )
    names = [f"tango://{bench.database.tango_host}/{name}" for name in devices]
    client = Process([sys.executable, "-c", code, *names], directory / "client.log")
    try:
        wait_until(lambda: "subscribed" in client.output, 20, "the client has subscribed")
        client.send_signal(signal.SIGSTOP)
        yield
    finally:
        client.kill()


class Called(NamedTuple):
    """How long calls took, how fast the device polled, and the waveforms that came meanwhile."""

    took_s: list[float]
    polls_per_s: float
    rows: list[Any]


def called(bench: BenchServer, queue: PullQueue, waveforms: int) -> Called:
    """Call the device all the time until so many waveforms came."""
    took_s: list[float] = []
    rows: list[Any] = []
    queue.take()
    began_s, polls = time.monotonic(), bench.device.read_attribute("poll_count").value
    while len(rows) < waveforms:
        assert time.monotonic() - began_s < 60, "the waveforms do not come"
        for call_it in (bench.device.state, lambda: bench.device.read_attribute("value")):
            before_s = time.monotonic()
            call_it()
            took_s.append(time.monotonic() - before_s)
        rows += [row for table in tables_of(queue) for row in table["wave"] if row.is_valid]
    polled = bench.device.read_attribute("poll_count").value - polls
    return Called(took_s, polled / (time.monotonic() - began_s), rows)


def tables_of(queue: PullQueue) -> list[pa.Table]:
    """The batches that came."""
    payloads = [event.attr_value.value[1] for event in queue.take() if not event.err]
    return [pa.ipc.open_stream(payload).read_all() for payload in payloads if payload]


def is_torn(numbers: list[int]) -> bool:
    """Whether a number is missing between others."""
    return bool(numbers) and len(set(numbers)) < max(numbers) - min(numbers) + 1
