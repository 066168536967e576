"""Commands about archived data: query, archive status, verify, rebuild."""

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandoneon.cli.options import CommandError, WrongUse, data_dir, need_database, print_json, target
from bandoneon.cli.report import HEALTHY
from bandoneon.cli.words import coloured, duration, parse_duration_s, parse_time_ns, table
from bandoneon.errors import BandoneonError

if TYPE_CHECKING:
    import polars

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

TABLE_ROWS = 40
"""A table in a terminal shows so many rows; csv and the others show all."""

archive = typer.Typer(
    help="Look after the archive: status, verify, rebuild.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(no_args_is_help=True, context_settings={"ignore_unknown_options": False})(query)
    app.add_typer(archive, name="archive")


def query(
    context: typer.Context,
    attributes: Annotated[list[str], typer.Argument(metavar="ATTR…", help="Names or patterns: lab/power/1/*")],
    last: Annotated[str | None, typer.Option(metavar="DURATION", help="The last 30s, 10m, 2h, 1d.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-23T15:51:32Z, 15:51 or -10m.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="TIME", help="As --start; default: now.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The last value of each at that time.")] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="Values on one clock.")] = None,
    max_points: Annotated[int | None, typer.Option(min=4, help="Thin out, keeping peaks.")] = None,
    gaps: Annotated[bool, typer.Option("--gaps", help="Also the times nothing was archived.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="table, csv, json, parquet, arrow or hdf5."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write to a file.")] = None,
) -> None:
    """Show what was archived, the newest commit included; works while the site is down."""
    directory = data_dir(context)
    asked: dict[str, Any] = {
        "last_s": None if last is None else parse_duration_s(last),
        "start_ns": None if start is None else parse_time_ns(start),
        "stop_ns": None if stop is None else parse_time_ns(stop),
        "at_ns": None if at is None else parse_time_ns(at),
        "every_s": None if every is None else parse_duration_s(every),
    }
    from archiver import query as archived

    form = form or (output.suffix[1:] if output is not None else "") or "table"
    form = {"h5": "hdf5", "txt": "table"}.get(form, form)
    if form not in ("table", *archived.FORMATS):
        raise WrongUse(f"there is no format {form}: use table, {', '.join(archived.FORMATS)}")
    frame = archived.query(directory, attributes, max_points=max_points, gaps=gaps, **asked)
    if form == "table":
        text = _table(frame, None if output is not None else TABLE_ROWS)
        print(text) if output is None else output.write_text(text + "\n")
    else:
        sys.stdout.flush()
        archived.write(frame, form, output)
        sys.stdout.flush()


def _table(frame: "polars.DataFrame", most: int | None) -> str:
    """Return the newest `most` rows as text, and how many there are."""
    from archiver.query import as_text

    shown = frame if most is None else frame.tail(most)
    shown = shown.with_columns(as_text(shown["value"])) if shown.schema["value"].is_nested() else shown
    one_attribute = frame["attribute"].n_unique() <= 1
    columns = [name for name in shown.columns if not (name == "attribute" and one_attribute)]
    rows = [[_cell(value) for value in row] for row in shown.select(columns).iter_rows()]
    text = table(columns, rows)
    left_out = frame.height - shown.height
    return f"{text}\n({left_out} earlier rows; --format csv shows all)" if left_out else text


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{value:.7g}" if isinstance(value, float) else str(value)


@archive.command()
def status(
    context: typer.Context,
    as_json: JSON = False,
    every: Annotated[bool, typer.Option("--all", help="Every attribute, not only those with a problem.")] = False,
) -> None:
    """Show each archiver, and per attribute from where it comes and why it may be missing."""
    found = target(context)
    need_database(found)
    from bandoneon.cli.status import report
    from bandoneon.client import call

    now = report(found)
    archivers = now.archivers
    if not archivers:
        none = "this site has no archiver: add one under `archivers:` in the site file"
        raise CommandError("; ".join(now.problems) or none)
    for one in archivers:
        answers = one["state"] != "UNKNOWN"
        one["status"] = call(one["device"], "Status") if answers else None
        one["report"] = [json.loads(line) for line in call(one["device"], "AttributeReport")] if answers else []
    if as_json:
        print_json(archivers)
    else:
        for one in archivers:
            _show_archiver(one, every)
    if any(one["state"] not in HEALTHY for one in archivers):
        raise typer.Exit(1)


def _show_archiver(one: dict[str, Any], every: bool) -> None:
    if one["state"] == "UNKNOWN":
        print(f"{one['device']}  does not answer")
        return
    print(
        f"{one['device']}  {coloured(one['state'])}, {one['attributes']} attributes, "
        f"{one['events_per_s']:.1f} events/s, {duration(one['lag_s'])} behind, {one['lost']} lost"
    )
    if one["state"] not in HEALTHY:
        print("\n".join(f"  {line}" for line in one["status"].splitlines()))
    rows = one["report"]
    shown = rows if every else [row for row in rows if row.get("reason") or row.get("lost")]
    if shown:
        columns = ["name", "source", "state", "rows", "lost", "reason"]
        print(table(columns, [["–" if row.get(key) is None else row[key] for key in columns] for row in shown]))
    if len(shown) < len(rows):
        print(f"({len(rows) - len(shown)} attributes are well; --all shows them)")


@archive.command()
def verify(context: typer.Context, as_json: JSON = False) -> None:
    """Read every journal from its first byte and open every file; exit 1 when something is damaged."""
    directory = data_dir(context)
    from archiver import maintenance

    health = maintenance.verify(directory)
    if as_json:
        print_json(dataclasses.asdict(health))
    else:
        for journal in health.journals:
            segments = "1 segment" if journal.segments == 1 else f"{journal.segments} segments"
            print(
                f"{journal.archiver}: {journal.rows} rows of {journal.attributes} attributes in "
                f"{journal.commits} commits in {segments}, "
                f"{_when(journal.first_ns)} to {_when(journal.last_ns)}"
            )
        print(f"HDF5: {health.hdf5.files} files, {health.hdf5.live} of them still open or not compressed yet")
        for damage in [*(text for journal in health.journals for text in journal.damage), *health.hdf5.damage]:
            print(f"damaged: {damage}")
        for only_copy in health.hdf5.only_copies:
            print(f"only copy: {only_copy}")
        for replaced in health.hdf5.replaced:
            print(f"replaced: {replaced}")
        if health.whole:
            print("Everything is whole." if health.journals else f"There is no archive in {directory}.")
    if not health.whole:
        raise CommandError(
            "the journal lacks data, see above: keep the HDF5 files, they may be the only copy of what it lost"
            if health.hdf5.only_copies or any(journal.damage for journal in health.journals)
            else "HDF5 files are damaged, see above; the journal is whole: `archive rebuild` makes them again"
        )


def _when(time_ns: int | None) -> str:
    if time_ns is None:
        return "–"
    return datetime.fromtimestamp(time_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@archive.command()
def rebuild(
    context: typer.Context,
    archiver: Annotated[str | None, typer.Argument(metavar="[ARCHIVER]", show_default=False)] = None,
) -> None:
    """Delete the files of an archiver and make them again from its journal; the journal is not touched.

    The journal is read first: when it is damaged, the files stay as they are.
    Where its projector runs, that does the work in the background.
    """
    directory = data_dir(context)
    from archiver import maintenance
    from archiver.segments import archivers

    known = archivers(directory)
    if archiver is None and len(known) != 1:
        raise CommandError(f"name the archiver: {', '.join(known) or f'{directory} holds none'}")
    name = archiver or known[0]
    projector = _running_projector(context, name)
    if projector is not None:
        from bandoneon.client import call

        call(projector, "Rebuild")
        print(f"{projector} rebuilds the files of {name}; watch it with: read {projector}/lag_s {projector}/commit")
        return
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"Rebuilding from {name}", total=None)
        commits = maintenance.rebuild(
            directory, name, lambda done, size: progress.update(task, completed=done, total=size)
        )
    print(f"Rebuilt the files of {name} from {commits} commits.")


def _running_projector(context: typer.Context, archiver: str) -> str | None:
    """Return the projector of an archiver when it answers, since it holds the files."""
    name = archiver.replace("archive/", "project/", 1)
    try:
        need_database(target(context))
    except BandoneonError:
        return None
    import tango

    from bandoneon.tangolink.proxy import device

    try:
        device(name, 1.0).ping()
    except tango.DevFailed:
        return None
    return name
