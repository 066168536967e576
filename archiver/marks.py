"""MARK rows: what an archiver writes about itself, JSON with a `what` (contracts: "Journal"). Pure."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import json
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from bandoneon.record import ARCHIVER, READ, Kind, Quality, Row


class Mark(NamedTuple):
    """A MARK row among others: at what position, and what it says."""

    position: int
    content: dict[str, Any]


def mark_row(what: str, now_ns: int, **content: object) -> Row:
    """Return a MARK row."""
    payload = json.dumps({"what": what, **content}, separators=(",", ":")).encode()
    return Row(ARCHIVER, READ, -1, 0, now_ns, now_ns, Quality.VALID, Kind.MARK, payload=payload)


def content_of(payload: bytes | None, what: str) -> dict[str, Any] | None:
    """Return what a MARK row says if it is of that kind."""
    content = json.loads(payload or b"{}")
    return content if content.get("what") == what else None


def newest_mark(rows: pa.RecordBatch, what: str) -> Mark | None:
    """Return the last MARK row of that kind in a part of the journal."""
    marks = np.flatnonzero(cast("Any", rows.column("kind")).to_numpy() == Kind.MARK)
    for position in marks[::-1].tolist():
        content = content_of(rows.column("payload")[position].as_py(), what)
        if content is not None:
            return Mark(position, content)
    return None
