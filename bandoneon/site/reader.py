"""Reads a site file: YAML with overrides from the environment, and errors that say where and what is allowed."""

import os
import types
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bandoneon.errors import SiteError
from bandoneon.site.model import Site

PREFIX = "BANDONEON__"
"""`BANDONEON__DATABASE__PORT=10001` overrides `database: {port: …}`; list items go by index or by name."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Override:
    """A value of the site file that the environment replaces; `before` is None when the file has none."""

    variable: str
    key: str
    before: object
    after: object


@dataclass(frozen=True)
class SiteFile:
    """A site that was read, with its file's name and the overrides that were applied."""

    site: Site
    path: Path
    overrides: list[Override] = field(default_factory=list[Override])
    places: "_Places | None" = None

    def located(self, error: SiteError) -> SiteError:
        """Return an error that knows its key (instruments.0.class) with its place in the file."""
        if self.places is None or not error.key:
            return error
        path = tuple(int(part) if part.isdigit() else part for part in error.key.split("."))
        return self.places.error(path, str(error).removeprefix(f"{error.key}: "))


def read_site(path: Path, environment: Mapping[str, str] | None = None) -> SiteFile:
    """Read a site file; raise SiteError saying file, line, key and what is allowed.

    `environment` holds the overrides (default: the process's own).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SiteError(f"cannot be read ({error.strerror}): give the path of a site file", file=str(path)) from None
    except UnicodeDecodeError:
        raise SiteError("is no text: a site file is YAML in UTF-8", file=str(path)) from None
    data, lines = _load(text, str(path))
    where = _Places(str(path), lines)
    overrides = _override(data, os.environ if environment is None else environment, where)
    try:
        site = Site.model_validate(data)
    except ValidationError as error:
        raise _first(_located(error, data, where)) from None
    wrong = [where.error(key, sentence) for key, sentence in site.problems()]
    if wrong:
        raise _first(wrong)
    return SiteFile(site, path, overrides, where)


def _located(error: ValidationError, data: object, where: "_Places") -> list[SiteError]:
    """Return one error per place: of a value that may be of several types pydantic reports each."""
    found: dict[KeyPath, SiteError] = {}
    for one in error.errors():
        path = _path(one, data)
        sentence = _sentence(one) if path not in found else "must be text, a number, true or false, or a list of these"
        found[path] = where.error(path, sentence)
    return list(found.values())


def _first(errors: list[SiteError]) -> SiteError:
    """Return the first error, with the others on lines of their own behind it."""
    first = errors[0]
    if len(errors) > 1:
        first.args = ("\n".join(str(error) for error in errors),)
    return first


@dataclass
class _Places:
    """Where keys are: lines of the file, and environment variables that replaced them."""

    file: str
    lines: dict[KeyPath, int]
    variables: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])

    def error(self, path: KeyPath, message: str) -> SiteError:
        if path in self.variables:
            return SiteError(message, file=self.variables[path], key=_dotted(path))
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return SiteError(message, file=self.file, line=self.lines.get(known, 1), key=_dotted(path))


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)


def _load(text: str, file: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Return the file's content and the line of every key; refuse duplicate keys."""
    loader: Any = yaml.SafeLoader(text)
    lines: dict[KeyPath, int] = {}
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise SiteError("a site file is a mapping that begins with `site: NAME`", file=file, line=1)
        _walk(node, (), lines, file)
        data = cast("dict[str, Any]", loader.construct_document(node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise SiteError(f"is no YAML: {error.problem or error.context}", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise SiteError(f"is no YAML: {error}", file=file) from None
    except RecursionError:
        raise SiteError("contains itself: an anchor (&) must not be used inside its own value", file=file) from None
    finally:
        loader.dispose()
    return data, lines


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise SiteError(f"is already on line {seen[key]}; keep one", file=file, line=line, key=key)
            seen[key] = line
            lines[*path, key] = line
            _walk(value_node, (*path, key), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(cast("list[yaml.Node]", node.value)):
            lines[*path, n] = item.start_mark.line + 1
            _walk(item, (*path, n), lines, file)


def _override(data: dict[str, Any], environment: Mapping[str, str], where: _Places) -> list[Override]:
    """Apply `BANDONEON__A__B=…` to the file's content, in the order of the variables' names."""
    done: list[Override] = []
    for variable in sorted(name for name in environment if name.upper().startswith(PREFIX)):
        path: list[str | int] = []
        target: Any = data
        parts = variable[len(PREFIX) :].split("__")
        for n, part in enumerate(parts):
            path.append(_key(cast("object", target), part, variable))
            if n < len(parts) - 1:
                if isinstance(target, dict):
                    cast("dict[str, Any]", target).setdefault(cast("str", path[-1]), {})
                target = cast("Any", target)[path[-1]]
        before = cast("dict[str, Any]", target).get(cast("str", path[-1])) if isinstance(target, dict) else None
        try:
            after = yaml.safe_load(environment[variable])
        except yaml.YAMLError:
            after = environment[variable]
        target[path[-1]] = after
        where.variables[tuple(path)] = variable
        done.append(Override(variable, _dotted(tuple(path)), before, after))
    return done


def _key(target: object, part: str, variable: str) -> str | int:
    """Return the key or index that `part` of an override's name stands for."""
    if isinstance(target, list):
        items = cast("list[Any]", target)
        named = [
            (n, cast("dict[str, Any]", item).get("name", "")) for n, item in enumerate(items) if isinstance(item, dict)
        ]
        names = {_variable_part(name): n for n, name in named}
        if part.isdigit() and int(part) < len(items):
            return int(part)
        if part.upper() in names:
            return names[part.upper()]
        known = ", ".join([*(str(n) for n in range(len(items))), *filter(None, names)])
        raise SiteError(f"{part} is none of the list's items: {known or 'it has none'}", file=variable)
    if not isinstance(target, dict):
        raise SiteError(f"{part} is below a single value; shorten the variable's name", file=variable)
    keys = {_variable_part(key): str(key) for key in cast("dict[str, Any]", target)}
    return keys.get(part.upper(), part.lower())


def _variable_part(name: object) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in str(name)).upper()


def _path(error: ErrorDetails, data: object) -> KeyPath:
    """Return the part of an error's location that exists in the file (pydantic adds names of union members)."""
    path: list[str | int] = []
    here = data
    for part in error["loc"]:
        if isinstance(here, dict) and (part in here or error["type"] == "missing"):
            here = cast("dict[Any, Any]", here).get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(cast("list[Any]", here)):
            here = cast("list[Any]", here)[part]
        else:
            break
        path.append(part)
    return tuple(path)


def _sentence(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key; allowed here are: {', '.join(_allowed(error['loc'][:-1]))}"
        case "missing":
            return "is missing"
        case "value_error":
            return str(error.get("ctx", {}).get("error", error["msg"]))
        case "string_pattern_mismatch":
            pattern = error.get("ctx", {}).get("pattern", "")
            return f"{error['input']!r} does not fit the pattern {pattern}"
        case _:
            message = error["msg"].removeprefix("Input should be ")
            found = "" if isinstance(error["input"], dict | list) else f" and not {error['input']!r}"
            return f"must be {message}{found}"


def _allowed(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys the model allows at `path`."""
    model: type[BaseModel] = Site
    for part in path:
        for name, info in model.model_fields.items():
            if part in (name, info.alias):
                inner = _model_in(info.annotation)
                model = inner if inner is not None else model
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation like list[Model] | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, dict, Union, types.UnionType):
        for inner in get_args(annotation):
            found = _model_in(inner)
            if found is not None:
                return found
    return None
