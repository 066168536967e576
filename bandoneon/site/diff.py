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
    for entry, after in desired.items():
        before, owner = actual.get(entry), owners.get(entry)
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
    # Tango tells no upper from lower case: a name that only changed in that is still there
    kept = {(entry.kind, entry.name.lower()) for entry in desired}
    gone = [entry for entry, owner in owners.items() if owner == site and (entry.kind, entry.name.lower()) not in kept]
    for entry in gone:
        if entry.parent in desired or (prune and entry.parent == entry):
            plan.changes.append(Change("delete", entry, actual.get(entry), None))
        elif entry.parent == entry:
            plan.left.append(entry)
    return plan


def owned_after(plan: Plan, desired: Mapping[Entry, Value], owned: set[Entry]) -> set[Entry]:
    """Return what the site owns once `plan` is carried out; a device takes its properties with it."""
    deleted = {change.entry for change in plan.changes if change.action == "delete"}
    kept = {entry for entry in owned if entry not in deleted and entry.parent not in deleted}
    return kept | set(desired)


def _may_adopt(entry: Entry, patterns: Sequence[str]) -> bool:
    """Properties go with their device; devices and servers need a pattern that names them."""
    if entry.parent != entry:
        return True
    return any(fnmatch.fnmatch(entry.name.lower(), pattern.lower()) for pattern in patterns)
