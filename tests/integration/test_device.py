"""The device base over a real line: values, events, states, long actions, outages."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tango

from bandoneon.tangolink.subscription import PullQueue
from device_servers.core.wire_server import WireServer
from tests.integration.conftest import BenchServer, call, events, is_doing, start_bench
from tests.support import free_port, wait_until
from tests.support_device import BenchWire

ARCHIVE = tango.EventType.ARCHIVE_EVENT
CHANGE = tango.EventType.CHANGE_EVENT
INVALID, VALID = tango.AttrQuality.ATTR_INVALID, tango.AttrQuality.ATTR_VALID


@contextmanager
def configured(bench: BenchServer, key: str, value: str) -> Iterator[None]:
    """Attribute `value` with another criterion or limit, set by a client while the server runs."""
    config = bench.device.get_attribute_config("value")
    part = config.alarms if key.endswith("alarm") else config.events.ch_event
    before = getattr(part, key)
    setattr(part, key, value)
    bench.device.set_attribute_config(config)
    try:
        yield
    finally:
        setattr(part, key, before)
        bench.device.set_attribute_config(config)


def reason(error: tango.DevFailed) -> str:
    """The reason of the original error."""
    return str(error.args[0].reason)


class TestValues:
    def test_values_have_units_and_the_time_of_their_reading(self, bench: BenchServer) -> None:
        """A value is as old as its poll, and carries what its quantity says."""
        reading = bench.device.read_attribute("value")
        assert abs(time.time() - reading.time.totime()) < 1
        config = bench.device.get_attribute_config("value")
        assert (config.unit, config.label, config.description) == ("V", "Value", "Grows by one a second.")
        assert bench.device.get_attribute_config("setting").max_value == "100"

    def test_a_set_point_shows_what_the_instrument_has(self, bench: BenchServer) -> None:
        """Nobody has written it yet, and it is not 0."""
        wait_until(lambda: bench.device.read_attribute("setting").w_value == 5, 5, "the set-point is shown")

    def test_the_first_event_has_the_set_point(self, bench: BenchServer) -> None:
        """A new device's first reading comes with what the instrument has, which no later event would correct."""
        admin = tango.DeviceProxy(f"tango://{bench.database.tango_host}/dserver/Bench/t")
        with events(bench.device, "setting", CHANGE) as queue:

            def valid() -> list[Any]:
                readings = [event.attr_value for event in queue.take() if not event.err]
                return [reading for reading in readings if reading.quality != INVALID]

            wait_until(valid, 5, "the subscription has begun")
            admin.command_inout("DevRestart", bench.device.dev_name())
            first = wait_until(valid, 10, "it is read again")[0]
        assert first.w_value == 5

    def test_a_write_reaches_the_instrument_and_is_read_back(self, bench: BenchServer) -> None:
        """What was written is read from the instrument again soon after."""
        bench.device.write_attribute("setting", 42)
        wait_until(lambda: bench.device.read_attribute("setting").value == 42, 2, "it is read back")
        assert bench.wire.setting == 42

    def test_a_value_out_of_range_is_refused_and_not_clipped(self, bench: BenchServer) -> None:
        """Nothing is sent."""
        with pytest.raises(tango.DevFailed, match="above the maximum"):
            bench.device.write_attribute("setting", 101)
        assert bench.wire.setting == 5

    def test_init_moves_nothing_and_keeps_the_connection(self, bench: BenchServer) -> None:
        """Init re-reads the properties, and nothing is made safe."""
        bench.device.command_inout("Init")
        wait_until(lambda: bench.state() == "ON", 5, "it is ON again")
        before = bench.device.read_attribute("poll_count").value
        wait_until(lambda: bench.device.read_attribute("poll_count").value > before + 5, 5, "it is polled")
        assert bench.wire.stops == 0
        assert not bench.safe_file.exists()
        assert bench.device.read_attribute("reconnects").value == 0

    def test_restart_server_polls_again(self, bench: BenchServer) -> None:
        """RestartServer of the admin device makes new devices: they are polled, and nothing is made safe."""
        tango.DeviceProxy(f"tango://{bench.database.tango_host}/dserver/Bench/t").command_inout("RestartServer")
        wait_until(lambda: bench.device.read_attribute("poll_count").value > 5, 10, "it is polled")
        assert bench.wire.stops == 0

    def test_exchange_is_off_unless_allowed(self, bench: BenchServer) -> None:
        """The engineer's command needs the property."""
        with pytest.raises(tango.DevFailed, match="allow_exchange"):
            bench.device.command_inout("Exchange", "S?")
        bench.device.put_property({"allow_exchange": "true"})
        bench.device.command_inout("Init")
        try:
            wait_until(lambda: bench.device.command_inout("Exchange", "S?") == "S5", 5, "it answers")
        finally:
            bench.device.delete_property("allow_exchange")

    def test_exchange_of_what_has_no_reply_returns_nothing_and_harms_nothing(self, bench: BenchServer) -> None:
        """The line stays as it is, the next reply is the next one's, and what the engineer changed is no alarm."""
        bench.device.put_property({"allow_exchange": "true"})
        try:
            bench.device.command_inout("Init")
            wait_until(lambda: bench.device.read_attribute("poll_count").value > 3, 5, "it is polled")
            bench.wait_for("ON")
            assert bench.device.command_inout("Exchange", "S9") == ""
            assert bench.device.command_inout("Exchange", "S?") == "S9"
            wait_until(lambda: bench.device.read_attribute("setting").value == 9, 5, "it is read back")
            bench.device.command_inout("Exchange", "S10")
            bench.device.command_inout("Reset")
            wait_until(lambda: bench.device.read_attribute("setting").value == 10, 5, "it is read again")
            bench.wait_for("ON")
            assert bench.device.read_attribute("timeouts").value == 0
        finally:
            bench.device.delete_property("allow_exchange")

    def test_init_with_another_connection_leaves_the_old_instrument_alone(
        self, bench: BenchServer, tmp_path: Path
    ) -> None:
        """Stop and the safe end go to the new one, though it has never answered."""
        other = BenchWire()
        line = WireServer(other, pty=tmp_path / "other", baud=115200)
        line.fault = "garbage"
        line.start()
        try:
            bench.device.put_property({"connection": line.address})
            bench.device.command_inout("Init")
            bench.wait_for("UNKNOWN")
            bench.device.command_inout("Stop")
            wait_until(lambda: other.stops == 1, 5, "the new one got it")
            bench.process.stop()
            assert (other.stops, bench.wire.stops) == (2, 0)
        finally:
            line.stop()

    def test_a_restarted_device_lets_go_of_the_port_it_had(self, bench: BenchServer) -> None:
        """Another baud rate, put into effect with DevRestart in place of Init: the port is not kept from itself."""
        bench.device.put_property({"connection": bench.line.address.replace("115200", "57600")})
        admin = tango.DeviceProxy(f"tango://{bench.database.tango_host}/dserver/Bench/t")
        admin.command_inout("DevRestart", bench.device.dev_name())
        bench.wait_for("ON")
        bench.device.write_attribute("setting", 42)
        wait_until(lambda: bench.wire.setting == 42, 2, "it is written")

    @pytest.mark.parametrize(("name", "value"), [("poll_period_s", "-1"), ("connection", "nowhere")])
    def test_init_with_a_bad_property_is_fault_and_nothing_is_known(
        self, bench: BenchServer, name: str, value: str
    ) -> None:
        """No value of before is taken for good, by a subscriber neither; put right all is well again, each time."""
        good = list(bench.device.get_property(name)[name])
        kinds = (ARCHIVE, CHANGE)
        with ExitStack() as stack:

            def queues(attribute: str) -> list[PullQueue]:
                return [stack.enter_context(events(bench.device, attribute, kind)) for kind in kinds]

            identities, states, values = queues("identity"), queues("State"), [*queues("value"), *queues("setting")]
            for _ in range(10):
                bench.device.put_property({name: value})
                bench.device.command_inout("Init")
                assert bench.state() == "FAULT"
                assert "call Init" in bench.device.status()
                assert bench.device.read_attribute("value").quality == INVALID
                wait_for_last([*identities, *values], qualities, INVALID)
                wait_for_last(states, pushed, "FAULT")
                bench.device.put_property({name: good})
                bench.device.command_inout("Init")
                wait_for_last(values, qualities, VALID)
                wait_for_last(states, pushed, "ON")


class TestEvents:
    def test_every_poll_is_an_archive_event(self, bench: BenchServer) -> None:
        """As many events as polls, each with its own time."""
        with events(bench.device, "value", ARCHIVE) as queue:
            queue.take()
            first = bench.device.read_attribute("poll_count")
            wait_until(lambda: bench.device.read_attribute("poll_count").value > first.value + 40, 10, "40 polls")
            last = bench.device.read_attribute("poll_count")
            found = [event for event in queue.take() if not event.err]
        times = [event.attr_value.time.totime() for event in found]
        assert len(set(times)) == len(times)
        assert last.value - first.value - 2 <= len(found) <= last.value - first.value + 3

    def test_a_reading_is_stamped_while_it_was_read(self, bench: BenchServer) -> None:
        """A poll that had to wait for the line is not dated back: the value is the instrument's time, so it shows."""
        with events(bench.device, "value", ARCHIVE) as queue:
            bench.device.command_inout("Occupy", 0.8)
            wait_until(lambda: bench.device.read_attribute("poll_count").value > 20, 10, "some polls")
            readings = [event.attr_value for event in queue.take() if not event.err]
        offsets_s = [reading.time.totime() - reading.value for reading in readings]
        assert max(offsets_s) - min(offsets_s) < 0.2

    def test_change_events_come_beyond_the_deadband(self, bench: BenchServer) -> None:
        """The value grows by one a second and its deadband is a half: two events a second, not twenty."""
        with events(bench.device, "value", CHANGE) as queue:
            queue.take()
            began = bench.wire.value
            wait_until(lambda: bench.wire.value > began + 3, 10, "three seconds")
            values = [event.attr_value.value for event in queue.take()]
        assert 4 <= len(values) <= 8
        steps = [after - before for before, after in itertools.pairwise(values)]
        assert all(step >= 0.5 for step in steps)

    def test_criteria_set_by_a_client_are_honoured(self, bench: BenchServer) -> None:
        """A wider deadband set in the database takes effect without a restart."""
        with configured(bench, "abs_change", "1000"), events(bench.device, "value", CHANGE) as queue:
            began = bench.wire.value
            wait_until(lambda: bench.wire.value > began + 1.5, 10, "the criteria were read")
            queue.take()
            began = bench.wire.value
            wait_until(lambda: bench.wire.value > began + 2, 10, "two seconds")
            assert queue.take() == []

    def test_limits_make_the_quality(self, bench: BenchServer) -> None:
        """Above its alarm limit a value is ALARM, in events too."""
        with configured(bench, "max_alarm", "-1"), events(bench.device, "value", ARCHIVE) as queue:
            wait_until(
                lambda: any(event.attr_value.quality == tango.AttrQuality.ATTR_ALARM for event in queue.take()),
                5,
                "an event is ALARM",
            )

    def test_init_does_not_end_a_server_whose_values_were_invalid(self, bench: BenchServer) -> None:
        """An archiver has only ever got INVALID; the address is corrected, and Init brings the first values."""
        bench.device.put_property({"connection": f"tcp://127.0.0.1:{free_port()}"})
        bench.process.stop()
        bench.process = start_bench(bench.database, bench.environment)
        bench.wait_for("UNKNOWN")
        names = ("identity", "value", "setting")
        with ExitStack() as stack:
            queues = [stack.enter_context(events(bench.device, name, ARCHIVE)) for name in names]
            for queue in queues:
                wait_until(queue.take, 5, "the subscription has begun")
            bench.device.command_inout("Init")
            wait_until(lambda: INVALID in qualities(queues[-1]), 5, "INVALID is pushed")
            bench.device.put_property({"connection": bench.line.address})
            bench.device.command_inout("Init")
            for queue in queues:
                wait_until(lambda queue=queue: VALID in qualities(queue), 5, "values are pushed")
        assert bench.process.popen.poll() is None

    def test_state_is_pushed_once_a_second(self, bench: BenchServer) -> None:
        """A panel sees that the device lives although nothing changes."""
        with events(bench.device, "State", CHANGE) as queue:
            queue.take()
            began = bench.wire.value
            wait_until(lambda: bench.wire.value > began + 3.2, 10, "three seconds")
            found = queue.take()
        assert 2 <= len(found) <= 5
        assert {str(event.attr_value.value) for event in found} == {"ON"}

    def test_events_of_state_and_status_tell_what_the_device_shows(self, bench: BenchServer) -> None:
        """A move and its end arrive as events of State, with the words that go with them."""
        with events(bench.device, "State", CHANGE) as states, events(bench.device, "Status", CHANGE) as statuses:
            bench.device.command_inout("Move", 0.3)
            bench.wait_for("ON")
            seen: list[str] = []
            wait_until(lambda: seen.extend(pushed(states)) or seen[-2:] == ["MOVING", "ON"], 5, "both were pushed")
            assert pushed(statuses)[-2:] == ["Moving.", "Ready."]


class TestLongActions:
    def test_state_is_moving_at_once_and_others_answer_meanwhile(self, bench: BenchServer) -> None:
        """State read right after the command is MOVING; Stop ends it; the line serves reads in between."""
        bench.device.command_inout("Move", 30.0)
        assert bench.state() == "MOVING"
        began = bench.device.read_attribute("poll_count").value
        wait_until(lambda: bench.device.read_attribute("poll_count").value > began + 3, 5, "it is polled")
        assert bench.state() == "MOVING"
        bench.device.command_inout("Stop")
        bench.wait_for("ON", 2)
        assert (bench.wire.moves, bench.wire.stops) == (1, 1)

    def test_an_identical_move_within_a_second_is_refused(self, bench: BenchServer) -> None:
        """A client library may silently repeat a command: the instrument moves once."""
        bench.device.command_inout("Move", 5.0)
        with pytest.raises(tango.DevFailed, match="still goes on"):
            bench.device.command_inout("Move", 5.0)
        assert bench.wire.moves == 1

    def test_a_move_that_waits_for_the_line_when_stop_comes_is_never_sent(self, bench: BenchServer) -> None:
        """Whatever was asked for before a Stop does not happen after it; what is asked for later does."""

        def is_refused() -> bool:
            with ThreadPoolExecutor() as pool:
                occupied = pool.submit(call, bench.device, "Occupy", 0.25)
                wait_until(lambda: is_doing(bench.device, "Occupy"), 5, "the line is held")
                moving = pool.submit(answer_to, bench.device, "Move", 30.0)
                wait_until(lambda: is_doing(bench.device, "Move") or moving.done(), 5, "the move waits for it")
                bench.device.command_inout("Stop")
                occupied.result()
                answer = moving.result()
            assert bench.wire.moving_s == 0, answer
            return "Stop was called" in answer

        wait_until(is_refused, 20, "Stop comes while the move waits")
        before = bench.wire.moves
        bench.device.command_inout("Move", 0.1)
        wait_until(lambda: bench.wire.moves == before + 1, 5, "it moves")

    def test_a_connection_cut_in_the_middle_of_a_move_never_moves_twice(self, bench: BenchServer) -> None:
        """The cable is pulled right after the command was sent: when it is back nothing is sent again."""
        bench.device.command_inout("Move", 0.5)
        bench.line.fault = "unplugged"
        bench.wait_for("UNKNOWN")
        with pytest.raises(tango.DevFailed) as caught:
            bench.device.command_inout("Move", 1.0)
        assert reason(caught.value) == "Bandoneon_LinkDown"
        bench.line.fault = None
        bench.wait_for("ON")
        assert bench.wire.moves == 1


class TestOutages:
    @pytest.mark.parametrize("fault", ["unplugged", "silent"])
    def test_an_outage_is_unknown_and_invalid_soon_and_no_call_waits(self, bench: BenchServer, fault: str) -> None:
        """Within one poll and a time-out UNKNOWN and INVALID; calls answer within half a second; ON again by itself."""
        pid = bench.process.pid
        slowest_s = 0.0
        bench.line.fault = fault
        began_s = time.monotonic()
        while bench.state() != "UNKNOWN":
            before_s = time.monotonic()
            assert before_s - began_s < 1.0, "one poll and a time-out are over"
            bench.device.read_attribute("value")
            slowest_s = max(slowest_s, time.monotonic() - before_s)
        before_s = time.monotonic()
        with pytest.raises(tango.DevFailed) as caught:
            bench.device.write_attribute("setting", 7)
        slowest_s = max(slowest_s, time.monotonic() - before_s)
        assert reason(caught.value) == "Bandoneon_LinkDown"
        assert bench.device.read_attribute("value").quality == tango.AttrQuality.ATTR_INVALID
        assert slowest_s < 0.5
        bench.line.fault = None
        bench.wait_for("ON")
        assert bench.device.read_attribute("value").quality == tango.AttrQuality.ATTR_VALID
        assert bench.process.popen.poll() is None
        assert bench.process.pid == pid

    def test_a_stop_gets_through_a_line_whose_replies_are_broken(self, bench: BenchServer) -> None:
        """Requests still reach the instrument: Stop is sent; with the cable pulled it fails within half a second."""
        bench.line.fault = "garbage"
        bench.wait_for("UNKNOWN")
        bench.device.command_inout("Stop")
        wait_until(lambda: bench.wire.stops == 1, 5, "the instrument got it")
        bench.line.fault = "unplugged"
        began_s = time.monotonic()
        with pytest.raises(tango.DevFailed) as caught:
            bench.device.command_inout("Stop")
        assert time.monotonic() - began_s < 0.5
        assert reason(caught.value) == "Bandoneon_LinkDown"

    def test_a_stop_gets_through_before_the_instrument_has_ever_answered(self, bench: BenchServer) -> None:
        """A server that starts while replies are broken can stop its instrument, and makes it safe at its end."""
        bench.process.kill()
        bench.line.fault = "garbage"
        bench.process = start_bench(bench.database, bench.environment)
        bench.wait_for("UNKNOWN")
        bench.device.command_inout("Stop")
        wait_until(lambda: bench.wire.stops == 1, 5, "the instrument got it")
        bench.process.stop()
        assert bench.wire.stops == 2

    @pytest.mark.parametrize("kind", ["pty", "tcp"])
    def test_a_stop_gets_through_when_the_link_died_unnoticed(self, bench: BenchServer, kind: str) -> None:
        """The cable was out for a moment between two polls: Stop finds out, and opens the port itself."""
        line = bench.line if kind == "pty" else WireServer(bench.wire, tcp=("127.0.0.1", free_port()))
        if kind == "tcp":
            line.start()
        slow = {"connection": line.address, "poll_period_s": "30", "quantity_periods_s": ["wave=30"]}
        bench.device.put_property(slow)
        bench.device.command_inout("Init")
        before = bench.device.read_attribute("poll_count").value
        wait_until(lambda: bench.device.read_attribute("poll_count").value > before, 5, "it was polled")
        line.fault = "unplugged"
        line.fault = None
        bench.device.command_inout("Stop")
        wait_until(lambda: bench.wire.stops == 1, 5, "the instrument got it")
        bench.process.stop()
        line.stop()

    def test_reset_greets_the_instrument_again(self, bench: BenchServer) -> None:
        """After Reset the identity is asked anew, so a replaced instrument is seen."""
        bench.wire.serial = "B2"
        bench.device.command_inout("Reset")
        wait_until(lambda: bench.device.read_attribute("identity").value == "Bench B2", 5, "it is the new one")

    def test_invalid_is_pushed_on_transition_only(self, bench: BenchServer) -> None:
        """An outage of some seconds is one INVALID event, not one per attempt."""
        with events(bench.device, "value", ARCHIVE) as queue:
            bench.line.fault = "unplugged"
            bench.wait_for("UNKNOWN")
            began = time.monotonic()
            wait_until(lambda: time.monotonic() > began + 1.5, 5, "some attempts")
            found = queue.take()
        invalid = [event for event in found if event.attr_value.quality == tango.AttrQuality.ATTR_INVALID]
        assert len(invalid) == 1

    def test_an_event_that_could_not_be_pushed_is_pushed_later_and_counted(self, bench: BenchServer) -> None:
        """A command that holds the device for seconds makes a push fail: INVALID arrives all the same, once it ends."""
        with events(bench.device, "value", ARCHIVE) as queue, ThreadPoolExecutor() as pool:
            occupied = pool.submit(call, bench.device, "Occupy", 0.7)
            wait_until(lambda: is_doing(bench.device, "Occupy"), 5, "polls have to wait")
            hanging = pool.submit(call, bench.device, "Hang", 4.5)
            wait_until(lambda: is_doing(bench.device, "Hang"), 5, "the monitor is held")
            bench.line.fault = "unplugged"
            occupied.result(), hanging.result()
            wait_until(lambda: bench.device.read_attribute("failed_pushes").value > 0, 10, "the failure is counted")
            wait_until(
                lambda: any(event.attr_value.quality == tango.AttrQuality.ATTR_INVALID for event in queue.take()),
                5,
                "INVALID is pushed",
            )

    def test_garbage_is_counted_and_the_next_poll_is_good(self, bench: BenchServer) -> None:
        """Nonsense on the line costs polls, not the connection."""
        bench.line.fault = "garbage"
        wait_until(lambda: bench.device.read_attribute("protocol_errors").value > 0, 5, "it is counted")
        bench.line.fault = None
        bench.wait_for("ON", 3)
        assert bench.device.read_attribute("value").quality == tango.AttrQuality.ATTR_VALID

    def test_changed_settings_are_an_alarm_until_accepted(self, bench: BenchServer) -> None:
        """Somebody turned a knob during the outage: the device says which, and waits for AcceptSettings."""
        bench.line.fault = "unplugged"
        bench.wait_for("UNKNOWN")
        bench.wire.setting = 77
        bench.line.fault = None
        bench.wait_for("ALARM")
        assert "setting was 5 and is 77" in bench.device.status()
        with pytest.raises(tango.DevFailed, match="does not accept 13"):
            bench.device.write_attribute("setting", 13)
        before = bench.device.read_attribute("poll_count").value
        wait_until(lambda: bench.device.read_attribute("poll_count").value > before + 2, 5, "it is polled")
        assert bench.state() == "ALARM", "a write that was refused has accepted nothing"
        bench.device.command_inout("AcceptSettings")
        bench.wait_for("ON")

    def test_a_serial_number_is_expected_whole(self, bench: BenchServer) -> None:
        """A part of the right number is not the right number."""
        bench.device.put_property({"expected_serial": "A"})
        bench.device.command_inout("Init")
        try:
            bench.wait_for("ALARM")
        finally:
            bench.device.delete_property("expected_serial")

    def test_another_instrument_is_not_written_to(self, bench: BenchServer) -> None:
        """With `expected_serial` a replaced instrument shows ALARM and refuses writes."""
        bench.device.put_property({"expected_serial": "A1"})
        bench.device.command_inout("Init")
        bench.line.fault = "unplugged"
        bench.wait_for("UNKNOWN")
        bench.wire.serial = "B2"
        bench.line.fault = None
        try:
            bench.wait_for("ALARM")
            with pytest.raises(tango.DevFailed, match="B2"):
                bench.device.write_attribute("setting", 1)
            assert bench.wire.setting == 5
        finally:
            bench.device.delete_property("expected_serial")


def qualities(queue: PullQueue) -> list[tango.AttrQuality]:
    """The qualities that came."""
    return [event.attr_value.quality for event in queue.take() if not event.err]


def wait_for_last(queues: list[PullQueue], taken: Callable[[PullQueue], list[Any]], last: object) -> None:
    """Wait until each queue's last event is that, as `taken` has it."""
    for queue in queues:
        wait_until(lambda queue=queue: taken(queue)[-1:] == [last], 5, f"the last event is {last}")


def pushed(queue: PullQueue) -> list[str]:
    """The values that came, as text, without repetitions."""
    values = [str(event.attr_value.value) for event in queue.take()]
    return [value for value, _ in itertools.groupby(values)]


def answer_to(device: tango.DeviceProxy, command: str, argument: float) -> str:
    """Call a command; return why it was refused, "" when it was not."""
    with tango.EnsureOmniThread():
        try:
            device.command_inout(command, argument)
        except tango.DevFailed as error:
            return str(error.args[0].desc)
    return ""
