"""A clock that was set back: journal rows are in the order they came, which is that of their times only up to there.

The commit behind it begins a segment and has a MARK row `{"what": "clock", "before_ns": …}`: when the newest row before
it was received. Within a segment, and between segments without it, time goes on.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

import json
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa

from bandoneon.record import ARCHIVER, READ, Kind, Quality, Row

SET_BACK_NS: Final = 10**9
"""Less than that is told by nothing: queries look a minute further than they are asked to."""

_WHAT: Final = "clock"


def clock_row(now_ns: int, before_ns: int) -> Row:
    """Return the MARK row of a clock that was set back to `now_ns`."""
    payload = json.dumps({"what": _WHAT, "before_ns": before_ns}, separators=(",", ":")).encode()
    return Row(ARCHIVER, READ, -1, 0, now_ns, now_ns, Quality.VALID, Kind.MARK, payload=payload)


def set_back_from(rows: pa.RecordBatch) -> int | None:
    """Return when the newest row before a commit was received, if the clock was set back before it."""
    marks = np.flatnonzero(cast("Any", rows.column("kind")).to_numpy() == Kind.MARK)
    for position in marks.tolist():
        content = json.loads(rows.column("payload")[position].as_py() or b"{}")
        if content.get("what") == _WHAT:
            return int(content["before_ns"])
    return None
