"""The power meter and the rotators as Tango devices, over real lines to their simulators on one bench."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tango

from bandoneon.tangolink.subscription import PullQueue
from device_servers.core.wire_server import WireServer
from device_servers.instruments.ell14.sim import PULSES_PER_REV
from device_servers.optical_bench import OpticalBench
from device_servers.simulators.models import MODELS, build
from tests.support import TangoDatabase, wait_until


class Optics:
    """Devices and lines."""

    def __init__(self, database: TangoDatabase, lines: dict[str, WireServer], wires: dict[str, Any]) -> None:
        self.power = database.device("test/power/1")
        self.bus = database.device("test/elliptec/1")
        self.turning = database.device("test/rotator/1")
        self.other = database.device("test/rotator/2")
        self.lines = lines
        self.wires = wires
        self.database = database
        self.mounts: Any = None
        """The process that serves the mounts."""
        self.end: Any = None
        """Their end of the line, which can be cut."""

    def wait(self, device: Any, state: str, timeout_s: float = 10.0) -> None:
        """Wait until a device is in a state."""
        wait_until(lambda: str(device.state()) == state, timeout_s, f"{device.dev_name()} is {state}")


class Cuttable:
    """A wire that can break in the middle of a relative move: so many bytes of it arrive, and nothing after."""

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.bytes_left: int | None = None
        self.cut = threading.Event()

    @property
    def fault(self) -> str | None:
        return self.wire.fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self.wire.fault = fault

    def advance(self, dt_s: float) -> bytes:
        return self.wire.advance(dt_s)

    def __call__(self, data: bytes) -> bytes:
        if self.cut.is_set():
            return b""
        begin = data.find(b"mr") - 1
        if self.bytes_left is not None and begin >= 0:
            self.cut.set()
            return self.wire(data[: begin + self.bytes_left])
        return self.wire(data)


@pytest.fixture
def optics(database: TangoDatabase, tmp_path: Any) -> Iterator[Optics]:
    """A power meter and two rotators behind one line, connected."""
    bench, lines, wires, ends = OpticalBench(noise=0.0, drift=0.0), {}, {}, {}
    for model in MODELS:
        wires[model] = build(model, bench)
        ends[model] = Cuttable(wires[model])
        lines[model] = WireServer(ends[model], pty=tmp_path / model, baud=MODELS[model].baud)
        lines[model].start()
    meter, mounts = lines["newport_1830c"].address, lines["ell14"].address
    database.register(
        "Newport1830C/t",
        {"test/power/1": "Newport1830C"},
        {"test/power/1": {"connection": meter, "poll_period_s": 0.1}},
    )
    database.register(
        "ElliptecBus/t",
        {"test/elliptec/1": "ElliptecBus", "test/rotator/1": "ELL14", "test/rotator/2": "ELL14"},
        {
            "test/elliptec/1": {"connection": mounts},
            "test/rotator/1": {"connection": mounts, "address": "2"},
            "test/rotator/2": {"connection": mounts, "address": "3"},
        },
    )
    with (
        database.server("Newport1830C", "t", wait_for="test/power/1"),
        database.server("ElliptecBus", "t", wait_for="test/rotator/2") as process,
    ):
        found = Optics(database, lines, wires)
        found.mounts = process
        found.end = ends["ell14"]
        for device in (found.power, found.turning, found.other):
            found.wait(device, "ON")
        yield found
    for line in lines.values():
        line.stop()


def test_a_move_shows_at_once_and_the_other_mount_and_stop_answer_meanwhile(optics: Optics) -> None:
    """State read right after the write is MOVING; the other mount answers and moves; Stop ends it on the way."""
    optics.turning.write_attribute("position", 350.0)
    assert str(optics.turning.state()) == "MOVING"
    began_s = time.monotonic()
    optics.other.write_attribute("position", 20.0)
    assert str(optics.other.state()) == "MOVING"
    optics.turning.command_inout("Stop")
    assert time.monotonic() - began_s < 1.0
    optics.wait(optics.turning, "ON")
    assert 0 < optics.turning.read_attribute("position").value < 349
    optics.wait(optics.other, "ON")
    assert optics.other.read_attribute("position").value == pytest.approx(20.0, abs=0.01)


def test_the_power_follows_the_square_of_the_cosine_of_twice_the_angle(optics: Optics) -> None:
    """Half-wave plate and polariser: at each angle the meter reads what physics says."""
    full = None
    for angle in (0.0, 10.0, 22.5, 30.0, 45.0):
        if angle:
            optics.turning.write_attribute("position", angle)
            optics.wait(optics.turning, "ON")
        expected = math.cos(2 * math.radians(angle)) ** 2

        def settled() -> float | None:
            return optics.power.read_attribute("power").value if str(optics.power.state()) == "ON" else None

        full = full or wait_until(lambda: optics.power.read_attribute("power").value or None, 5, "light is measured")
        wait_until(
            lambda expected=expected, full=full: settled() == pytest.approx(full * expected, abs=full * 0.003),
            10,
            f"the power at {angle} deg is {expected:.3f} of the whole",
        )


def test_a_mount_that_turns_when_its_server_starts_can_be_stopped(optics: Optics) -> None:
    """It is MOVING although it does not tell who it is; Stop ends that, and then it tells."""
    optics.turning.write_attribute("velocity_pct", 50)
    optics.turning.write_attribute("position", 350.0)
    optics.mounts.kill()
    with optics.database.server("ElliptecBus", "t", wait_for="test/rotator/2"):
        optics.wait(optics.turning, "MOVING")
        with pytest.raises(tango.DevFailed, match="not said yet who it is"):
            optics.turning.command_inout("JogForward")
        optics.turning.command_inout("Stop")
        optics.wait(optics.turning, "ON")
        assert 0 < optics.turning.read_attribute("position").value < 345
        assert "11400517" in optics.turning.read_attribute("identity").value
        assert optics.turning.read_attribute("protocol_errors").value == 0


def test_a_mount_that_turns_when_its_server_starts_is_made_safe_at_its_end(optics: Optics) -> None:
    """The server ends before it knows who is there: the mount is stopped all the same."""
    mount = optics.wires["ell14"].mounts["2"]
    optics.turning.write_attribute("velocity_pct", 50)
    optics.turning.write_attribute("position", 350.0)
    optics.mounts.kill()
    with optics.database.server("ElliptecBus", "t", wait_for="test/rotator/2") as server:
        optics.wait(optics.turning, "MOVING")
        assert server.stop() == 0
    assert not mount.moving
    assert 0 < mount.position < 345 * PULSES_PER_REV / 360


def test_a_relative_move_cut_in_the_middle_of_its_bytes_is_never_sent_again(optics: Optics) -> None:
    """The mount moves once when all eleven bytes arrived, else not at all, whatever is sent when the line is back."""
    mount = optics.wires["ell14"].mounts["2"]
    moves: list[int] = []
    move_by = mount.move_by

    def count(distance: int) -> None:
        moves.append(distance)
        move_by(distance)

    mount.move_by = count
    for arrived in (1, 3, 10, 11):
        optics.wait(optics.turning, "ON", 15)
        moves.clear()
        optics.end.bytes_left = arrived
        optics.turning.command_inout("MoveRelative", 10.0)
        assert optics.end.cut.wait(5)
        optics.lines["ell14"].fault = "unplugged"
        optics.wait(optics.turning, "UNKNOWN")
        with pytest.raises(tango.DevFailed):
            optics.turning.command_inout("MoveRelative", 20.0)
        optics.end.bytes_left = None
        optics.end.cut.clear()
        optics.lines["ell14"].fault = None
        optics.wait(optics.turning, "ON", 15)
        assert len(moves) == (arrived == 11)


def test_an_identical_relative_move_within_a_second_is_refused(optics: Optics) -> None:
    """A client may silently repeat a command: the mount turns once."""
    optics.turning.command_inout("MoveRelative", 90.0)
    with pytest.raises(tango.DevFailed, match="still goes on"):
        optics.turning.command_inout("MoveRelative", 90.0)
    optics.wait(optics.turning, "ON")
    assert optics.turning.read_attribute("position").value == pytest.approx(90.0, abs=0.02)


@pytest.mark.parametrize("fault", ["late", "silent", "garbage", "truncated", "unplugged"])
def test_after_any_fault_of_the_line_every_value_is_right(optics: Optics, fault: str) -> None:
    """While the line is broken nothing wrong is shown as valid; once it is whole all values are the instrument's."""
    optics.turning.write_attribute("position", 45.0)
    optics.wait(optics.turning, "ON")
    wavelength = optics.power.read_attribute("wavelength").value
    watched = ((optics.turning, "position", 45.0), (optics.power, "wavelength", wavelength))

    def right_or_invalid() -> list[bool]:
        readings = [(device.read_attribute(name), truth) for device, name, truth in watched]
        known = [(reading, truth) for reading, truth in readings if reading.quality == tango.AttrQuality.ATTR_VALID]
        for reading, truth in known:
            assert reading.value == pytest.approx(truth, abs=0.01)
        return [str(device.state()) == "UNKNOWN" for device, _, _ in watched]

    for broken in (True, False):
        for line in optics.lines.values():
            line.fault = fault if broken else None
        deadline_s = time.monotonic() + 15
        while right_or_invalid() != [broken, broken]:
            assert time.monotonic() < deadline_s, f"broken: {broken}"
    optics.wait(optics.turning, "ON")
    wait_until(lambda: str(optics.power.state()) in ("ON", "RUNNING"), 10, "the meter is back")
    assert optics.turning.read_attribute("position").value == pytest.approx(45.0, abs=0.01)
    assert optics.power.read_attribute("wavelength").value == wavelength


def test_an_absent_mount_does_not_disturb_the_others(optics: Optics) -> None:
    """One mount is taken off the line: it is UNKNOWN, the other one stays ON and is polled."""
    mounts = optics.wires["ell14"].mounts
    gone = mounts.pop("3")
    optics.wait(optics.other, "UNKNOWN")
    before = optics.turning.read_attribute("poll_count").value
    wait_until(lambda: optics.turning.read_attribute("poll_count").value > before + 10, 10, "the first is polled")
    assert str(optics.turning.state()) == "ON"
    mounts["3"] = gone
    optics.wait(optics.other, "ON", 15)


def test_a_mount_stays_on_whatever_the_address_of_an_absent_one(optics: Optics) -> None:
    """Nobody is at the addresses between the two: they are not asked while the mount that is there waits."""
    optics.other.command_inout("ChangeAddress", "9")
    optics.other.put_property({"address": "9"})
    optics.other.command_inout("Init")
    optics.wait(optics.other, "ON")
    before = optics.other.read_attribute("poll_count").value
    wait_until(lambda: optics.other.read_attribute("poll_count").value > before, 5, "it is polled")
    with pushed_states(optics.other) as seen:
        optics.wires["ell14"].mounts.pop("2")
        optics.wait(optics.turning, "UNKNOWN")
        before = optics.other.read_attribute("poll_count").value
        wait_until(lambda: optics.other.read_attribute("poll_count").value > before + 10, 10, "it is polled")
        assert seen() == {"ON"}


@contextlib.contextmanager
def pushed_states(device: Any) -> Iterator[Callable[[], set[str]]]:
    """Return what tells which states were pushed since."""
    queue = PullQueue(device, "State", tango.EventType.ARCHIVE_EVENT)
    try:
        yield lambda: {str(event.attr_value.value) for event in queue.take() if not event.err}
    finally:
        queue.close()


def test_a_silent_line_is_unknown_for_all_its_devices_at_once_and_no_call_waits(optics: Optics) -> None:
    """Within one poll and a time-out all are UNKNOWN and INVALID; writes meanwhile and afterwards fail quickly."""
    calls_s: list[float] = []
    unknown_s: dict[str, float] = {}
    ended = threading.Event()

    def write_always() -> None:
        with tango.EnsureOmniThread():
            while not ended.is_set():
                before_s = time.monotonic()
                with contextlib.suppress(tango.DevFailed):
                    optics.other.write_attribute("velocity_pct", 90)
                calls_s.append(time.monotonic() - before_s)

    writer = threading.Thread(target=write_always)
    writer.start()
    try:
        began_s = time.monotonic()
        optics.lines["ell14"].fault = "silent"
        while len(unknown_s) < 3 and time.monotonic() - began_s < 10:
            for device in (optics.bus, optics.turning, optics.other):
                if device.dev_name() not in unknown_s and is_unknown(device):
                    unknown_s[device.dev_name()] = time.monotonic() - began_s
        wait_until(lambda: time.monotonic() - began_s > 3, 5, "the line was tried again")
    finally:
        ended.set()
        writer.join()
    assert len(unknown_s) == 3
    assert max(unknown_s.values()) < 1.0
    assert max(calls_s) < 0.5
    optics.lines["ell14"].fault = None
    for device in (optics.bus, optics.turning, optics.other):
        optics.wait(device, "ON", 15)


def is_unknown(device: Any) -> bool:
    """Whether a device says that it knows nothing, of what it measures either."""
    measured = [name for name in ("position", "addresses") if name in device.get_attribute_list()]
    return str(device.state()) == "UNKNOWN" and all(
        device.read_attribute(name).quality == tango.AttrQuality.ATTR_INVALID for name in measured
    )


def test_init_on_a_silent_line_does_not_wait_for_it(optics: Optics) -> None:
    """Whatever the line's loop is busy with elsewhere, a device leaves and joins it at once."""
    optics.lines["ell14"].fault = "silent"
    for device in (optics.bus, optics.turning, optics.other):
        optics.wait(device, "UNKNOWN")
    taken_s: list[float] = []
    for _ in range(5):
        for device in (optics.turning, optics.other):
            before_s = time.monotonic()
            device.command_inout("Init")
            taken_s.append(time.monotonic() - before_s)
    assert max(taken_s) < 0.3


def test_a_motor_that_is_stuck_is_an_alarm(optics: Optics) -> None:
    """The mount reports a mechanical time-out at the end of the move: ALARM with its words, until the next motion."""
    optics.lines["ell14"].fault = "instrument_error"
    optics.turning.write_attribute("position", 90.0)
    optics.wait(optics.turning, "ALARM")
    assert "mechanical" in optics.turning.status()
    optics.lines["ell14"].fault = None
    optics.turning.write_attribute("position", 10.0)
    optics.wait(optics.turning, "ON")


def test_a_move_leaves_everything_else_valid(optics: Optics) -> None:
    """A turning mount tells nothing: its position is INVALID meanwhile, its settings are what they were."""
    optics.turning.write_attribute("position", 60.0)
    wait_until(
        lambda: optics.turning.read_attribute("position").quality == tango.AttrQuality.ATTR_INVALID, 5, "it turns"
    )
    for name in ("velocity_pct", "jog_step", "serial_number", "pulses_per_rev"):
        assert optics.turning.read_attribute(name).quality == tango.AttrQuality.ATTR_VALID
    optics.wait(optics.turning, "ON")
    assert optics.turning.read_attribute("position").value == pytest.approx(60.0, abs=0.02)


def test_init_takes_another_address(optics: Optics) -> None:
    """After a changed property Init talks to the other mount, and the line stays open."""
    serial = optics.other.read_attribute("serial_number").value
    assert optics.turning.read_attribute("serial_number").value != serial
    optics.turning.put_property({"address": "3"})
    optics.turning.command_inout("Init")
    wait_until(lambda: optics.turning.read_attribute("serial_number").value == serial, 5, "it is the other mount")
    assert optics.turning.read_attribute("reconnects").value == 0


def test_discover_finds_the_mounts(optics: Optics) -> None:
    """The bus asks all addresses within a second and shows who answered."""
    began_s = time.monotonic()
    assert list(optics.bus.command_inout("Discover")) == ["2", "3"]
    assert time.monotonic() - began_s < 1.5
    wait_until(lambda: tuple(optics.bus.read_attribute("addresses").value) == ("2", "3"), 5, "they are shown")


def test_a_bus_without_any_known_mount_finds_those_there_are(database: TangoDatabase, tmp_path: Any) -> None:
    """No device of a mount, and no mount at address 0: every address proves the line."""
    line = WireServer(build("ell14", OpticalBench()), pty=tmp_path / "alone")
    line.start()
    try:
        database.register(
            "ElliptecBus/alone",
            {"test/elliptec/alone": "ElliptecBus"},
            {"test/elliptec/alone": {"connection": line.address}},
        )
        with database.server("ElliptecBus", "alone", wait_for="test/elliptec/alone"):
            bus = database.device("test/elliptec/alone")
            wait_until(lambda: str(bus.state()) == "ON", 10, "the line works")
            assert list(bus.command_inout("Discover")) == ["2", "3"]
    finally:
        line.stop()


def test_garbage_between_mounts_is_counted_and_costs_no_connection(optics: Optics) -> None:
    """Nonsense is counted as such; when it ends the next poll is good."""
    optics.lines["ell14"].fault = "garbage"
    optics.wait(optics.turning, "UNKNOWN")
    assert optics.turning.read_attribute("protocol_errors").value >= 3
    optics.lines["ell14"].fault = None
    optics.wait(optics.turning, "ON")
    assert optics.turning.read_attribute("position").quality == tango.AttrQuality.ATTR_VALID
    assert optics.turning.read_attribute("reconnects").value == 0


def test_the_meter_holds_zeroes_and_filters(optics: Optics) -> None:
    """Settings are written, read back from the meter, and make the state they should."""
    optics.power.write_attribute("filter", 0)
    wait_until(lambda: optics.power.read_attribute("filter").value == 0, 2, "the filter is SLOW")
    optics.power.write_attribute("hold", True)
    optics.wait(optics.power, "STANDBY")
    optics.power.write_attribute("hold", False)
    optics.wait(optics.power, "ON")
    optics.power.command_inout("Zero")
    wait_until(lambda: abs(optics.power.read_attribute("power").value) < 1e-4, 10, "the reading is subtracted")
    assert optics.power.read_attribute("zero_enabled").value
    with pytest.raises(tango.DevFailed, match=r"whole nanometres"):
        optics.power.write_attribute("wavelength", 800.5)


def test_saturation_and_over_range_are_alarms(optics: Optics) -> None:
    """A range too low for the light makes ALARM with words, and automatic range heals it."""
    optics.power.write_attribute("range", 3)
    optics.wait(optics.power, "ALARM")
    assert "range" in optics.power.status()
    optics.power.write_attribute("auto_range", True)
    optics.wait(optics.power, "ON")
    assert optics.power.read_attribute("range").value > 3
