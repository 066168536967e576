"""Stream batches: rows of one instrument's quantities as a self-contained Arrow IPC stream (reference: "Stream batch").

Pure: the caller says when a row was read and when a batch is due. pyarrow starts a thread when it is imported, so
this module is imported after the fork, and by servers that stream only.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (pyarrow has no stubs)

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from bandoneon.quantity import Quantity
from device_servers.core.states import INVALID, Reading

VERSION: Final = "1"
FLUSH_AFTER_S: Final = 0.1
FLUSH_BYTES: Final = 256 * 2**10
NOT_READ: Final = 255
"""Quality of a quantity that was not read in a row."""

_TYPES: Final[dict[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "u1": pa.uint8(),
    "i2": pa.int16(),
    "u2": pa.uint16(),
    "i4": pa.int32(),
    "u4": pa.uint32(),
    "i8": pa.int64(),
    "u8": pa.uint64(),
    "f4": pa.float32(),
    "f8": pa.float64(),
    "str": pa.string(),
}


class BatchBuilder:
    """Gathers the rows of one device until a batch is due."""

    def __init__(self, device: str, quantities: Sequence[Quantity], incarnation: int) -> None:
        self.device = device
        self._quantities = tuple(quantities)
        self._incarnation = incarnation
        self._rows: list[tuple[int, Mapping[str, Reading]]] = []
        self._bytes = 0
        self._frames = {quantity.name for quantity in quantities if len(quantity.shape) == 2}
        self._frame_read = False
        self._seq = 0
        self._rows_before = 0
        self._first_s = 0.0

    def add(self, time_ns: int, readings: Mapping[str, Reading], now_s: float) -> None:
        """Add a row: what was read at `time_ns`; quantities that are left out were not read."""
        if not self._rows:
            self._first_s = now_s
        self._rows.append((time_ns, readings))
        self._frame_read |= any(readings[name].value is not None for name in self._frames & readings.keys())
        self._bytes += sum(
            np.asarray(reading.value).nbytes for reading in readings.values() if reading.value is not None
        )

    def due(self, now_s: float) -> bool:
        """Whether there is a batch to be sent: 100 ms after its first row, 256 KiB, or one frame."""
        full = self._frame_read or self._bytes >= FLUSH_BYTES
        return bool(self._rows) and (full or now_s - self._first_s >= FLUSH_AFTER_S)

    def flush(self) -> bytes:
        """Return all rows as one batch, an Arrow IPC stream, and begin the next.

        Rows that do not fit their types raise what Arrow raises, and are missing: the next batch's numbers tell.
        """
        rows, self._rows, self._bytes, self._frame_read = self._rows, [], 0, False
        metadata = {
            "v": VERSION,
            "device": self.device,
            "incarnation": str(self._incarnation),
            "seq": str(self._seq),
            "rows_before": str(self._rows_before),
            "epoch": "0",
        }
        self._seq += 1
        self._rows_before += len(rows)
        fields = [pa.field("time_ns", pa.int64(), nullable=False)]
        columns: list[Any] = [pa.array([time_ns for time_ns, _ in rows], pa.int64())]
        for quantity in self._quantities:
            element = _arrow_type(quantity)
            readings = [readings.get(quantity.name) for _, readings in rows]
            fields.append(pa.field(quantity.name, element, metadata={"unit": quantity.unit, "label": quantity.label}))
            columns.append(pa.array([_plain(reading) for reading in readings], element))
            fields.append(pa.field(f"{quantity.name}__quality", pa.uint8(), nullable=False))
            qualities = [NOT_READ if reading is None else reading.quality for reading in readings]
            columns.append(pa.array(qualities, pa.uint8()))
        batch = pa.record_batch(columns, schema=pa.schema(fields, metadata=metadata))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes()


def _arrow_type(quantity: Quantity) -> pa.DataType:
    element = _TYPES[quantity.dtype] if isinstance(quantity.dtype, str) else pa.int16()
    for _ in quantity.shape:
        element = pa.list_(element)
    return element


def _plain(reading: Reading | None) -> Any:
    if reading is None or reading.value is None or reading.quality == INVALID:
        return None
    value: Any = reading.value
    return list(value) if isinstance(value, np.ndarray) and value.ndim > 1 else value
