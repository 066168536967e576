"""The plan: what is made, changed, adopted, deleted; and whose entries are never touched."""

import pytest

from bandoneon.errors import SiteError
from bandoneon.site.desired import Entry, Value
from bandoneon.site.diff import Change, Plan, changed_servers, diff, owned_after

SERVER = Entry("server", "Meter/lab_power_1")
DEVICE = Entry("device", "lab/power/1")
PERIOD = Entry("property", "lab/power/1/poll_period_s")
POLICY = Entry("property", "dserver/Meter/lab_power_1/restart")
DEADBAND = Entry("attribute_property", "lab/power/1/power/abs_change")

WANTED: dict[Entry, Value] = {
    SERVER: ("local", "2"),
    DEVICE: ("Meter", "Meter/lab_power_1"),
    PERIOD: ("0.1",),
    POLICY: ("permanent",),
    DEADBAND: ("1e-09",),
}


def owned_by(site: str, entries: dict[Entry, Value] = WANTED) -> dict[Entry, str]:
    """Every entry as the property of one site."""
    return dict.fromkeys(entries, site)


def actions(plan: Plan) -> list[tuple[str, Entry]]:
    """What a plan does to what."""
    return [(change.action, change.entry) for change in plan.changes]


def test_an_empty_database_gets_everything_in_order() -> None:
    """Each entry is a change without `before`."""
    plan = diff("a", WANTED, {}, {})
    assert actions(plan) == [("create", entry) for entry in WANTED]
    assert plan.changes[0] == Change("create", SERVER, None, ("local", "2"))


def test_what_is_there_already_is_no_change() -> None:
    """A second plan is empty."""
    assert diff("a", WANTED, WANTED, owned_by("a")) == Plan()


def test_an_own_value_that_differs_is_an_update() -> None:
    """`before` and `after` are both told."""
    actual = {**WANTED, PERIOD: ("5",)}
    assert diff("a", WANTED, actual, owned_by("a")).changes == [Change("update", PERIOD, ("5",), ("0.1",))]


def test_an_own_entry_that_vanished_is_made_again() -> None:
    """Somebody deleted a property by hand: the plan brings it back."""
    actual = {entry: value for entry, value in WANTED.items() if entry != PERIOD}
    assert actions(diff("a", WANTED, actual, owned_by("a"))) == [("create", PERIOD)]


def test_another_sites_entries_are_refused_by_name() -> None:
    """Nothing is planned; every refused entry is in the error, also where the values agree."""
    with pytest.raises(SiteError) as caught:
        diff("b", WANTED, WANTED, owned_by("a"), adopt=["*"], prune=True)
    assert len(str(caught.value).splitlines()) == len(WANTED)
    assert "device lab/power/1 belongs to site a; give yours another name" in str(caught.value)


def test_what_belongs_to_nobody_has_to_be_adopted() -> None:
    """A server or device that exists is refused until `adopt:` names it."""
    with pytest.raises(SiteError) as caught:
        diff("a", WANTED, WANTED, {})
    assert "list lab/power/1 under `adopt:`" in str(caught.value)
    assert "list Meter/lab_power_1 under `adopt:`" in str(caught.value)


def test_adoption_takes_what_patterns_name_and_its_properties() -> None:
    """What is equal is adopted, what differs updated, what is missing made."""
    actual = {SERVER: WANTED[SERVER], DEVICE: ("Old", "Meter/lab_power_1"), PERIOD: ("5",)}
    plan = diff("a", WANTED, actual, {}, adopt=["LAB/power/*", "meter/*"])
    assert actions(plan) == [
        ("adopt", SERVER),
        ("update", DEVICE),
        ("update", PERIOD),
        ("create", POLICY),
        ("create", DEADBAND),
    ]


def test_devices_no_longer_named_stay_until_pruned() -> None:
    """Without `--prune` they are told; with it devices and servers go, properties with them."""
    kept = {entry: value for entry, value in WANTED.items() if entry == SERVER}
    assert diff("a", kept, WANTED, owned_by("a")) == Plan(
        [Change("delete", POLICY, ("permanent",), None)], left=[DEVICE]
    )
    pruned = diff("a", {}, WANTED, owned_by("a"), prune=True)
    assert actions(pruned) == [("delete", SERVER), ("delete", DEVICE)]


def test_a_property_that_is_no_longer_set_goes_at_once() -> None:
    """A property of a device that stays would otherwise keep its old effect."""
    wanted = {entry: value for entry, value in WANTED.items() if entry not in (PERIOD, DEADBAND)}
    assert actions(diff("a", wanted, WANTED, owned_by("a"))) == [("delete", PERIOD), ("delete", DEADBAND)]


def test_only_own_entries_are_pruned() -> None:
    """Another site's devices and those of nobody are no part of the plan."""
    other = Entry("device", "lab/power/2")
    foreign = Entry("device", "lab/power/3")
    actual = {**WANTED, other: ("Meter", "x"), foreign: ("Meter", "y")}
    assert diff("a", WANTED, actual, {**owned_by("a"), other: "b"}, prune=True) == Plan()


def test_a_name_that_changed_only_its_case_is_not_deleted() -> None:
    """Tango would delete the one just written."""
    shouted = Entry("property", "lab/power/1/Poll_Period_S")
    wanted = {**{entry: value for entry, value in WANTED.items() if entry != PERIOD}, shouted: ("0.1",)}
    plan = diff("a", wanted, {**WANTED, shouted: ("0.1",)}, owned_by("a"))
    assert ("delete", PERIOD) not in actions(plan)


def test_an_owner_is_known_in_any_case() -> None:
    """Another site's device is refused, and an own one kept, although it is written in other letters."""
    shouted = Entry("device", "LAB/Power/1")
    wanted: dict[Entry, Value] = {shouted: WANTED[DEVICE]}
    with pytest.raises(SiteError, match="belongs to site b"):
        diff("a", wanted, wanted, {DEVICE: "b"})
    assert diff("a", wanted, wanted, {DEVICE: "a"}, prune=True) == Plan()
    assert owned_after(Plan(), wanted, {DEVICE}) == {shouted}


def test_a_property_of_a_device_in_other_letters_is_deleted() -> None:
    """Its device stays, so it goes at once."""
    wanted: dict[Entry, Value] = {Entry("device", "LAB/Power/1"): WANTED[DEVICE]}
    plan = diff("a", wanted, {**wanted, PERIOD: ("5",)}, {DEVICE: "a", PERIOD: "a"})
    assert actions(plan) == [("delete", PERIOD)]


@pytest.mark.parametrize(
    ("change", "servers"),
    [
        (Change("update", PERIOD, ("5",), ("0.1",)), {"Meter/lab_power_1"}),
        (Change("delete", DEADBAND, ("5",), None), {"Meter/lab_power_1"}),
        (Change("update", POLICY, ("temporary",), ("permanent",)), {"Meter/lab_power_1"}),
        (Change("update", DEVICE, ("Meter", "Meter/old"), WANTED[DEVICE]), {"Meter/old", "Meter/lab_power_1"}),
        (Change("delete", Entry("device", "lab/power/2"), ("Meter", "Meter/two"), None), {"Meter/two"}),
        (Change("adopt", DEVICE, WANTED[DEVICE], WANTED[DEVICE]), set()),
    ],
)
def test_the_servers_a_change_is_about(change: Change, servers: set[str]) -> None:
    """They have to start anew to see it; a device that moves is about two."""
    assert changed_servers(Plan([change]), WANTED) == servers


def test_what_is_owned_afterwards() -> None:
    """Everything asked for, and what was left alone; a deleted device takes its properties with it."""
    spare = Entry("device", "lab/spare/1")
    owned = {*WANTED, spare}
    assert owned_after(Plan(), WANTED, owned) == owned
    plan = diff("a", {}, WANTED, dict.fromkeys(WANTED, "a"), prune=True)
    assert owned_after(plan, {}, set(WANTED)) == set()


def test_a_change_is_json_as_documented() -> None:
    """`plan --json` has action, kind, name, before and after."""
    assert Change("update", PERIOD, ("5",), ("0.1",)).as_json() == {
        "action": "update",
        "kind": "property",
        "name": "lab/power/1/poll_period_s",
        "before": ["5"],
        "after": ["0.1"],
    }
