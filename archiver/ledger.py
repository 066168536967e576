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
    """One row of the ledger, counted since `since_ns`: a later row with the same start takes the place of this one.

    Over all starts the rows of an attribute (and instrument) add up to what was stored and lost of it.
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
    since_ns: int = 0

    def begin(self, counter: int) -> None:
        """Say that the first item to come is numbered `counter`, unless one came already."""
        if self.first_counter == NO_COUNTER:
            self.first_counter = counter
            self.last_counter = counter - 1
            self.state = "exact"

    def number(self, counter: int) -> int | None:
        """Count one item numbered `counter`: return how many are lost before it, None for a duplicate."""
        missing = self._advance(counter)
        if missing is not None:
            self.stored += 1
        return missing

    def skip(self, counter: int) -> None:
        """Count one item numbered `counter` as lost, and what is missing before it."""
        if self._advance(counter) is not None:
            self.lost += 1

    def _advance(self, counter: int) -> int | None:
        self.begin(counter)
        missing = counter - self.last_counter - 1
        if missing < 0:
            self.duplicates += 1
            return None
        self.lost += missing
        self.last_counter = counter
        return missing


class Ledger:
    """The accounts of one archiver."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[int, str], Account] = {}
        self._ended: list[Account] = []
        self._ended_lost: dict[int, int] = {}
        self._reported: dict[tuple[int, int, str], tuple[int, int, int]] = {}

    def account(self, attr: int, incarnation: int, device: str = "", *, now_ns: int = 0) -> Account:
        """Return the account of an attribute (and device, for streams) in an incarnation, opened now if needed.

        Those of other incarnations end with it.
        """
        key = (attr, device)
        account = self._accounts.get(key)
        if account is None or account.incarnation != incarnation:
            if account is not None:
                self._ended.append(account)
                self._ended_lost[attr] = self._ended_lost.get(attr, 0) + account.lost
            account = self._accounts[key] = Account(attr, incarnation, device, since_ns=now_ns)
        return account

    @property
    def lost(self) -> int:
        """How many items are known to be lost, since the archiver's start."""
        return sum(self.lost_by_attribute().values())

    def lost_by_attribute(self) -> dict[int, int]:
        """Return how many items of each attribute are known to be lost, since the archiver's start."""
        lost = self._ended_lost.copy()
        for account in list(self._accounts.values()):
            lost[account.attr] = lost.get(account.attr, 0) + account.lost
        return lost

    def changed(self, now_ns: int, attr: int | None = None) -> list[Row]:
        """Return a LEDGER row with the accounts, of one attribute or all, that changed since it was last reported."""
        fresh: list[Account] = []
        for account in [*self._ended, *(one for one in self._accounts.values() if attr in (None, one.attr))]:
            counts = (account.stored, account.duplicates, account.lost)
            key = (account.attr, account.incarnation, account.device)
            if self._reported.get(key) != counts:
                self._reported[key] = counts
                fresh.append(account)
        for account in self._ended:
            self._reported.pop((account.attr, account.incarnation, account.device), None)
        self._ended.clear()
        return [ledger_row(fresh, now_ns)] if fresh else []


def ledger_row(accounts: list[Account], now_ns: int) -> Row:
    """Return the journal's LEDGER row of some accounts."""
    payload = json.dumps([asdict(account) for account in accounts], separators=(",", ":")).encode()
    return Row(ARCHIVER, READ, -1, 0, now_ns, now_ns, Quality.VALID, Kind.LEDGER, payload=payload)


def read_ledger_row(payload: bytes) -> list[Account]:
    """Read the payload of a LEDGER row."""
    return [Account(**fields) for fields in json.loads(payload)]
