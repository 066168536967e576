"""The ledger: per attribute and server incarnation, what was stored, what was lost, and whether that is proven.

Streams count by their sequence number: first, last, stored, duplicates and lost are exact. Tango's pull events carry no
visible counter: they are counted as stored, and what may have been lost on the way stays *unproven* (contracts:
"Ledger"). Pure.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

from bandoneon.record import ARCHIVER, READ, Kind, Quality, Row

State = Literal["exact", "unproven"]

NO_COUNTER: Final = -1


@dataclass(slots=True)
class Account:
    """One row of the ledger, counted since the subscription began.

    `stored + lost == last_counter - first_counter + 1` where `state` is exact. `device`: the instrument whose batches
    these are, "" for an attribute's own events (one `batch` attribute carries several instruments).
    """

    attr: int
    incarnation: int
    device: str = ""
    first_counter: int = NO_COUNTER
    last_counter: int = NO_COUNTER
    stored: int = 0
    duplicates: int = 0
    lost: int = 0
    state: State = "unproven"

    def begin(self, counter: int) -> None:
        """Say that the first item to come is numbered `counter`, unless one came already."""
        if self.first_counter == NO_COUNTER:
            self.first_counter = counter
            self.last_counter = counter - 1
            self.state = "exact"

    def number(self, counter: int) -> int | None:
        """Count one item numbered `counter`: return how many are lost before it, None for a duplicate."""
        self.begin(counter)
        missing = counter - self.last_counter - 1
        if missing < 0:
            self.duplicates += 1
            return None
        self.stored += 1
        self.lost += missing
        self.last_counter = counter
        return missing


class Ledger:
    """The accounts of one archiver."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[int, int, str], Account] = {}
        self._reported: dict[tuple[int, int, str], tuple[int, int, int]] = {}
        self._closed_lost: dict[int, int] = {}

    def account(self, attr: int, incarnation: int, device: str = "") -> Account:
        """Return the account of an attribute (and device, for streams) in an incarnation, opening it if needed."""
        key = (attr, incarnation, device)
        if key not in self._accounts:
            self._accounts[key] = Account(attr, incarnation, device)
        return self._accounts[key]

    @property
    def lost(self) -> int:
        """How many items are known to be lost, since the archiver's start."""
        return sum(self.lost_by_attribute().values())

    def lost_by_attribute(self) -> dict[int, int]:
        """Return how many items of each attribute are known to be lost, since the archiver's start."""
        lost = self._closed_lost.copy()
        for account in list(self._accounts.values()):
            lost[account.attr] = lost.get(account.attr, 0) + account.lost
        return lost

    def changed(self, now_ns: int) -> list[Row]:
        """Return a LEDGER row with the accounts that changed since they were last reported; none if none did."""
        fresh: list[Account] = []
        for key, account in self._accounts.items():
            counts = (account.stored, account.duplicates, account.lost)
            if self._reported.get(key) != counts:
                self._reported[key] = counts
                fresh.append(account)
        return [ledger_row(fresh, now_ns)] if fresh else []

    def close(self, attr: int, now_ns: int) -> list[Row]:
        """Return the last LEDGER row of an attribute whose subscription ended, and forget its accounts."""
        keys = [key for key in self._accounts if key[0] == attr]
        closed = [self._accounts.pop(key) for key in keys]
        for key in keys:
            self._reported.pop(key, None)
        self._closed_lost[attr] = self._closed_lost.get(attr, 0) + sum(account.lost for account in closed)
        return [ledger_row(closed, now_ns)] if closed else []


def ledger_row(accounts: list[Account], now_ns: int) -> Row:
    """Return the journal's LEDGER row of some accounts."""
    payload = json.dumps([asdict(account) for account in accounts], separators=(",", ":")).encode()
    return Row(ARCHIVER, READ, -1, 0, now_ns, now_ns, Quality.VALID, Kind.LEDGER, payload=payload)


def read_ledger_row(payload: bytes) -> list[Account]:
    """Read the payload of a LEDGER row."""
    return [Account(**fields) for fields in json.loads(payload)]
