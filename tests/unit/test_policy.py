"""When a server that ended is started again."""

import pytest

from device_servers.supervisor.policy import Decision, Past, Policy, decide


def fail(policy: Policy, past: Past, now_s: float, ran_s: float = 0.1, jitter: float = 0.5) -> Decision:
    """The decision about a server that failed."""
    return decide(policy, past, failed=True, ran_s=ran_s, now_s=now_s, jitter=jitter)


def test_the_first_restart_is_immediate_and_the_next_ones_back_off() -> None:
    """At once, then 0.2 s, 0.4 s, 0.8 s, up to the longest."""
    policy, past, waits = Policy(max_restarts=10, backoff_max_s=1.0), Past(), []
    for n in range(6):
        decision = fail(policy, past, float(n))
        past = decision.past
        waits.append(decision.again_after_s)
    assert waits == [0.0, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_spreads_the_wait_by_a_quarter_either_way() -> None:
    """Many servers that fail together do not come back together."""
    past = Past((0.0,), 1)
    waits = [fail(Policy(), past, 1.0, jitter=jitter).again_after_s for jitter in (0.0, 1.0)]
    assert waits == pytest.approx([0.15, 0.25])


def test_it_gives_up_after_too_many_restarts_within_the_window() -> None:
    """Five restarts within a minute; the next failure is the last."""
    past = Past()
    for n in range(5):
        decision = fail(Policy(), past, float(n))
        assert decision.again_after_s is not None
        past = decision.past
    decision = fail(Policy(), past, 5.0)
    assert decision.given_up
    assert decision.again_after_s is None


def test_restarts_that_left_the_window_do_not_count() -> None:
    """One failure every 20 s is never too often for five a minute."""
    past = Past()
    for n in range(20):
        decision = fail(Policy(), past, n * 20.0)
        assert not decision.given_up
        past = decision.past


def test_a_stable_run_starts_the_back_off_over() -> None:
    """After a long run the next restart is immediate again."""
    past = fail(Policy(), fail(Policy(), Past(), 0.0).past, 1.0).past
    assert fail(Policy(), past, 2.0, ran_s=29.9).again_after_s != 0.0
    assert fail(Policy(), past, 100.0, ran_s=30.0).again_after_s == 0.0


def test_the_back_off_has_no_end_of_its_own() -> None:
    """A server that fails now and then for months, never often enough to be given up, waits the longest time."""
    decision = fail(Policy(), Past((), 100_000), 0.0)
    assert decision.again_after_s == Policy().backoff_max_s


@pytest.mark.parametrize(
    ("restart", "failed", "again"),
    [
        ("permanent", True, True),
        ("permanent", False, True),
        ("transient", True, True),
        ("transient", False, False),
        ("temporary", True, False),
        ("temporary", False, False),
    ],
)
def test_the_kind_of_restart_decides(restart: str, failed: bool, again: bool) -> None:
    """Permanent always, transient after a failure, temporary never; not starting again is not giving up."""
    decision = decide(Policy(restart=restart), Past(), failed=failed, ran_s=1, now_s=0, jitter=0)  # type: ignore[arg-type]
    assert (decision.again_after_s is not None) is again
    assert not decision.given_up


def test_properties_make_a_policy() -> None:
    """What the database holds as text becomes numbers; what is missing is the default."""
    policy = Policy.from_properties(
        {"restart": ["transient"], "max_restarts": ["3"], "window_s": ["10"], "stable_s": []}
    )
    assert policy == Policy("transient", 3, 10.0)


@pytest.mark.parametrize(
    "properties",
    [
        {"restart": ["often"]},
        {"max_restarts": ["many"]},
        {"max_restarts": ["1.5"]},
        {"max_restarts": ["-1"]},
        {"window_s": ["nan"]},
        {"backoff_s": ["inf"]},
    ],
)
def test_a_property_that_cannot_be_is_refused(properties: dict[str, list[str]]) -> None:
    """The sentence names the property."""
    with pytest.raises(ValueError, match=next(iter(properties))):
        Policy.from_properties(properties)
