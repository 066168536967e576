"""Reads, writes, calls and watches devices of the Tango database that TANGO_HOST names."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tango

from bandoneon.client.texts import parse
from bandoneon.errors import BandoneonError
from bandoneon.tangolink.proxy import device, reasons, sentence
from bandoneon.tangolink.subscription import Subscription

TIMEOUT_S = 3.0
WATCH_PERIOD_S = 0.05


class ClientError(BandoneonError):
    """Something a device refused or could not do, in one sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of an attribute.

    `value` is a Python value (enums as their word, arrays as lists, None for INVALID or a failed reading), `unit` and
    `format` the attribute's, `quality` VALID, INVALID, ALARM, CHANGING or WARNING, `time_ns` the device's own time
    stamp since 1970 (0 without one), `error` what went wrong, "" normally.
    """

    name: str
    value: Any
    unit: str
    format: str
    quality: str
    time_ns: int
    error: str = ""

    @property
    def age_s(self) -> float:
        """Seconds since the value was taken."""
        return max(0.0, time.time() - self.time_ns / 1e9)


def read(*names: str) -> list[Reading]:
    """Return a reading of each attribute (`domain/family/member/attribute`), in the order asked for.

    What cannot be read has its reason in `error`; raises ClientError only for names that cannot be one.
    """
    by_device: dict[str, list[str]] = {}
    for name in names:
        by_device.setdefault(_split(name)[0], []).append(name)
    found: dict[str, Reading] = {}
    for device_name, wanted in by_device.items():
        try:
            found |= _read_device(device(device_name, TIMEOUT_S), wanted)
        except tango.DevFailed as error:
            if len(wanted) == 1:
                found[wanted[0]] = _failed(wanted[0], sentence(error, device_name))
            else:
                found |= {one.name: one for name in wanted for one in read(name)}
    return [found[name] for name in names]


def _read_device(proxy: tango.DeviceProxy, names: list[str]) -> dict[str, Reading]:
    attributes = [_split(name)[1] for name in names]
    configurations: Any = proxy.get_attribute_config_ex(attributes)  # the other knows no enum labels
    values: Any = proxy.read_attributes(attributes, extract_as=tango.ExtractAs.Numpy)
    return {
        name: _reading(name, value, configuration)
        for name, value, configuration in zip(names, values, configurations, strict=True)
    }


def _reading(name: str, value: Any, configuration: Any) -> Reading:
    if value.has_failed:
        return _failed(name, sentence(tango.DevFailed(*value.get_err_stack()), name))
    stamp: Any = value.time
    return Reading(
        name=name,
        value=_plain(value.value, configuration),
        unit=str(configuration.unit),
        format=str(configuration.format),
        quality=str(value.quality).removeprefix("ATTR_"),
        time_ns=int(stamp.tv_sec) * 10**9 + int(stamp.tv_usec) * 1000 + int(stamp.tv_nsec),
    )


def _failed(name: str, reason: str) -> Reading:
    return Reading(name, None, "", "", "INVALID", 0, reason)


def _plain(value: Any, configuration: Any) -> Any:
    """Return a PyTango value as plain Python: enums and states as words, arrays as lists, bytes as text."""
    if configuration.data_type == tango.CmdArgType.DevEnum:
        labels = list(configuration.enum_labels)
        if isinstance(value, np.ndarray):
            return cast("Any", np.array(labels, object)[value]).tolist()
        return None if value is None else labels[int(value)] if 0 <= int(value) < len(labels) else int(value)
    return plain(value)


def plain(value: Any) -> Any:
    """Return any PyTango value as plain Python that JSON can hold."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(cast("Any", value).tolist())
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, tango.DevState):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Iterable):
        return [plain(item) for item in cast("Iterable[Any]", value)]
    return str(value)


def write(name: str, value: Any) -> Any:
    """Write an attribute; a text is read by the attribute's type. Return the value that was sent.

    Raises ClientError with the reason of a refusal.
    """
    device_name, attribute = _split(name)
    try:
        proxy = device(device_name, TIMEOUT_S)
        configuration: Any = proxy.get_attribute_config(attribute)
        if configuration.writable == tango.AttrWriteType.READ:
            raise ClientError(f"{name} cannot be written: it is read-only")
        if isinstance(value, str):
            dimensions = {tango.AttrDataFormat.SCALAR: 0, tango.AttrDataFormat.SPECTRUM: 1}
            value = parse(
                value,
                str(tango.CmdArgType(configuration.data_type)),
                dimensions.get(configuration.data_format, 2),
                list(configuration.enum_labels),
            )
        try:
            proxy.write_attribute(attribute, value)
        except tango.DevFailed as error:
            if "API_WAttrOutsideLimit" in reasons(error):
                raise ClientError(_outside(name, value, configuration)) from error
            raise
    except tango.DevFailed as error:
        raise ClientError(_because(error, name)) from error
    return value


def _because(error: tango.DevFailed, name: str) -> str:
    """Return why something with attribute `name` failed; what is wrong with its device is said of that."""
    of_device = any("Device" in reason or "Connect" in reason for reason in reasons(error))
    return sentence(error, name.rpartition("/")[0] if of_device else name)


def _outside(name: str, value: Any, configuration: Any) -> str:
    """Return what is allowed; Tango says only which limit was passed."""
    limits = [("from", configuration.min_value), ("to", configuration.max_value)]
    unit = f" {configuration.unit}" if configuration.unit else ""
    allowed = " ".join(f"{word} {limit}" for word, limit in limits if limit != "Not specified")
    return f"{name} {value}{unit} is outside what is allowed: {allowed}{unit}"


def call(device_name: str, command: str, argument: Any = None) -> Any:
    """Run a command and return its result as plain Python, None for none. A text argument is read by the type."""
    if device_name.count("/") != 2:
        raise ClientError(f"{device_name} is no device: it has to be domain/family/member")
    try:
        proxy = device(device_name, TIMEOUT_S)
        kind = str(proxy.command_query(command).in_type)
        if kind == "DevVoid":
            if argument is not None:
                raise ClientError(f"{command} of {device_name} takes no argument")
            return plain(proxy.command_inout(command))
        if argument is None:
            raise ClientError(f"{command} of {device_name} needs an argument ({kind})")
        if isinstance(argument, str):
            argument = _argument(argument, kind)
        return plain(proxy.command_inout(command, argument))
    except tango.DevFailed as error:
        if "API_CommandNotFound" in reasons(error):
            raise ClientError(f"{device_name} has no command {command}") from error
        raise ClientError(sentence(error, device_name)) from error


def _argument(text: str, kind: str) -> Any:
    if kind.startswith("DevVar") and kind.endswith("Array"):
        element = "Dev" + kind[len("DevVar") : -len("Array")]
        return parse(text, {"DevChar": "DevUChar"}.get(element, element), 1)
    return parse(text, kind)


def watch(*names: str) -> Iterator[Reading]:
    """Yield the CHANGE events of attributes for ever, and a reading with `error` when a server goes.

    Each attribute's first reading comes at once; subscriptions return by themselves after a restart.
    Raises ClientError when the database does not know a device.
    """
    configurations: dict[str, Any] = {}
    for name in names:
        _split(name)
    try:
        subscription = Subscription(names, tango.EventType.CHANGE_EVENT)
    except tango.DevFailed as error:
        raise ClientError(sentence(error, names[0].rpartition("/")[0])) from error
    with closing(subscription):
        while True:
            for event in subscription.take():
                if event.error:
                    configurations.pop(event.attribute, None)  # the server may come back with another
                    yield _failed(event.attribute, event.error)
                    continue
                try:
                    if event.attribute not in configurations:
                        configurations[event.attribute] = _configuration(event.attribute)
                except tango.DevFailed as error:
                    yield _failed(event.attribute, _because(error, event.attribute))
                    continue
                yield _reading(event.attribute, event.value, configurations[event.attribute])
            time.sleep(WATCH_PERIOD_S)


def _configuration(name: str) -> Any:
    device_name, attribute = _split(name)
    return device(device_name, TIMEOUT_S).get_attribute_config(attribute)


def _split(name: str) -> tuple[str, str]:
    """Return device and attribute of a full attribute name."""
    parts: Sequence[str] = name.split("/")
    if len(parts) == 3 and all(parts):
        raise ClientError(f"{name} is a device: add the attribute, like {name}/State")
    if len(parts) != 4 or not all(parts):
        raise ClientError(f"{name} is no attribute: it has to be domain/family/member/attribute")
    return "/".join(parts[:3]), parts[3]
