"""A Tango server for tests: AllTypes has every type and format Tango allows, Stream sends batches; both on command."""

import os
import signal
import sys
import threading
import time
from typing import Any

import pyarrow as pa
import tango
from tango import AttrDataFormat, AttrQuality, AttrWriteType, CmdArgType, DevState
from tango.server import Device, attribute, command, device_property, run

from bandoneon.record import Format, Kind
from tests.all_types import COMBINATIONS, ROUNDS, name, value

_FILLERS: dict[Kind, Any] = {Kind.STRING: "", Kind.STATE: DevState.ON, Kind.ENCODED: ("", b""), Kind.BOOLEAN: False}


def for_tango(kind: Kind, form: Format, what: str) -> Any:
    """A value as a push wants it: an invalid one needs a filler of its type."""
    plain = value(kind, form, what)
    if plain is None:
        return _FILLERS.get(kind, 0) if form == "SCALAR" else []
    if kind != Kind.STATE:
        return plain
    if form == "IMAGE":
        return [[DevState.values[number] for number in row] for row in plain]
    return [DevState.values[number] for number in plain] if form == "SPECTRUM" else DevState.values[plain]


class AllTypes(Device):
    """Every combination as an attribute, and a writable number."""

    def init_device(self) -> None:
        super().init_device()
        self._round = 0
        self._time_s = time.time()
        self._number = (0.0, time.time())
        self._per_s = 0.0
        self._counting: threading.Thread | None = None
        self.set_state(DevState.ON)
        self.set_archive_event("number", True, False)
        self.get_device_attr().get_w_attr_by_name("number").set_write_value(0.0)

    def initialize_dynamic_attributes(self) -> None:
        for kind, form in COMBINATIONS:
            self.add_attribute(self._attribute(kind, form))
            self.set_archive_event(name(kind, form), True, False)

    def _attribute(self, kind: Kind, form: Format) -> Any:
        def read(device: "AllTypes", attr: Any = None) -> Any:  # noqa: ARG001  called with or without it
            what = ROUNDS[device._round]
            quality = AttrQuality.ATTR_INVALID if what == "invalid" else AttrQuality.ATTR_VALID
            return for_tango(kind, form, what), device._time_s, quality

        options: dict[str, Any] = {"enum_labels": ["zero", "one", "two"]} if kind == Kind.ENUM else {}
        if form != "SCALAR":
            options["max_dim_x"] = 10
        if form == "IMAGE":
            options["max_dim_y"] = 10
        return attribute(
            name=name(kind, form),
            dtype=CmdArgType.values[kind],
            dformat=AttrDataFormat.names[form],
            fget=read,
            unit="V" if kind == Kind.DOUBLE else "",
            **options,
        )

    @attribute(dtype=float, access=AttrWriteType.READ_WRITE, unit="mm", label="a number")
    def number(self) -> tuple[float, float, AttrQuality]:
        return *self._number, AttrQuality.ATTR_VALID

    @number.write
    def number(self, wanted: float) -> None:
        self._number = (wanted, time.time())

    @attribute(dtype=int)
    def silent(self) -> int:
        """An attribute that pushes nothing."""
        return 1

    @attribute(dtype=float)
    def late(self) -> float:
        """An attribute that pushes nothing, until `PushLate`."""
        return 0.0

    @command
    def PushLate(self) -> None:
        """Begin to push `late`."""
        self.set_archive_event("late", True, False)

    @command(dtype_in=str)
    def Replace(self, name: str) -> None:
        """Put a number with a fraction in the place of an attribute, and push it."""

        def read(device: "AllTypes", attr: Any = None) -> float:  # noqa: ARG001  called with or without it
            return 3.7

        self.remove_attribute(name)
        self.add_attribute(attribute(name=name, dtype=float, fget=read))
        self.set_archive_event(name, True, False)
        self.push_archive_event(name, 3.7)

    @command(dtype_in=int)
    def Push(self, number: int) -> None:
        """Push round `number` of every combination."""
        self._round = number
        self._time_s = time.time()
        what = ROUNDS[number]
        quality = AttrQuality.ATTR_INVALID if what == "invalid" else AttrQuality.ATTR_VALID
        for kind, form in COMBINATIONS:
            self.push_archive_event(name(kind, form), *_arguments(for_tango(kind, form, what)), self._time_s, quality)

    @command(dtype_in=int)
    def Count(self, events: int) -> None:
        """Push the next so many whole numbers as `number`."""
        for _ in range(events):
            self._push_next()

    @command(dtype_in=float)
    def CountOn(self, per_s: float) -> None:
        """Push the next numbers, so many a second, until the server ends; 0: no more."""
        self._per_s = per_s
        if self._counting is None:
            self._counting = threading.Thread(target=self._count_on, daemon=True)
            self._counting.start()

    def _count_on(self) -> None:
        pause = threading.Event()
        with tango.EnsureOmniThread():
            begun_s, pushed = time.monotonic(), 0.0
            while not pause.wait(0.01):
                due = (time.monotonic() - begun_s) * self._per_s
                begun_s, pushed = time.monotonic(), pushed + due
                while pushed >= 1:
                    pushed -= 1
                    self._push_next()

    def _push_next(self) -> None:
        self._number = (self._number[0] + 1, time.time())
        self.push_archive_event("number", *self._number, AttrQuality.ATTR_VALID)

    @command
    def Fail(self) -> None:
        """Push an error of `number`."""
        try:
            tango.Except.throw_exception("Test_Broken", "the number is broken", "Fail")
        except tango.DevFailed as error:
            self.push_archive_event("number", error)

    @command
    def Die(self) -> None:
        """End at once, as if killed."""
        os.kill(os.getpid(), signal.SIGKILL)


class Stream(Device):
    """Batches of the AllTypes device named by the property, which carry its attribute `silent`."""

    carries: Any = device_property(dtype=str)

    def init_device(self) -> None:
        super().init_device()
        self._begun_ns = time.time_ns()
        self._seq = 0
        self._rows = 0
        self._batch = b""
        self.set_archive_event("batch", True, False)

    @attribute(dtype="DevEncoded")
    def batch(self) -> tuple[str, bytes]:
        return "arrow", self._batch

    @attribute(dtype=(str,), max_dim_x=10)
    def streams(self) -> list[str]:
        return [f"{self.carries}/silent"]

    @attribute(dtype="int64")
    def incarnation(self) -> int:
        return self._begun_ns

    @command(dtype_in=int)
    def Send(self, rows: int) -> None:
        """Push a batch: the next so many whole numbers."""
        self._make(rows)
        self.push_archive_event("batch", "arrow", self._batch)

    @command(dtype_in=int)
    def Lose(self, rows: int) -> None:
        """Make a batch and do not push it."""
        self._make(rows)

    @command
    def SendInvalid(self) -> None:
        """Push an event without a value."""
        self.push_archive_event("batch", "", b"", time.time(), AttrQuality.ATTR_INVALID)

    @command
    def Repeat(self) -> None:
        """Push the last batch again."""
        self.push_archive_event("batch", "arrow", self._batch)

    def _make(self, rows: int) -> None:
        numbers = range(self._rows, self._rows + rows)
        now_ns = time.time_ns()
        columns = {
            "time_ns": pa.array([now_ns + n for n in range(rows)], pa.int64()),
            "silent": pa.array(numbers, pa.int64()),
            "silent__quality": pa.array([0] * rows, pa.uint8()),
        }
        facts = {
            "v": 1,
            "device": self.carries,
            "incarnation": self._begun_ns,
            "seq": self._seq,
            "rows_before": self._rows,
            "epoch": 0,
        }
        table = pa.table(columns).replace_schema_metadata({key: str(fact) for key, fact in facts.items()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        self._batch = sink.getvalue().to_pybytes()
        self._seq += 1
        self._rows += rows


def _arguments(plain: Any) -> tuple[Any, ...]:
    return plain if isinstance(plain, tuple) else (plain,)


if __name__ == "__main__":
    os.environ.setdefault("TANGO_DS_EVENT_BUFFER_HWM", "100000")
    run((AllTypes, Stream), args=["AllTypes", *sys.argv[1:]], raises=True)
