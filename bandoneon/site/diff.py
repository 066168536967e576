"""What has to change in the Tango database so that it holds what the site asks for. Pure.

A site touches only what it created or expressly adopted. Whose an entry is, the database remembers (see
`bandoneon.site.database`); another site's entry, or one that belongs to nobody and is not adopted, is an error.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bandoneon.errors import SiteError
from bandoneon.site.desired import Entry, Value

Action = Literal["create", "update", "delete", "adopt"]


@dataclass(frozen=True)
class Change:
    """One change of the database; `before` is None for a new entry, `after` for one that goes."""

    action: Action
    entry: Entry
    before: Value | None
    after: Value | None

    def as_json(self) -> dict[str, object]:
        """Return the change as `plan --json` shows it."""
        return {
            "action": self.action,
            "kind": self.entry.kind,
            "name": self.entry.name,
            "before": None if self.before is None else list(self.before),
            "after": None if self.after is None else list(self.after),
        }


@dataclass(frozen=True)
class Plan:
    """The changes, and what the site owns in the database although its file no longer names it."""

    changes: list[Change] = field(default_factory=list[Change])
    left: list[Entry] = field(default_factory=list[Entry])


def diff(
    site: str,
    desired: Mapping[Entry, Value],
    actual: Mapping[Entry, Value],
    owners: Mapping[Entry, str],
    *,
    adopt: Sequence[str] = (),
    prune: bool = False,
) -> Plan:
    """Compare what `site` asks for with what the database holds.

    `actual` has the entries of `desired` and those the site owns, as far as they exist; `owners` maps every owned
    entry to its site; `adopt` are patterns of device and server names. With `prune` owned devices and servers that
    are no longer desired go; a property of a device that stays goes in any case. Raises SiteError naming every
    entry that is not the site's to change.
    """
    plan = Plan()
    refused: list[str] = []
    owner_by_key = {entry.key: owner for entry, owner in owners.items()}
    for entry, after in desired.items():
        before, owner = actual.get(entry), owner_by_key.get(entry.key)
        if owner not in (None, site):
            refused.append(f"{entry.kind} {entry.name} belongs to site {owner}; give yours another name")
        elif before is not None and owner is None and not _may_adopt(entry, adopt):
            refused.append(
                f"{entry.kind} {entry.name} exists and belongs to no site; "
                f"give yours another name, or list {entry.name} under `adopt:`"
            )
        elif before is None:
            plan.changes.append(Change("create", entry, None, after))
        elif before != after:
            plan.changes.append(Change("update", entry, before, after))
        elif owner is None:
            plan.changes.append(Change("adopt", entry, before, after))
    if refused:
        raise SiteError("\n".join(refused), key=site)
    kept = {entry.key for entry in desired}
    gone = [entry for entry, owner in owners.items() if owner == site and entry.key not in kept]
    for entry in gone:
        if entry.parent.key in kept or (prune and entry.parent == entry):
            plan.changes.append(Change("delete", entry, actual.get(entry), None))
        elif entry.parent == entry:
            plan.left.append(entry)
    return plan


def owned_after(plan: Plan, desired: Mapping[Entry, Value], owned: set[Entry]) -> set[Entry]:
    """Return what the site owns once `plan` is carried out; a device takes its properties with it."""
    deleted = {change.entry.key for change in plan.changes if change.action == "delete"}
    renamed = {entry.key for entry in desired}
    kept = {entry for entry in owned if not {entry.key, entry.parent.key} & deleted and entry.key not in renamed}
    return kept | set(desired)


def changed_servers(plan: Plan, desired: Mapping[Entry, Value]) -> set[str]:
    """Return the servers that have to start anew, where they run, to see what a plan changes."""
    servers: set[str] = set()
    for change in plan.changes:
        parent = change.entry.parent
        if change.action == "adopt":
            continue
        if parent.kind == "server":
            servers.add(parent.name)
            continue
        values = (desired.get(parent), *((change.before, change.after) if change.entry == parent else ()))
        servers |= {value[1] for value in values if value is not None}
    return servers


def _may_adopt(entry: Entry, patterns: Sequence[str]) -> bool:
    """Properties go with their device; devices and servers need a pattern that names them."""
    if entry.parent != entry:
        return True
    return any(fnmatch.fnmatch(entry.name.lower(), pattern.lower()) for pattern in patterns)
