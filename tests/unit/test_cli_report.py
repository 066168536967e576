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

from bandoneon.cli.archive import _show_archiver
from bandoneon.cli.options import CommandError, Target
from bandoneon.cli.report import FRESH_S, Report, archiver_file, from_files
from bandoneon.cli.status import report, show
from bandoneon.site.running import RunningSite
from device_servers.supervisor.spawner import start_ticks

FIGURES = {"device": "archive/x/1", "state": "RUNNING", "attributes": 3, "events_per_s": 30.0, "lag_s": 0.1, "lost": 0}


def server(name: str, *devices: str, state: str = "running") -> dict[str, Any]:
    """A server as the supervisor reports it."""
    since = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="milliseconds")
    kept = {"name": name, "class": name.split("/")[0], "devices": list(devices), "state": state, "pid": 7}
    return {**kept, "restarts": 0, "since": since, "last_exit": None, "cpu_pct": 1.0}


UNKNOWN = {**dict.fromkeys(FIGURES), "device": "archive/x/1", "state": "UNKNOWN"}

SERVERS = [server("Meter/1", "lab/power/1"), server("Archiver/x_1", "archive/x/1")]


def write_report(run: Path, servers: list[Any], problem: str = "") -> None:
    """Write what a supervisor writes."""
    (run / "report.json").write_text(json.dumps({"problem": problem, "servers": servers}))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Target]:
    """A site whose spawner listens and whose files were written just now."""
    run = tmp_path / "x"
    run.mkdir()
    site = RunningSite("x", "127.0.0.1:1", tmp_path / "data", run, host="local", hosts=["local"])
    write_report(run, SERVERS)
    archiver_file(run, "archive/x/1").write_text(json.dumps({**FIGURES, "more": 1}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as spawner:
        spawner.bind(str(site.socket))
        spawner.listen()
        yield Target(site.tango_host, site, site.data)


def run_of(target: Target) -> Path:
    """The run directory."""
    return target.need_running().run


def damage(path: Path, how: str) -> None:
    """Make a file one that cannot be trusted."""
    match how:
        case "missing":
            path.unlink()
        case "old":
            then = time.time() - FRESH_S - 0.5
            os.utime(path, (then, then))
        case "broken":
            path.write_text("[{")
        case _:
            path.write_text("7")


DAMAGES = pytest.mark.parametrize("how", ["missing", "old", "broken", "other"])


def test_fresh_files_tell_everything(up: Target) -> None:
    """The documented shape, and no key more."""
    found = report(up)
    assert found.ready
    shown = found.as_json()
    assert shown["archivers"] == [FIGURES]
    assert list(shown) == ["site", "tango_host", "ready", "servers", "archivers"]
    keys = {"name", "class", "devices", "state", "pid", "restarts", "since", "last_exit"}
    assert [set(one) for one in found.as_json()["servers"]] == [keys, keys]  # type: ignore[attr-defined]


@DAMAGES
def test_without_a_report_the_spawners_children_are_unknown(
    up: Target, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has its shape all the same, the site is not ready, and a sentence says whose report is missing."""
    damage(run_of(up) / "report.json", how)
    me = {"pid": os.getpid(), "started": start_ticks(os.getpid()), "started_ns": 1}
    children = {name: {**me, "request": {"level": level}} for name, level in (("Supervisor/local", 0), ("Meter/1", 2))}
    (run_of(up) / "state.json").write_text(json.dumps({"spawner": 1, "children": children}))
    found = report(up)
    assert not found.ready
    (one,) = found.as_json()["servers"]  # type: ignore[misc]
    assert list(one) == ["name", "class", "devices", "state", "pid", "restarts", "since", "last_exit"]
    assert (one["name"], one["state"], one["pid"]) == ("Meter/1", "unknown", os.getpid())
    assert "the supervisor of local has written no report for 3 s" in found.problems[0]
    show(found)
    assert capsys.readouterr().out.splitlines()[2].split()[:2] == ["Meter/1", "unknown"]


@DAMAGES
def test_without_an_archivers_figures_it_is_unknown(up: Target, how: str) -> None:
    """Missing, older than 3 s, half written, or something else altogether."""
    damage(archiver_file(run_of(up), "archive/x/1"), how)
    assert report(up).archivers == [UNKNOWN]


def test_figures_from_before_a_restart_are_not_shown(up: Target) -> None:
    """An archiver that started after its file was written has not written yet."""
    later = datetime.fromtimestamp(time.time() + 1, UTC).isoformat()
    write_report(run_of(up), [SERVERS[0], {**SERVERS[1], "since": later}])
    assert report(up).archivers == [UNKNOWN]


def test_a_supervisor_that_cannot_supervise_is_a_problem(up: Target) -> None:
    """Every server runs, and yet nothing is well: the database does not answer, or the spawner is gone."""
    write_report(run_of(up), SERVERS, "no spawner\nno database")
    found = report(up)
    assert (found.problems, found.ready) == (["no spawner", "no database"], False)


def test_an_archiver_that_does_not_run_is_unknown(up: Target) -> None:
    """Its last figures are no news."""
    write_report(run_of(up), [SERVERS[0], {**SERVERS[1], "state": "backing_off"}])
    found = report(up)
    assert not found.ready
    assert found.archivers == [UNKNOWN]


@pytest.mark.parametrize("hosts", [["local", "far"], []])
def test_servers_of_other_hosts_are_asked_by_tango(up: Target, hosts: list[str]) -> None:
    """The files tell only of this machine's servers: where the database does not answer the rest is a problem."""
    up.need_running().hosts = hosts
    found = report(up)
    assert not found.ready
    assert found.servers == SERVERS
    assert "the database of site x does not answer" in found.problems[0]


def test_a_database_of_somebody_else_is_asked_by_tango(up: Target) -> None:
    """Without a site of here there are no files."""
    with pytest.raises(CommandError, match=r"no Tango database answers at TANGO_HOST 127\.0\.0\.1:1"):
        report(Target(up.tango_host, None, up.data))


def test_without_a_spawner_nothing_is_believed(up: Target) -> None:
    """The files of a site that just went down are fresh, and wrong."""
    up.need_running().socket.unlink()
    with pytest.raises(CommandError, match="site x is not up"):
        report(up)


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


@pytest.mark.parametrize(
    ("name", "last_exit", "ready"),
    [("Once/1", "code 0", True), ("Once/1", "code 1", False), ("Other/1", "code 0", False)],
)
def test_a_server_that_ended_as_it_may_is_no_lack(name: str, last_exit: str, ready: bool) -> None:
    """A temporary server that has done its work is stopped, and the site ready all the same."""
    ended = {**server(name, state="stopped"), "last_exit": last_exit}
    assert Report("x", "", [*SERVERS, ended], [FIGURES], frozenset({"Once/1"})).ready is ready


def test_what_is_not_known_is_not_ready() -> None:
    """A problem counts although every server that is known runs."""
    assert not Report("x", "", SERVERS, [FIGURES], problems=["the supervisor far does not answer"]).ready


def test_the_table_names_servers_and_archivers(up: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, a dash for what is not known."""
    found = from_files(up.need_running())
    found.archivers[0]["lag_s"] = None
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x at 127.0.0.1:1: ready"
    assert lines[2].split()[:4] == ["Meter/1", "running", "7", "0"]
    assert lines[-1].split() == ["archive/x/1", "RUNNING", "3", "30.0", "–", "0"]


def test_a_server_that_fails_is_shown_with_its_last_words(up: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever is called at night reads at once why, and where there is more."""
    write_report(run_of(up), [{**server("Meter/1", state="given_up"), "last_lines": ["first", "no such port"]}])
    show(report(up))
    assert "Meter/1 said last: no such port (more: ./run logs Meter/1)\n" in capsys.readouterr().out


def test_archive_status_says_why_an_archiver_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    """The device's own sentences, beneath its figures; none where all is well."""
    figures = {"device": "archive/demo/1", "attributes": 1, "events_per_s": 0.0, "lag_s": 0.0, "lost": 3, "report": []}
    _show_archiver(figures | {"state": "ALARM", "status": "3 readings were lost.\nThe disk is slow."}, every=False)
    assert capsys.readouterr().out.splitlines()[1:] == ["  3 readings were lost.", "  The disk is slow."]
    _show_archiver(figures | {"state": "RUNNING", "status": "Archiving 1 attributes."}, every=False)
    assert "Archiving" not in capsys.readouterr().out


def test_a_device_that_needs_a_person_is_named(up: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """Every server runs, and the cable of an instrument is out: the first line says that there is something to read."""
    ill = [{"device": "lab/power/1", "state": "UNKNOWN", "status": "The line is silent.\nMore."}]
    write_report(run_of(up), [{**SERVERS[0], "ill": ill}, SERVERS[1]])
    show(report(up))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x at 127.0.0.1:1: ready, 1 of its devices needs attention"
    assert "lab/power/1 is UNKNOWN: The line is silent." in lines
