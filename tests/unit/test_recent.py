"""What an archiver's alarms are about."""

from archiver.recent import WINDOW_S, Counts, Recent


def test_what_was_lost_long_ago_raises_no_alarm_any_more() -> None:
    """It counts for ten minutes, then what was lost since; what was lost before the first report counts as well."""
    recent = Recent(0.0, Counts(journal_bytes=100))
    recent.note(1.0, Counts(journal_bytes=150, lost=3))
    assert (recent.grown, recent.period_s) == (Counts(journal_bytes=50, lost=3), 1.0)
    recent.note(WINDOW_S, Counts(journal_bytes=200, lost=4))
    assert recent.grown.lost == 4
    recent.note(WINDOW_S + 1, Counts(journal_bytes=200, lost=4))
    assert recent.grown == Counts(journal_bytes=50, lost=1)
    recent.note(3 * WINDOW_S, Counts(journal_bytes=200, lost=4))
    assert recent.grown == Counts()


def test_few_samples_are_kept() -> None:
    """As many as are noted in ten minutes."""
    recent = Recent(0.0, Counts())
    for second in range(10_000):
        recent.note(float(second), Counts())
    assert len(recent._samples) <= WINDOW_S + 2
