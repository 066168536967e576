"""Puts the commands together; wrong use of one is answered with what is wrong and where its help is."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import typer.exceptions

from bandoneon.cli import archive, site, tools, values
from bandoneon.cli.options import Options, options_first
from bandoneon.cli.outcome import complain, program

_INTERRUPTED = 130
"""What typer makes of Ctrl-C: a shell's number for it, where ours is 1, as for everything that was not done."""

app = typer.Typer(
    help="Run and use a site of Tango instruments.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def everywhere(
    context: typer.Context,
    site_name: Annotated[
        str | None, typer.Option("--site", metavar="NAME", help="A site that is up here; default: the last one.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where archived data is; default: as last time.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    """Run and use a site of Tango instruments. The options may stand anywhere."""
    context.obj = Options(site_name, None if data is None else data.absolute(), debug)


for module in (site, values, archive, tools):
    module.add_to(app)


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit status; its own errors come out as they are."""
    try:
        command = typer.main.get_command(app)
        code = command.main(options_first(arguments), prog_name=program(), standalone_mode=False)
    except typer.exceptions.Abort:
        return 1
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # for which typer leaves with 1
            raise ended.__context__ from None
        raise
    except typer.exceptions.TyperException as error:
        complain_of_use(error)
        return int(getattr(error, "exit_code", 2))
    if code == _INTERRUPTED:
        return 1
    return code if isinstance(code, int) else 0


def complain_of_use(error: typer.exceptions.TyperException) -> None:
    """Say what is wrong about the command line, or, when there is nothing on it, show the help."""
    text = error.format_message()
    if text.startswith("Usage:"):
        print(text, file=sys.stderr)
        return
    end = "" if text.endswith((".", "?", "!")) else "."
    complain(f"{text}{end} Help: {program()} {wrong_command(error)}--help")


def wrong_command(error: typer.exceptions.TyperException) -> str:
    """Return the name of the command that was used wrongly, with a space behind it."""
    context = getattr(error, "ctx", None)
    parts = context.command_path.split(" ", 1) if context is not None else []
    return f"{parts[1]} " if len(parts) > 1 else ""
