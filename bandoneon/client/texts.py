"""Text to Tango values and back, by the attribute's own type. Pure: types come as Tango's names.

A person types `22.5`, `on`, `SLOW`, `[1, 2, 3]`; what a type cannot hold is refused in one sentence.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, cast

from bandoneon.errors import BandoneonError

INTEGERS: dict[str, tuple[int, int]] = {
    "DevShort": (-(2**15), 2**15 - 1),
    "DevUShort": (0, 2**16 - 1),
    "DevLong": (-(2**31), 2**31 - 1),
    "DevULong": (0, 2**32 - 1),
    "DevLong64": (-(2**63), 2**63 - 1),
    "DevULong64": (0, 2**64 - 1),
    "DevUChar": (0, 255),
}
"""Integer types of Tango with the smallest and the largest value each can hold."""

FLOATS = ("DevDouble", "DevFloat")

LAST_LATIN_1 = 0xFF
"""Tango's strings are Latin-1."""

_FLOAT_FORMAT = re.compile(r"%[-+ #0]*\d*(\.\d+)?[efgEG]")

_TRUE, _FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")


class BadText(BandoneonError):
    """A text that is no value of the type asked for; says what is."""


def parse(text: str, type_name: str, dimensions: int = 0, enum_labels: Sequence[str] = ()) -> Any:
    """Return the value that `text` stands for, as PyTango takes it.

    `type_name` is Tango's (DevDouble, DevEnum …); `dimensions` 0 scalar, 1 spectrum, 2 image. An array is written as
    JSON, [1, 2, 3]. Raises BadText.
    """
    if dimensions == 0:
        return _scalar(text, type_name, enum_labels)
    try:
        found: object = json.loads(text)
    except ValueError:
        found = None
    if not _has_dimensions(found, dimensions):
        raise BadText(f"{text!r} is no array: write {'[1, 2, 3]' if dimensions == 1 else '[[1, 2], [3, 4]]'}")
    return _elements(found, type_name, enum_labels)


def _has_dimensions(found: object, dimensions: int) -> bool:
    if dimensions == 0:
        return not isinstance(found, list | dict)
    return isinstance(found, list) and all(_has_dimensions(one, dimensions - 1) for one in cast("list[object]", found))


def _elements(found: object, type_name: str, enum_labels: Sequence[str]) -> Any:
    if isinstance(found, list):
        return [_elements(one, type_name, enum_labels) for one in cast("list[object]", found)]
    return _scalar(found if isinstance(found, str) else json.dumps(found), type_name, enum_labels)


def _scalar(text: str, type_name: str, enum_labels: Sequence[str]) -> Any:
    word = text.strip()
    if type_name in ("DevString", "ConstDevString"):
        foreign = next((letter for letter in text if ord(letter) > LAST_LATIN_1), None)
        if foreign is not None:
            raise BadText(
                f"{text!r} cannot be sent: {foreign!r} is none of the letters Tango has (Latin-1), replace it"
            )
        return text
    if type_name == "DevBoolean":
        if word.lower() in (*_TRUE, *_FALSE):
            return word.lower() in _TRUE
        raise BadText(f"{text!r} is neither true nor false")
    if type_name == "DevEnum":
        return _enum(word, enum_labels)
    if type_name in INTEGERS:
        return _integer(word, type_name)
    if type_name in FLOATS:
        try:
            value = float(word)
        except ValueError:
            raise BadText(f"{text!r} is no number") from None
        if not math.isfinite(value):
            raise BadText(f"{text!r} is no finite number")
        return value
    raise BadText(f"a {type_name} cannot be typed; use a Tango client for it")


def _integer(word: str, type_name: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        raise BadText(f"{word!r} is no whole number") from None
    low, high = INTEGERS[type_name]
    if not low <= value <= high:
        raise BadText(f"{word} does not fit: allowed is {low} to {high}")
    return value


def _enum(word: str, labels: Sequence[str]) -> int:
    names = [label.lower() for label in labels]
    if word.lower() in names:
        return names.index(word.lower())
    if word.isdigit() and int(word) < len(labels):
        return int(word)
    raise BadText(f"{word!r} is none of {', '.join(labels)}")


def show(value: Any, format_text: str = "") -> str:
    """Return a value as a person reads it; `format_text` is the attribute's own printf format, "" for none."""
    if value is None:
        return "–"
    if isinstance(value, float) and _FLOAT_FORMAT.fullmatch(format_text):
        return (format_text % value).strip()
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        items = list(cast("Sequence[Any]", value))
        return f"[{', '.join(show(item, format_text) for item in items)}]"
    return str(value)
