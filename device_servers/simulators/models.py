"""The models that can be simulated, by the name of their package, and how to serve one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_servers.core.wire_server import FAULTS, Wire, WireServer
from device_servers.instruments.ell14 import sim as ell14
from device_servers.instruments.newport_1830c import sim as newport_1830c
from device_servers.optical_bench import OpticalBench


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """How to build a model's wire-level simulator, and what its line is like."""

    build: Callable[[OpticalBench, str, int], Wire]
    setups: tuple[str, ...]
    baud: int
    faults: tuple[str, ...] = FAULTS


MODELS: Mapping[str, ModelEntry] = {
    "ell14": ModelEntry(ell14.build, ell14.SETUPS, 9600),
    "newport_1830c": ModelEntry(newport_1830c.build, newport_1830c.SETUPS, 9600),
}


def build(model: str, bench: OpticalBench, *, setup: str = "", seed: int = 0) -> Wire:
    """Return a wire-level simulator of `model` on `bench`; raise ValueError when there is no such model or setup."""
    if model not in MODELS:
        raise ValueError(f"there is no simulator of {model!r}: choose one of {', '.join(sorted(MODELS))}")
    setups = MODELS[model].setups
    if setup and setup not in setups:
        raise ValueError(f"{model} has no setup {setup!r}: choose one of {', '.join(setups)}")
    return MODELS[model].build(bench, setup or setups[0], seed)


def serve(
    model: str,
    *,
    setup: str = "",
    seed: int = 0,
    pty: Path | None = None,
    tcp: tuple[str, int] | None = None,
    fault: str | None = None,
) -> WireServer:
    """Serve a simulator of `model`, on a bench of its own, on a pseudo-terminal linked at `pty` or on a TCP port."""
    server = WireServer(
        build(model, OpticalBench(seed), setup=setup, seed=seed), pty=pty, tcp=tcp, baud=MODELS[model].baud
    )
    server.fault = fault
    server.start()
    return server
