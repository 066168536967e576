"""The schedule of polls: earliest deadline first, together what is due, nothing caught up."""

import contextlib
import math
import threading
import time

import pytest

from bandoneon.errors import BandoneonError
from device_servers.core.framing import line
from device_servers.core.links import serve_loop
from device_servers.core.polling import PollLoop, Schedule
from device_servers.core.transport import Probe, open_transport
from tests.support import wait_until


def taken(schedule: Schedule, now_s: float) -> tuple[str, set[str]] | None:
    """What is taken, with a plain set."""
    found = schedule.take(now_s)
    return None if found is None else (found[0], set(found[1]))


def test_everything_is_due_at_once_and_then_in_its_own_period() -> None:
    """The first poll reads all; afterwards each quantity comes in its period, on the member's ticks."""
    schedule = Schedule()
    schedule.add("a", {"fast": 0.125, "slow": 0.375}, 0.0)
    assert taken(schedule, 0.0) == ("a", {"fast", "slow"})
    assert taken(schedule, 0.06) is None
    assert taken(schedule, 0.125) == ("a", {"fast"})
    assert taken(schedule, 0.25) == ("a", {"fast"})
    assert taken(schedule, 0.375) == ("a", {"fast", "slow"})


def test_the_earliest_deadline_goes_first() -> None:
    """Of two members the one whose tick came first is polled first."""
    schedule = Schedule()
    schedule.add("a", {"x": 1.0}, 0.2)
    schedule.add("b", {"y": 1.0}, 0.1)
    assert taken(schedule, 0.5) == ("b", {"y"})
    assert taken(schedule, 0.5) == ("a", {"x"})
    assert taken(schedule, 0.5) is None
    assert schedule.next_s() == 1.1


def test_missed_ticks_are_counted_and_never_caught_up() -> None:
    """After a busy second there is one poll, not ten, and the rhythm goes on."""
    schedule = Schedule()
    schedule.add("a", {"x": 0.1}, 0.0)
    schedule.take(0.0)
    assert taken(schedule, 1.05) == ("a", {"x"})
    assert schedule.missed == 9
    assert taken(schedule, 1.06) is None
    assert math.isclose(schedule.next_s(), 1.1)


def test_a_write_hastens_everything_of_its_member() -> None:
    """After a write all quantities of the device are read at once; the others keep their time."""
    schedule = Schedule()
    schedule.add("a", {"x": 1.0, "y": 5.0}, 0.0)
    schedule.add("b", {"z": 1.0}, 0.0)
    schedule.take(0.0), schedule.take(0.0)
    schedule.hasten("a", 0.3)
    assert taken(schedule, 0.3) == ("a", {"x", "y"})
    assert taken(schedule, 0.3) is None


def test_an_outage_is_no_missed_tick() -> None:
    """When the line is back everything is read at once, and nothing was skipped because the line was busy."""
    schedule = Schedule()
    schedule.add("a", {"x": 0.5}, 0.0)
    schedule.take(0.0)
    schedule.resume("a", 60.0)
    assert taken(schedule, 60.0) == ("a", {"x"})
    assert schedule.missed == 0
    assert schedule.next_s() == 60.5


def test_after_a_failed_poll_everything_is_read_again() -> None:
    """What is read seldom is unknown too after a poll that failed: it comes with the next tick."""
    schedule = Schedule()
    schedule.add("a", {"fast": 0.5, "slow": 5.0}, 0.0)
    schedule.take(0.0)
    schedule.renew("a")
    assert taken(schedule, 0.4) is None
    assert taken(schedule, 0.5) == ("a", {"fast", "slow"})


def test_a_member_can_be_left_alone_and_removed() -> None:
    """A device that does not answer is tried later; one that left is not polled, and asking for it is no error."""
    schedule = Schedule()
    schedule.add("a", {"x": 0.1}, 0.0)
    schedule.delay("a", 3.0)
    assert taken(schedule, 2.9) is None
    schedule.remove("a")
    schedule.hasten("a", 4.0)
    schedule.delay("a", 4.0)
    assert taken(schedule, 9.0) is None
    assert schedule.next_s() == math.inf


PROBE = Probe(b"I?\n", line(), lambda _: True)


def test_a_member_that_is_left_alone_stays_so_whoever_wants_it() -> None:
    """Neither a write nor leaving and coming back (Init) ends it: a late reply may come. A proven line does."""
    schedule = Schedule()
    schedule.add("a", {"x": 0.5}, 0.0)
    schedule.delay("a", 2.0)
    schedule.hasten("a", 0.5)
    assert taken(schedule, 1.9) is None
    schedule.remove("a")
    schedule.add("a", {"x": 0.5}, 1.0)
    assert taken(schedule, 1.9) is None
    schedule.resume("a", 1.9)
    assert taken(schedule, 1.9) == ("a", {"x"})


class Misbehaving:
    """A device whose code is wrong in every call."""

    def __init__(self) -> None:
        self.failures = 0

    def line_probe(self) -> Probe:
        return PROBE

    def poll_due(self, due: frozenset[str]) -> Exception | None:
        raise RuntimeError("poll")

    def tell_down(self, error: BandoneonError) -> None:
        raise RuntimeError("down")

    def tend(self) -> None:
        raise RuntimeError("tend")

    def fail(self, error: Exception) -> None:
        self.failures += 1
        raise RuntimeError("fail")


class Counting(Misbehaving):
    """One that is right."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = self.down = 0

    def poll_due(self, due: frozenset[str]) -> Exception | None:
        self.polls += 1
        return None

    def tell_down(self, error: BandoneonError) -> None:
        self.down += 1

    def tend(self) -> None: ...


def test_a_device_that_is_wrong_is_its_own_fault_only() -> None:
    """Its exceptions are told to it; the others of the line are polled, and it can be taken off."""
    serve_loop("wrong", lambda _: b"I\n")
    loop = PollLoop(open_transport("loop://wrong", probe=PROBE), contextlib.nullcontext)
    wrong, right = Misbehaving(), Counting()
    loop.add("wrong", wrong, {"x": 0.01})
    loop.add("right", right, {"y": 0.01})
    loop.start()
    try:
        wait_until(lambda: right.polls > 5 and wrong.failures > 5, 10, "the right one is polled, the wrong one told")
    finally:
        loop.remove("wrong")
        loop.remove("right")
        serve_loop("wrong", None)
    assert right.failures == 0


def test_an_unforeseen_error_while_reconnecting_is_a_line_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The members are told, the thread lives on, a member can leave at once, and the line comes back afterwards."""
    serve_loop("odd", lambda _: b"I\n")
    line_ = open_transport("loop://odd", probe=PROBE)
    loop, member, other = PollLoop(line_, contextlib.nullcontext), Counting(), Counting()
    with monkeypatch.context() as patched:
        patched.setattr("device_servers.core.transport.open_link", odd)
        loop.add("member", member, {"x": 0.01})
        loop.add("other", other, {"x": 0.01})
        loop.start()
        wait_until(lambda: member.down > 1, 5, "the member is told more than once")
        loop.remove("other")
    try:
        wait_until(lambda: member.polls > 1, 5, "it is polled")
    finally:
        loop.remove("member")
        serve_loop("odd", None)


def odd(_url: str) -> None:
    """Fail as no link should."""
    raise ValueError("odd")


def test_a_device_leaves_at_once_while_the_line_is_being_made_anew() -> None:
    """The loop is waiting for a probe and not inside the device: nobody has to wait for that."""
    asked = threading.Event()

    def answer(_data: bytes) -> bytes:
        asked.set()
        return b""

    serve_loop("mute", answer)
    patient = Probe(b"I?\n", line(), lambda _: True, timeout_s=3.0)
    loop, member = PollLoop(open_transport("loop://mute", probe=patient), contextlib.nullcontext), Counting()
    loop.add("member", member, {"x": 0.01})
    loop.add("other", Counting(), {"x": 0.01})
    loop.start()
    assert asked.wait(5)
    began_s = time.monotonic()
    loop.remove("member")
    assert time.monotonic() - began_s < 1
    loop.remove("other")
    loop.close()
    serve_loop("mute", None)
    assert member.down == 0
