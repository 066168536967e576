"""Text, colour, symbol and enabled, as presenters decide them."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from bandoneon.errors import SiteError
from bandoneon.site.running import RunningSite
from gui.presenters.archiver import Archiver, full_text
from gui.presenters.attention import Attention, DeviceState, heading
from gui.presenters.fields import READBACK_S, EditField, Option, TwoPress, apply_view
from gui.presenters.log import Log, parse_lines
from gui.presenters.notices import PATIENCE_S as NOTICE_PATIENCE_S
from gui.presenters.notices import SHOWN_S, Notice
from gui.presenters.opening import Opening, completed, find_opening, panel_named
from gui.presenters.overview import PATIENCE_S, Overview
from gui.presenters.power_meter import PowerMeter, device_line
from gui.presenters.readings import Readings
from gui.presenters.rotator import Rotator
from gui.presenters.servers import buttons, header_counts, parse_report
from gui.presenters.site import Registered, describe_site
from gui.presenters.text import SiPrefix, dbm, duration, fixed, significant
from gui.presenters.trend import (
    Series,
    clock_text,
    clock_ticks,
    cursor_text,
    redraw_period_s,
    short_name,
    value_text,
    value_ticks,
)
from tests.gui.fakes import (
    ARCHIVER,
    POWER,
    ROTATORS,
    SITE,
    SUPERVISOR,
    FakeLink,
    put_archiver,
    put_meter,
    put_report,
    put_rotator,
    server,
)


@pytest.mark.parametrize(
    ("value", "text"), [(5.0274, "5.027"), (50.274, "50.27"), (502.74, "502.7"), (0.0, "0.000"), (-5.0, "-5.000")]
)
def test_a_large_number_keeps_its_width(value: float, text: str) -> None:
    """A reading has four digits, wherever its point is."""
    assert significant(value) == text


def test_a_prefix_does_not_flicker() -> None:
    """A value that wanders about 1 mW is shown in mW."""
    prefix = SiPrefix()
    assert [prefix.update(value) for value in (1.01e-3, 0.998e-3, 1.002e-3, 0.95e-3)] == [-3] * 4
    assert prefix.update(0.5e-3) == -6


def test_numbers_for_people() -> None:
    """Minus is a minus, thousands are apart, what is no number is a dash, no power has no dBm."""
    assert fixed(-1234.5, 1) == "−1\u202f234.5"
    assert (fixed(-0.001, 2), fixed(-0.006, 2)) == ("0.00", "−0.01")
    assert fixed(None, 1) == fixed(float("nan"), 1) == "–"
    assert [duration(seconds) for seconds in (None, 9, 90, 7200, 172800)] == ["–", "9 s", "2 min", "2.0 h", "2.0 d"]
    assert (dbm(1e-3), dbm(0.0)) == ("+0.000 dBm", "")


def test_a_meter_before_its_first_reading_shows_nothing_that_looks_real(readings: Readings) -> None:
    """There is no number, no unit, an unknown chip, and editors are empty and disabled."""
    meter = PowerMeter(POWER, readings)
    view = meter.view(100.0)
    assert (view.text, view.unit, view.chip_state, view.stale) == ("No value", "", "UNKNOWN", True)
    assert device_line(meter.status, 100.0) == "No answer yet. Connecting…"
    assert [field.view(100.0).text for field in meter.fields] == ["", "", ""]
    assert not any(field.view(100.0).enabled for field in meter.fields)
    assert meter.zero_button(100.0) == ("Zero", False)


def test_a_meter_that_lives_dies_and_returns(link: FakeLink) -> None:
    """The value goes grey with its age when the server dies, and comes back by itself."""
    meter, now_s = PowerMeter(POWER, link.readings), time.monotonic()
    put_meter(link, 4.962e-3)
    view = meter.view(now_s)
    assert (view.text, view.unit, view.aside, view.chip_word) == ("4.962", "mW", "+6.957 dBm", "VALID")
    view = meter.view(now_s + 13)
    assert (view.text, view.chip_state, view.chip_word, view.stale) == ("4.962", "UNKNOWN", "13 s old", True)
    assert device_line(meter.status, now_s + 13) == "Last value 13 s old. Reconnecting…"
    assert meter.device_state(now_s + 13) == "UNKNOWN"
    put_meter(link, 5.1e-3)
    assert not meter.view(time.monotonic()).stale


def test_qualities_have_their_chips(link: FakeLink) -> None:
    """A reading of quality ALARM or WARNING says so and takes its colour."""
    meter = PowerMeter(POWER, link.readings)
    link.put(f"{POWER}/power", 1.0, "ALARM")
    assert meter.view(time.monotonic())[3:6] == ("FAULT", "ALARM", "FAULT")
    link.put(f"{POWER}/power", 1.0, "WARNING")
    assert meter.view(time.monotonic())[3:6] == ("ALARM", "WARNING", "ALARM")
    link.put(f"{POWER}/power", None)
    assert meter.view(time.monotonic()).chip_word.startswith("INVALID")


def test_the_range_the_meter_chose_is_said(link: FakeLink) -> None:
    """With automatic range the editor says Auto and its note the range in use."""
    meter = PowerMeter(POWER, link.readings)
    put_meter(link)
    view = meter.range.view(time.monotonic())
    assert (view.text, view.note) == ("Auto", "Uses range 5")


def test_zero_is_switched_off_by_the_same_button(link: FakeLink) -> None:
    """The button says what it will do, and the note what is."""
    meter, now_s = PowerMeter(POWER, link.readings), time.monotonic()
    put_meter(link)
    assert (meter.zero_button(now_s), meter.zero_note(now_s)) == (("Zero", True), "Not subtracted")
    link.put(f"{POWER}/zero_enabled", True)
    assert (meter.zero_button(now_s), meter.zero_note(now_s)) == (("Zero off", True), "Subtracted")


def wavelength(readings: Readings, value: float | None = 1064.0, now_s: float = 10.0) -> EditField:
    """Return a field with limits, and a value that came at `now_s`."""
    reading = readings.get(POWER, "wavelength")
    if value is not None:
        reading.accept(value, "VALID", 1000.0, now_s)
    return EditField("Wavelength", reading, unit="nm", low=300, high=1100)


def test_a_readback_never_overwrites_an_edit(readings: Readings) -> None:
    """An edit stays, with what was, whatever the device reports meanwhile."""
    field = wavelength(readings)
    field.edit("1000")
    field.reading.accept(1050.0, "VALID", 1001.0, 11.0)
    view = field.view(11.0)
    assert (view.text, view.pending, view.note, view.role) == ("1000", True, "Edited, was 1050 nm", "pending")


def test_an_edit_equal_to_the_readback_is_none(readings: Readings) -> None:
    """Typing what is there already leaves nothing to apply."""
    field = wavelength(readings)
    field.edit("1064.0")
    assert not field.pending


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1200", "Allowed: 300 to 1100 nm"),
        ("many", "'many' is no number"),
        ("nan", "'nan' is no number"),
        ("-inf", "'-inf' is no number"),
        ("1e999", "'1e999' is no number"),
    ],
)
def test_what_may_not_be_written_is_not(readings: Readings, text: str, error: str) -> None:
    """A value out of range or no number is refused at once, and the edit stays."""
    field = wavelength(readings)
    field.edit(text)
    assert field.apply() is None
    view = field.view(10.0)
    assert (view.note, view.role, view.pending) == (error, "error", True)


def test_a_write_that_fails_keeps_the_edit_and_says_why(readings: Readings) -> None:
    """The reason stands at the field until the next edit."""
    field = wavelength(readings)
    field.edit("1000")
    assert field.apply() == 1000
    assert field.view(10.0).note == "Applying…"
    field.rejected("no calibration")
    assert (field.view(10.0).note, field.pending) == ("no calibration", True)
    field.edit("1001")
    assert field.view(10.0).role == "pending"


def test_a_good_write_waits_for_the_next_reading(readings: Readings) -> None:
    """What was written is shown until the device says what it has."""
    field = wavelength(readings)
    field.edit("1000")
    field.apply()
    field.written(10.0)
    view = field.view(10.0)
    assert (view.text, view.note, view.pending) == ("1000", "Applied, reading back…", False)
    field.reading.accept(999.0, "VALID", 1001.0, 11.0)
    assert field.view(11.0).text == "999"


def test_a_good_write_that_changes_nothing_is_not_waited_for_forever(readings: Readings) -> None:
    """A device pushes nothing when the value stays: after a while what it last said is shown."""
    field = wavelength(readings)
    field.edit("1064.3")
    field.apply()
    field.written(10.0)
    field.reading.health.good(10.0 + READBACK_S, 1000.0)
    view = field.view(10.0 + READBACK_S)
    assert (view.text, view.note) == ("1064", "")


def test_a_value_that_is_no_number_is_not_shown_as_one(readings: Readings) -> None:
    """The editor is empty, and can be written."""
    field = wavelength(readings, float("nan"))
    view = field.view(10.0)
    assert (view.text, view.enabled) == ("", True)


def test_a_setting_that_cannot_be_read_is_not_shown_as_present(readings: Readings) -> None:
    """A device that lives without its instrument: the last value stays, nothing can be applied, an edit is kept."""
    field = wavelength(readings)
    field.reading.accept(None, "INVALID", 1001.0, 11.0)
    view = field.view(11.0)
    assert (view.text, view.enabled, view.note) == ("1064", False, "Not valid")
    field.edit("1000")
    assert apply_view([field], 11.0) == ("Apply", False)
    assert field.view(11.0).pending


def test_an_edit_survives_its_server(readings: Readings) -> None:
    """While the device is silent the edit is kept, and cannot be applied."""
    field = wavelength(readings)
    field.edit("1000")
    view = field.view(30.0)
    assert (view.text, view.enabled, view.pending) == ("1000", False, True)
    assert apply_view([field], 30.0) == ("Apply", False)
    assert apply_view([field], 11.0) == ("Apply", True)


def test_an_enumeration_arrives_as_its_label(readings: Readings) -> None:
    """The text of a label selects the option."""
    reading = readings.get(POWER, "filter")
    reading.accept("MEDIUM", "VALID", 1000.0, 10.0)
    field = EditField("Filter", reading, options=(Option(0, "Slow"), Option(1, "Medium")))
    assert field.view(10.0).text == "Medium"
    field.edit("Slow")
    assert field.apply() == 0


def test_two_presses_within_four_seconds_act() -> None:
    """The first press arms, the second acts, a late one arms again."""
    presses = TwoPress()
    assert [presses.press(now_s) for now_s in (0.0, 3.9, 10.0, 14.1, 15.0)] == [False, True, False, False, True]


def test_a_double_click_is_one_press() -> None:
    """However often it is repeated: between two presses that act there is a pause."""
    presses = TwoPress()
    assert [presses.press(now_s) for now_s in (0.0, 0.2, 0.5, 0.9, 1.7)] == [False, False, False, False, True]


def test_presses_on_two_subjects_are_not_two_presses_on_one() -> None:
    """What was armed for one server acts on no other."""
    presses = TwoPress()
    assert not presses.press(0.0, "A/1")
    assert not presses.press(1.0, "B/1")
    assert presses.press(2.0, "B/1")


def test_a_mount_that_is_silent_cannot_be_moved(link: FakeLink) -> None:
    """Its last position stays, with its age."""
    rotator, now_s = Rotator(ROTATORS[0], link.readings), time.monotonic()
    view = rotator.view(now_s)
    assert (view.position, view.can_move) == ("No value", False)
    put_rotator(link, ROTATORS[0], 45.0)
    view = rotator.view(time.monotonic())
    assert (view.position, view.unit, view.line, view.can_move) == ("45.000", "deg", "In position.", True)
    view = rotator.view(time.monotonic() + 20)
    assert (view.position, view.stale, view.state, view.line) == (
        "45.000", True, "UNKNOWN", "20 s old. Reconnecting…"
    )  # fmt: skip


def test_the_target_is_the_set_point(link: FakeLink) -> None:
    """Where the mount was sent, also after a jog or a stop; the same number can be sent again."""
    rotator, now_s = Rotator(ROTATORS[0], link.readings), time.monotonic()
    put_rotator(link, ROTATORS[0], 50.0, target=45.0)
    assert (rotator.target.view(now_s).text, rotator.view(now_s).position) == ("45.000", "50.000")
    rotator.target.edit("45")
    assert rotator.target.view(now_s).note == "Edited, was 45.000 deg"
    assert rotator.target.apply() == 45


def test_the_target_stays_while_the_mount_turns(link: FakeLink) -> None:
    """After a move was started the editor shows where to, until the mount stands."""
    rotator = Rotator(ROTATORS[0], link.readings)
    put_rotator(link, ROTATORS[0], 45.0)
    rotator.target.edit("90")
    assert rotator.target.apply() == 90
    rotator.target.written(time.monotonic())
    put_rotator(link, ROTATORS[0], 60.0, "MOVING", target=90.0)
    now_s = time.monotonic()
    view = rotator.target.view(now_s)
    assert (view.text, view.note, rotator.view(now_s).can_move) == ("90", "Turning to the target…", False)
    put_rotator(link, ROTATORS[0], 90.0)
    assert rotator.target.view(time.monotonic()).text == "90.000"


def test_the_line_of_a_mount_tells_of_its_edits(link: FakeLink) -> None:
    """Silence comes first, then what becomes of an edit, then the status."""
    rotator = Rotator(ROTATORS[0], link.readings)
    put_rotator(link, ROTATORS[0], 45.0)
    rotator.jog_step.edit("10")
    now_s = time.monotonic()
    assert rotator.view(now_s)[4:6] == ("Edited, was 5.000 deg", "pending")
    assert rotator.view(now_s + 20)[4:6] == ("20 s old. Reconnecting…", "caption")
    rotator.jog_step.revert()
    assert rotator.view(now_s)[4:6] == ("In position.", "caption")


@pytest.mark.parametrize("state", ["MOVING", "FAULT", "INIT", "UNKNOWN"])
def test_no_move_starts_unless_the_mount_stands(link: FakeLink, state: str) -> None:
    """Enter in Target writes nothing, says why, and keeps the edit."""
    rotator = Rotator(ROTATORS[0], link.readings)
    put_rotator(link, ROTATORS[0], 45.0, state)
    rotator.target.edit("90")
    assert rotator.target.apply() is None
    view = rotator.target.view(time.monotonic())
    assert (view.pending, view.role) == (True, "error")
    assert view.note == ("Still turning: wait, or press STOP" if state == "MOVING" else f"Not while {state}")


def test_the_archiver_strip_has_units_and_marks_losses(link: FakeLink) -> None:
    """Lag and lifetime of the disk choose their unit; a lost event is bad."""
    archiver = Archiver(ARCHIVER, link.readings)
    put_archiver(link, lost=3)
    view = archiver.view(time.monotonic())
    assert (view.events_per_s, view.lag, view.lag_caption, view.lost, view.lost_is_bad) == (
        "424", "32", "Lag, ms", "3", True
    )  # fmt: skip
    assert view.disk == "Disk used 61 %, 88.4 GiB free"
    assert (view.full_in, view.full_caption, view.stale) == ("47", "Disk full in, days", False)
    link.put(f"{ARCHIVER}/lag_s", None, "INVALID")
    assert archiver.view(time.monotonic()).lag == "–"
    assert archiver.view(time.monotonic() + 10).stale
    assert full_text(None) == ("–", "Disk full in")
    assert full_text(5.0) == ("5", "Disk full in, hours")


def test_a_report_becomes_rows() -> None:
    """Each server has its state in words; what is no report has no rows."""
    report = json.dumps([server("A/1"), server("B/2", "given_up", last_exit="signal 9"), server("C/3", "dancing")])
    rows = parse_report(report, SUPERVISOR, time.time())
    assert [(row.title, row.instance, row.chip_word) for row in rows] == [
        ("A", "1", "RUNNING"), ("B", "2", "GIVEN UP"), ("C", "3", "DANCING")
    ]  # fmt: skip
    assert [(row.uptime, row.cpu, row.memory) for row in rows] == [("2 min", "1.5", "61"), ("–",) * 3, ("–",) * 3]
    assert "signal 9" in rows[1].tip
    assert parse_report("{", SUPERVISOR, 0.0) == ()


def test_buttons_follow_the_server() -> None:
    """A running server can be stopped, a stopped one started; nothing goes without its supervisor."""
    running, stopped = parse_report(json.dumps([server("A/1"), server("B/1", "stopped")]), SUPERVISOR, 0.0)
    assert buttons(running, True) == (False, True, True)
    assert buttons(stopped, True) == (True, False, True)
    assert buttons(running, False) == buttons(None, True) == (False, False, False)


def test_the_header_counts_only_what_there_is() -> None:
    """Counts of nothing are left out."""
    rows = parse_report(json.dumps([server("A/1"), server("B/1", "given_up")]), SUPERVISOR, 0.0)
    assert [count.text for count in header_counts(rows, ["ON", "ALARM"])] == ["1 running", "1 in alarm", "1 failed"]


def test_what_needs_a_person_is_listed_gravest_first() -> None:
    """Failed servers come before alarms, and the devices of an absent server are not listed again."""
    rows = parse_report(json.dumps([server("A/1", "given_up", devices=[POWER])]), SUPERVISOR, 0.0)
    devices = [DeviceState(POWER, "UNKNOWN", ""), DeviceState(ROTATORS[0], "ALARM", "Thermal."), *[]]
    attention = Attention()
    items = attention.update(rows, devices, 10.0)
    assert [(item.severity, item.source) for item in items] == [("FAULT", "A/1"), ("ALARM", ROTATORS[0])]
    assert attention.update(rows, devices, 20.0)[0].since_s == 10.0
    assert (heading(items), heading(())) == ("2 open", "Nothing")


def test_the_overview_waits_before_it_complains(link: FakeLink) -> None:
    """A device that has not answered yet needs a person only after a while."""
    overview = Overview(link.readings)
    overview.show_devices([POWER], 100.0)
    assert overview.view(101.0, 0.0).items == ()
    assert [item.source for item in overview.view(101.0 + PATIENCE_S, 0.0).items] == [POWER]
    assert overview.view(101.0, 0.0).devices[0].line == "No answer yet"


def test_only_devices_of_the_reported_servers_are_listed(link: FakeLink) -> None:
    """In the order of the database, and without those of other sites it holds."""
    overview = Overview(link.readings)
    overview.add_supervisors([SUPERVISOR])
    overview.order_devices([ARCHIVER, "other/site/1", POWER])
    put_report(link, server("A/1", devices=[POWER, "new/one/1"]), server("B/1", devices=[ARCHIVER]))
    devices = overview.view(time.monotonic(), time.time()).devices
    assert [device.device for device in devices] == [ARCHIVER, POWER, "new/one/1", SUPERVISOR]


def test_the_overview_greys_when_its_supervisor_is_silent(link: FakeLink) -> None:
    """Rows stay, are marked stale, count no more, and the note says since when."""
    overview, now_s = Overview(link.readings), time.monotonic()
    overview.add_supervisors([SUPERVISOR])
    assert overview.view(now_s, time.time()).note == "Supervisor not answering yet"
    put_report(link, server("A/1"))
    view = overview.view(time.monotonic(), time.time())
    assert (len(view.rows), view.stale, view.counts[0].text) == (1, False, "1 running")
    view = overview.view(time.monotonic() + 30, time.time())
    assert (len(view.rows), view.stale, view.note) == (1, True, "Supervisor silent for 30 s")
    later = overview.view(time.monotonic() + 1000, time.time() + 1000)
    assert later.rows[0].uptime == "2 min"
    assert "running" not in "".join(count.text for count in view.counts)


def test_log_lines_are_filtered_and_newest_first(log: Log) -> None:
    """Words are sought in source and message; what cannot be read is left out."""
    lines = parse_lines(
        [
            json.dumps({"time_ns": 10**9, "level": "warn", "source": "A/1", "message": "low light"}),
            json.dumps({"time_ns": 2 * 10**9, "level": "INFO", "source": "B/1", "message": "ready"}),
            "no line",
        ]
    )
    log.add("ERROR", "window", "failed")
    assert [line.message for line in log.merged(lines, "", "DEBUG")] == ["failed", "ready", "low light"]
    assert [line.message for line in log.merged(lines, "a/1 LIGHT", "DEBUG")] == ["low light"]
    assert [line.level for line in log.merged(lines, "", "WARNING")] == ["ERROR", "WARNING"]


def test_a_notice_goes_with_time_or_success() -> None:
    """The sentence of a failed command stands for a while, unless the next one is good."""
    notice = Notice()
    notice.ended("no answer", 0.0)
    assert notice.line("Measuring.", 1.0) == ("no answer", "error")
    assert notice.line("Measuring.", SHOWN_S + 1) == ("Measuring.", "caption")
    notice.ended("no answer", 100.0)
    notice.ended(None, 101.0)
    assert notice.line("Measuring.", 102.0) == ("Measuring.", "caption")


def test_a_command_that_is_not_answered_is_said_to_be_so() -> None:
    """It shows at once that it was asked for, after a moment that there is no answer, and at last how it ended."""
    notice = Notice()
    notice.began("Stopping…", "Stop is not answered", 10.0)
    assert notice.waits(10.1)
    assert notice.line("Turning", 10.1) == ("Stopping…", "pending")
    assert not notice.waits(10.0 + NOTICE_PATIENCE_S)
    assert notice.line("Turning", 10.0 + NOTICE_PATIENCE_S) == ("Stop is not answered", "error")
    assert notice.line("Turning", 200.0) == ("Stop is not answered", "error")
    notice.ended("Stop: its server hangs", 201.0)
    assert notice.line("Turning", 201.0) == ("Stop: its server hangs", "error")
    notice.began("Stopping…", "Stop is not answered", 210.0)
    notice.ended(None, 210.2)
    assert notice.line("In position.", 210.2) == ("In position.", "caption")


def test_a_site_in_the_order_of_the_list() -> None:
    """Instruments come first, what is inner to Tango is hidden."""
    names = [
        (SUPERVISOR, "Supervisor"), ("dserver/A/1", "DServer"), (ARCHIVER, "Archiver"),
        (ROTATORS[0], "ELL14"), (POWER, "Newport1830C"),
    ]  # fmt: skip
    site = describe_site(Registered(*name, "A/1") for name in names)
    assert site.devices == (POWER, ROTATORS[0], ARCHIVER, SUPERVISOR)
    assert (site.supervisors, site.archivers) == ((SUPERVISOR,), (ARCHIVER,))


def running_site(root: Path, name: str, tango_host: str) -> RunningSite:
    """Write a site that was brought up."""
    panels: dict[str, object] = {"title": "Optics", "power_meter": POWER, "rotators": list(ROTATORS)}
    site = RunningSite(name, tango_host, root / "data", root / name, host="local", panels=panels)
    site.write()
    return site


def test_the_window_opens_on_the_site_last_brought_up(tmp_path: Path) -> None:
    """Names of devices come from the site file, so the window can start before the database."""
    running_site(tmp_path, "demo", "localhost:1")
    opening = find_opening(tmp_path, "")
    assert (opening.title, opening.power_meter, opening.rotators) == ("Optics", POWER, ROTATORS)
    assert (opening.supervisors, opening.archivers) == ((SUPERVISOR,), (ARCHIVER,))


def test_tango_host_wins(tmp_path: Path) -> None:
    """TANGO_HOST selects its site where one is known, and else a database of which nothing is known."""
    running_site(tmp_path, "demo", "localhost:1")
    running_site(tmp_path, "other", "localhost:2")
    assert find_opening(tmp_path, "localhost:1").archivers == (ARCHIVER,)
    assert find_opening(tmp_path, "elsewhere:3") == Opening("elsewhere:3")


def test_without_any_site_there_is_nothing_to_open(tmp_path: Path) -> None:
    """A sentence says what to do."""
    with pytest.raises(SiteError, match="run up"):
        find_opening(tmp_path, "")


def test_the_database_completes_what_the_site_file_leaves_open() -> None:
    """Named devices stay, the others are those of the database."""
    opening = completed(Opening("localhost:1", rotators=("lab/rotator/9",)), SITE)
    assert (opening.power_meter, opening.rotators) == (POWER, ("lab/rotator/9",))
    assert opening.supervisors == (SUPERVISOR,)
    assert completed(opening, SITE) == opening


def test_a_panel_is_named_or_all_are_shown() -> None:
    """A wrong name is answered with those there are."""
    assert panel_named([]) == ("", "")
    assert panel_named(["Power"]) == ("power", "")
    assert "servers, power" in panel_named(["kitchen"])[1]
    assert panel_named(["power", "log"])[1].startswith("at most one")


def test_a_series_has_the_prefix_of_its_greatest_value(readings: Readings) -> None:
    """Unit, scale and decimals fit what is drawn, so that numbers of one row have one width."""
    reading = readings.get(POWER, "power", ring=True)
    series = Series("Power", reading, "W")
    assert series.title == "Power, W"
    times, values = np.array([1000.0, 1001.0]), np.array([1.5e-6, 49.62e-6])
    series.fit(values)
    assert (series.title, series.decimals, series.scale) == ("Power, µW", 2, pytest.approx(1e6))
    assert series.at(times, values * series.scale, 1000.9) == "49.62 µW"
    assert series.at(times, values * series.scale, 1060.0) == "–"
    assert series.at(times[:0], values[:0], 1000.0) == "–"
    assert cursor_text([series], [(times, values * 1e6)], 1000.0).endswith("1.50 µW")


def test_ticks_are_round_and_few() -> None:
    """Time ticks fall on round seconds, and values have the decimals of their distance."""
    step, ticks = clock_ticks(1003.0, 1063.0, 6)
    assert (step, ticks) == (10, [1010.0, 1020.0, 1030.0, 1040.0, 1050.0, 1060.0])
    assert len(clock_text(0.0, 10)) == 8
    assert len(clock_text(0.0, 60)) == 5
    assert [value_text(value, 0.05) for value in (-0.1, 1e-12, 0.15)] == ["−0.10", "0.00", "0.15"]
    assert value_text(20.0, 10.0) == "20"
    step, ticks = value_ticks(4.97, 5.03, 4)
    assert [value_text(tick, step) for tick in ticks] == ["4.98", "5.00", "5.02"]
    assert value_ticks(1.0, 1.0, 4)[1] == []


def test_long_windows_are_drawn_less_often() -> None:
    """An hour is drawn once a second, a minute with every tick."""
    assert redraw_period_s(60) < 0.2
    assert redraw_period_s(3600) == 1.0
    assert short_name("lab/rotator/1") == "rotator/1"
