"""What a device shows: quality from limits, which readings are CHANGE events, the latch of long actions."""

import math

import numpy as np
import pytest

from bandoneon.errors import InstrumentFault, InterlockRefused, LinkDown, ProtocolError, ReplyTimeout
from device_servers.core.states import (
    ALARM,
    CHANGE_AT_LEAST_S,
    INVALID,
    REPEAT_INVALID_S,
    VALID,
    WARNING,
    Criteria,
    Latch,
    Reading,
    Settings,
    Shown,
    changed,
    quality_of,
    shown_after,
)

LIMITS = Criteria(min_alarm=-10, min_warning=-5, max_warning=5, max_alarm=10)
ON, MOVING = Shown("ON", "Ready."), Shown("MOVING", "Moving.")


@pytest.mark.parametrize(
    ("value", "quality"),
    [
        (0.0, VALID),
        (5, VALID),
        (5.1, WARNING),
        (-6, WARNING),
        (10.5, ALARM),
        (-11, ALARM),
        (None, INVALID),
        (True, VALID),
        (np.int32(11), ALARM),
        (np.uint8(6), WARNING),
        (np.float32(-11), ALARM),
        (np.bool_(True), VALID),
    ],
)
def test_quality_follows_the_limits(value: float | None, quality: int) -> None:
    """Within the limits VALID, outside WARNING and then ALARM, without a value INVALID."""
    assert quality_of(value, LIMITS) == quality


def test_text_and_arrays_have_no_limits() -> None:
    """Limits are of numbers."""
    assert quality_of("far", LIMITS) == quality_of([99.0], LIMITS) == VALID


@pytest.mark.parametrize(
    ("before", "now", "criteria", "expected"),
    [
        (1.0, 1.0, Criteria(), False),
        (1.0, 1.1, Criteria(), True),
        (1.0, 1.4, Criteria(abs_change=0.5), False),
        (1.0, 1.5, Criteria(abs_change=0.5), True),
        (100.0, 100.9, Criteria(rel_change_pct=1), False),
        (100.0, 101.0, Criteria(rel_change_pct=1), True),
        (math.nan, math.nan, Criteria(), False),
        (1.0, math.nan, Criteria(abs_change=5), True),
        ("a", "a", Criteria(), False),
        ("a", "b", Criteria(), True),
        (True, False, Criteria(), True),
        (np.int32(1), np.int32(2), Criteria(abs_change=5), False),
        (np.uint8(9), np.uint8(1), Criteria(abs_change=5), True),
        (np.float32(1.0), 1.4, Criteria(abs_change=0.5), False),
        (np.bool_(True), np.bool_(False), Criteria(abs_change=5), True),
        ([1, 2], [1, 2], Criteria(), False),
        ([1, 2], [1, 3], Criteria(), True),
    ],
)
def test_a_change_is_what_the_criteria_say(before: object, now: object, criteria: Criteria, expected: bool) -> None:
    """Beyond the criteria, or any difference without them."""
    assert changed(Reading(before, 0.0, VALID), Reading(now, 1.0, VALID), criteria) is expected  # type: ignore[arg-type]


def test_arrays_are_compared_whole() -> None:
    """A numpy array is a change when any element differs, or its length."""
    before = Reading(np.array([1.0, 2.0]), 0.0, VALID)  # type: ignore[arg-type]
    assert not changed(before, Reading(np.array([1.0, 2.0]), 1.0, VALID), Criteria())  # type: ignore[arg-type]
    assert changed(before, Reading(np.array([1.0, 3.0]), 1.0, VALID), Criteria())  # type: ignore[arg-type]
    assert changed(before, Reading(np.array([1.0]), 1.0, VALID), Criteria())  # type: ignore[arg-type]


def test_the_first_reading_another_quality_and_time_are_changes() -> None:
    """The first one, one of another quality, and a good one every ten seconds."""
    still = Criteria(abs_change=5)
    assert changed(None, Reading(1.0, 0.0, VALID), still)
    assert changed(Reading(1.0, 0.0, VALID), Reading(1.0, 0.1, ALARM), still)
    assert changed(Reading(1.0, 0.0, VALID), Reading(1.0, CHANGE_AT_LEAST_S, VALID), still)


def test_invalid_is_told_once_a_minute() -> None:
    """On transition, then once a minute and not with every poll."""
    gone = Reading(None, 0.0, INVALID)
    assert not changed(gone, Reading(None, REPEAT_INVALID_S - 1, INVALID), Criteria())
    assert changed(gone, Reading(None, REPEAT_INVALID_S, INVALID), Criteria())


class TestSettings:
    def test_what_an_outage_changed_is_told(self) -> None:
        """Only what was known before and is different now."""
        settings = Settings()
        settings.read({"gain": 1, "range": 3})
        settings.lost()
        settings.read({"gain": 2, "range": 3, "new": 9})
        assert settings.differences == ["gain was 1 and is 2"]

    def test_without_an_outage_and_after_our_own_write_nothing_is_told(self) -> None:
        """Settings may be changed: by us just before the outage, or on the front panel while we look."""
        settings = Settings()
        settings.read({"gain": 1})
        settings.read({"gain": 2})
        settings.written("gain")
        settings.lost()
        settings.read({"gain": 5})
        assert settings.differences == []

    def test_a_difference_stays_until_it_is_accepted_written_or_gone(self) -> None:
        """Another outage does not make it right; a write, acceptance, or the old value again does."""
        for heal in ("accept", "write", "back", "nothing"):
            settings = Settings()
            settings.read({"gain": 1})
            settings.lost()
            settings.read({"gain": 2})
            settings.lost()
            settings.read({"gain": 2})
            assert settings.differences == ["gain was 1 and is 2"]
            if heal == "accept":
                settings.accept()
            elif heal == "write":
                settings.written("gain")
            elif heal == "back":
                settings.read({"gain": 1})
            settings.read({"gain": 1 if heal == "back" else 2})
            assert bool(settings.differences) is (heal == "nothing")


class TestLatch:
    def test_only_a_poll_begun_after_the_action_ends_its_state(self) -> None:
        """A poll that was under way when the action was sent says nothing about it."""
        latch = Latch(ON)
        latch.hold(MOVING, 10.0)
        latch.sent(10.5)
        assert not latch.judge(ON, 10.2)
        assert latch.shown == MOVING
        assert latch.judge(ON, 10.6)
        assert latch.shown == ON

    def test_a_poll_between_latch_and_sending_does_not_end_it(self) -> None:
        """Begun after the latch and before the instrument had the action: it does not count either."""
        latch = Latch(ON)
        latch.hold(MOVING, 10.0)
        assert latch.judge(MOVING, 10.1)
        latch.hold(MOVING, 11.0)
        latch.sent(11.5)
        assert not latch.judge(ON, 11.2)

    def test_an_action_that_failed_shows_what_was_before(self) -> None:
        """Nothing was sent: nothing moves."""
        latch = Latch(ON)
        latch.hold(MOVING, 10.0)
        latch.withdraw()
        assert latch.shown == ON
        assert latch.judge(ON, 9.0)


AFTER = """
event                    INIT     UNKNOWN  ON       OFF      STANDBY  MOVING   RUNNING  ALARM    FAULT
answered-ON              ON       ON       ON       ON       ON       ON       ON       ON       ON
answered-OFF             OFF      OFF      OFF      OFF      OFF      OFF      OFF      OFF      OFF
answered-STANDBY         STANDBY  STANDBY  STANDBY  STANDBY  STANDBY  STANDBY  STANDBY  STANDBY  STANDBY
answered-MOVING          MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING
answered-RUNNING         RUNNING  RUNNING  RUNNING  RUNNING  RUNNING  RUNNING  RUNNING  RUNNING  RUNNING
answered-ALARM           ALARM    ALARM    ALARM    ALARM    ALARM    ALARM    ALARM    ALARM    ALARM
answered-FAULT           FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT
moved                    MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING
moved,older-poll         MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING   MOVING
moved,newer-poll         ON       ON       ON       ON       ON       ON       ON       ON       ON
moved,line-down          UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
move-not-sent            INIT     UNKNOWN  ON       OFF      STANDBY  MOVING   RUNNING  ALARM    FAULT
move-not-sent,line-down  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
line-down                UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
no-reply                 UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
garbled-reply            UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
poll-refused             UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN  UNKNOWN
instrument-error         FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT
unforeseen               FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT    FAULT
"""
"""What a device shows after an event, by what it showed before. A client's call that fails changes nothing."""

ERRORS = {
    "line-down": LinkDown("pulled"),
    "no-reply": ReplyTimeout("nothing came"),
    "garbled-reply": ProtocolError(b"V?", b"#"),
    "poll-refused": InterlockRefused("it turns"),
    "instrument-error": InstrumentFault(3, "too hot"),
    "unforeseen": RuntimeError("a bug"),
}


def happen(latch: Latch, event: str) -> None:
    """Let an event happen to what a device shows, as the device does it: at 10 s, after a poll begun at 9 s."""
    if event.startswith("answered-"):
        latch.judge(Shown(event.removeprefix("answered-"), "Measured."), 10.0)
    elif event.startswith("move"):
        latch.hold(MOVING, 10.0)
        if event.startswith("move-not-sent"):
            if event.endswith(",line-down"):
                happen(latch, "line-down")
            latch.withdraw()
            return
        latch.sent(10.1)
        if event == "moved,line-down":
            happen(latch, "line-down")
        elif event != "moved":
            latch.judge(ON, 9.0 if event == "moved,older-poll" else 10.2)
    else:
        latch.release(shown_after(ERRORS[event]))


def transitions() -> list[tuple[str, str, str]]:
    """State before, event and state after, of the whole table."""
    (_, *states), *rows = (row.split() for row in AFTER.strip().splitlines())
    return [(before, event, after) for event, *row in rows for before, after in zip(states, row, strict=True)]


@pytest.mark.parametrize(("before", "event", "after"), transitions())
def test_states_follow_events(before: str, event: str, after: str) -> None:
    """Every state, every event."""
    latch = Latch(Shown(before, "Before."))
    happen(latch, event)
    assert latch.shown.state == after
    assert latch.shown.status.endswith(".")
