"""When a server that ended is started again: a pure function of its policy, its past and the time.

The semantics are Erlang/OTP's supervisor's: at most `max_restarts` in a sliding window of `window_s`, then it gives up.
Between restarts it backs off exponentially, with jitter; the back-off starts over once the server has stayed up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, NamedTuple

Restart = Literal["permanent", "transient", "temporary"]

RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")

_MOST_DOUBLINGS: Final = 64
"""More make no difference to a wait, and a power of two beyond them soon is no float any more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a server is kept alive.

    `permanent` is always started again, `transient` only after it failed, `temporary` never. The first restart is
    immediate, the next wait `backoff_s`, twice that and so on up to `backoff_max_s`; a run of `stable_s` starts over.
    """

    restart: Restart = "permanent"
    max_restarts: int = 5
    window_s: float = 60.0
    backoff_s: float = 0.2
    backoff_max_s: float = 30.0
    stable_s: float = 30.0

    @classmethod
    def from_properties(cls, properties: Mapping[str, Sequence[str]]) -> "Policy":
        """Read the properties of `dserver/<server>`; raise ValueError, in a sentence, for one that cannot be."""
        values: dict[str, object] = {}
        for field in fields(cls):
            elements = properties.get(field.name)
            if not elements:
                continue
            text = elements[0]
            values[field.name] = text if field.name == "restart" else _number(field.name, text, field.default)
        policy = cls(**values)  # pyright: ignore[reportArgumentType]
        if policy.restart not in RESTARTS:
            raise ValueError(f"property restart is {policy.restart!r} and has to be one of {', '.join(RESTARTS)}")
        return policy


def _number(name: str, text: str, default: object) -> int | float:
    whole = isinstance(default, int)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not math.isfinite(value) or value < 0:
        noun = "a whole number" if whole else "a number"
        raise ValueError(f"property {name} is {text!r} and has to be {noun} from 0 up")
    return value


class Past(NamedTuple):
    """What is remembered of a server: when it was started again lately, and how often in a row."""

    restarts_s: tuple[float, ...] = ()
    in_a_row: int = 0


class Decision(NamedTuple):
    """`again_after_s`: when to start it, None = not again. `given_up`: it should run, but fails too often."""

    again_after_s: float | None
    given_up: bool
    past: Past


def decide(policy: Policy, past: Past, *, failed: bool, ran_s: float, now_s: float, jitter: float) -> Decision:
    """Decide what to do about a server that ended by itself after `ran_s`; `jitter` is a random number in 0..1."""
    if policy.restart == "temporary" or (policy.restart == "transient" and not failed):
        return Decision(None, False, past)
    in_a_row = 0 if ran_s >= policy.stable_s else past.in_a_row
    lately = tuple(at_s for at_s in past.restarts_s if now_s - at_s < policy.window_s)
    if len(lately) >= policy.max_restarts:
        return Decision(None, True, Past(lately, in_a_row))
    backoff_s = 0.0
    if in_a_row:
        doubled_s = policy.backoff_s * 2 ** min(in_a_row - 1, _MOST_DOUBLINGS)
        backoff_s = min(doubled_s, policy.backoff_max_s) * (0.75 + jitter / 2)
    return Decision(backoff_s, False, Past((*lately, now_s), in_a_row + 1))
