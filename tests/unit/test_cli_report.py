"""`status` from the files that supervisor and archivers write every second."""

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bandoneon.cli.options import Target
from bandoneon.cli.report import FRESH_S, Report, archiver_file, from_files
from bandoneon.cli.status import show
from bandoneon.site.running import RunningSite

FIGURES = {"device": "archive/x/1", "state": "RUNNING", "attributes": 3, "events_per_s": 30.0, "lag_s": 0.1, "lost": 0}


def server(name: str, *devices: str, state: str = "running") -> dict[str, Any]:
    """A server as the supervisor reports it."""
    since = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="milliseconds")
    kept = {"name": name, "class": name.split("/")[0], "devices": list(devices), "state": state, "pid": 7}
    return {**kept, "restarts": 0, "since": since, "last_exit": None, "cpu_pct": 1.0}


SERVERS = [server("Meter/1", "lab/power/1"), server("Archiver/x_1", "archive/x/1")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Target]:
    """A site whose spawner listens and whose files were written just now."""
    run = tmp_path / "x"
    run.mkdir()
    site = RunningSite("x", "127.0.0.1:1", tmp_path / "data", run, host="local", hosts=["local"])
    (run / "report.json").write_text(json.dumps(SERVERS))
    archiver_file(run, "archive/x/1").write_text(json.dumps({**FIGURES, "more": 1}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as spawner:
        spawner.bind(str(site.socket))
        spawner.listen()
        yield Target(site.tango_host, site, site.data)


def run_of(target: Target) -> Path:
    """The run directory."""
    return target.need_running().run


def test_fresh_files_tell_everything(up: Target) -> None:
    """The documented shape, and no key more."""
    found = from_files(up)
    assert found is not None
    assert found.ready
    shown = found.as_json()
    assert shown["archivers"] == [FIGURES]
    assert list(shown) == ["site", "tango_host", "ready", "servers", "archivers"]
    keys = {"name", "class", "devices", "state", "pid", "restarts", "since", "last_exit"}
    assert [set(one) for one in found.as_json()["servers"]] == [keys, keys]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["report.json", "archive_x_1.json"])
@pytest.mark.parametrize("damage", ["missing", "old", "broken", "other"])
def test_a_file_that_cannot_be_trusted_leaves_it_to_tango(up: Target, name: str, damage: str) -> None:
    """Missing, older than 3 s, half written, or something else altogether."""
    path = run_of(up) / name
    match damage:
        case "missing":
            path.unlink()
        case "old":
            then = time.time() - FRESH_S - 0.5
            os.utime(path, (then, then))
        case "broken":
            path.write_text("[{")
        case _:
            path.write_text("7")
    assert from_files(up) is None


def test_figures_from_before_a_restart_are_not_shown(up: Target) -> None:
    """An archiver that started after its file was written has not written yet."""
    later = datetime.fromtimestamp(time.time() + 1, UTC).isoformat()
    (run_of(up) / "report.json").write_text(json.dumps([SERVERS[0], {**SERVERS[1], "since": later}]))
    assert from_files(up) is None


def test_an_archiver_that_does_not_run_is_unknown(up: Target) -> None:
    """Its last figures are no news."""
    (run_of(up) / "report.json").write_text(json.dumps([SERVERS[0], {**SERVERS[1], "state": "backing_off"}]))
    found = from_files(up)
    assert found is not None
    assert not found.ready
    assert found.archivers == [{**dict.fromkeys(FIGURES), "device": "archive/x/1", "state": "UNKNOWN"}]


def test_other_hosts_and_other_databases_are_asked_by_tango(up: Target) -> None:
    """The files tell only of this machine's servers."""
    site = up.need_running()
    site.hosts = ["local", "far"]
    assert from_files(up) is None
    site.hosts = []
    assert from_files(up) is None
    assert from_files(Target("elsewhere:1", None, site.data)) is None


def test_without_a_spawner_nothing_is_believed(up: Target) -> None:
    """The files of a site that just went down are fresh, and wrong."""
    up.need_running().socket.unlink()
    assert from_files(up) is None


@pytest.mark.parametrize(
    ("servers", "archivers", "ready"),
    [
        ([], [], False),
        (SERVERS, [FIGURES], True),
        ([*SERVERS, server("Bad/1", state="given_up")], [FIGURES], False),
        (SERVERS, [{**FIGURES, "state": "FAULT"}], False),
        (SERVERS, [{**FIGURES, "state": "ON"}], True),
    ],
)
def test_ready_means_that_all_is_well(servers: list[Any], archivers: list[Any], ready: bool) -> None:
    """Every server runs, every archiver is ON or RUNNING, and there is something at all."""
    assert Report("x", "", servers, archivers).ready is ready


def test_the_table_names_servers_and_archivers(up: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, a dash for what is not known."""
    found = from_files(up)
    assert found is not None
    found.archivers[0]["lag_s"] = None
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x at 127.0.0.1:1: ready"
    assert lines[2].split()[:4] == ["Meter/1", "running", "7", "0"]
    assert lines[-1].split() == ["archive/x/1", "RUNNING", "3", "30.0", "–", "0"]
