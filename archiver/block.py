"""What a stream batch says about itself (contracts: "Stream batch"). Pure."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (pyarrow has no type stubs)

from typing import NamedTuple, cast

import pyarrow as pa


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


def open_block(payload: bytes) -> Block:
    """Read a stream batch; ValueError when it is none."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            metadata = cast("dict[bytes, bytes]", reader.schema.metadata or {})
            times = reader.read_all().column("time_ns")
        return Block(
            metadata[b"device"].decode().lower(),
            int(metadata[b"incarnation"]),
            int(metadata[b"seq"]),
            len(times),
            int(metadata[b"rows_before"]),
            cast("int", times[0].as_py()) if len(times) else 0,
            cast("int", times[-1].as_py()) if len(times) else 0,
            payload,
        )
    except (pa.ArrowException, KeyError, OSError) as error:
        raise ValueError(f"not a stream batch: {error}") from None
