"""The command status, the one that must be quick: it needs neither Tango nor typer when a site of here is up."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bandoneon.cli.options import (
    FLAGS,
    WITH_VALUE,
    CommandError,
    Options,
    Target,
    WrongUse,
    answers,
    found_by,
    need_database,
    options_first,
    print_json,
)
from bandoneon.cli.outcome import complain, program
from bandoneon.cli.report import ARCHIVER_SHOWN, Report, from_files
from bandoneon.cli.words import coloured, duration, table


def asked(arguments: Sequence[str]) -> tuple[Options, bool] | None:
    """Return the options of a `status` command line and whether it wants JSON.

    None for another command, and for a line that is wrong or asks for help: typer explains it.
    """
    try:
        words = options_first(arguments)
    except WrongUse:
        return None
    options: dict[str, str] = {}
    while words and words[0].startswith("--"):
        name, equals, value = words.pop(0).partition("=")
        options[name] = words.pop(0) if name in WITH_VALUE and not equals else value
    if words[:1] != ["status"] or set(words[1:]) - {"--json"} or options.keys() - {*WITH_VALUE, *FLAGS}:
        return None
    data = options.get("--data")
    directory = None if data is None else Path(data).absolute()
    return Options(options.get("--site"), directory, "--debug" in options), "--json" in words


def status(options: Options, as_json: bool) -> int:
    """Show how servers and archivers are; return 0 when all is well, else 1."""
    now = report(found_by(options))
    if as_json:
        print_json(now.as_json())
    else:
        show(now)
    for problem in now.problems:
        complain(problem)
    return 0 if now.ready else 1


def report(found: Target) -> Report:
    """Return how a site is, at most a second late.

    What runs on this machine is told by files, whatever Tango does; the rest by Tango. Raises CommandError where there
    is neither.
    """
    site = found.running
    here = from_files(site) if site is not None and answers(site.socket) else None
    if site is not None and here is not None and site.hosts == [site.host]:
        return here
    try:
        need_database(found)
        from bandoneon.cli.inquiry import ask

        return ask(found)
    except CommandError as error:
        if here is None:
            raise
        here.problems.append(str(error))
        return here


def show(now: Report) -> None:
    """Print a report as tables."""
    moment = datetime.now(UTC)
    ill = [device for one in now.servers for device in one.get("ill") or ()]
    attention = f", {len(ill)} of its devices {'needs' if len(ill) == 1 else 'need'} attention" if ill else ""
    print(f"{now.site} at {now.tango_host}: {coloured('ready') if now.ready else 'not ready'}{attention}")
    rows = [
        [
            one["name"],
            one["state"],
            one["pid"] or "–",
            _figure(one["restarts"]),
            duration((moment - datetime.fromisoformat(one["since"])).total_seconds()) if one["since"] else "–",
            one["last_exit"] or "–",
        ]
        for one in now.servers
    ]
    print(table(["server", "state", "pid", "restarts", "for", "last exit"], rows))
    for one in now.servers:
        if one.get("last_lines"):
            print(f"{one['name']} said last: {one['last_lines'][-1]} (more: {program()} logs {one['name']})")
    for device in ill:
        first_line = device["status"].partition("\n")[0]
        print(f"{device['device']} is {coloured(device['state'])}: {first_line}")
    if now.archivers:
        rows = [[_figure(one.get(key)) for key in ARCHIVER_SHOWN] for one in now.archivers]
        print()
        print(table(["archiver", "state", "attributes", "events/s", "lag (s)", "lost"], rows))


def _figure(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
