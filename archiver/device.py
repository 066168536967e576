"""The Archiver: a Tango device whose process writes what attributes push into the journal.

Server `Archiver/<site>_<n>`, device `archive/<site>/<n>`, journal `<data>/journal/archive/<site>/<n>`. Files for people
are made from it by the Projector, another process.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeStubs=false
# (pytango's stubs are not complete)

import contextlib
import json
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import tango
from tango import DevState
from tango.server import Device, attribute, command, device_property

from archiver.ingest import PERIOD_S, Ingest
from archiver.journal import JournalWriter
from archiver.recent import WINDOW_S, Counts, Recent
from archiver.sources.selection import Selection
from archiver.sources.tango_servers import WatchedServers
from bandoneon.logging import get_logger
from bandoneon.tangolink.server import push
from bandoneon.tangolink.subscription import raise_high_water_mark

REPORT_S: Final = 1.0
"""How often the device's own figures are renewed and pushed."""

LAG_ALARM_S: Final = 5.0
HOURS_ALARM: Final = 24.0

REOPEN_S: Final = 5.0
"""How often a journal that cannot be opened is tried again."""

_RATE_S: Final = 60.0
"""What is written at once at a start is no rate: it counts as over so long."""

_GIB: Final = 2**30
_GB: Final = 10**9


@dataclass(frozen=True, slots=True)
class Figures:
    """What the device shows of itself, by attribute name."""

    events_per_s: float = 0.0
    lag_s: float = 0.0
    lost: int = 0
    rows: int = 0
    commits: int = 0
    attributes_archived: int = 0
    attributes_failed: int = 0
    journal_bytes: int = 0
    disk_used_pct: float = 0.0
    disk_free_gib: float = 0.0
    hours_to_full: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Work:
    """What archives, once the journal's end is found."""

    journal: JournalWriter
    ingest: Ingest
    servers: WatchedServers
    recent: Recent


class Archiver(Device):
    """Archives the attributes that match its patterns, exactly as they are pushed."""

    attributes: Any = device_property(
        dtype=(str,), default_value=[], doc="what is archived: patterns domain/family/member/attribute, e.g. lab/*/*/*"
    )
    excluded: Any = device_property(dtype=(str,), default_value=[], doc="what is not, though it matches: patterns")
    data_dir: Any = device_property(dtype=str, default_value="", doc="data directory; default: $BANDONEON_DATA")
    max_size_gb: Any = device_property(dtype=float, default_value=0.0, doc="alarm above this journal size; 0: none")

    def init_device(self) -> None:
        """Begin to archive; Init ends that first, so that changed properties take effect.

        The device is INIT until the journal's end is found: that may take longer than a supervisor waits for an answer.
        """
        super().init_device()
        raise_high_water_mark()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._work: _Work | None = None
        self._figures = Figures()
        for name in ("State", "Status", *(field.name for field in fields(Figures))):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        data_dir = self.data_dir or os.environ.get("BANDONEON_DATA", "")
        try:
            if not data_dir:
                raise ValueError("no data directory is known: set the property data_dir and call Init")
            self._selection = Selection(self.attributes, self.excluded)
        except ValueError as error:
            self._fault(error)
            return
        self._directory = Path(data_dir) / "journal" / self.get_name().lower()
        self.set_state(DevState.INIT)
        self.set_status(f"Looking for the end of the journal in {self._directory}.")
        self._thread = threading.Thread(target=self._archive, name=f"{self.get_name()} archive")
        self._thread.start()

    def delete_device(self) -> None:
        """Write what has arrived and close the journal: at exit and at Init."""
        self._stopping.set()
        if self._thread is not None:
            with tango.AutoTangoAllowThreads(self):
                self._thread.join()
        super().delete_device()

    def _fault(self, error: object) -> None:
        self.set_state(DevState.FAULT)
        self.set_status(f"Nothing is archived: {error}")

    def _archive(self) -> None:
        """Find the journal's end, then empty the sources into it until the device stops."""
        with tango.EnsureOmniThread():
            try:
                journal = self._open_journal()
                if journal is not None:
                    self._write(self._begin(journal))
            except Exception as error:  # noqa: BLE001  the supervisor starts another archiver, whose gap rows tell
                get_logger(device=self.get_name()).critical("archiving failed", reason=repr(error), exc_info=error)
                os._exit(1)

    def _open_journal(self) -> JournalWriter | None:
        """Return the journal when it can be opened; None when the device stops before.

        Its disk may be mounted late or be full, and an archiver that is being replaced may not have let go of it yet.
        """
        said = ""
        while not self._stopping.is_set():
            try:
                return JournalWriter(self._directory)
            except (OSError, ValueError) as error:
                self._fault(f"{error}; it is tried again every {REOPEN_S:g} s")
                if str(error) != said:
                    said = str(error)
                    get_logger(device=self.get_name()).error("nothing is archived", reason=said)
            push(self, {})
            self._write_report()
            self._stopping.wait(REOPEN_S)
        return None

    def _begin(self, journal: JournalWriter) -> _Work:
        ingest = Ingest(journal)
        servers = WatchedServers(self._selection, ingest, os.environ.get("TANGO_HOST", ""))
        recent = Recent(time.monotonic(), Counts(journal_bytes=journal.size_bytes))
        work = _Work(journal, ingest, servers, recent)
        damaged = journal.recovered.damaged
        if damaged:
            get_logger(device=self.get_name()).error("journal damaged", reason=f"kept in {', '.join(damaged)}")
            ingest.mark("damaged", files=damaged)
        ingest.mark("start", device=self.get_name(), pid=os.getpid())
        self._judge(work)
        self._work = work
        return work

    def _write(self, work: _Work) -> None:
        reporter = threading.Thread(target=self._report, args=(work,), name=f"{self.get_name()} report")
        reporter.start()
        work.servers.start()
        next_s = time.monotonic()
        while not self._stopping.is_set():
            work.ingest.step()
            next_s = max(next_s + PERIOD_S, time.monotonic())
            self._stopping.wait(next_s - time.monotonic())
        stopper = threading.Thread(target=work.servers.stop, name=f"{self.get_name()} stop")
        stopper.start()
        while stopper.is_alive():
            # a watch may be waiting for the ingest
            work.ingest.step()
            stopper.join(PERIOD_S)
        work.ingest.close()
        reporter.join()

    def _report(self, work: _Work) -> None:
        """Renew and push the device's figures until it stops."""
        with tango.EnsureOmniThread():
            push(self, {})
            said: set[str] = set()
            while not self._stopping.wait(REPORT_S):
                try:
                    self._report_once(work, said)
                except Exception as error:  # noqa: BLE001  else State would stay what it is, whatever happens
                    get_logger(device=self.get_name()).error("reporting failed", reason=repr(error), exc_info=error)

    def _report_once(self, work: _Work, said: set[str]) -> None:
        for name, reason in work.ingest.refusals.copy().items():
            if name not in said:
                said.add(name)
                get_logger(device=self.get_name()).error("not stored", attribute=name, reason=reason)
        self._figures = self._measure(work)
        self._judge(work)
        push(self, asdict(self._figures))
        self._write_report()

    def _write_report(self) -> None:
        """Leave the main figures in the run directory, for those who cannot wait for Tango (`status`)."""
        directory = os.environ.get("BANDONEON_RUN_DIR")
        if not directory:
            return
        figures = self._figures
        report = {
            "device": self.get_name(),
            "state": str(self.get_state()),
            "attributes": figures.attributes_archived,
            "events_per_s": figures.events_per_s,
            "lag_s": figures.lag_s,
            "lost": figures.lost,
        }
        path = Path(directory) / f"{self.get_name().replace('/', '_')}.json"
        new = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(report))
            new.replace(path)

    def _measure(self, work: _Work) -> Figures:
        ingest, journal = work.ingest, work.journal
        states = [status.state for status in work.servers.status]
        total, _, free = self._disk()
        room = free
        if self.max_size_gb:
            room = min(room, max(0, round(self.max_size_gb * _GB) - journal.size_bytes))
        recent = work.recent
        recent.note(time.monotonic(), Counts(journal.size_bytes, ingest.lost, ingest.refused, ingest.overflows))
        bytes_per_s = recent.grown.journal_bytes / max(recent.period_s, _RATE_S)
        return Figures(
            events_per_s=ingest.events_per_s,
            lag_s=ingest.lag_s,
            lost=ingest.lost,
            rows=ingest.rows,
            commits=ingest.commits,
            attributes_archived=states.count("archived"),
            attributes_failed=states.count("failed") + states.count("waiting"),
            journal_bytes=journal.size_bytes,
            disk_used_pct=100 * (1 - free / total),
            disk_free_gib=free / _GIB,
            hours_to_full=room / bytes_per_s / 3600 if bytes_per_s > 0 else float("inf"),
        )

    def _disk(self) -> tuple[int, int, int]:
        """Total, used and free bytes of the journal's disk; a disk that is not there is full."""
        try:
            return shutil.disk_usage(self._directory)
        except OSError:
            return 1, 1, 0

    def _judge(self, work: _Work) -> None:
        """Set State and Status from the figures."""
        figures, ingest = self._figures, work.ingest
        if ingest.paused:
            self.set_state(DevState.FAULT)
            self.set_status(
                f"Nothing can be written ({ingest.paused}): make room on the disk of {self._directory}. What arrives "
                f"is counted, {figures.lost} lost so far; archiving goes on by itself."
            )
            return
        worries = self._worries(work)
        if worries:
            self.set_state(DevState.ALARM)
            self.set_status("\n".join(worries))
            return
        self.set_state(DevState.RUNNING)
        notes = f" ({work.servers.problem})" if work.servers.problem else ""
        self.set_status(
            f"Archiving {figures.attributes_archived} attributes, {figures.events_per_s:.1f} events/s{notes}."
        )

    def _worries(self, work: _Work) -> list[str]:
        figures, ingest, grown = self._figures, work.ingest, work.recent.grown
        lately = f"in the last {WINDOW_S / 60:.0f} minutes"
        worries: list[str] = []
        if damaged := work.journal.recovered.damaged:
            worries.append(
                f"Commits of an earlier run were damaged, and are kept in {', '.join(damaged)}; see `archive verify`."
            )
        if grown.lost:
            worries.append(
                f"{grown.lost} readings were lost {lately}, {figures.lost} since the start; `archive status` says of "
                "which attributes."
            )
        if grown.refused:
            name, reason = next(iter(ingest.refusals.copy().items()))
            worries.append(f"{grown.refused} events could not be stored {lately}, first of {name}: {reason}.")
        if grown.overflows:
            worries.append(f"Tango dropped events {grown.overflows} times {lately}; the gaps are in the archive.")
        if figures.lag_s > LAG_ALARM_S:
            worries.append(f"What arrived in the last {figures.lag_s:.0f} s is not on the disk yet: the disk is slow.")
        if figures.attributes_failed:
            first = next((s for s in work.servers.status if s.state in ("failed", "waiting")), None)
            reason = f", first {first.name}: {first.reason}" if first else ""
            worries.append(f"{figures.attributes_failed} attributes are not archived{reason}.")
        if figures.hours_to_full < HOURS_ALARM:
            worries.append(f"At this rate there is room for {figures.hours_to_full:.1f} hours.")
        return worries

    @command(dtype_out=(str,), doc_out="JSON, one text for each attribute: name, source, state, reason, rows, lost")
    def AttributeReport(self) -> list[str]:
        """Say of each wanted attribute how it is archived, or why not."""
        if (work := self._work) is None:
            return []
        report: list[str] = []
        for status in sorted(work.servers.status, key=lambda status: status.name):
            rows, lost = work.ingest.counts(status.name)
            report.append(
                json.dumps(
                    {
                        "name": status.name,
                        "source": status.source,
                        "state": status.state,
                        "reason": status.reason,
                        "rows": rows,
                        "lost": lost,
                    }
                )
            )
        return report

    @attribute(dtype=float, unit="1/s", label="events")
    def events_per_s(self) -> float:
        """Rows written per second, over the last second or so."""
        return self._figures.events_per_s

    @attribute(dtype=float, unit="s", label="lag")
    def lag_s(self) -> float:
        """Everything that arrived until so long ago is on the disk."""
        return self._figures.lag_s

    @attribute(dtype="int64", label="lost")
    def lost(self) -> int:
        """Readings and stream batches known to be lost since the start."""
        return self._figures.lost

    @attribute(dtype="int64", label="rows")
    def rows(self) -> int:
        """Rows written since the start."""
        return self._figures.rows

    @attribute(dtype="int64", label="commits")
    def commits(self) -> int:
        """Commits written since the start."""
        return self._figures.commits

    @attribute(dtype=int, label="archived attributes")
    def attributes_archived(self) -> int:
        """Attributes that are being archived."""
        return self._figures.attributes_archived

    @attribute(dtype=int, label="failed attributes")
    def attributes_failed(self) -> int:
        """Attributes that should be archived and are not."""
        return self._figures.attributes_failed

    @attribute(dtype="int64", unit="B", label="journal")
    def journal_bytes(self) -> int:
        """Size of the journal."""
        return self._figures.journal_bytes

    @attribute(dtype=float, unit="%", label="disk used")
    def disk_used_pct(self) -> float:
        """How full the journal's disk is."""
        return self._figures.disk_used_pct

    @attribute(dtype=float, unit="GiB", label="disk free")
    def disk_free_gib(self) -> float:
        """Room on the journal's disk."""
        return self._figures.disk_free_gib

    @attribute(dtype=float, unit="h", label="until full")
    def hours_to_full(self) -> float:
        """When the disk, or `max_size_gb`, is full at the rate of the last ten minutes; infinite if nothing grows."""
        return self._figures.hours_to_full
