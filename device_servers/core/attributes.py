"""Turns quantities into Tango attributes, when a device class is made, so that Jive and dsconfig see them."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# (pytango's stubs are not complete)

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tango
from tango import AttrQuality, AttrWriteType, DispLevel
from tango.server import DeviceMeta, attribute

from bandoneon.quantity import EVENT_ELEMENTS_LIMIT, Quantity
from device_servers.core.states import Criteria, Reading

LONGEST: Final = 2**20
"""Elements a streamed spectrum may have when its length is up to the device."""

QUALITIES: Final = (
    AttrQuality.ATTR_VALID,
    AttrQuality.ATTR_INVALID,
    AttrQuality.ATTR_ALARM,
    AttrQuality.ATTR_CHANGING,
    AttrQuality.ATTR_WARNING,
)
_ACCESS: Final = {"r": AttrWriteType.READ, "rw": AttrWriteType.READ_WRITE, "w": AttrWriteType.WRITE}
_NUMPY: Final = {"bool": "?", "str": "U"}


class InstrumentMeta(DeviceMeta):
    """Makes one Tango attribute of each of a class's `quantities`."""

    def __new__(metacls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        """Return the device class with its attributes."""
        for quantity in namespace.get("quantities", ()):
            namespace[quantity.name] = attribute_of(quantity)
        return super().__new__(metacls, name, bases, namespace)


def attribute_of(quantity: Quantity) -> Any:
    """Return the Tango attribute of a quantity; it is read by `read_quantity` and written by `write_quantity`."""

    def read(self: Any) -> tuple[Any, float, AttrQuality]:
        return self.read_quantity(quantity)

    def write(self: Any, value: Any) -> None:
        self.write_quantity(quantity, value)

    read.__name__, write.__name__ = f"read_{quantity.name}", f"write_{quantity.name}"
    options: dict[str, Any] = {
        "label": quantity.label or quantity.name,
        "unit": quantity.unit,
        "doc": quantity.doc,
        "format": quantity.format or None,
        "access": _ACCESS[quantity.access],
        "display_level": DispLevel.EXPERT if quantity.expert else DispLevel.OPERATOR,
        "fget": read if quantity.readable else None,
        "fset": write if quantity.writable else None,
    }
    if quantity.writable and not quantity.is_enum:
        options["min_value"], options["max_value"] = _text(quantity.low), _text(quantity.high)
    if quantity.deadband is not None:
        options["abs_change"] = _text(quantity.deadband)
    element: Any = getattr(tango.CmdArgType, quantity.tango_type)
    if quantity.is_enum:
        options["enum_labels"] = list(quantity.enum_labels)
    longest = LONGEST if quantity.stream else EVENT_ELEMENTS_LIMIT - 1
    if len(quantity.shape) == 1:
        options["dtype"], options["max_dim_x"] = (element,), quantity.shape[0] or longest
    elif len(quantity.shape) == 2:
        rows, columns = quantity.shape
        options["dtype"] = ((element,),)
        options["max_dim_x"], options["max_dim_y"] = columns or longest, rows or longest
    else:
        options["dtype"] = element
    return attribute(**{key: value for key, value in options.items() if value is not None})


def _text(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:.12g}"


def filler(quantity: Quantity) -> Any:
    """Return the value that Tango wants to see beside INVALID."""
    if len(quantity.shape) == 2:
        return np.zeros((0, 0), _NUMPY.get(str(quantity.dtype), str(quantity.dtype)))
    if quantity.shape:
        return []
    return {"str": "", "bool": False}.get(str(quantity.dtype), 0)


def as_tango(quantity: Quantity, reading: Reading) -> tuple[Any, float, AttrQuality]:
    """Return a reading as Tango takes it: value, time in s since 1970, quality."""
    value = filler(quantity) if reading.value is None else reading.value
    return value, reading.time_s, QUALITIES[reading.quality]


def criteria_of(attribute: tango.Attribute) -> Criteria:
    """Return what the database, or a client since, says of an attribute's events and limits."""
    config: Any = tango.MultiAttrProp()
    attribute.get_properties(config)
    return Criteria(
        abs_change=_number(config.abs_change, abs),
        rel_change_pct=_number(config.rel_change, abs),
        min_alarm=_number(config.min_alarm),
        max_alarm=_number(config.max_alarm),
        min_warning=_number(config.min_warning),
        max_warning=_number(config.max_warning),
    )


def _number(text: Any, of: Callable[[float], float] = float) -> float | None:
    """A Tango attribute property as a number: the first (falling) of a pair; None when it is not set."""
    first = str(text).strip("[]() ").split(",")[0]
    try:
        number = of(float(first))
    except ValueError:
        return None
    return None if math.isnan(number) else number
