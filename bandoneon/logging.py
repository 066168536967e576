"""Structured logs: readable lines in a terminal, JSON otherwise; the same records feed what a server shows of itself.

`configure` is called once per process. Loggers carry context (`get_logger(device="lab/power/1")`); what the standard
library's `logging` gets goes the same way.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO, cast

import structlog

Sink = Callable[[MutableMapping[str, Any]], None]

_sinks: list[Sink] = []


def add_sink(sink: Sink) -> None:
    """Call `sink` with every record (`event`, `level`, `timestamp` and the context), from the thread that logs."""
    _sinks.append(sink)


def _to_sinks(_logger: object, _name: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for sink in _sinks:
        sink(record)
    return record


def configure(level: str = "INFO", **context: object) -> None:
    """Log records of `level` and above to standard error, each with `context`."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_context(context),
    ]
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    exceptions: list[Any] = [] if terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, _to_sinks, *exceptions, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lenient(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _to_sinks, *exceptions, renderer],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Lenient:
    """A stream that loses what it cannot write, since its disk is full, and never fails who writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _with_context(context: dict[str, object]) -> Callable[..., MutableMapping[str, Any]]:
    """Context variables do not reach threads that C++ made; so every record gets the process's context here."""

    def add(_logger: object, _name: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in context.items():
            record.setdefault(key, value)
        return record

    return add


def get_logger(**context: object) -> Any:
    """Return a logger whose records carry `context`."""
    return structlog.get_logger().bind(**context)
