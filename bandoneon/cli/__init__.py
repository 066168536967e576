"""The command line, `./run` in a checkout and `bandoneon` when installed; what is heavy is loaded when needed."""

import io
import sys


def main() -> None:
    """Run the command line and leave with its exit status: 0 done, 1 failed, 2 wrong use."""
    from bandoneon.cli.outcome import outcome

    arguments = sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what is said is seen at once, also through a pipe or in a file
    sys.exit(outcome(lambda: _run(arguments), debug="--debug" in arguments))


def _run(arguments: list[str]) -> int:
    """Run a command; `status` without typer, whose conversion of arguments takes longer than the answer."""
    from bandoneon.cli import status

    asked = status.asked(arguments)
    if asked is not None:
        return status.status(*asked)
    from bandoneon.cli.app import run

    return run(arguments)
