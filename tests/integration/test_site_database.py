"""A site in a real Tango database: plan, apply, ownership, adoption, pruning."""

from pathlib import Path
from typing import Any

import pytest
import tango

from bandoneon.errors import SiteError
from bandoneon.site.database import RECORD, SiteDatabase
from bandoneon.site.desired import Entry, Value, desired
from bandoneon.site.model import Site
from device_servers.registry import SERVERS
from tests.support import TangoDatabase

RUN = Path("/run/here")


def instrument(name: str, **more: object) -> dict[str, object]:
    """An instrument behind a network line."""
    return {"name": name, "class": "Newport1830C", "connection": "tcp://meter:1", **more}


def wanted(site: str, *instruments: dict[str, object], **more: object) -> dict[Entry, Value]:
    """What a site with these instruments asks for; its host is named after it."""
    content = {"site": site, "hosts": [{"name": site}], "instruments": list(instruments), **more}
    return desired(Site.model_validate(content), RUN, SERVERS)


@pytest.fixture
def site_database(database: TangoDatabase) -> SiteDatabase:
    """The part of the database that sites see."""
    return SiteDatabase(database.tango_host)


@pytest.fixture
def plain(database: TangoDatabase) -> Any:
    """The database as Tango's own clients see it."""
    return tango.Database("127.0.0.1", database.port)


def everything(plain: Any) -> dict[str, object]:
    """Every device with class, server and properties, and every server with host and level."""
    found: dict[str, object] = {}
    for device in plain.get_device_exported("*").value_string + plain.get_device_name("*", "*").value_string:
        info = plain.get_device_info(device)
        names = list(plain.get_device_property_list(device, "*").value_string)
        properties = {name: list(plain.get_device_property(device, name)[name]) for name in names}
        found[device.lower()] = (info.class_name, info.ds_full_name.lower(), properties)
    return found


def apply(database: SiteDatabase, site: str, entries: dict[Entry, Value], **options: Any) -> list[str]:
    """Plan and apply; return the actions that were carried out."""
    plan = database.plan(site, entries, **options)
    database.apply(site, entries, plan)
    return [f"{change.action} {change.entry.kind} {change.entry.name}" for change in plan.changes]


def remove(database: SiteDatabase, site: str) -> None:
    """Delete everything a site owns."""
    apply(database, site, {}, prune=True)


def test_what_was_applied_needs_no_change(site_database: SiteDatabase, plain: Any) -> None:
    """The first plan makes everything, the second is empty, and Tango's clients see what was asked for."""
    settings = {"power": {"deadband": 0.5, "period_s": 2}}
    entries = wanted("first", instrument("first/power/1", poll_period_s=0.1, quantities=settings))
    assert site_database.plan("first", entries).changes
    assert apply(site_database, "first", entries)
    assert site_database.plan("first", entries).changes == []
    info = plain.get_device_info("first/power/1")
    assert (info.class_name, info.ds_full_name) == ("Newport1830C", "Newport1830C/first_power_1")
    assert list(plain.get_device_property("first/power/1", "poll_period_s")["poll_period_s"]) == ["0.1"]
    found = plain.get_device_attribute_property("first/power/1", ["power"])
    assert list(found["power"]["abs_change"]) == ["0.5"]
    remove(site_database, "first")


def test_the_servers_host_and_level_are_kept(site_database: SiteDatabase, plain: Any) -> None:
    """The property `host` names the host whatever machine the server ran on; supervisors have level 0."""
    entries = wanted("first", instrument("first/power/1"))
    apply(site_database, "first", entries)
    assert list(plain.get_device_property("dserver/Newport1830C/first_power_1", "host")["host"]) == ["first"]
    info = plain.get_server_info("Newport1830C/first_power_1")
    assert (info.mode, info.level) == (1, 2)
    assert plain.get_server_info("Supervisor/first").level == 0
    # what a server does at every start: the database's own record gets the machine's name
    info.host = "some-machine"
    plain.put_server_info(info)
    assert site_database.plan("first", entries).changes == []
    moved = {**entries, Entry("server", "Newport1830C/first_power_1"): ("second", "2")}
    assert apply(site_database, "first", moved) == ["update server Newport1830C/first_power_1"]
    assert list(plain.get_device_property("dserver/Newport1830C/first_power_1", "host")["host"]) == ["second"]
    remove(site_database, "first")


def test_changes_are_found_and_carried_out(site_database: SiteDatabase, plain: Any) -> None:
    """A changed value is written, a removed one deleted, one that was changed by hand put back."""
    limits = {"power": {"max_alarm": 1}}
    apply(site_database, "first", wanted("first", instrument("first/power/1", timeout_s=2, quantities=limits)))
    after = wanted("first", instrument("first/power/1", poll_period_s=0.2))
    assert sorted(apply(site_database, "first", after)) == [
        "create property first/power/1/poll_period_s",
        "delete attribute_property first/power/1/power/max_alarm",
        "delete property first/power/1/timeout_s",
    ]
    assert list(plain.get_device_property("first/power/1", "timeout_s")["timeout_s"]) == []
    plain.put_device_property("first/power/1", {"poll_period_s": ["9"]})
    (change,) = site_database.plan("first", after).changes
    assert (change.action, change.before, change.after) == ("update", ("9",), ("0.2",))
    remove(site_database, "first")


def test_properties_that_others_set_on_our_devices_stay(site_database: SiteDatabase, plain: Any) -> None:
    """Only what the site wrote is the site's: a note made in Jive is not touched."""
    entries = wanted("first", instrument("first/power/1"))
    apply(site_database, "first", entries)
    plain.put_device_property("first/power/1", {"note": ["calibrated in May"]})
    assert site_database.plan("first", entries, prune=True).changes == []
    apply(site_database, "first", wanted("first", instrument("first/power/1", poll_period_s=3)))
    assert list(plain.get_device_property("first/power/1", "note")["note"]) == ["calibrated in May"]
    remove(site_database, "first")


def test_a_second_site_neither_sees_nor_touches_the_first(site_database: SiteDatabase, plain: Any) -> None:
    """Applying, pruning and removing the second leaves the first as it was."""
    first, second = wanted("first", instrument("first/power/1")), wanted("second", instrument("second/power/1"))
    apply(site_database, "first", first)
    before = everything(plain)
    apply(site_database, "second", second)
    assert set(site_database.sites()) == {"first", "second"}
    assert site_database.plan("first", first).changes == []
    apply(site_database, "second", wanted("second"), prune=True)
    remove(site_database, "second")
    assert everything(plain) == before
    assert site_database.plan("first", first, prune=True).changes == []
    remove(site_database, "first")


def test_another_sites_entries_are_an_error_and_no_change(site_database: SiteDatabase, plain: Any) -> None:
    """Also with adoption and pruning asked for; nothing is written."""
    apply(site_database, "first", wanted("first", instrument("first/power/1")))
    before = everything(plain)
    with pytest.raises(SiteError, match="device first/power/1 belongs to site first; give yours another name"):
        apply(site_database, "second", wanted("second", instrument("first/power/1")), adopt=["*"], prune=True)
    assert everything(plain) == before
    assert set(site_database.sites()) == {"first"}
    remove(site_database, "first")


def test_foreign_devices_are_refused_until_adopted(
    site_database: SiteDatabase, database: TangoDatabase, plain: Any
) -> None:
    """What a person registered by hand is an error, and the site's after `adopt:` names it."""
    database.register("Newport1830C/own_power_1", {"own/power/1": "Newport1830C"}, {"own/power/1": {"note": "mine"}})
    before = everything(plain)
    entries = wanted("first", instrument("own/power/1"))
    with pytest.raises(SiteError, match="device own/power/1 exists and belongs to no site") as caught:
        apply(site_database, "first", entries)
    assert "list Newport1830C/own_power_1 under `adopt:`" in str(caught.value)
    assert everything(plain) == before
    done = apply(site_database, "first", entries, adopt=["own/power/1", "Newport1830C/own_power_1"])
    assert "adopt device own/power/1" in done
    assert site_database.plan("first", entries).changes == []
    assert list(plain.get_device_property("own/power/1", "note")["note"]) == ["mine"]
    remove(site_database, "first")


def test_pruning_deletes_what_is_owned_and_no_longer_named(site_database: SiteDatabase, plain: Any) -> None:
    """Without it the entries are only told; with it they go, with everything they had."""
    both = wanted("first", instrument("first/power/1"), instrument("first/power/2", poll_period_s=1))
    one = wanted("first", instrument("first/power/1"))
    apply(site_database, "first", both)
    plan = site_database.plan("first", one)
    assert plan.changes == []
    assert {entry.name for entry in plan.left} == {"first/power/2", "Newport1830C/first_power_2"}
    apply(site_database, "first", one, prune=True)
    assert "first/power/2" not in everything(plain)
    assert list(plain.get_device_property("first/power/2", "poll_period_s")["poll_period_s"]) == []
    assert site_database.plan("first", one) == site_database.plan("first", one, prune=True)
    remove(site_database, "first")
    assert site_database.sites().get("first", set()) == set()
    assert not [name for name in everything(plain) if "first" in name]


def test_pruning_a_server_spares_what_others_put_into_it(
    site_database: SiteDatabase, database: TangoDatabase, plain: Any
) -> None:
    """A device that a person registered in a server of the site is not the site's to delete."""
    apply(site_database, "first", wanted("first", instrument("first/power/1")))
    database.register(
        "Newport1830C/first_power_1", {"own/guest/1": "Newport1830C"}, {"own/guest/1": {"connection": "tcp://x:1"}}
    )
    remove(site_database, "first")
    left = everything(plain)
    assert left["own/guest/1"] == ("Newport1830C", "newport1830c/first_power_1", {"connection": ["tcp://x:1"]})
    assert "first/power/1" not in left
    plain.delete_server("Newport1830C/first_power_1")


def test_a_property_renamed_in_case_only_survives(site_database: SiteDatabase, plain: Any) -> None:
    """To Tango `Address` is `address`: deleting the old name would delete the new one."""
    apply(site_database, "first", wanted("first", instrument("first/power/1", properties={"address": "2"})))
    entries = wanted("first", instrument("first/power/1", properties={"Address": "2"}))
    apply(site_database, "first", entries)
    assert list(plain.get_device_property("first/power/1", "address")["address"]) == ["2"]
    assert site_database.plan("first", entries).changes == []
    remove(site_database, "first")


def test_a_crash_in_the_middle_leaves_nothing_unowned(
    site_database: SiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is about to be made is recorded first: the next plan carries on instead of refusing."""
    entries = wanted("first", instrument("first/power/1"))
    carry_out, done = SiteDatabase._carry_out, []

    def crash(self: SiteDatabase, change: Any) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(change)
        carry_out(self, change)

    with monkeypatch.context() as crashing:
        crashing.setattr(SiteDatabase, "_carry_out", crash)
        with pytest.raises(KeyboardInterrupt):
            apply(site_database, "first", entries)
    assert len(apply(site_database, "first", entries)) == len(entries) - 3
    assert site_database.plan("first", entries).changes == []
    remove(site_database, "first")


def test_the_record_of_ownership_is_readable(site_database: SiteDatabase, plain: Any) -> None:
    """One free property per site, one line per entry."""
    apply(site_database, "first", wanted("first", instrument("first/power/1")))
    lines = list(plain.get_property(RECORD, "first")["first"])
    assert "device first/power/1" in lines
    assert "server Newport1830C/first_power_1" in lines
    assert "property first/power/1/connection" in lines
    remove(site_database, "first")
