"""The options of all commands, and the site they lead to."""

import json
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bandoneon.errors import BandoneonError, SiteError
from bandoneon.site.reach import PROBE_TIMEOUT_S, address, reach
from bandoneon.site.running import RunningSite, default_data, default_root

if TYPE_CHECKING:
    import typer

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "site.yaml"
"""The site file of `up`, `plan` and `apply` when none is named."""

WITH_VALUE = {"--site": "the name of a site", "--data": "a directory"}
FLAGS = ("--debug",)


class CommandError(BandoneonError):
    """A command that cannot be done; says what to do instead."""


class WrongUse(CommandError):
    """A command line that makes no sense: exit status 2."""


@dataclass(frozen=True)
class Options:
    """`--site`, `--data` and `--debug`."""

    site: str | None = None
    data: Path | None = None
    debug: bool = False


def options_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the options of all commands in front, wherever they stood.

    What follows `test` belongs to pytest, and what follows `--` is no option. Raises WrongUse without a value.
    """
    first: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--" or (argument == "test" and not rest):
            rest += [argument, *waiting]
            break
        if argument in WITH_VALUE:
            if not waiting:
                raise WrongUse(f"{argument} needs {WITH_VALUE[argument]} behind it")
            first += [argument, waiting.pop(0)]
        elif argument in FLAGS or argument.startswith(tuple(f"{name}=" for name in WITH_VALUE)):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


@dataclass(frozen=True)
class Target:
    """What a command works on: a database's address, a data directory, and the running site if it is one of here."""

    tango_host: str
    running: RunningSite | None
    data: Path

    def need_running(self) -> RunningSite:
        """Return the site that is up on this machine; raise when the database is somebody else's."""
        if self.running is None:
            raise CommandError(f"TANGO_HOST is {self.tango_host}, and no site with that database is up here")
        return self.running


def target(context: "typer.Context") -> Target:
    """Return what the command works on, and make it the TANGO_HOST of this process."""
    return found_by(context.obj)


def found_by(options: Options) -> Target:
    """Return what a command with these options works on, and make it the TANGO_HOST of this process.

    `--site` wins over TANGO_HOST, and that over the site last brought up. Raises SiteError when there is none.
    """
    wanted = os.environ.get("TANGO_HOST")
    running: RunningSite | None = None
    try:
        running = RunningSite.find(default_root(), options.site)
    except SiteError:
        if options.site is not None or not wanted:
            raise
    if options.site is None and wanted and running is not None and running.tango_host != wanted:
        running = None
    tango_host = wanted or "" if running is None else running.tango_host
    os.environ["TANGO_HOST"] = tango_host
    data = options.data or (running.data if running is not None else default_data("demo"))
    return Target(tango_host, running, data)


def data_dir(context: "typer.Context") -> Path:
    """Return where archived data is: `--data`, else that of the site, which may be down, else `$BANDONEON_DATA`."""
    options: Options = context.obj
    if options.data is not None:
        return options.data
    try:
        return target(context).data
    except SiteError as error:
        if options.site is None and "BANDONEON_DATA" in os.environ:
            return default_data("")
        raise SiteError(f"{error}, or name the directory of the data by --data") from None


def need_database(found: Target) -> None:
    """Raise when the database does not answer: sooner, and clearer, than Tango's own error."""
    try:
        place = address(found.tango_host)
    except ValueError:
        raise CommandError(f"TANGO_HOST is {found.tango_host!r}: it has to be NAME:PORT") from None
    match reach(place):
        case "answers":
            return
        case "silent":
            what = "an embedded one is started anew within some 10 s, try again then; another one: start it anew"
            raise CommandError(
                f"the Tango database at {found.tango_host} does not answer within {PROBE_TIMEOUT_S:g} s, its server "
                f"hangs: {'start it anew' if found.running is None else what}"
            )
        case "unreachable":
            if found.running is None:
                raise CommandError(f"no Tango database answers at TANGO_HOST {found.tango_host}")
            if not answers(found.running.socket):
                raise CommandError(
                    f"site {found.running.site} is not up: bring it up with `{found.running.up_command}`"
                )
            raise CommandError(
                f"the database of site {found.running.site} does not answer at {found.tango_host}; "
                "it is being restarted: try again, or see `./run logs DataBaseds/2`"
            )


def answers(path: Path) -> bool:
    """Whether a process listens on the spawner's socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def print_json(value: object) -> None:
    """Print a value as JSON, for people too."""
    print(json_text(value, indent=2))


def json_text(value: object, indent: int | None = None) -> str:
    """Return a value as JSON; what is no finite number is null, for JSON has no word for it."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in cast("dict[str, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in cast("Sequence[object]", value)]
    return value
