"""A site to archive: a server of every type, a stream, an archiver and its projector, as real processes."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.all_types import COMBINATIONS
from tests.journals import Written
from tests.support import Process, TangoDatabase, wait_until

TYPES = "test/types/1"
NUMBER = f"{TYPES}/number"
SILENT = f"{TYPES}/silent"
STREAM = "stream/alltypes/1"
BATCH = f"{STREAM}/batch"
ARCHIVER = "archive/test/1"
PROJECTOR = "project/test/1"
ALL = len(COMBINATIONS) + 2
"""Every type and format, the number, and what the stream carries."""


def register(database: TangoDatabase) -> TangoDatabase:
    """Register everything in the database."""
    database.register("AllTypes/1", {TYPES: "AllTypes", STREAM: "Stream"}, {STREAM: {"carries": TYPES}})
    database.register("Archiver/test_1", {ARCHIVER: "Archiver"}, {ARCHIVER: {"attributes": [f"{TYPES}/*"]}})
    database.register("Projector/test_1", {PROJECTOR: "Projector"}, {PROJECTOR: {"archiver": ARCHIVER}})
    return database


@contextmanager
def types_server(site: TangoDatabase) -> Iterator[Process]:
    """The server of AllTypes and Stream, ready."""
    arguments = [sys.executable, "-m", "tests.all_types_server", "1"]
    with Process(arguments, site.directory / "AllTypes.log") as process:
        site.wait_for_device(TYPES, process)
        yield process


@contextmanager
def archiver(
    site: TangoDatabase, data_dir: Path, log: Path | None = None, *, subscribed: int = ALL, before: str = ""
) -> Iterator[Process]:
    """The archiver, when it archives so many attributes; code may run before. It ends well, unless it is killed."""
    code = f"{before}\nimport runpy\nrunpy.run_module('device_servers', run_name='__main__', alter_sys=True)"
    arguments = [sys.executable, "-c", code, "Archiver", "test_1"]
    environment = {"BANDONEON_DATA": str(data_dir)}
    with Process(arguments, log or site.directory / "Archiver.log", environment) as process:
        site.wait_for_device(ARCHIVER, process)
        wait_until(lambda: archived(site) == subscribed, 10, "it has subscribed")
        yield process
    assert process.popen.returncode in (0, -signal.SIGKILL), process.output


@contextmanager
def projector(site: TangoDatabase, data_dir: Path) -> Iterator[Process]:
    """The projector of the archiver, ready."""
    environment = {"BANDONEON_DATA": str(data_dir)}
    with site.server("Projector", "test_1", environment, wait_for=PROJECTOR) as process:
        yield process
    assert process.popen.returncode in (0, -signal.SIGKILL), process.output


def report(site: TangoDatabase) -> list[dict[str, Any]]:
    """What the archiver says of each attribute."""
    return [json.loads(line) for line in site.device(ARCHIVER).AttributeReport()]


def archived(site: TangoDatabase) -> int:
    """How many attributes are being archived."""
    return sum(one["state"] == "archived" for one in report(site))


def status_of(site: TangoDatabase, name: str) -> dict[str, Any]:
    """What the archiver says of one attribute."""
    (found,) = (one for one in report(site) if one["name"] == name)
    return found


def written(data_dir: Path) -> Written:
    """The journal of the archiver."""
    return Written(data_dir / "journal" / ARCHIVER)
