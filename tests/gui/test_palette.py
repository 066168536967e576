"""Colours can be read and states be told apart, also without colour."""

import pytest

from gui.presenters import palette
from gui.presenters.palette import Pair, pairs


@pytest.mark.parametrize("pair", list(pairs()), ids=lambda pair: pair.name)
def test_pairs_have_the_contrast_they_need(pair: Pair) -> None:
    """Every colour that panels put on a ground has the contrast its use needs."""
    assert palette.contrast(pair.colour, pair.ground) >= pair.least


def test_the_arithmetic_is_that_of_the_guideline() -> None:
    """White on black has the greatest contrast, a colour on itself the least."""
    assert palette.contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert palette.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
    assert palette.contrast("#3EAEF2", "#3EAEF2") == 1


def test_no_two_kinds_of_state_share_colour_and_symbol() -> None:
    """The states an operator must tell apart differ in colour or symbol, and those of one colour in symbol."""
    kinds = ("ON", "RUNNING", "MOVING", "OFF", "STANDBY", "DISABLE", "ALARM", "FAULT", "UNKNOWN")
    assert len({palette.look(state) for state in kinds}) == len(kinds)
    assert len({palette.look(state).symbol for state in kinds}) == len(kinds)


def test_what_is_not_known_looks_unknown() -> None:
    """A state nobody has heard of is drawn as UNKNOWN."""
    assert palette.look("BOGUS") == palette.look("UNKNOWN")
