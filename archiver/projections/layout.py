"""How readings of one attribute lie in an HDF5 file: which layout they need, and as which arrays they are written."""

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from archiver.projections.nexus import Column, DeviceFile, cut, pad
from archiver.series import Gap, Series, element_dtype, is_encoded, rank, words
from bandoneon.record import AttributeDefinition

PIECE_BYTES = 1000
"""What a piece of a commit takes in memory besides its values, about."""

PADDED_BYTES = 8 << 20
"""Arrays of differing lengths are padded and written so much at a time."""

TEXT_BYTES = 64
MAX_TEXT_BYTES = 65_536

Item = Series | Gap


def column_of(definition: AttributeDefinition, text_bytes: int, settable: bool) -> Column:
    """Return the layout of an attribute, with so much room for each text."""
    facts: dict[str, str | int | float] = {
        "units": definition.unit,
        "long_name": definition.label or definition.attribute,
        "tango_type": definition.type,
        "tango_host": definition.tango_host,
        "epoch": definition.epoch,
    }
    dtype = element_dtype(definition) or np.dtype(f"S{text_bytes}")
    encoded = is_encoded(definition)
    axes = 1 if encoded else rank(definition)
    return Column(definition.attribute, dtype, axes, encoded, settable, words(definition), facts)


def text_bytes(series: Series) -> int:
    """Room for the longest text of a series: the next power of two, within limits."""
    if element_dtype(series.definition) is not None:
        return TEXT_BYTES
    texts = series.values[series.valid]
    if rank(series.definition):
        texts = [text for array in texts for text in array.flat]
    longest = max((len(text.encode()) for text in texts), default=1)
    return min(MAX_TEXT_BYTES, max(TEXT_BYTES, 1 << max(0, longest - 1).bit_length()))


def append(file: DeviceFile, item: Item) -> None:
    """Append a piece of a commit to a file whose layout takes it."""
    name = item.definition.attribute
    if isinstance(item, Gap):
        file.append_gap(name, item.start_ns, item.stop_ns, item.count, item.cause)
        return
    for row, text in item.errors.items():
        file.append_error(name, int(item.time_ns[row]), text)
    column = file.columns[name]
    if column.rank:
        _append_arrays(file, item, column)
        return
    values: NDArray[Any] = item.values
    if column.dtype.kind == "S":
        width = column.dtype.itemsize
        values = np.array([cut(text or "", width) for text in item.values], column.dtype)
    elif not item.valid.all():
        values = np.where(item.valid, item.values, column.fill).astype(column.dtype)
    file.append(name, item.time_ns, item.quality, values, set_value=item.set_value)


def _append_arrays(file: DeviceFile, item: Series, column: Column) -> None:
    formats: NDArray[np.bytes_] | None = None
    if column.encoded:
        pairs = [value or ("", b"") for value in item.values]
        formats = np.array([word.encode() for word, _ in pairs])
        arrays: list[NDArray[Any] | None] = [np.frombuffer(data, "u1") for _, data in pairs]
    else:
        arrays = [_elements(array, column.dtype) for array in item.values]
    for rows in _alike(arrays, column):
        values, shapes = pad(arrays[rows], column.dtype, column.rank)
        words_of = None if formats is None else formats[rows]
        file.append(
            column.attribute,
            item.time_ns[rows],
            item.quality[rows],
            values,
            shapes,
            words_of,
            set_value=item.set_value,
        )


def _alike(arrays: Sequence[NDArray[Any] | None], column: Column) -> Iterator[slice]:
    """Return stretches of rows that take no more than `PADDED_BYTES` when they are padded to their largest."""
    start, largest = 0, (0,) * column.rank
    for row, array in enumerate(arrays):
        shape = array.shape if array is not None else (0,) * column.rank
        grown = tuple(map(max, largest, shape))
        if row > start and (row + 1 - start) * math.prod(grown) * column.dtype.itemsize > PADDED_BYTES:
            yield slice(start, row)
            start, grown = row, shape
        largest = grown
    yield slice(start, len(arrays))


def bytes_of(item: Item) -> int:
    """What a piece takes in memory, about."""
    if isinstance(item, Gap):
        return PIECE_BYTES
    values = item.values
    size = PIECE_BYTES + values.nbytes + item.time_ns.nbytes * 2
    if values.dtype == object:
        size += sum(_bytes_of_value(value) for value in values)
    return size


def _bytes_of_value(value: Any) -> int:
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        return array.nbytes + (sum(sys.getsizeof(text) for text in array.flat) if array.dtype == object else 0)
    parts = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return sum(sys.getsizeof(part) for part in parts)


def _elements(array: NDArray[Any] | None, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    if array is None or dtype.kind != "S":
        return array
    encoded = np.array([cut(text, dtype.itemsize) for text in array.flat], dtype)
    return encoded.reshape(array.shape)
