"""The error tree: each leaf has one Tango reason and one state, and says itself in a sentence."""

from collections.abc import Iterator

import pytest

from bandoneon.errors import (
    BandoneonError,
    InstrumentFault,
    InterlockRefused,
    LinkDown,
    OutOfRange,
    ProtocolError,
    ReplyTimeout,
    SiteError,
    describe,
)

STATES = {"", "UNKNOWN", "FAULT"}

EXAMPLES: list[tuple[BandoneonError, str, str]] = [
    (LinkDown("the cable is out"), "Bandoneon_LinkDown", "UNKNOWN"),
    (ReplyTimeout("no reply"), "Bandoneon_ReplyTimeout", "UNKNOWN"),
    (ProtocolError(b"?", b"#"), "Bandoneon_ProtocolError", "UNKNOWN"),
    (InstrumentFault(7, "hot"), "Bandoneon_InstrumentFault", "FAULT"),
    (OutOfRange("too much"), "Bandoneon_OutOfRange", ""),
    (InterlockRefused("door open"), "Bandoneon_InterlockRefused", ""),
    (SiteError("wrong", file="site.yaml", line=3, key="site"), "Bandoneon_SiteError", "FAULT"),
]


def leaves(kind: type[BandoneonError]) -> Iterator[type[BandoneonError]]:
    """The classes of this tree's own module that nothing in it derives from."""
    below = [one for one in kind.__subclasses__() if one.__module__ == "bandoneon.errors"]
    if not below:
        yield kind
    for one in below:
        yield from leaves(one)


@pytest.mark.parametrize(("error", "reason", "state"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_leaf_has_its_reason_and_state(error: BandoneonError, reason: str, state: str) -> None:
    """The table of the documentation, one row per leaf."""
    assert describe(error) == (reason, state)


def test_every_leaf_is_in_the_table() -> None:
    """A leaf that is added without reason and state fails here; no two share a reason."""
    assert {type(error) for error, _, _ in EXAMPLES} == set(leaves(BandoneonError))
    reasons = [describe(error).reason for error, _, _ in EXAMPLES]
    assert len(set(reasons)) == len(reasons)
    assert {describe(error).state for error, _, _ in EXAMPLES} <= STATES


def test_a_subclass_is_described_as_its_parent() -> None:
    """What an instrument derives from a leaf keeps its meaning."""

    class Stalled(InstrumentFault):
        pass

    assert describe(Stalled(1, "stalled")) == describe(InstrumentFault(1, ""))


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), BandoneonError("x")])
def test_anything_unforeseen_is_an_internal_fault(error: BaseException) -> None:
    """Whatever is no leaf shows as a fault of the program."""
    assert describe(error) == ("Bandoneon_InternalError", "FAULT")


def test_errors_say_what_happened() -> None:
    """The text of each error holds what it was made of."""
    assert str(ProtocolError(b"?", b"#", "is too short")) == "reply b'#' to b'?' is too short"
    assert str(InstrumentFault(7, "hot")) == "instrument error 7: hot"
    assert str(SiteError("wrong", file="site.yaml", line=3, key="site")) == "site.yaml:3: site: wrong"
    assert str(SiteError("wrong")) == "wrong"
