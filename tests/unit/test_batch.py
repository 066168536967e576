"""Stream batches: what the reference promises, read back by Arrow itself."""

import numpy as np
import pyarrow as pa
import pytest

from bandoneon.quantity import Quantity
from device_servers.core.batch import FLUSH_AFTER_S, FLUSH_BYTES, NOT_READ, BatchBuilder
from device_servers.core.states import ALARM, INVALID, VALID, Reading

QUANTITIES = (
    Quantity("wave", "f8", shape=(None,), stream=True, unit="V", label="Wave"),
    Quantity("frame", "u2", shape=(3, 5), stream=True, unit="1", label="Frame"),
    Quantity("count", "i8", stream=True, label="Count"),
)


def builder() -> BatchBuilder:
    """An empty one."""
    return BatchBuilder("lab/scope/1", QUANTITIES, 77)


def read(batch: bytes) -> pa.Table:
    """Open a batch by itself."""
    with pa.ipc.open_stream(batch) as reader:
        return reader.read_all()


def test_a_batch_reads_alone_and_says_whose_it_is() -> None:
    """Device, incarnation and running numbers are in the schema; units and labels are with the fields."""
    rows = builder()
    rows.add(1, {"count": Reading(5, 0.0, VALID)}, 0.0)
    first = read(rows.flush())
    rows.add(2, {"count": Reading(6, 0.0, VALID)}, 0.0)
    rows.add(3, {"count": Reading(7, 0.0, VALID)}, 0.0)
    second = read(rows.flush())
    metadata = {key.decode(): value.decode() for key, value in first.schema.metadata.items()}
    assert metadata == {
        "v": "1", "device": "lab/scope/1", "incarnation": "77", "seq": "0", "rows_before": "0", "epoch": "0",
    }  # fmt: skip
    assert second.schema.metadata[b"seq"] == second.schema.metadata[b"rows_before"] == b"1"
    assert first.schema.field("wave").metadata == {b"unit": b"V", b"label": b"Wave"}
    assert first.column_names[0] == "time_ns"
    assert second.column("count").to_pylist() == [6, 7]


def test_arrays_keep_their_shape_and_what_was_not_read_is_marked() -> None:
    """A non-square image, an empty waveform, an INVALID value, and a quantity that was not read in a row."""
    frame = np.arange(15, dtype="u2").reshape(3, 5)
    rows = builder()
    rows.add(1, {"wave": Reading(np.array([]), 0.0, VALID), "frame": Reading(frame, 0.0, ALARM)}, 0.0)  # type: ignore[arg-type]
    rows.add(2, {"wave": Reading(None, 0.0, INVALID)}, 0.0)
    table = read(rows.flush())
    assert table.column("wave").to_pylist() == [[], None]
    assert np.array_equal(np.array(table.column("frame")[0].as_py()), frame)
    assert table.column("frame__quality").to_pylist() == [ALARM, NOT_READ]
    assert table.column("count__quality").to_pylist() == [NOT_READ, NOT_READ]


def test_a_frame_is_due_at_once() -> None:
    """An image is worth a batch of its own."""
    rows = builder()
    rows.add(1, {"frame": Reading(np.zeros((3, 5), "u2"), 0.0, VALID)}, 0.0)  # type: ignore[arg-type]
    assert rows.due(0.0)
    rows.flush()
    rows.add(2, {"frame": Reading(None, 0.0, INVALID)}, 0.0)
    assert not rows.due(0.0)


def test_rows_that_could_not_be_sent_are_missed() -> None:
    """A value that does not fit its type costs its batch; the numbers of the next one tell what is missing."""
    rows = builder()
    rows.add(1, {"count": Reading("five", 0.0, VALID)}, 0.0)
    with pytest.raises(pa.ArrowException):
        rows.flush()
    rows.add(2, {"count": Reading(5, 0.0, VALID)}, 0.0)
    metadata = read(rows.flush()).schema.metadata
    assert metadata[b"seq"] == metadata[b"rows_before"] == b"1"


def test_a_batch_is_due_after_a_tenth_of_a_second_or_a_quarter_of_a_mebibyte() -> None:
    """Whichever comes first; an empty one never is."""
    rows = builder()
    assert not rows.due(1e9)
    rows.add(1, {"count": Reading(1, 0.0, VALID)}, 0.0)
    assert not rows.due(FLUSH_AFTER_S / 2)
    assert rows.due(FLUSH_AFTER_S)
    rows.flush()
    rows.add(1, {"wave": Reading(np.zeros(FLUSH_BYTES // 8), 0.0, VALID)}, 0.0)  # type: ignore[arg-type]
    assert rows.due(0.0)
