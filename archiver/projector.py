"""The Projector: a Tango device whose process turns an archiver's journal into files.

Server `Projector/<site>_<n>`, device `project/<site>/<n>`. It is a process of its own, so that nothing it does (a slow
disk, a compression) can hold up the archiver.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeStubs=false
# (pytango's stubs are not complete)

import os
import threading
from pathlib import Path
from typing import Any, cast

import tango
from tango import AttrWriteType, DevState
from tango.server import Device, attribute, command, device_property

from archiver.projections.base import NAMES
from archiver.projections.loop import ProjectionLoop
from bandoneon.tangolink.server import push

REPORT_S = 1.0
"""How often the device pushes events of how far it is."""


class Projector(Device):
    """Follows the journal of one archiver and writes its projections."""

    archiver: Any = device_property(dtype=str, mandatory=True, doc="device name of the archiver: archive/demo/1")
    data_dir: Any = device_property(dtype=str, default_value="", doc="data directory; default: $BANDONEON_DATA")
    projections: Any = device_property(dtype=(str,), default_value=["hdf5"], doc=f"which files: {', '.join(NAMES)}")

    def init_device(self) -> None:
        """Start the loops; Init stops them first (`delete_device`), so that changed properties take effect."""
        super().init_device()
        self._stopping = threading.Event()
        self._loops: list[ProjectionLoop] = []
        self._threads: list[threading.Thread] = []
        for name in ("State", "Status", "lag_s", "commit", "files"):
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        data_dir = self.data_dir or os.environ.get("BANDONEON_DATA", "")
        unknown = [name for name in self.projections if name not in NAMES]
        if unknown or not data_dir:
            wrong = (
                f"projection {unknown[0]!r} is none of {', '.join(NAMES)}" if unknown else "no data directory is known"
            )
            self.set_state(DevState.FAULT)
            self.set_status(f"{wrong}: set the property {'projections' if unknown else 'data_dir'} and call Init")
            return
        journal = cast("str", self.archiver).lower()
        self._loops = [ProjectionLoop(name, Path(data_dir), journal) for name in self.projections]
        runs = [*(loop.run for loop in self._loops), self._report]
        self._threads = [threading.Thread(target=run, name=f"{self.get_name()} {n}") for n, run in enumerate(runs)]
        self._judge()
        for thread in self._threads:
            thread.start()

    def delete_device(self) -> None:
        """Store what waits and close the files: at exit and at Init."""
        self._stopping.set()
        for loop in self._loops:
            loop.stop()
        with tango.AutoTangoAllowThreads(self):
            for thread in self._threads:
                thread.join()
        super().delete_device()

    def _report(self) -> None:
        """Push how far it is, in a thread of its own, until the device stops."""
        with tango.EnsureOmniThread():
            while not self._stopping.wait(REPORT_S):
                self._judge()
                figures = {"lag_s": self.read_lag_s(), "commit": self.read_commit(), "files": self.read_files()}
                push(self, figures)

    def _judge(self) -> None:
        """Set State and Status from the loops' progress."""
        faults = [loop.progress.fault for loop in self._loops if loop.progress.fault]
        if faults:
            self.set_state(DevState.FAULT)
            self.set_status("\n".join(faults))
            return
        self.set_state(DevState.ON)
        self.set_status(
            f"{', '.join(self.projections)} of {self.archiver}: stored up to commit {self.read_commit()}, "
            f"{self.read_lag_s():.1f} s behind, {self.read_files()} files open"
        )

    @attribute(dtype=float, unit="s", label="lag", access=AttrWriteType.READ)
    def lag_s(self) -> float:
        """Age of the oldest archived row that is not in a file yet; rows wait up to 10 s on purpose."""
        return self.read_lag_s()

    def read_lag_s(self) -> float:
        """The largest lag of the projections."""
        return max((loop.progress.lag_s for loop in self._loops), default=0.0)

    @attribute(dtype="int64", label="commit")
    def commit(self) -> int:
        """Last commit of the journal that is in the files; -1 = none yet."""
        return self.read_commit()

    def read_commit(self) -> int:
        """The commit that all projections have stored."""
        return min((loop.progress.commit for loop in self._loops), default=-1)

    @attribute(dtype=int, label="open files")
    def files(self) -> int:
        """How many files are being written."""
        return self.read_files()

    def read_files(self) -> int:
        """Open files of all projections."""
        return sum(loop.progress.files for loop in self._loops)

    @command(doc_in="Delete the files and make them again from the whole journal, in the background")
    def Rebuild(self) -> None:
        """Delete this archiver's files and make them again; `lag_s` and `commit` show how far it is."""
        for loop in self._loops:
            loop.rebuild()
