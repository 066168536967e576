"""Commands about a site: up, down, status, plan, apply, logs."""

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandoneon.cli import processes
from bandoneon.cli.options import DEMO, CommandError, Options, Target, need_database, print_json, target
from bandoneon.cli.words import readable
from bandoneon.errors import SiteError
from bandoneon.site.running import RunningSite, default_data, default_root

if TYPE_CHECKING:
    from bandoneon.cli.ready import Progress
    from bandoneon.site.diff import Change, Plan
    from bandoneon.site.reader import SiteFile

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PRUNE = Annotated[bool, typer.Option("--prune", help="Delete what the site owns and no longer names.")]
SITE = Annotated[Path, typer.Argument(metavar="[SITE]", help="Site file.", show_default=False)]

LOG_LINES = 40
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    from bandoneon.cli.launch import launch
    from bandoneon.cli.ready import wait_until_ready

    options: Options = context.obj
    began_s = time.monotonic()
    if not detach:
        for number in ENDING:
            signal.signal(number, _interrupt)
    launched = None
    try:
        launched = launch(file, options.data, say)
        running, count = launched.site, len(launched.expected)
        wait_until_ready(launched, say, progress(count))
        again = " already" if launched.already and not (launched.plan.changes or launched.outdated) else ""
        say(f"{running.site} is up{again}: {count} servers run after {time.monotonic() - began_s:.1f} s.")
        print(f"database {running.tango_host}, data in {running.data}")
        if detach or launched.already:
            print("Look: ./run status · ./run gui · End: ./run down")
            return
        print("Ctrl-C brings it down.")
        while processes.spawner_pid(running) is not None or processes.children(running):
            time.sleep(1.0)
    except KeyboardInterrupt:
        if detach or launched is None or launched.already:  # what `launch` had begun it has ended itself
            raise
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # once is enough: it takes a few seconds
        processes.stop(launched.site, say)
        return
    raise CommandError(f"{running.site} was brought down by somebody else")


def _interrupt(*_: object) -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does."""
    raise KeyboardInterrupt


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
    for server in _outdated(file):
        print(f"{server} runs with what was before: `./run up {site}` starts it anew.")


def _outdated(file: "SiteFile") -> list[str]:
    """Return the servers of this machine that run with entries of before a change."""
    from bandoneon.cli.launch import outdated

    try:
        running = RunningSite.find(default_root(), file.site.site)
    except SiteError:
        return []
    return sorted(outdated(running)) if running.tango_host == os.environ["TANGO_HOST"] else []


def logs(
    context: typer.Context,
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Class/instance, or spawner")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is appended.")] = False,
) -> None:
    """Show the end of a server's log: lines to read in a terminal, the JSON records elsewhere."""
    site = target(context).need_running()
    log = site.logs / f"{server.replace('/', '_')}.log"
    if not log.exists():
        known = sorted(path.stem for path in site.logs.glob("*.log"))
        raise CommandError(f"there is no log of {server}: known are {', '.join(known) or 'none'}")
    text, offset = processes.tail(log, LOG_LINES)
    if not (follow or text.endswith("\n")):
        text += "\n"
    pieces = itertools.chain([text], processes.follow(log, offset) if follow else ())
    with contextlib.suppress(KeyboardInterrupt):
        for piece in readable(pieces) if sys.stdout.isatty() else pieces:
            print(piece, end="", flush=True)


def _plan(context: typer.Context, site: Path, prune: bool) -> "tuple[SiteFile, Plan, Callable[[], None]]":
    """Return the site file, the plan, and what carries it out."""
    file = read_file(site)
    for override in file.overrides:
        say(f"{override.variable} overrides {override.key}")
    found = _database_of(file, context.obj)
    need_database(found)
    from bandoneon.cli.wanted import wanted_of
    from bandoneon.site.database import SiteDatabase

    database = SiteDatabase(found.tango_host)
    wanted = wanted_of(file)
    changes = database.plan(file.site.site, wanted, adopt=file.site.adopt, prune=prune)
    return file, changes, lambda: database.apply(file.site.site, wanted, changes)


def _database_of(file: "SiteFile", options: Options) -> Target:
    """Return the database a site file is for, and make it the TANGO_HOST of this process.

    That is the external one it names, else the one of `--site`, else the site's own, which TANGO_HOST may not deny.
    """
    site, external, named = file.site.site, file.site.database.host, os.environ.get("TANGO_HOST")
    try:
        known = RunningSite.find(default_root(), options.site or site)
    except SiteError:
        known = None
    if external is None and options.site is None and named and (known is None or known.tango_host != named):
        raise CommandError(
            f"{file.path} has a database of its own (embedded), and TANGO_HOST is {named}: unset TANGO_HOST, or write "
            f"`database: {{kind: external, host: '{named}'}}` into the file"
        )
    if external is None and known is None:
        raise CommandError(f"site {options.site or site} has no database yet: bring it up with `./run up {file.path}`")
    if external is not None and known is not None and known.tango_host != external:
        known = None
    tango_host = external or ("" if known is None else known.tango_host)
    os.environ["TANGO_HOST"] = tango_host
    return Target(tango_host, known, options.data or default_data(site))


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
    """Tell the person who waits what goes on; nobody may be there any more, after a hang-up."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def progress(expected: int) -> "Progress":
    """Return what shows how many servers run: one line that changes in a terminal, nothing elsewhere."""

    def tell(running: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if running == expected else "\r"
            print(f"{running} of {expected} servers run", end=end, file=sys.stderr, flush=True)

    return tell
