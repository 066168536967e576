"""What a person types as a value, and how values are shown."""

import pytest

from bandoneon.client.texts import INTEGERS, BadText, parse, show


@pytest.mark.parametrize(
    ("text", "type_name", "value"),
    [
        ("22.5", "DevDouble", 22.5),
        ("-1e-9", "DevFloat", -1e-9),
        ("on", "DevBoolean", True),
        ("FALSE", "DevBoolean", False),
        ("7", "DevLong", 7),
        ("0x1f", "DevUShort", 31),
        (" -5 ", "DevShort", -5),
        ("as it is ", "DevString", "as it is "),
    ],
)
def test_a_scalar_is_read_by_its_type(text: str, type_name: str, value: object) -> None:
    """The attribute's own type decides what a word means."""
    assert parse(text, type_name) == value
    assert type(parse(text, type_name)) is type(value)


@pytest.mark.parametrize("type_name", INTEGERS)
def test_integers_keep_to_their_type(type_name: str) -> None:
    """The smallest and largest value pass, one beyond does not."""
    low, high = INTEGERS[type_name]
    assert [parse(str(value), type_name) for value in (low, high)] == [low, high]
    for value in (low - 1, high + 1):
        with pytest.raises(BadText, match=f"allowed is {low} to {high}"):
            parse(str(value), type_name)


@pytest.mark.parametrize(
    ("text", "type_name", "said"),
    [
        ("fast", "DevDouble", "is no number"),
        ("nan", "DevDouble", "no finite number"),
        ("inf", "DevFloat", "no finite number"),
        ("2.5", "DevLong", "no whole number"),
        ("maybe", "DevBoolean", "neither true nor false"),
        ("x", "DevEncoded", "cannot be typed"),
        ("5 Ω", "DevString", "'Ω' is none of the letters Tango has"),
    ],
)
def test_what_a_type_cannot_hold_is_refused(text: str, type_name: str, said: str) -> None:
    """The sentence says why."""
    with pytest.raises(BadText, match=said):
        parse(text, type_name)


def test_an_enum_takes_words_and_numbers() -> None:
    """Words in any case; others are refused with the list."""
    labels = ["SLOW", "FAST"]
    assert [parse(text, "DevEnum", enum_labels=labels) for text in ("slow", "FAST", "1")] == [0, 1, 1]
    for text in ("2", "-1", "quick"):
        with pytest.raises(BadText, match="none of SLOW, FAST"):
            parse(text, "DevEnum", enum_labels=labels)


def test_arrays_are_json() -> None:
    """Spectra and images of any type, empty ones too."""
    assert parse("[1, 2.5]", "DevDouble", 1) == [1.0, 2.5]
    assert parse("[[1, 2, 3], [4, 5, 6]]", "DevLong", 2) == [[1, 2, 3], [4, 5, 6]]
    assert parse('[true, "off"]', "DevBoolean", 1) == [True, False]
    assert parse('["SLOW", 1]', "DevEnum", 1, ["SLOW", "FAST"]) == [0, 1]
    assert parse('["a", "b c"]', "DevString", 1) == ["a", "b c"]
    assert parse("[]", "DevDouble", 1) == []


@pytest.mark.parametrize(("text", "dimensions"), [("1, 2", 1), ("[1]", 2), ("[[1]]", 1), ("{}", 1), ("3", 1)])
def test_what_is_no_array_is_refused(text: str, dimensions: int) -> None:
    """The sentence shows how one is written."""
    with pytest.raises(BadText, match=r"is no array: write \["):
        parse(text, "DevDouble", dimensions)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "", "–"),
        (0.1234567891, "", "0.1234568"),
        (1e-9, "%6.2f", "0.00"),
        (0.004832, "%.4e", "4.8320e-03"),
        (1.5, "%d", "1.5"),
        (1.5, "%f and %f", "1.5"),
        (True, "%6.2f", "true"),
        (3, "%6.2f", "3"),
        ([1.0, 2.5], "%.1f", "[1.0, 2.5]"),
        ([[1, 2], [3, 4]], "", "[[1, 2], [3, 4]]"),
        ("word", "%s", "word"),
    ],
)
def test_values_are_shown_by_the_attributes_format(value: object, form: str, text: str) -> None:
    """A printf format for numbers is used, any other left aside."""
    assert show(value, form) == text
