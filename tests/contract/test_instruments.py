"""What every instrument package keeps to; the instruments are found in the registry."""

import ast
import dataclasses
import enum
import importlib
import inspect
import json
import math
import random
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bandoneon.errors
from bandoneon.errors import BandoneonError
from bandoneon.quantity import Quantity
from device_servers.core.transport import Line, Probe, open_transport
from device_servers.optical_bench import OpticalBench
from device_servers.registry import SERVERS
from device_servers.simulators.models import MODELS, serve
from tests.support import REPOSITORY, wait_until

INSTRUMENTS = {server.model: server for server in SERVERS.values() if server.model}
FILES = ("protocol", "driver", "sim", "device")
PURE = ("protocol", "driver", "sim")

every_instrument = pytest.mark.parametrize("model", sorted(INSTRUMENTS))


def part(model: str, name: str) -> ModuleType:
    """Import one of the four files of an instrument."""
    return importlib.import_module(f"device_servers.instruments.{model}.{name}")


def source(model: str, name: str) -> Path:
    """Where one of the four files is."""
    return REPOSITORY / "device_servers" / "instruments" / model / f"{name}.py"


def own(module: ModuleType, kind: Callable[[object], bool]) -> dict[str, Any]:
    """What `module` itself defines and does not hide, of one kind."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_") and kind(thing) and thing.__module__ == module.__name__
    }


def messages(model: str) -> dict[str, type]:
    """The messages of a protocol: its dataclasses that can be sent."""
    found = own(part(model, "protocol"), inspect.isclass)
    return {
        name: message
        for name, message in found.items()
        if dataclasses.is_dataclass(message) and hasattr(message, "encode") and not message.__subclasses__()
    }


def device_classes(model: str) -> list[type]:
    """The Tango classes of an instrument."""
    module = importlib.import_module(INSTRUMENTS[model].module)
    return [getattr(module, name) for name in INSTRUMENTS[model].devices if name in vars(module)]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One line of a transcript."""

    message: Any
    sent: bytes
    received: bytes | None
    value: Any
    error: type[BandoneonError] | None
    source: str


def transcript(model: str) -> list[Exchange]:
    """Read the transcript of a model."""
    rows = (REPOSITORY / "tests" / "transcripts" / f"{model}.jsonl").read_text().splitlines()
    return [_exchange(model, json.loads(row)) for row in rows]


def _exchange(model: str, row: dict[str, Any]) -> Exchange:
    message = messages(model)[row["message"]]
    hints = typing.get_type_hints(message)
    arguments = {
        name: hints[name][value] if inspect.isclass(hints[name]) and issubclass(hints[name], enum.Enum) else value
        for name, value in row["arguments"].items()
    }
    received = row.get("received")
    return Exchange(
        message(**arguments),
        row["sent"].encode("latin-1"),
        None if received is None else received.encode("latin-1"),
        row.get("value"),
        getattr(bandoneon.errors, row["error"]) if "error" in row else None,
        row["source"],
    )


def plain(value: Any) -> Any:
    """A decoded value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum) and not isinstance(value, enum.Flag):
        return value.name
    return value


@pytest.fixture
def served(model: str, tmp_path: Path) -> Iterator[Line]:
    """A transport to the model's simulator on a real pseudo-terminal, connected."""
    server = serve(model, pty=tmp_path / model)
    transport = open_transport(server.address, probe=a_probe(model))
    try:
        wait_until(lambda: _connect(transport), 5, f"{model} answers its probe")
        yield transport
    finally:
        transport.close()
        server.stop()


def a_probe(model: str) -> Probe:
    """A probe of the simulator's default set-up: the first query on record that it answers."""
    frame = part(model, "protocol").REPLY
    for row in transcript(model):
        answered = MODELS[model].build(OpticalBench(), MODELS[model].setups[0], 0)(row.sent)
        if answered and not row.error:
            return Probe(row.sent, frame, lambda _: True)
    raise AssertionError(f"{model} answers nothing on record")


def _connect(transport: Line) -> bool:
    transport.reconnect()
    return transport.connected


@every_instrument
def test_package_has_the_four_files_and_a_bare_init(model: str) -> None:
    """protocol, driver, sim, device, and an `__init__` that is a docstring."""
    assert all(source(model, name).is_file() for name in FILES)
    body = ast.parse(source(model, "__init__").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@every_instrument
def test_everything_public_is_documented(model: str) -> None:
    """Modules, classes, functions and methods say what they are for."""
    for name in FILES:
        module = part(model, name)
        assert module.__doc__
        for thing in (own(module, inspect.isclass) | own(module, inspect.isfunction)).values():
            assert inspect.getdoc(thing), f"{name}.{thing.__qualname__}"
            if inspect.isclass(thing):
                for member, function in vars(thing).items():
                    if inspect.isfunction(function) and not member.startswith("_"):
                        assert inspect.getdoc(function), f"{name}.{function.__qualname__}"


@every_instrument
def test_messages_are_frozen_slotted_and_cite_their_source(model: str) -> None:
    """A message is a value, small, and says what of the manual it is."""
    for name, message in messages(model).items():
        assert message.__dataclass_params__.frozen, name  # type: ignore[attr-defined]
        assert "__slots__" in vars(message), name
        assert message.__doc__
        assert message.__doc__.startswith("`"), name


@every_instrument
def test_every_message_is_in_the_transcript(model: str) -> None:
    """What the protocol can say is held against bytes from outside, with their source."""
    rows = transcript(model)
    assert {type(row.message).__name__ for row in rows} == set(messages(model))
    assert all(row.source for row in rows)


@every_instrument
def test_transcript_replays(model: str) -> None:
    """Each message encodes to the bytes on record, and the recorded reply decodes to the value or error on record."""
    for row in transcript(model):
        assert row.message.encode() == row.sent
        if row.received is None:
            continue
        if row.error is not None:
            with pytest.raises(row.error):
                row.message.decode(row.received)
        else:
            assert plain(row.message.decode(row.received)) == row.value, row


@every_instrument
def test_replies_are_framed_whole_however_they_arrive(model: str) -> None:
    """Cut at every byte, a reply is not taken before it is whole, and what follows it is left alone."""
    frame = part(model, "protocol").REPLY
    for row in transcript(model):
        for length in range(len(row.received or b"")):
            assert frame(row.received[:length]) == 0  # type: ignore[index]
        if row.received:
            assert frame(row.received) == frame(row.received + b"next") == len(row.received)


@every_instrument
def test_the_simulator_answers_every_query_in_a_decodable_way(model: str) -> None:
    """What the simulator says, written without the protocol, is what the protocol understands."""
    for row in transcript(model):
        if row.received is None or row.error:
            continue
        wire = MODELS[model].build(OpticalBench(), MODELS[model].setups[0], 0)
        wire.advance(3.0)
        reply = wire(row.sent)
        if reply:
            row.message.decode(reply)


@every_instrument
def test_the_simulator_does_not_care_how_bytes_arrive(model: str) -> None:
    """Any bytes, in one piece or in many, get the same answer and no exception."""
    generator = random.Random(1)
    sent = [row.sent for row in transcript(model)]
    for _ in range(50):
        stream = b"".join(
            generator.choice(sent) if generator.random() < 0.7 else generator.randbytes(3) for _ in range(30)
        )
        whole, pieces = (MODELS[model].build(OpticalBench(), MODELS[model].setups[0], 0) for _ in range(2))
        assert b"".join(pieces(stream[i : i + 1]) for i in range(len(stream))) == whole(stream)


@every_instrument
def test_queries_work_over_a_real_pseudo_terminal(model: str, served: Line) -> None:
    """Every query with an answer goes out over a pty and comes back decodable."""
    asked = 0
    for row in transcript(model):
        simulated = MODELS[model].build(OpticalBench(), MODELS[model].setups[0], 0)(row.sent)
        if (
            row.received is None
            or row.error
            or not simulated
            or type(row.message).__name__.startswith(("Set", "Change"))
        ):
            continue
        accept = getattr(row.message, "accepts", None)
        reply = served.exchange(row.sent, reply=part(model, "protocol").REPLY, timeout_s=1.0, accept=accept)
        row.message.decode(reply)
        asked += 1
    assert asked >= 4


@every_instrument
def test_the_simulator_checks_the_driver_independently(model: str) -> None:
    """The simulator imports neither its protocol nor its driver."""
    tree = ast.parse(source(model, "sim").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.startswith(f"device_servers.instruments.{model}")}


@every_instrument
def test_pure_modules_load_no_tango(model: str) -> None:
    """Protocol, driver and simulator work where Tango is not installed."""
    names = [f"device_servers.instruments.{model}.{name}" for name in PURE]
    code = f"import sys, {', '.join(names)}; sys.exit('tango' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


@every_instrument
def test_quantities_are_described(model: str) -> None:
    """Names are snake_case and unique, numbers that measure have a unit, every one has a label and a description."""
    for device_class in device_classes(model):
        quantities: tuple[Quantity, ...] = device_class.quantities  # type: ignore[attr-defined]
        names = [quantity.name for quantity in quantities]
        assert len(set(names)) == len(names)
        for quantity in quantities:
            assert quantity.name == quantity.name.lower()
            assert quantity.name.isidentifier()
            assert quantity.doc
            assert quantity.label
            assert quantity.unit or quantity.dtype not in ("f4", "f8"), quantity.name
            if quantity.writable and quantity.dtype in ("f8", "i4"):
                assert quantity.low is not None
                assert quantity.high is not None
                assert math.isfinite(quantity.high - quantity.low)


@every_instrument
def test_quantities_become_tango_attributes(model: str) -> None:
    """Every quantity is a Tango attribute of its name, with its type, unit and access."""
    for device_class in device_classes(model):
        for quantity in device_class.quantities:  # type: ignore[attr-defined]
            assert hasattr(device_class, quantity.name), f"{device_class.__name__}.{quantity.name}"
