"""Whatever happens, each reading is in the journal once, or a gap covers its time: random lives of an archiver."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.index import index_path
from archiver.ingest import Ingest
from archiver.journal import JournalWriter, segment_paths, verify
from archiver.recovery import recover
from archiver.sources.base import Reading
from bandoneon.record import Kind
from tests.journals import Written
from tests.unit.test_ledger import BATCH, DEFINITION, VOLTAGE, Queue, batch_bytes, full, reading

ACTIONS = ("push", "push", "push", "step", "step", "full", "room", "detach", "attach", "restart", "kill", "no index")


class Life:
    """An archiver of one attribute, or one stream, through a series of actions; readings are numbered from 1 on."""

    def __init__(self, directory: Path, *, stream: bool) -> None:
        self.directory = directory
        self.stream = stream
        self.sent = 0
        self.full = False
        self.twice = False
        self.source: Queue | None = None
        self.ingest = Ingest(JournalWriter(directory))

    def do(self, action: str) -> None:
        """Let something happen."""
        match action:
            case "push":
                self.sent += 1
                if self.source is not None:
                    # the first push after subscribing is sent twice
                    self.source.waiting += self.items() * (2 if self.twice and not self.stream else 1)
                    self.twice = False
            case "step":
                self.step()
            case "full" | "room":
                self.full = action == "full"
            case "attach" if self.source is None:
                self.source, self.twice = Queue(), True
                self.source.waiting += self.items() if self.sent else []
                if self.stream:
                    carried = [replace(VOLTAGE, id=-1, stream=None)]
                    self.ingest.attach_stream(replace(BATCH, id=-1), carried, self.source)
                else:
                    self.ingest.attach(replace(DEFINITION, id=-1), self.source, 1)
            case "detach" if self.source is not None:
                self.ingest.detach(BATCH.name if self.stream else DEFINITION.name, "server_down")
                self.source = None
                self.step()
            case "restart":
                with self.disk():
                    self.ingest.close()
                self.begin()
            case "kill":
                self.ingest._journal.close()
                self.begin()
            case "no index":
                for path in segment_paths(self.directory):
                    index_path(path).unlink(missing_ok=True)
            case _:
                pass

    def items(self) -> Sequence[Reading | bytes]:
        """The newest reading, or batch."""
        return [batch_bytes(self.sent - 1) if self.stream else reading(self.sent)]

    def begin(self) -> None:
        """Start the archiver again."""
        self.source = None
        self.ingest = Ingest(JournalWriter(self.directory))

    def disk(self) -> AbstractContextManager[object]:
        """The disk as it is now."""
        return patch("os.write", full if self.full else os.write)

    def step(self) -> None:
        """Let the archiver do what it does five times a second."""
        with self.disk():
            self.ingest.step()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(st.sampled_from(ACTIONS), min_size=8, max_size=40), stream=st.booleans())
def test_each_reading_is_stored_once_or_is_in_a_gap(*, actions: list[str], stream: bool) -> None:
    """And where a gap says how many readings it lacks, it lacks so many."""
    directory = Path(tempfile.mkdtemp())
    try:
        with patch("archiver.ingest.RETRY_S", 0.0):
            life = Life(directory, stream=stream)
            for action in ("attach", "push", "step", *actions, "room", "step", "attach", "push", "push", "step"):
                life.do(action)
            life.ingest.close()
        check(life)
    finally:
        shutil.rmtree(directory)


def check(life: Life) -> None:
    """See what the journal has of a life."""
    journal = Written(life.directory).refresh()
    name, rows = (VOLTAGE.name, 2) if life.stream else (DEFINITION.name, 1)
    if life.stream:
        stored = [row.counter + 1 for row in journal.of_kind(BATCH.name, Kind.STREAM)]
    else:
        stored = [round(value) for value in journal.values(name)]
    assert stored == sorted(set(stored)), "each once, in order"
    missing = set(range(1, life.sent + 1)) - set(stored)
    for gap in journal.of_kind(name, Kind.GAP):
        scale = 10 if life.stream else 1
        inside = {n for n in missing if gap.time_ns < (n - 1 if life.stream else n) * scale <= gap.received_ns}
        assert gap.i64 is None or gap.i64 == rows * len(inside), f"the gap of {gap.text} from {gap.time_ns}"
        missing -= inside
    assert missing == set(), "not stored, and in no gap"
    newest = {(account.incarnation, account.since_ns): account for account in journal.accounts}.values()
    assert sum(account.stored for account in newest) <= len(stored), "the ledger never says more than there is"
    assert verify(life.directory).errors == []
    with_index = recover(life.directory)
    for path in segment_paths(life.directory):
        index_path(path).unlink(missing_ok=True)
    assert recover(life.directory) == with_index
