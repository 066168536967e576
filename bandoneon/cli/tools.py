"""Commands around a site: sim, gui, test, bench."""

import ctypes.util
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bandoneon.cli.options import CommandError, WrongUse, print_json, target
from bandoneon.cli.words import table

WINDOW_LIBRARIES = ("GL", "EGL", "xkbcommon", "dbus-1", "fontconfig")
"""Shared libraries Qt cannot do without on Linux."""

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(no_args_is_help=True)(sim)
    app.command()(gui)
    app.command(context_settings=PASS_ON)(test)
    app.command()(bench)


def repository() -> Path:
    """Return the checkout this program runs from; raise CommandError when it was installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise CommandError("tests and benchmarks are part of a checkout, and this is an installed bandoneon")
    return root


def sim(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="newport_1830c, ell14")],
    pty: Annotated[Path | None, typer.Option(metavar="PATH", help="Becomes a link to the pseudo-terminal.")] = None,
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="Serve on this loopback port; 0: any.")] = None,
    setup: Annotated[str, typer.Option(metavar="NAME", help="Variant of the model.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed, the same noise.")] = 0,
    fault: Annotated[str | None, typer.Option(metavar="NAME", help="What is broken: silent, garbage, late, …")] = None,
) -> None:
    """Serve a simulated instrument byte for byte, without Tango, until Ctrl-C."""
    import signal
    import threading

    from device_servers.core.wire_server import FAULTS
    from device_servers.simulators.models import serve

    if (pty is None) == (tcp is None):
        raise typer.BadParameter("give either --pty PATH or --tcp PORT.")
    if fault is not None and fault not in FAULTS:
        raise typer.BadParameter(f"there is no fault {fault}: choose one of {', '.join(FAULTS)}.")
    if pty is not None and pty.exists() and not pty.is_symlink():
        raise WrongUse(f"{pty} exists and is no link: give a path that may become one")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    address = None if tcp is None else ("127.0.0.1", tcp)
    try:
        server = serve(model, setup=setup, seed=seed, pty=pty, tcp=address, fault=fault)
    except ValueError as error:
        raise WrongUse(str(error)) from error
    except OSError as error:
        where = pty if pty is not None else f"port {tcp}"
        raise CommandError(f"{where} cannot be used ({os.strerror(error.errno or 0)}): choose another") from error
    try:
        print(f"ready {pty if pty is not None else server.address}", flush=True)
        stopping.wait()
    finally:
        server.stop()


def gui(
    context: typer.Context,
    panel: Annotated[
        str | None, typer.Argument(metavar="[PANEL]", help="Open on this panel.", show_default=False)
    ] = None,
) -> None:
    """Open the operator's window."""
    if importlib.util.find_spec("PyQt6") is None:
        raise CommandError("windows need the packages of the extra `gui`: pip install 'bandoneon[gui]'")
    missing = [name for name in WINDOW_LIBRARIES if ctypes.util.find_library(name) is None]
    if missing and sys.platform == "linux":
        raise CommandError(
            f"windows need shared libraries that are missing ({', '.join(missing)}): run `./run gui --install` once"
        )
    target(context)
    from gui.main import main

    code = main([] if panel is None else [panel])
    raise typer.Exit(code or 0)


def test(context: typer.Context) -> None:
    """Run the tests; all arguments go to pytest. Says what it leaves out where no container engine answers."""
    root = repository()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    environment.pop("TANGO_HOST", None)
    done = subprocess.run([sys.executable, "-m", "pytest", *context.args], cwd=root, env=environment, check=False)
    raise typer.Exit(0 if done.returncode == 0 else 1)


def bench(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: all, each named as it begins.")] = None,
    as_json: JSON = False,
) -> None:
    """Measure this machine, each figure beside its rival."""
    root = repository()
    modules = (root / "tests" / "benchmarks").glob("[!_]*.py")
    there = sorted(module.stem.replace("_", "-") for module in modules)
    if name is not None and name not in there:
        raise WrongUse(f"there is no benchmark {name}: choose one of {', '.join(there)}")
    sys.path.insert(0, str(root))
    results: list[dict[str, Any]] = []
    for one in there if name is None else [name]:
        if not as_json:
            print(f"measuring {one} …", file=sys.stderr, flush=True)
        module = importlib.import_module(f"tests.benchmarks.{one.replace('-', '_')}")
        results += [{"name": one, **row} for row in module.run()]
    if as_json:
        print_json(results)
        return
    keys = ("name", "metric", "value", "unit", "rival", "rival_value", "ratio")
    rows = [[_figure(row.get(key)) for key in keys] for row in results]
    print(table(["benchmark", "measured", "value", "unit", "rival", "its value", "ratio"], rows))


def _figure(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
