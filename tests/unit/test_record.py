"""Values as columns of a row, and back."""

import numpy as np
import pytest

from bandoneon.record import NO_VALUE, AttributeDefinition, Kind, decode_value, encode_value, error_text
from tests.all_types import COMBINATIONS, name, same, value


def test_there_are_forty_combinations_of_type_and_format() -> None:
    """Thirteen element types in three formats, and DevEncoded, which is scalar only."""
    assert len(COMBINATIONS) == 40


@pytest.mark.parametrize("what", ["ordinary", "extreme", "empty", "invalid"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda pair: name(*pair))
def test_every_value_comes_back_as_it_went_in(combination: tuple[Kind, str], what: str) -> None:
    """NaN, infinities, extreme integers, latin-1 text, non-square images, empty arrays: equal after the round trip."""
    kind, form = combination
    expected = value(kind, form, what)
    assert same(decode_value(encode_value(kind, form, expected), kind, form), expected)


def test_an_image_keeps_rows_and_columns_apart() -> None:
    """dim_x counts columns, dim_y rows; the shape is (dim_y, dim_x)."""
    columns = encode_value(Kind.LONG, "IMAGE", np.arange(6, dtype="i4").reshape(2, 3))
    assert (columns.dim_x, columns.dim_y) == (3, 2)
    assert decode_value(columns, Kind.LONG, "IMAGE").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_array_lies_in_the_payload_in_c_order_whatever_it_was_in_memory() -> None:
    """A transposed or sliced array is stored by its elements' order, not by its memory's."""
    image = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    assert encode_value(Kind.SHORT, "IMAGE", image).payload == np.arange(6, dtype="<i2").tobytes()


def test_numpy_s_own_numbers_keep_their_fractions() -> None:
    """In a list, too, as in an array."""
    numbers = [np.float32(0.5), np.float64(1.5), np.int16(2)]
    columns = encode_value(Kind.FLOAT, "SPECTRUM", numbers)
    assert decode_value(columns, Kind.FLOAT, "SPECTRUM").tolist() == [0.5, 1.5, 2.0]


def test_an_invalid_value_has_no_columns_and_an_empty_array_has_an_empty_payload() -> None:
    """INVALID is all null, which an array without elements is not."""
    assert encode_value(Kind.DOUBLE, "SPECTRUM", None) == NO_VALUE
    assert encode_value(Kind.DOUBLE, "SPECTRUM", []).payload == b""


def test_a_definition_comes_back_from_its_row() -> None:
    """DEFINE's payload holds everything, and keys that a later version adds do no harm."""
    definition = AttributeDefinition(
        7, "lab/power/1/unit", "h:1", Kind.ENUM, "SCALAR", enum_labels=("W", "dBm"), epoch=2
    )
    payload = definition.to_row(5).payload
    assert payload is not None
    assert AttributeDefinition.from_json(payload) == definition
    assert AttributeDefinition.from_json(payload[:-1] + b',"later":1}') == definition
    assert (definition.device, definition.attribute) == ("lab/power/1", "unit")


def test_the_text_of_an_error_is_json() -> None:
    """Reason, description, origin and severity of each error, the first cause first."""
    assert error_text([("R", "d", "o", 1)]) == '[{"reason": "R", "desc": "d", "origin": "o", "severity": 1}]'
