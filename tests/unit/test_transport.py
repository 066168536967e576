"""The line: whole replies, turns, time-outs, and never an old reply for a new question."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandoneon.errors import LinkDown, ProtocolError, ReplyTimeout, TransportError
from device_servers.core.framing import block488, fixed, line
from device_servers.core.links import TcpLink, check_url, open_link, serve_loop
from device_servers.core.transport import BRIEF_S, CALL_S, REPLY_S, Line, Priority, Probe, open_transport
from device_servers.core.wire_server import WireServer
from tests.support import free_port, wait_until
from tests.support_device import LINE, BenchWire

PROBE = Probe(b"I?\n", LINE, lambda reply: reply.startswith(b"I"), timeout_s=0.3)


@pytest.fixture(params=["pty", "tcp"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Line, WireServer]]:
    """A connected line to a bench instrument, on a real pseudo-terminal and on TCP."""
    server = (
        WireServer(BenchWire(), pty=tmp_path / "line", baud=115200)
        if request.param == "pty"
        else WireServer(BenchWire(), tcp=("127.0.0.1", free_port()), baud=115200)
    )
    server.start()
    line_ = open_transport(server.address, probe=PROBE)
    line_.reconnect()
    yield line_, server
    line_.close()
    server.stop()


class Owing(BenchWire):
    """A bench instrument that still owes an answer to somebody else."""

    owed = b"V-1\n"

    def advance(self, dt_s: float) -> bytes:
        """Answer a little after the start."""
        super().advance(dt_s)
        if self.value < 0.06:
            return b""
        owed, self.owed = self.owed, b""
        return owed


class Babbling(BenchWire):
    """A bench instrument that says something all the time, asked or not."""

    owed = b""

    def advance(self, dt_s: float) -> bytes:
        """Say it."""
        return super().advance(dt_s) + self.owed


def back(line_: Line) -> bool:
    """Try to reconnect, as the poll loop does."""
    line_.reconnect()
    return line_.connected


class TestFraming:
    def test_a_line_ends_at_its_terminator(self) -> None:
        """Nothing before the terminator is a reply, nothing behind it belongs to it."""
        assert line(b"\r\n")(b"abc") == line(b"\r\n")(b"abc\r") == 0
        assert line(b"\r\n")(b"abc\r\ndef\r\n") == 5

    def test_an_endless_line_is_an_error(self) -> None:
        """A line that grows for ever is not waited for."""
        with pytest.raises(ProtocolError):
            line(longest=16)(b"x" * 16)

    def test_fixed_replies_need_all_their_bytes(self) -> None:
        """Seven of eight bytes are no reply."""
        assert fixed(8)(b"1234567") == 0
        assert fixed(8)(b"123456789") == 8

    @given(st.binary(max_size=300))
    @settings(max_examples=50, deadline=None)
    def test_a_block_may_hold_any_byte(self, data: bytes) -> None:
        """A definite length block is whole at its length, wherever terminators lie in its data."""
        length = str(len(data)).encode()
        reply = b"#" + str(len(length)).encode() + length + data + b"\n"
        assert all(block488()(reply[:cut]) == 0 for cut in range(len(reply)))
        assert block488()(reply + b"next") == len(reply)

    @pytest.mark.parametrize("reply", [b"#0", b"#x1", b"#2zz..", b"#13abcX"])
    def test_a_broken_block_is_an_error(self, reply: bytes) -> None:
        """What can never become a block is not waited for."""
        with pytest.raises(ProtocolError):
            block488()(reply)

    def test_what_is_no_block_is_a_line(self) -> None:
        """An error text in place of a block ends at its terminator."""
        assert block488()(b"-113,oops\n") == 10


class TestUrls:
    @pytest.mark.parametrize(
        "url", ["serial://", "tcp://host", "gpib://1", "serial:///dev/x?speed=1", "serial:///dev/x?flow=dtr"]
    )
    def test_a_url_that_can_never_work_says_why(self, url: str) -> None:
        """A wrong URL is refused when it is given, in a sentence."""
        with pytest.raises(ValueError, match=r"conn|flow|param"):
            check_url(url)

    @pytest.mark.parametrize(
        ("parameter", "allowed"),
        [
            ("baud=fast", "a whole number above 0"),
            ("baud=0", "a whole number above 0"),
            ("parity=X", "N, E, O, M, S"),
            ("parity=", "N, E, O, M, S"),
            ("bits=9", "8, 5, 6, 7"),
            ("stop=3", "1, 1.5, 2"),
            ("flow=dtr", "none, xonxoff, rtscts"),
        ],
    )
    def test_a_setting_of_the_port_that_cannot_be_says_what_is_allowed(self, parameter: str, allowed: str) -> None:
        """Refused when it is given, not when the port is opened."""
        name, _, value = parameter.partition("=")
        with pytest.raises(ValueError, match=f"^{name} '{value}' is .*{re.escape(allowed)}"):
            check_url(f"serial:///dev/x?{parameter}")

    @pytest.mark.parametrize("parity", ["N", "e", "O"])
    def test_every_setting_that_is_allowed_can_be_opened(self, tmp_path: Path, parity: str) -> None:
        """What passes the check never surprises the one who opens the port."""
        server = WireServer(BenchWire(), pty=tmp_path / "line")
        server.start()
        try:
            open_link(f"serial://{tmp_path}/line?baud=19200&parity={parity}&bits=8&stop=2&flow=xonxoff").close()
        finally:
            server.stop()

    def test_a_baud_rate_the_port_does_not_have_is_a_link_that_is_down(self, tmp_path: Path) -> None:
        """What only the port itself can tell is no reason to end the one who opens it."""
        server = WireServer(BenchWire(), pty=tmp_path / "line")
        server.start()
        try:
            with pytest.raises(LinkDown, match="cannot be opened"):
                open_link(f"serial://{tmp_path}/line?baud=99999999999")
        finally:
            server.stop()

    def test_a_port_that_is_missing_is_a_link_that_is_down(self, tmp_path: Path) -> None:
        """An absent device is no programming error: it may come."""
        with pytest.raises(LinkDown, match="cannot be opened"):
            open_transport(f"serial://{tmp_path}/none", probe=PROBE).reconnect()

    def test_a_loop_leads_to_a_function(self) -> None:
        """`loop://` needs no operating system at all."""
        serve_loop("bench", BenchWire())
        line_ = open_transport("loop://bench", probe=PROBE)
        line_.reconnect()
        assert line_.exchange(b"S?\n", reply=LINE, timeout_s=1) == b"S5\n"
        serve_loop("bench", None)
        with pytest.raises(LinkDown):
            line_.exchange(b"S?\n", reply=LINE, timeout_s=1)
        line_.close()


class TestExchange:
    def test_a_question_gets_its_answer(self, served: tuple[Line, WireServer]) -> None:
        """Many questions in a row, each with its own answer."""
        line_, _ = served
        for number in range(30):
            line_.send(b"S%d\n" % number)
            assert line_.exchange(b"S?\n", reply=LINE, timeout_s=1) == b"S%d\n" % number
        assert line_.stats.timeouts == line_.stats.protocol_errors == 0

    def test_frames_of_others_are_kept_for_receive(self, served: tuple[Line, WireServer]) -> None:
        """A frame that answers no question waits until somebody asks for it."""
        line_, _ = served
        with line_.turn(Priority.WRITE):
            line_.send(b"V?\n")
            reply = line_.exchange(b"S?\n", reply=LINE, timeout_s=1, accept=lambda frame: frame.startswith(b"S"))
            assert reply == b"S5\n"
            assert line_.receive(reply=LINE, timeout_s=0, accept=lambda frame: frame.startswith(b"V"))
        with pytest.raises(ReplyTimeout):
            line_.receive(reply=LINE, timeout_s=0)
        assert line_.connected

    @pytest.mark.parametrize("fault", ["silent", "truncated"])
    def test_after_a_time_out_everything_fails_at_once_until_reconnected(
        self, served: tuple[Line, WireServer], fault: str
    ) -> None:
        """One call waits for its time-out, the next ones fail at once; the line comes back when the fault ends."""
        line_, server = served
        server.fault = fault
        with pytest.raises(ReplyTimeout):
            line_.exchange(b"S?\n", reply=LINE, timeout_s=0.1)
        began_s = time.monotonic()
        with pytest.raises(LinkDown):
            line_.exchange(b"S?\n", reply=LINE, timeout_s=5)
        assert time.monotonic() - began_s < 1
        server.fault = None
        wait_until(lambda: back(line_), 10, "the line is back")
        assert line_.exchange(b"S?\n", reply=LINE, timeout_s=1) == b"S5\n"
        assert line_.stats.reconnects == 1

    @pytest.mark.parametrize(("timeout_s", "fault_s"), [(0.05, 0.0), (1.0, 0.0), (1.0, 6.0)])
    def test_a_late_reply_is_never_taken_for_the_next_answer(
        self, served: tuple[Line, WireServer], timeout_s: float, fault_s: float
    ) -> None:
        """The old answers, to questions and to probes, come while the line is made anew or after: all are dropped.

        The value is the instrument's time, so an old one shows.
        """
        line_, server = served

        def value_is_new() -> bool:
            value = float(line_.exchange(b"V?\n", reply=LINE, timeout_s=timeout_s)[1:])
            return value == pytest.approx(server._wire.value, abs=0.2)  # type: ignore[attr-defined]

        server.fault = "late"
        began_s = time.monotonic()
        with pytest.raises(ReplyTimeout):
            value_is_new()
        while time.monotonic() < began_s + fault_s:
            with contextlib.suppress(TransportError):
                line_.reconnect()
                assert value_is_new()
        server.fault = None
        wait_until(lambda: back(line_), 10, "the line is back")
        assert all(value_is_new() for _ in range(20))

    def test_what_came_before_the_first_connection_is_dropped(self) -> None:
        """Whoever used the line before may have left a question: its answer is not ours."""
        server = WireServer(Owing(), tcp=("127.0.0.1", free_port()))
        server.start()
        line_ = open_transport(server.address, probe=PROBE)
        try:
            line_.reconnect()
            assert b"V-1\n" not in [line_.exchange(b"V?\n", reply=LINE, timeout_s=1) for _ in range(10)]
        finally:
            line_.close()
            server.stop()

    def test_garbage_is_counted_and_the_next_question_answered(self, served: tuple[Line, WireServer]) -> None:
        """A reply that does not fit does not cost the connection."""
        line_, server = served
        server.fault = "garbage"
        reply = line_.exchange(b"S?\n", reply=LINE, timeout_s=1)
        line_.protocol_error(ProtocolError(b"S?\n", reply))
        server.fault = None
        assert line_.exchange(b"S?\n", reply=LINE, timeout_s=1) == b"S5\n"
        assert line_.stats.protocol_errors == 1

    def test_a_call_does_not_wait_for_a_line_that_never_falls_silent(self) -> None:
        """Something else talks without end after a garbled reply: the client is told within its half second."""
        wire = Babbling()
        server = WireServer(wire, tcp=("127.0.0.1", free_port()))
        server.start()
        line_ = open_transport(server.address, probe=PROBE)
        try:
            line_.reconnect()
            wire.owed = b"x\n"
            line_.protocol_error(ProtocolError(b"V?", b"x"))
            began_s = time.monotonic()
            with pytest.raises(LinkDown, match="never falls silent"):
                line_.exchange(b"V?\n", reply=LINE, timeout_s=0.3)
            assert time.monotonic() - began_s < 1
        finally:
            line_.close()
            server.stop()

    def test_a_pulled_cable_is_noticed_and_comes_back(self, served: tuple[Line, WireServer]) -> None:
        """A link that breaks fails at once, and works again once it is plugged in."""
        line_, server = served
        server.fault = "unplugged"
        with pytest.raises((LinkDown, ReplyTimeout)):
            line_.exchange(b"S?\n", reply=LINE, timeout_s=0.3)
        with pytest.raises(LinkDown):
            line_.reconnect()
        server.fault = None
        wait_until(lambda: back(line_), 10, "the line is back")
        assert line_.exchange(b"S?\n", reply=LINE, timeout_s=1) == b"S5\n"

    def test_everything_on_the_wire_can_be_traced(self, served: tuple[Line, WireServer]) -> None:
        """A trace sees what was sent and received."""
        line_, _ = served
        seen: list[tuple[str, bytes]] = []
        line_.trace = lambda what, data: seen.append((what, data))
        line_.exchange(b"S?\n", reply=LINE, timeout_s=1)
        assert seen == [("sent", b"S?\n"), ("received", b"S5\n")]


def test_stop_goes_ahead_of_writes_and_writes_ahead_of_polls() -> None:
    """Whoever is more urgent gets the line first, whenever he came; a turn may be taken again by its holder."""
    line_ = open_transport("loop://turns", probe=PROBE)
    order: list[Priority] = []
    waiting: list[threading.Thread] = []

    def take(priority: Priority) -> None:
        with line_.turn(priority), line_.turn(Priority.POLL):
            order.append(priority)

    with line_.turn(Priority.POLL):
        for priority in (Priority.POLL, Priority.WRITE, Priority.POLL, Priority.STOP, Priority.WRITE):
            waiting.append(threading.Thread(target=take, args=[priority]))
            waiting[-1].start()
            count = len(waiting)
            wait_until(lambda count=count: len(line_._turns._waiting) == count, 5, "it waits")
    for thread in waiting:
        thread.join()
    assert order == sorted(order)


def test_a_write_that_does_not_get_the_line_in_time_is_refused_and_others_still_get_it() -> None:
    """A client is told within its half second; who waits behind it gets the line when it is free."""
    line_ = open_transport("loop://turns", probe=PROBE)
    got = threading.Event()

    def poll() -> None:
        with line_.turn(Priority.POLL):
            got.set()

    def write() -> None:
        with line_.turn(Priority.WRITE):
            pass

    with line_.turn(Priority.POLL), ThreadPoolExecutor() as pool:
        began_s = time.monotonic()
        writing = pool.submit(write)
        wait_until(lambda: len(line_._turns._waiting) == 1, 5, "it waits")
        polling = pool.submit(poll)
        with pytest.raises(LinkDown, match="was not free"):
            writing.result()
        assert CALL_S - REPLY_S <= time.monotonic() - began_s < CALL_S
        assert not got.is_set()
        line_._turns.release()
        polling.result()
        line_._turns.acquire(Priority.POLL, None)


class TestCalls:
    @pytest.fixture
    def silent(self) -> Iterator[Line]:
        """A connected line to an instrument that answers its probe only."""
        serve_loop("silent", lambda data: b"I1\n" if data == b"I?\n" else b"")
        line_ = open_transport("loop://silent", probe=PROBE)
        line_.reconnect()
        yield line_
        line_.close()
        serve_loop("silent", None)

    def test_a_reply_gets_what_is_left_of_a_clients_call(self, silent: Line) -> None:
        """Waiting for the turn and for the reply together end in time, whatever the reply alone is given."""
        ended = threading.Event()
        holder = threading.Thread(target=hold, args=[silent, ended])
        holder.start()
        wait_until(lambda: silent._turns._owner is not None, 5, "the line is held")
        threading.Timer(0.2, ended.set).start()
        began_s = time.monotonic()
        with pytest.raises(ReplyTimeout):
            silent.exchange(b"V?\n", reply=LINE, timeout_s=CALL_S)
        assert CALL_S - 0.02 < time.monotonic() - began_s < CALL_S + 0.2
        holder.join()

    def test_a_question_that_could_not_be_answered_in_time_is_not_sent(self, silent: Line) -> None:
        """A verb of many questions ends with its call, and leaves the connection as it is."""
        silent._turns.acquire(Priority.WRITE, None)
        silent._turns._asked_s -= CALL_S
        with pytest.raises(ReplyTimeout, match="not sent"):
            silent.exchange(b"V?\n", reply=LINE, timeout_s=0.3)
        silent._turns.release()
        assert silent.connected

    def test_a_poll_may_take_what_its_replies_are_given(self, silent: Line) -> None:
        """The budget is a client's; a slow instrument is polled all the same."""
        with silent.turn(Priority.POLL):
            silent._turns._asked_s -= 10
            assert silent.exchange(b"I?\n", reply=LINE, timeout_s=0.3) == b"I1\n"

    def test_a_driver_that_gives_a_reply_longer_gets_it(self, silent: Line) -> None:
        """An instrument whose replies take longer than a call may has said so."""
        with silent.turn(Priority.WRITE):
            assert silent._left_s(3.0) > 2.9
            assert silent._left_s(0.3) == 0.3


def test_a_stop_to_a_peer_that_takes_nothing_is_no_success() -> None:
    """Its host is gone without a word, so the connection looks alive: Stop says that it did not arrive, and soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        line_ = open_transport(f"tcp://127.0.0.1:{listener.getsockname()[1]}", probe=PROBE)
        link = line_._link = open_link(line_.url)
        assert isinstance(link, TcpLink)
        link._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # a full window is never acknowledged, as a peer that is gone
            while link._unacknowledged() < 4096:
                link._socket.send(bytes(1024))
        link._socket.settimeout(1)
        line_.connected = True
        began_s = time.monotonic()
        with line_.turn(Priority.STOP), pytest.raises(LinkDown, match="does not acknowledge"):
            line_.send(b"H\n")
        assert time.monotonic() - began_s < 1
        assert not line_.connected


def hold(line_: Line, ended: threading.Event) -> None:
    """Hold the line until it is told to end."""
    with line_.turn(Priority.POLL):
        ended.wait(5)


def test_any_mount_of_a_shared_line_proves_it() -> None:
    """On a multidrop line one instrument that answers is enough, and is asked first the next time."""
    asked: list[bytes] = []

    def answer(data: bytes) -> bytes:
        asked.append(data)
        return b"I2\n" if data == b"2?\n" else b""

    serve_loop("shared", answer)
    line_ = open_transport("loop://shared", probe=Probe(b"1?\n", LINE, lambda _: True, timeout_s=0.02))
    line_.add_probe(Probe(b"2?\n", LINE, lambda reply: reply == b"I2\n", timeout_s=0.3))
    line_.reconnect()
    line_._late_until_s = 0.0
    line_.reconnect()
    assert asked == [b"1?\n", b"2?\n", b"2?\n"]
    line_.close()
    serve_loop("shared", None)


@pytest.mark.parametrize("there", [True, False])
def test_when_one_mount_is_silent_another_one_is_asked_and_briefly(there: bool) -> None:
    """The one that failed is not asked; when nobody else answers the line is down, within the brief time."""
    asked: list[bytes] = []

    def answer(data: bytes) -> bytes:
        asked.append(data)
        return b"I2\n" if there and data == b"2?\n" else b""

    serve_loop("shared", answer)
    first = Probe(b"1?\n", LINE, lambda _: True, timeout_s=5)
    line_ = open_transport("loop://shared", probe=first)
    line_.add_probe(Probe(b"2?\n", LINE, lambda reply: reply == b"I2\n", timeout_s=5))
    began_s = time.monotonic()
    if there:
        line_.reconnect_briefly(first)
    else:
        with pytest.raises(ReplyTimeout):
            line_.reconnect_briefly(first)
        assert time.monotonic() - began_s < 2 * BRIEF_S
    assert line_.connected is there
    assert asked == [b"2?\n"]
    line_.close()
    serve_loop("shared", None)


def test_whom_nobody_knows_is_asked_last_and_never_when_time_is_short() -> None:
    """Fifteen addresses that may be empty do not keep the mount that is there from proving the line."""
    asked: list[bytes] = []
    there = {b"9?\n", b"C?\n"}

    def answer(data: bytes) -> bytes:
        asked.append(data)
        return data if data in there else b""

    def probe_of(address: str, timeout_s: float) -> Probe:
        request = f"{address}?\n".encode()
        return Probe(request, LINE, lambda reply: reply == request, timeout_s)

    serve_loop("guesses", answer)
    first = probe_of("2", 0.02)
    line_ = open_transport("loop://guesses", probe=first)
    for address in "0123456789ABCDEF":
        line_.add_guess(probe_of(address, 0.02))
    line_.add_probe(probe_of("9", 0.3))
    line_.reconnect_briefly(first)
    assert asked == [b"9?\n"]
    there.remove(b"9?\n")
    with pytest.raises(ReplyTimeout):
        line_.reconnect_briefly(first)
    line_._late_until_s = 0.0
    line_.reconnect()
    assert asked[2:4] == [b"2?\n", b"9?\n"]
    assert asked[-1] == b"C?\n"
    line_.reconnect_briefly(first)
    assert asked[-1] == b"C?\n"
    line_.close()
    serve_loop("guesses", None)
