"""Elliptec ELL14: the simulator keeps the manual's rules, the driver moves once and never twice."""

import pytest

from bandoneon.errors import InterlockRefused, ProtocolError
from device_servers.instruments.ell14.driver import Bus, Rotator
from device_servers.instruments.ell14.protocol import Status
from device_servers.instruments.ell14.sim import LOADED_SPEED_DEG_S, OPTIMIZE_S, PULSES_PER_REV, Wire, build
from device_servers.optical_bench import OpticalBench
from tests.scripted import scripted

TICK_S = 0.01


def line(setup: str = "default", bench: OpticalBench | None = None) -> Wire:
    """A line of mounts that has just been switched on."""
    return build(bench or OpticalBench(), setup, 0)


def run(wire: Wire, duration_s: float) -> bytes:
    """Let time pass in ticks; return everything the line says meanwhile."""
    return b"".join(wire.advance(TICK_S) for _ in range(round(duration_s / TICK_S)))


def position(wire: Wire, address: str = "2") -> int:
    """Ask for a position, in pulses, signed."""
    reply = wire(f"{address}gp".encode()).decode()
    assert reply.startswith(f"{address}PO")
    assert reply.endswith("\r\n")
    return int.from_bytes(bytes.fromhex(reply[3:11]), "big", signed=True)


def hexadecimal(value: int) -> str:
    """Eight digits of two's complement."""
    return value.to_bytes(4, "big", signed=True).hex().upper()


class TestFrames:
    def test_frames_need_no_terminator_and_ignore_line_ends_between_them(self) -> None:
        """Frames may follow each other directly, or with CR LF in between, as some drivers send it."""
        wire = line()
        assert wire(b"2gs3gs") == b"2GS00\r\n3GS00\r\n"
        assert wire(b"2gs\r\n\r\n3gs\r\n") == b"2GS00\r\n3GS00\r\n"

    def test_identification_tells_pulses_per_turn(self) -> None:
        """`in` answers 33 characters; 143360 pulses are a turn, not a degree."""
        reply = line()(b"2in")
        assert reply == b"2IN0E1140051720181701016800023000\r\n"
        assert len(reply.strip()) == 33

    def test_absent_addresses_are_silent(self) -> None:
        """Nobody answers for an address without a mount, and its frame is skipped whole."""
        wire = line()
        assert wire(b"4gs5ma00000010Fin") == b""
        assert wire(b"2gs") == b"2GS00\r\n"

    def test_half_a_frame_is_forgotten_after_two_seconds_or_at_a_line_end(self) -> None:
        """A frame that stays incomplete does not swallow the next one."""
        wire = line()
        assert wire(b"2ma0000") == b""
        run(wire, 2.1)
        assert wire(b"2gs") == b"2GS00\r\n"
        assert wire(b"2ma0000\r2gs") == b"2GS00\r\n"

    @pytest.mark.parametrize("frame", [b"2zz", b"2ga", b"2GS", b"2ma0000zz10", b"2ma0000abcd"])
    def test_what_is_no_command_is_a_command_error(self, frame: bytes) -> None:
        """Letters are lower case, digits upper case; anything else is status 3."""
        assert line()(frame).startswith(b"2GS03\r\n")

    @pytest.mark.parametrize(
        "frame", [b"2sv31", b"2sv65", b"2sjFFFFFFFF", b"2so00023001", b"2ma00023001", b"2mrFFFDCFFF", b"2ho2"]
    )
    def test_a_value_out_of_range_is_status_four(self, frame: bytes) -> None:
        """Velocity 32 to 64 hexadecimal, a jog of no less than 0, travel of one turn either way."""
        wire = line()
        assert wire(frame) == b"2GS04\r\n"
        assert run(wire, 1.0) == b""

    @pytest.mark.parametrize(
        ("setting", "query", "reply"),
        [
            (b"2sv3C", b"2gv", b"2GV3C\r\n"),
            (b"2sj00004600", b"2gj", b"2GJ00004600\r\n"),
            (b"2soFFFFFFFF", b"2go", b"2HOFFFFFFFF\r\n"),
        ],
    )
    def test_settings_are_acknowledged_and_read_back(self, setting: bytes, query: bytes, reply: bytes) -> None:
        """A setting is answered `GS00` and its query tells it."""
        wire = line()
        assert wire(setting) == b"2GS00\r\n"
        assert wire(query) == reply

    def test_motors_can_be_asked(self) -> None:
        """`i1` and `i2` answer 25 characters, `us` is acknowledged."""
        wire = line()
        assert len(wire(b"2i1").strip()) == len(wire(b"2i2").strip()) == 25
        assert wire(b"2us") == b"2GS00\r\n"

    def test_a_new_address_answers_itself(self) -> None:
        """`ca` is answered from the new address; the old one is silent from then on; a taken one is refused."""
        wire = line()
        assert wire(b"2ca3") == b"2GS04\r\n"
        assert wire(b"2ca7") == b"7GS00\r\n"
        assert wire(b"2gs") == b""
        assert wire(b"7gs") == b"7GS00\r\n"


class TestMotion:
    def test_a_move_is_answered_once_at_its_end(self) -> None:
        """45 degrees take half a second at 90 degrees a second; then there is one `PO`, to a pulse, and no more."""
        wire = line()
        assert wire(b"2ma00004600") == b""
        assert run(wire, 45 / LOADED_SPEED_DEG_S - 2 * TICK_S) == b""
        final = run(wire, 4 * TICK_S)
        assert final[:3] == b"2PO"
        assert len(final) == len(b"2PO00004600\r\n")
        assert abs(position(wire) - 0x4600) <= 1
        assert run(wire, 5.0) == b""

    def test_a_turning_mount_is_busy_and_its_neighbour_is_not(self) -> None:
        """Every request to a mount that turns gets status 9; the other mount answers."""
        wire = line()
        wire(b"2ma00004600")
        run(wire, 0.1)
        for frame in (b"2gs", b"2gp", b"2in", b"2ma00000000", b"2fw", b"2sv64", b"2ca5"):
            assert wire(frame) == b"2GS09\r\n"
        assert wire(b"3gs3gp") == b"3GS00\r\n3PO00000000\r\n"
        assert run(wire, 1.0)[:3] == b"2PO"

    def test_two_mounts_turn_at_once_and_each_answers_itself(self) -> None:
        """Moves of two mounts overlap; the shorter one ends first."""
        wire = line()
        wire(b"2ma00008C00" + b"3ma00004600")
        spoken = run(wire, 2.0)
        assert [frame[:3] for frame in spoken.split(b"\r\n")] == [b"3PO", b"2PO", b""]

    def test_positions_are_twos_complement(self) -> None:
        """A negative position is eight digits of two's complement, in moves and in answers."""
        wire = line()
        wire(f"2ma{hexadecimal(-17920)}".encode())
        run(wire, 1.0)
        assert abs(position(wire) + 17920) <= 1
        wire(f"2mr{hexadecimal(-17920)}".encode())
        run(wire, 1.0)
        assert abs(position(wire) + 35840) <= 2

    def test_velocity_sets_how_long_a_move_takes(self) -> None:
        """At 50 percent a move takes twice as long."""
        durations = []
        for setting in (b"2sv64", b"2sv32"):
            wire = line()
            wire(setting + b"2ma00004600")
            ticks = 0
            while not wire.advance(TICK_S):
                ticks += 1
            durations.append(ticks * TICK_S)
        assert durations[1] == pytest.approx(2 * durations[0], rel=0.05)

    def test_jogs_turn_one_step_either_way(self) -> None:
        """`fw` and `bw` turn by the jog step."""
        wire = line()
        wire(b"2sj00001000" + b"2fw")
        run(wire, 1.0)
        assert abs(position(wire) - 0x1000) <= 1
        wire(b"2bw")
        run(wire, 1.0)
        assert abs(position(wire)) <= 2

    def test_a_jog_of_step_zero_turns_until_stopped(self) -> None:
        """Turning without end crosses full turns; the position stays within one turn."""
        wire = line()
        wire(b"2sj00000000" + b"2fw")
        assert run(wire, 6.0) == b""
        assert wire(b"2st") == b"2GS00\r\n"
        assert run(wire, 0.1).startswith(b"2PO")
        assert 0 < position(wire) < PULSES_PER_REV

    def test_homing_goes_to_the_offset_and_calls_it_zero(self) -> None:
        """After `ho` the position is zero, at `home_offset` from the mark."""
        bench = OpticalBench()
        wire = line(bench=bench)
        wire(f"2so{hexadecimal(3584)}".encode() + b"2ho0")
        run(wire, 1.0)
        assert position(wire) == 0
        assert bench.half_wave_plate_deg == pytest.approx(9.0, abs=0.01)

    def test_stop_ends_a_move_where_it_is(self) -> None:
        """`st` is answered at once, the move's one final answer follows, and the mount rests short of its target."""
        wire = line()
        wire(b"2ma00008C00")
        run(wire, 0.3)
        assert wire(b"2st") == b"2GS00\r\n"
        assert run(wire, 1.0).count(b"2PO") == 1
        assert 0 < position(wire) < 0x8C00 - 1000
        assert wire(b"2st") == b"2GS00\r\n"

    def test_a_mount_as_delivered_finishes_its_move_in_spite_of_stop(self) -> None:
        """In the factory setup `st` is acknowledged, but only an endless turn or `om` obeys it."""
        wire = line("factory")
        wire(b"0ma00011800")
        run(wire, 0.1)
        assert wire(b"0st") == b"0GS00\r\n"
        assert wire(b"0gs") == b"0GS09\r\n"
        run(wire, 1.0)
        assert abs(position(wire, "0") - 0x11800) <= 1

    def test_tuning_the_motors_takes_long_and_can_be_stopped(self) -> None:
        """`om` ends with one `GS00`, early when stopped."""
        wire = line()
        assert wire(b"2om") == b""
        assert wire(b"2gs") == b"2GS09\r\n"
        assert run(wire, OPTIMIZE_S + 0.1) == b"2GS00\r\n"
        wire(b"2om")
        assert wire(b"2st") == b"2GS00\r\n"
        assert run(wire, 0.1) == b"2GS00\r\n"

    def test_a_stuck_motor_ends_its_move_with_a_mechanical_time_out(self) -> None:
        """With the fault `instrument_error` a move makes no way and ends with status 2, once."""
        wire = line()
        wire.fault = "instrument_error"
        wire(b"2ma00004600")
        assert run(wire, 2.0) == b"2GS02\r\n"
        wire.fault = None
        assert wire(b"2gs") == b"2GS00\r\n"
        assert abs(position(wire)) <= 1

    def test_the_half_wave_plate_of_the_bench_follows_mount_two(self) -> None:
        """What mount 2 holds is the bench's half-wave plate; mount 3 holds nothing that is in the beam."""
        bench = OpticalBench()
        wire = line(bench=bench)
        wire(b"3ma00004600")
        run(wire, 1.0)
        assert bench.half_wave_plate_deg == 0.0
        wire(b"2ma00002300")
        run(wire, 1.0)
        assert bench.half_wave_plate_deg == pytest.approx(22.5, abs=0.01)


def test_a_new_mount_and_the_bench_agree() -> None:
    """A simulator that is made anew on a bench that has been in use starts where it says it is."""
    bench = OpticalBench(half_wave_plate_deg=45.0)
    assert position(line(bench=bench)) == 0
    assert bench.half_wave_plate_deg == 0.0


INFO = {b"2gs": [b"2GS00\r\n"], b"2in": [b"2IN0E1140051720181701016800023000\r\n"]}


class TestDriver:
    def test_a_garbled_answer_to_a_query_is_counted_and_asked_for_again(self) -> None:
        """Nonsense does not cost the connection."""
        with scripted({b"2gv": [b"q!x,\x7fz~\n", b"2GV3\r\n", b"2GV3C\r\n"]}) as (line, sent):
            assert Rotator(line, "2", timeout_s=0.2).velocity_pct() == 60
            assert sent == [b"2gv"] * 3
            assert (line.stats.protocol_errors, line.stats.timeouts) == (2, 0)

    def test_a_garbled_answer_to_a_setting_is_an_error_and_nothing_is_sent_again(self) -> None:
        """A setting is sent once."""
        with scripted({b"2sv3C": [b"nonsense\r\n"]}) as (line, sent):
            with pytest.raises(ProtocolError):
                Rotator(line, "2", timeout_s=0.2).set_velocity_pct(60)
            assert sent == [b"2sv3C"]

    def test_a_motion_is_sent_once_and_to_a_mount_that_is_idle(self) -> None:
        """A mount that turns refuses, and nothing is sent to it; an idle one gets the motion once."""
        with scripted({**INFO, b"2gs": [b"2GS00\r\n", b"2GS09\r\n", b"2GS00\r\n"]}) as (line, sent):
            driver = Rotator(line, "2", timeout_s=0.2)
            driver.greet()
            with pytest.raises(InterlockRefused):
                driver.move_absolute(45.0)
            driver.move_absolute(45.0)
            assert sent.count(b"2ma00004600") == 1

    @pytest.mark.parametrize(("final", "fault"), [(b"2PO00004600\r\n", Status.OK), (b"2GS02\r\n", Status(2))])
    def test_the_final_frame_of_a_move_answers_no_later_question(self, final: bytes, fault: Status) -> None:
        """It comes unasked, here behind another mount's: the next position is the answer to its own question."""
        answers = {b"2ma00004600": [b"3PO00000001\r\n" + final], b"2gp": [b"2PO00004601\r\n"]}
        with scripted({**INFO, **answers}) as (line, _):
            driver = Rotator(line, "2", timeout_s=0.2)
            driver.greet()
            driver.move_absolute(45.0)
            assert driver.status() is Status.OK
            assert driver.position_pulses() == 0x4601
            assert driver.fault is fault

    def test_a_turning_mount_can_be_stopped_before_it_has_said_what_it_is(self) -> None:
        """It tells nothing while it turns; Stop takes what comes of it, so that it answers no later question."""
        with scripted({b"2gs": [b"2GS09\r\n", b"2GS00\r\n"], b"\r2st": [b"2GS00\r\n2PO00000010\r\n"]}) as (line, sent):
            driver = Rotator(line, "2", timeout_s=0.2)
            assert driver.greet() is None
            driver.stop()
            assert driver.status() is Status.OK
            assert sent == [b"2gs", b"\r2st", b"2gs"]
            assert line.stats.protocol_errors == 0

    def test_looking_for_mounts_leaves_what_they_say_unasked_alone(self) -> None:
        """The end of a failed move is the mount's own to learn of, not the search's."""
        with scripted({b"2gv": [b"2GS02\r\n2GV3C\r\n"], b"2gs": [b"2GS00\r\n"]}) as (line, _):
            driver = Rotator(line, "2", timeout_s=0.2)
            assert Bus(line).answers("2")
            assert not Bus(line).answers("3")
            driver.status()
            assert driver.fault is Status.MECHANICAL_TIMEOUT

    def test_an_engineer_types_what_the_mount_gets(self) -> None:
        """Nothing is added to a request, and one without an answer returns nothing and costs no connection."""
        with scripted({b"2gv": [b"2GV3C\r\n"]}) as (line, sent):
            driver = Rotator(line, "2", timeout_s=0.1)
            assert driver.exchange_text("2gv") == "2GV3C"
            assert driver.exchange_text("2mr00000010") == ""
            assert sent == [b"2gv", b"2mr00000010"]
            assert line.connected
