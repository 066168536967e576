"""Keeps projections up with an archiver's journal: follow, store, and start over where files failed.

Nothing here can hold up the archiver: it only reads what the journal already has on disk. Whatever goes wrong with the
files, the rows are in the journal; the loop says what is wrong, waits and goes on at the cursor its files carry.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from archiver.journal import Follower
from archiver.projections.base import NoSpace, Projection, opener, remover
from archiver.segments import journal_of
from archiver.series import Unfolder

RETRY_S = 5.0
"""How long to wait before files that failed are tried again."""

POLL_S = 0.1
"""How often the journal is looked at when it had nothing new."""

POLL_BYTES = 4 << 20
"""About so much of the journal is read before it is asked whether to stop."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a projection is: last commit in its files, how old the oldest row not in them is, what is wrong."""

    commit: int = -1
    lag_s: float = 0.0
    files: int = 0
    fault: str = ""


class ProjectionLoop:
    """Runs one projection of one journal until it is stopped. `progress` may be read from any thread."""

    def __init__(self, name: str, data_dir: Path, archiver: str) -> None:
        self.progress = Progress()
        self._open: Callable[[], Projection] = lambda: opener(name)(data_dir, archiver)
        self._journal = journal_of(data_dir, archiver)
        self._stopping = threading.Event()
        self._rebuilding = threading.Event()
        self._remove: Callable[[], int] = lambda: remover(name)(data_dir, archiver)

    def stop(self) -> None:
        """Ask `run` to store everything and return."""
        self._stopping.set()

    def rebuild(self) -> None:
        """Ask `run` to delete the files and make them again from the whole journal."""
        self._rebuilding.set()

    def run(self) -> None:
        """Follow the journal until `stop`."""
        while not self._stopping.is_set():
            try:
                if self._rebuilding.is_set():
                    self._remove()
                    self._rebuilding.clear()
                self._follow(self._open())
            except Exception as error:  # noqa: BLE001  whatever it is, it is shown, and the journal has the rows
                self._failed(error)
                self._stopping.wait(RETRY_S)

    def _failed(self, error: Exception) -> None:
        text = f"{error}; nothing is lost: the rows are in the journal, and it is tried again every {RETRY_S:g} s"
        self.progress = replace(self.progress, files=0, fault=text)

    def _follow(self, projection: Projection) -> None:
        try:
            self._store(projection)
            projection.close()
            self.progress = Progress(projection.cursor)
        finally:
            projection.abandon()

    def _store(self, projection: Projection) -> None:
        follower = Follower(self._journal, projection.cursor)
        unfolder = Unfolder(definitions=follower.definitions.values())
        projection.define(follower.definitions.values())
        # commits that are read but not in the files yet, with the time their first row was received
        waiting: deque[tuple[int, int]] = deque()
        ending = False
        while not ending:
            # what was on the disk before the end was asked for is still stored
            ending = self._stopping.is_set() or self._rebuilding.is_set()
            for commit in follower.poll(POLL_BYTES):
                unfolded = unfolder.unfold(commit.table)
                waiting.append((commit.number, unfolded.received_ns))
                projection.add(commit.number, unfolded)
                self._tick(projection)
            self._tick(projection)
            while waiting and waiting[0][0] <= projection.cursor:
                waiting.popleft()
            lag_s = (time.time_ns() - waiting[0][1]) / 1e9 if waiting else 0.0
            self.progress = Progress(projection.cursor, lag_s, projection.files)
            self._stopping.wait(POLL_S)

    def _tick(self, projection: Projection) -> None:
        """Let the projection write; while the disk is full, say so and read nothing more of the journal."""
        while True:
            try:
                return projection.tick(time.monotonic())
            except NoSpace as error:
                self._failed(error)
                if self._stopping.wait(RETRY_S):
                    raise
