"""Commands about values: read, write, call, watch."""

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from bandoneon.cli.options import json_text, need_database, print_json, target
from bandoneon.cli.words import clock, duration

if TYPE_CHECKING:
    from bandoneon.client import Reading

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ATTRIBUTES = Annotated[
    list[str], typer.Argument(metavar="ATTR", help="domain/family/member/attribute", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(no_args_is_help=True)(read)
    app.command(no_args_is_help=True, context_settings={"ignore_unknown_options": True})(write)
    app.command(no_args_is_help=True, context_settings={"ignore_unknown_options": True})(call)
    app.command(no_args_is_help=True)(watch)


def read(context: typer.Context, attributes: ATTRIBUTES, as_json: JSON = False) -> None:
    """Read attributes: value, unit, quality and age."""
    need_database(target(context))
    from bandoneon import client

    readings = client.read(*attributes)
    if as_json:
        print_json([as_object(one) for one in readings])
    else:
        width = max(len(name) for name in attributes)
        for one in readings:
            if not one.error:
                print(line(one, width if len(attributes) > 1 else 0))
    for one in readings:
        if one.error:
            print(f"bandoneon: {one.name}: {one.error}", file=sys.stderr)
    if any(one.error for one in readings):
        raise typer.Exit(1)


def write(
    context: typer.Context,
    attribute: Annotated[str, typer.Argument(metavar="ATTR", help="domain/family/member/attribute")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A number, word, true or false; arrays like [1, 2].")],
    as_json: JSON = False,
) -> None:
    """Write an attribute; the device may refuse."""
    need_database(target(context))
    from bandoneon import client

    written = client.write(attribute, value)
    if as_json:
        print_json({"name": attribute, "written": written})


def call(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="domain/family/member")],
    command: Annotated[str, typer.Argument(metavar="COMMAND")],
    argument: Annotated[str | None, typer.Argument(metavar="[ARG]", show_default=False)] = None,
    as_json: JSON = False,
) -> None:
    """Run a command of a device and print its result, if it has one."""
    need_database(target(context))
    from bandoneon import client

    result = client.call(device, command, argument)
    if as_json:
        print_json(result)
    elif isinstance(result, list):
        for item in result:
            print(item)
    elif result is not None:
        print(result)


def watch(context: typer.Context, attributes: ATTRIBUTES, as_json: JSON = False) -> None:
    """Show each change of attributes until Ctrl-C."""
    need_database(target(context))
    from bandoneon import client

    width = max(len(name) for name in attributes)
    try:
        for one in client.watch(*attributes):
            if as_json:
                print(json_text(as_object(one)), flush=True)
            elif one.error:
                print(f"{clock(time.time())}  {one.name:<{width}}  {one.error}", flush=True)
            else:
                print(f"{clock(one.time_ns / 1e9)}  {line(one, width, age=False)}", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def line(one: "Reading", name_width: int, *, age: bool = True) -> str:
    """Return a reading as a line of text; the name is in front when `name_width` is not 0."""
    from bandoneon.client.texts import show

    text = f"{show(one.value, one.format)} {one.unit}".rstrip()
    if name_width:
        text = f"{one.name:<{name_width}}  {text}"
    return f"{text}  {one.quality}, {duration(one.age_s)} ago" if age else f"{text}  {one.quality}"


def as_object(one: "Reading") -> dict[str, object]:
    """Return a reading as JSON shows it."""
    shown = dataclasses.asdict(one)
    del shown["format"]
    return {**shown, "age_s": None if one.error else round(one.age_s, 3)}
