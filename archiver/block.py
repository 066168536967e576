"""What a stream batch says about itself (contracts: "Stream batch"). Pure."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (pyarrow has no type stubs)

from typing import Any, Final, NamedTuple, cast

import pyarrow as pa

_QUALITY: Final = "__quality"
_INT64_END: Final = 2**63


class Block(NamedTuple):
    """A batch of a stream: rows `rows_before` to `rows_before + rows` of an instrument in one run of its server.

    `seq` counts an instrument's batches from 0 in each `incarnation`; `first_ns`, `last_ns` are its rows' times.
    """

    device: str
    incarnation: int
    seq: int
    rows: int
    rows_before: int
    first_ns: int
    last_ns: int
    payload: bytes

    @property
    def rows_end(self) -> int:
        """How many rows there were after this batch."""
        return self.rows_before + self.rows


class BatchMetadata(NamedTuple):
    """What the schema of a stream batch says: instrument, run of its server, number, rows before it."""

    device: str
    incarnation: int
    seq: int
    rows_before: int


def batch_metadata(payload: bytes) -> BatchMetadata:
    """Read the schema of a stream batch; ValueError when it is none."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            return _metadata(reader.schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a stream batch: {error}") from None


def _metadata(schema: Any) -> BatchMetadata:
    stated = cast("dict[bytes, bytes]", schema.metadata or {})
    try:
        numbers = [int(stated[name]) for name in (b"incarnation", b"seq", b"rows_before")]
        device = stated[b"device"].decode().lower()
    except (KeyError, ValueError) as error:
        raise ValueError(f"not a stream batch: {error}") from None
    if not all(0 <= number < _INT64_END for number in numbers):
        raise ValueError(f"not a stream batch: the numbers {numbers} of {device} are not all from 0 to 2**63 - 1")
    return BatchMetadata(device, *numbers)


def open_block(payload: bytes) -> Block:
    """Read a stream batch; ValueError when it is none, or one that could be stored and not be read again."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            metadata = _metadata(reader.schema)
            table = reader.read_all()
        times = table.column("time_ns")
    except (pa.ArrowException, KeyError, OSError) as error:
        raise ValueError(f"not a stream batch: {error}") from None
    if times.type != pa.int64() or times.null_count:
        raise ValueError(f"batch {metadata.seq} of {metadata.device} has rows without a time in ns (int64)")
    names = [name for name in table.column_names if name != "time_ns" and not name.endswith(_QUALITY)]
    for name in names:
        if name + _QUALITY not in table.column_names or table.column(name + _QUALITY).null_count:
            raise ValueError(f"batch {metadata.seq} of {metadata.device} has values of {name} without a quality")
    first, last = (cast("int", times[at].as_py()) if len(times) else 0 for at in (0, -1))
    return Block(
        metadata.device, metadata.incarnation, metadata.seq, len(times), metadata.rows_before, first, last, payload
    )
