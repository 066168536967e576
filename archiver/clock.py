"""A clock that was set back: journal rows are in the order they came, which is that of their times only up to there.

The commit behind it begins a segment and has a MARK row `{"what": "clock", "before_ns": …}`: when the newest row before
it was received. Within a segment, and between segments without it, time goes on.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow has no type stubs)

from typing import Final

import pyarrow as pa

from archiver.marks import mark_row, newest_mark
from bandoneon.record import Row

SET_BACK_NS: Final = 10**9
"""Less than that is told by nothing: queries look a minute further than they are asked to."""

_WHAT: Final = "clock"


def clock_row(now_ns: int, before_ns: int) -> Row:
    """Return the MARK row of a clock that was set back to `now_ns`."""
    return mark_row(_WHAT, now_ns, before_ns=before_ns)


def set_back_from(rows: pa.RecordBatch) -> int | None:
    """Return when the newest row before a commit was received, if the clock was set back before it."""
    mark = newest_mark(rows, _WHAT)
    return None if mark is None else int(mark.content["before_ns"])
