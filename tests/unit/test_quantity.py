"""Quantity: what may be described, and what may be written."""

from enum import IntEnum

import pytest

from bandoneon.errors import OutOfRange
from bandoneon.quantity import DTYPES, Quantity


class Speed(IntEnum):
    SLOW = 0
    FAST = 1


class Code(IntEnum):
    LOW = 3
    HIGH = 5


POWER = Quantity("power", "f8", unit="W", low=0.0, high=2.0, access="rw")


@pytest.mark.parametrize("dtype", [*DTYPES, Speed])
def test_every_element_type_has_a_tango_type(dtype: object) -> None:
    """Each code of the table and an enum becomes a Tango type name."""
    assert Quantity("x", dtype).tango_type.startswith("Dev")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dtype": "f16"}, "none of bool"),
        ({"dtype": Code}, "must count from 0 by 1"),
        ({"dtype": "str", "shape": (2, 3)}, "images of strings"),
        ({"dtype": Speed, "shape": (2, 3)}, "images of strings or enums"),
        ({"dtype": "f8", "shape": (2, 3, 4)}, "no shape"),
        ({"dtype": "f8", "shape": (2048,)}, "need stream=True"),
        ({"dtype": "f8", "shape": (None,)}, "need stream=True"),
        ({"dtype": "f8", "shape": (32, 64)}, "need stream=True"),
    ],
)
def test_what_tango_cannot_carry_is_refused(arguments: dict[str, object], said: str) -> None:
    """A quantity that no attribute can be made of is refused when it is described."""
    with pytest.raises(ValueError, match=said):
        Quantity("x", **arguments)  # type: ignore[arg-type]


def test_large_arrays_are_streams() -> None:
    """2048 elements travel as a stream, one fewer as an event."""
    assert Quantity("x", "f8", (2048,), stream=True).shape == (2048,)
    assert not Quantity("x", "f8", (2047,)).stream


@pytest.mark.parametrize("value", [0.0, 2.0, 1, True])
def test_the_limits_themselves_may_be_written(value: float) -> None:
    """Values from low to high, both included, pass."""
    assert POWER.checked(value) == value


@pytest.mark.parametrize("value", [-0.001, 2.001, float("inf"), float("-inf")])
def test_a_value_outside_is_refused_and_never_clipped(value: float) -> None:
    """The sentence says value, unit and what is allowed."""
    with pytest.raises(OutOfRange, match=r"power .* W is outside what is allowed: from 0 to 2 W"):
        POWER.checked(value)


def test_nan_is_never_written() -> None:
    """NaN compares with no limit and is refused by itself, with limits and without."""
    for quantity in (POWER, Quantity("x", "f8")):
        with pytest.raises(OutOfRange, match="not NaN"):
            quantity.checked(float("nan"))


def test_one_limit_alone_is_said_alone() -> None:
    """With only a lower limit the sentence names no upper one."""
    with pytest.raises(OutOfRange, match=r"allowed: from 1$"):
        Quantity("x", "f8", low=1.0).check(0)


def test_an_enum_takes_its_numbers_and_says_its_words() -> None:
    """A number becomes the member; one that is none is refused with the list of words."""
    quantity = Quantity("speed", Speed, access="rw")
    assert quantity.checked(1) is Speed.FAST
    assert quantity.enum_labels == ("SLOW", "FAST")
    with pytest.raises(OutOfRange, match="0 SLOW, 1 FAST"):
        quantity.checked(2)


def test_text_and_arrays_have_no_limits() -> None:
    """Strings and arrays pass as they are."""
    assert Quantity("name", "str", access="rw").checked("x") == "x"
    assert Quantity("wave", "f8", (3,), access="rw", high=1.0).checked([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("access", "readable", "writable"), [("r", True, False), ("rw", True, True), ("w", False, True)]
)
def test_access_says_what_may_be_done(access: str, readable: bool, writable: bool) -> None:
    """`r`, `rw` and `w` are what they say."""
    quantity = Quantity("x", "f8", access=access)  # type: ignore[arg-type]
    assert (quantity.readable, quantity.writable) == (readable, writable)
