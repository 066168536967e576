"""Newport 1830-C: the simulator keeps the manual's rules, the driver copes with its silences."""

import math
import re

import pytest

from bandoneon.errors import ProtocolError
from device_servers.core.links import serve_loop
from device_servers.core.transport import Probe, open_transport
from device_servers.instruments.newport_1830c import protocol
from device_servers.instruments.newport_1830c.driver import Newport1830C
from device_servers.instruments.newport_1830c.protocol import Filter
from device_servers.instruments.newport_1830c.sim import CALIBRATION_S, Model, Wire, build
from device_servers.optical_bench import OpticalBench
from tests.scripted import scripted

PROBE = Probe(b"W?\n", protocol.REPLY, lambda reply: reply == b"0800\n")


def settled(bench: OpticalBench | None = None, *, seed: int = 0) -> Wire:
    """A meter that has been on for some seconds."""
    wire = build(bench or OpticalBench(drift=0.0, noise=0.0), "default", seed)
    wire.advance(5.0)
    return wire


def ask(wire: Wire, *commands: str) -> str:
    """Send commands and return the reply's text."""
    return wire("".join(command + "\n" for command in commands).encode()).decode().strip()


def reading_w(wire: Wire) -> float:
    """The present reading in watts."""
    return float(ask(wire, "D?"))


class TestGrammar:
    def test_white_space_and_case_do_not_matter(self) -> None:
        """White space between letter and parameter is optional and letters are case-insensitive (manual p. 21, 38)."""
        wire = settled()
        assert ask(wire, " w  0780 ", "w ?") == "0780"

    @pytest.mark.parametrize("terminator", ["\n", "\r", "\r\n"])
    def test_any_terminator_ends_a_command_and_replies_end_with_lf_alone(self, terminator: str) -> None:
        """CR, LF and CR LF end a command; an empty line is nothing."""
        wire = settled()
        assert wire(f"{terminator}W?{terminator}".encode()) == b"0800\n"

    def test_several_commands_in_one_write_are_answered_in_order(self) -> None:
        """One write may hold several commands, and one command may come in several writes."""
        wire = settled()
        assert wire(b"W?\nU?\nF") == b"0800\n1\n"
        assert wire(b"?\n") == b"2\n"

    def test_set_commands_are_never_answered(self) -> None:
        """No set command has a reply, right or wrong."""
        wire = settled()
        commands = [
            "W780",
            "W5000",
            "W",
            "U2",
            "U9",
            "R0",
            "R9",
            "F1",
            "F4",
            "A1",
            "S",
            "O",
            "C",
            "CS",
            "X",
            "PM:P",
            "1",
        ]
        assert ask(wire, *commands) == ""

    @pytest.mark.parametrize(
        "command", ["W299", "W1101", "W", "Wx", "W-5", "U0", "U5", "R9", "F0", "F4", "A2", "K3", "Z"]
    )
    def test_a_wrong_value_sets_the_parameter_error_bit_and_changes_nothing(self, command: str) -> None:
        """A bad parameter is silence plus bit 0."""
        wire = settled()
        settings = [ask(wire, query) for query in ("W?", "U?", "R?", "F?", "A?", "K?", "Z?")]
        ask(wire, "C", command)
        assert int(ask(wire, "Q?")) & 3 == 1
        assert [ask(wire, query) for query in ("W?", "U?", "R?", "F?", "A?", "K?", "Z?")] == settings

    @pytest.mark.parametrize("command", ["X", "PM:P?", "*IDN?", "D", "X?", "780"])
    def test_an_unknown_command_sets_the_command_error_bit(self, command: str) -> None:
        """A bad command is silence plus bit 1; there is no `*IDN?` on this meter."""
        wire = settled()
        assert ask(wire, "C", command) == ""
        assert int(ask(wire, "Q?")) & 3 == 2

    def test_errors_stay_until_cleared(self) -> None:
        """Error bits are latched until `C`."""
        wire = settled()
        ask(wire, "X", "W5000", "W800")
        assert int(ask(wire, "Q?")) & 3 == 3
        assert int(ask(wire, "Q?")) & 3 == 3
        ask(wire, "CS")
        assert int(ask(wire, "Q?")) & 3 == 0

    def test_echo_repeats_every_character(self) -> None:
        """With echo on, what is sent comes back before the reply."""
        wire = settled()
        wire(b"E1\n")
        assert wire(b"W?\n") == b"W?\n0800\n"


class TestReadings:
    def test_read_done_is_cleared_by_reading_and_set_by_the_next_sample(self) -> None:
        """`D?` clears READ DONE (manual p. 52)."""
        wire = settled()
        assert int(ask(wire, "Q?")) & 128
        ask(wire, "D?")
        assert not int(ask(wire, "Q?")) & 128
        wire.advance(0.1)
        assert int(ask(wire, "Q?")) & 128

    def test_units_two_is_db_and_three_is_dbm(self) -> None:
        """dB is over the stored reference, dBm over 1 mW; they agree until a reference is stored (manual p. 9)."""
        wire = settled()
        expected = 10 * math.log10(reading_w(wire) / 1e-3)
        assert float(ask(wire, "U3", "D?")) == pytest.approx(expected, abs=0.01)
        assert float(ask(wire, "U2", "D?")) == pytest.approx(expected, abs=0.01)
        ask(wire, "S")
        assert float(ask(wire, "U2", "D?")) == pytest.approx(0.0, abs=0.01)
        assert float(ask(wire, "U3", "D?")) == pytest.approx(expected, abs=0.01)
        assert float(ask(wire, "U4", "D?")) == pytest.approx(1.0, abs=0.001)

    def test_readings_are_written_as_the_meter_does(self) -> None:
        """A sign, no zero before the point, an exponent that is a multiple of three."""
        wire = settled(OpticalBench(source_power_w=0.75e-3, drift=0.0, noise=0.0))
        assert re.fullmatch(r"\+\.7\d+E-3", ask(wire, "D?"))

    def test_zero_subtracts_the_latest_reading_until_switched_off(self) -> None:
        """`Z1` stores the latest reading; `Z0` gives the light back."""
        wire = settled()
        before = reading_w(wire)
        ask(wire, "Z1")
        wire.advance(2.0)
        assert reading_w(wire) == pytest.approx(0.0, abs=1e-3 * before)
        assert ask(wire, "Z?") == "1"
        ask(wire, "Z0")
        wire.advance(2.0)
        assert reading_w(wire) == pytest.approx(before, rel=1e-3)

    def test_hold_keeps_the_reading(self) -> None:
        """With `G0` no new reading is taken, with `G1` again."""
        bench = OpticalBench(drift=0.0, noise=0.0)
        wire = settled(bench)
        ask(wire, "G0")
        held = reading_w(wire)
        bench.source_power_w = 4e-3
        wire.advance(2.0)
        assert reading_w(wire) == held
        ask(wire, "G1")
        wire.advance(2.0)
        assert reading_w(wire) == pytest.approx(4e-3, rel=1e-3)

    def test_the_filter_averages_sixteen_four_or_one_sample(self) -> None:
        """Averaging n samples makes the reading quieter by the square root of n."""
        spread = {}
        for code in (1, 2, 3):
            wire = settled(OpticalBench(drift=0.0, noise=0.01), seed=7)
            ask(wire, f"F{code}")
            readings = []
            for _ in range(200):
                wire.advance(0.05 * 16)
                readings.append(reading_w(wire))
            mean = sum(readings) / len(readings)
            spread[code] = math.sqrt(sum((reading - mean) ** 2 for reading in readings) / len(readings)) / mean
        assert spread[3] == pytest.approx(0.01, rel=0.25)
        assert spread[2] == pytest.approx(0.005, rel=0.25)
        assert spread[1] == pytest.approx(0.0025, rel=0.25)

    def test_a_wrong_wavelength_gives_a_wrong_reading(self) -> None:
        """The calibration is taken for the wavelength that is set, not for the light's own."""
        wire = settled()
        right = reading_w(wire)
        ask(wire, "W950")
        wire.advance(2.0)
        assert reading_w(wire) < 0.9 * right

    def test_flaky_meters_fail_about_once_in_five_hundred_readings(self) -> None:
        """Only the setup that says so garbles readings."""
        wire = build(OpticalBench(), "flaky", 1)
        wire.advance(5.0)
        bad = sum("?" in ask(wire, "D?") for _ in range(10_000))
        assert 5 <= bad <= 50
        assert not any("?" in ask(settled(), "D?") for _ in range(100))


class TestRanges:
    def test_a_range_that_is_too_low_is_over_range_and_the_next_decades_are_not(self) -> None:
        """Each range is a decade above the one below (manual p. 39); too much signal sets bit 3 and no READ DONE."""
        wire = settled()
        bits = {}
        for number in range(1, 9):
            ask(wire, "C", f"R{number}")
            wire.advance(1.0)
            bits[number] = int(ask(wire, "Q?"))
            assert ask(wire, "R?") == str(number)
        over = {number for number, status in bits.items() if status & 8}
        assert over == {1, 2, 3, 4, 5, 6, 7}
        assert all(not bits[number] & 128 for number in over)
        assert bits[8] & 128

    def test_the_meter_finds_its_range_and_is_busy_meanwhile(self) -> None:
        """With `R0` the range follows the light; BUSY while it changes; `R?` tells the range in use."""
        bench = OpticalBench(drift=0.0, noise=0.0)
        wire = settled(bench)
        assert ask(wire, "R?") == "8"
        bench.source_power_w = 5e-7
        wire.advance(0.06)
        assert int(ask(wire, "Q?")) & 32
        wire.advance(2.0)
        assert ask(wire, "R?") == "4"
        assert reading_w(wire) == pytest.approx(5e-7, rel=1e-3)
        assert not int(ask(wire, "Q?")) & (8 | 32)

    def test_too_much_light_saturates_the_detector_and_the_attenuator_helps(self) -> None:
        """Saturation is bit 2, whatever the range; with the attenuator the detector sees a thousandth."""
        wire = settled(OpticalBench(source_power_w=0.1, drift=0.0, noise=0.0))
        assert int(ask(wire, "Q?")) & 4
        ask(wire, "A1")
        wire.advance(2.0)
        assert not int(ask(wire, "Q?")) & 4
        assert reading_w(wire) == pytest.approx(0.1, rel=0.01)

    def test_autocalibration_is_busy_and_takes_no_reading(self) -> None:
        """`O` sets BUSY until it is done (manual p. 52)."""
        wire = settled()
        ask(wire, "O", "C")
        wire.advance(CALIBRATION_S / 2)
        assert int(ask(wire, "Q?")) & (32 | 128) == 32
        wire.advance(CALIBRATION_S)
        assert int(ask(wire, "Q?")) & (32 | 128) == 128


def test_faults_of_the_meter_itself_can_be_switched() -> None:
    """`instrument_error` saturates, `busy` stays busy, None heals."""
    wire = Wire(Model(OpticalBench()))
    wire.advance(1.0)
    wire.fault = "instrument_error"
    assert int(ask(wire, "Q?")) & 4
    wire.fault = "busy"
    assert int(ask(wire, "Q?")) & (4 | 32) == 32
    wire.fault = None
    assert int(ask(wire, "Q?")) & (4 | 32) == 0


class TestDriver:
    def test_a_garbled_answer_to_a_query_is_asked_for_again(self) -> None:
        """Two bad answers are counted, the third is taken; nothing else is sent."""
        with scripted({b"W?\n": [b"08?0\n", b"\n", b"0800\n"]}) as (line, sent):
            assert Newport1830C(line, timeout_s=0.2).wavelength_nm() == 800
            assert sent == [b"W?\n"] * 3
            assert line.stats.protocol_errors == 2

    def test_a_garbled_answer_to_a_set_is_an_error_and_nothing_is_sent_again(self) -> None:
        """Whether the meter took it is not known: the next reading tells."""
        with scripted({b"C\nF3\nQ?\n": [b"?\n"]}) as (line, sent):
            with pytest.raises(ProtocolError):
                Newport1830C(line, timeout_s=0.2).set_filter(Filter.FAST)
            assert sent == [b"C\nF3\nQ?\n"]

    def test_a_reading_in_other_units_is_none_and_watts_are_restored(self) -> None:
        """Somebody chose dBm: -15.24 is not taken for watts, and the next reading is in watts."""
        answers = {b"D?\n": [b"-15.24\n", b"+.75E-9\n"], b"U?\n": [b"3\n", b"1\n"], b"C\nU1\nQ?\n": [b"0\n"]}
        with scripted(answers) as (line, sent):
            driver = Newport1830C(line, timeout_s=0.2)
            assert driver.power_w() is None
            assert driver.power_w() == 0.75e-9
            assert sent.count(b"C\nU1\nQ?\n") == 1

    @pytest.mark.parametrize("echo", [True, False])
    def test_a_greeting_ends_an_echo_that_was_left_on(self, *, echo: bool) -> None:
        """With echo on every answer is behind its question; after the greeting answers come alone."""
        wire = settled()
        wire(b"E%d\n" % echo)
        serve_loop("echo", wire)
        line = open_transport("loop://echo", probe=PROBE)
        line.reconnect()
        driver = Newport1830C(line, timeout_s=0.2)
        driver.greet()
        assert driver.wavelength_nm() == 800
        assert driver.exchange_text("F1") == ""
        assert driver.exchange_text("F?") == "1"
        assert (line.stats.protocol_errors, line.stats.timeouts) == (0, 0)
        line.close()
        serve_loop("echo", None)
