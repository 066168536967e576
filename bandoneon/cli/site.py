"""Commands about a site: up, down, status, plan, apply, logs."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandoneon.cli import processes
from bandoneon.cli.options import CommandError, Options, need_database, print_json, target
from bandoneon.site.running import RunningSite, default_root

if TYPE_CHECKING:
    from bandoneon.cli.report import Report
    from bandoneon.site.diff import Change, Plan
    from bandoneon.site.reader import SiteFile

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PRUNE = Annotated[bool, typer.Option("--prune", help="Delete what the site owns and no longer names.")]
SITE = Annotated[Path, typer.Argument(metavar="[SITE]", help="Site file.", show_default=False)]

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "site.yaml"
LOG_LINES = 40


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (up, down, status, plan, apply):
        app.command()(command)
    app.command(no_args_is_help=True)(logs)


def up(
    context: typer.Context,
    site: SITE = DEMO,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is up, and leave it running.")] = False,
) -> None:
    """Bring a site up: its database, its servers, its archiver. Again: apply what changed in the site file."""
    file = read_file(site)
    from bandoneon.cli import launch
    from bandoneon.site.desired import desired_of
    from device_servers.registry import SERVERS

    options: Options = context.obj
    began_s = time.monotonic()
    launched = launch.launch(file, options.data, say)
    running = launched.site
    wanted = desired_of(file, running.run, SERVERS)
    expected = {
        entry.name
        for entry, value in wanted.items()
        if entry.kind == "server" and value[0] == running.host and value[1] != "0"
    }
    launch.restart_changed(launched, file, say)
    launch.wait_until_ready(running, expected, progress(len(expected)))
    again = " already" if launched.already and not launched.plan.changes else ""
    say(f"{running.site} is up{again}: {len(expected)} servers run after {time.monotonic() - began_s:.1f} s.")
    print(f"database {running.tango_host}, data in {running.data}")
    if detach:
        print("Look: ./run status · ./run gui · End: ./run down")
        return
    print("Ctrl-C brings it down.")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(1.0):
        if processes.spawner_pid(running) is None and not processes.children(running):
            raise CommandError(f"{running.site} was brought down by somebody else")
    processes.stop(running, say)


def down(context: typer.Context) -> None:
    """Bring a site down: every instrument is made safe, every server ends. Data stays."""
    options: Options = context.obj
    site = RunningSite.find(default_root(), options.site)
    ended = processes.stop(site, say)
    print(f"{site.site} is down." if ended else f"{site.site} was not up.")


def status(context: typer.Context, as_json: JSON = False) -> None:
    """Show which servers and archivers run, and how they are. Exit status 1 unless all is well."""
    from bandoneon.cli.status import status as show

    raise typer.Exit(show(context.obj, as_json))


def plan(context: typer.Context, site: SITE = DEMO, prune: PRUNE = False, as_json: JSON = False) -> None:
    """Show what a site file would change in the Tango database. Nothing is changed."""
    _, changes, _ = _plan(context, site, prune)
    if as_json:
        print_json({"changes": [change.as_json() for change in changes.changes]})
    else:
        print_plan(changes)


def apply(context: typer.Context, site: SITE = DEMO, prune: PRUNE = False) -> None:
    """Change the Tango database to what a site file says. Touches only what the site made or adopted."""
    file, changes, carry_out = _plan(context, site, prune)
    print_plan(changes)
    carry_out()
    if changes.changes:
        print(f"{file.site.site}: {len(changes.changes)} changes applied.")


def logs(
    context: typer.Context,
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Class/instance, or spawner")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is appended.")] = False,
) -> None:
    """Show the end of a server's log."""
    site = target(context).need_running()
    log = site.logs / f"{server.replace('/', '_')}.log"
    if not log.exists():
        known = sorted(path.stem for path in site.logs.glob("*.log"))
        raise CommandError(f"there is no log of {server}: known are {', '.join(known) or 'none'}")
    lines = log.read_text(errors="replace").splitlines()
    print("\n".join(lines[-LOG_LINES:]))
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for text in processes.follow(log):
                print(text, end="", flush=True)


def _plan(context: typer.Context, site: Path, prune: bool) -> "tuple[SiteFile, Plan, Callable[[], None]]":
    """Return the site file, the plan, and what carries it out."""
    file = read_file(site)
    for override in file.overrides:
        say(f"{override.variable} overrides {override.key}")
    options: Options = context.obj
    if options.site is None and "TANGO_HOST" not in os.environ:
        context.obj = Options(file.site.site, options.data, options.debug)
    found = target(context)
    need_database(found)
    from bandoneon.site.database import SiteDatabase
    from bandoneon.site.desired import desired_of
    from device_servers.registry import SERVERS

    database = SiteDatabase(found.tango_host)
    run = default_root() / file.site.site if found.running is None else found.running.run
    wanted = desired_of(file, run, SERVERS)
    changes = database.plan(file.site.site, wanted, adopt=file.site.adopt, prune=prune)
    return file, changes, lambda: database.apply(file.site.site, wanted, changes)


def read_file(path: Path) -> "SiteFile":
    """Read a site file (pydantic is loaded only now)."""
    from bandoneon.site.reader import read_site

    return read_site(path)


def print_plan(changes: "Plan") -> None:
    """Print the changes, one line each."""
    for change in changes.changes:
        print(_line(change))
    for entry in changes.left:
        print(f"left alone: {entry.kind} {entry.name} is no longer in the site file (--prune deletes it)")
    if not changes.changes:
        print("Nothing to change.")


def _line(change: "Change") -> str:
    sign = {"create": "+", "delete": "-", "update": "~", "adopt": "="}[change.action]
    before = "" if change.before is None else f" {' '.join(change.before)}"
    after = "" if change.after is None else f" {' '.join(change.after)}"
    arrow = " →" if change.action == "update" else ""
    return f"{sign} {change.entry.kind} {change.entry.name}{before}{arrow}{after if change.action != 'adopt' else ''}"


def say(text: str) -> None:
    """Tell the person who waits what goes on."""
    print(text, file=sys.stderr, flush=True)


def progress(expected: int) -> "Callable[[Report, set[str]], None]":
    """Return what shows how many servers run: one line that changes in a terminal, nothing elsewhere."""

    def tell(_now: "Report", answering: set[str]) -> None:
        if sys.stderr.isatty():
            end = "\n" if len(answering) == expected else "\r"
            print(f"{len(answering)} of {expected} servers run", end=end, file=sys.stderr, flush=True)

    return tell
