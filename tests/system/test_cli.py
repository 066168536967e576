"""Every command as a person types it, with the demonstration site up: what it prints, and how it ends."""

import contextlib
import csv
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import h5py
import polars
import pyarrow.ipc
import pytest
import serial

from tests.support import REPOSITORY, free_port, wait_until
from tests.system.commands import Background, interrupted, refused
from tests.system.conftest import Site

POWER = "lab/power/1/power"
ROTATOR = "lab/rotator/1"


def at_rest(site: Site) -> None:
    """Wait until the rotator has arrived."""
    wait_until(lambda: str(site.device(ROTATOR).State()) == "ON", 15, "the rotator is at rest")


def test_read_prints_value_unit_quality_and_age(site: Site) -> None:
    """One attribute is one line; several have their names in front."""
    words = site.text("read", POWER).split()
    assert float(words[0]) > 0
    assert words[1:3] == ["W", "VALID,"]
    lines = site.text("read", POWER, f"{ROTATOR}/State").splitlines()
    assert [line.split()[0] for line in lines] == [POWER, f"{ROTATOR}/State"]


def test_read_json_has_the_reading(site: Site) -> None:
    """Name, value, unit, quality, time and age of each attribute; enums are words."""
    power, chosen = json.loads(site.text("read", "--json", POWER, "lab/power/1/filter"))
    assert power.keys() == {"name", "value", "unit", "quality", "time_ns", "error", "age_s"}
    assert (power["name"], power["unit"], power["quality"], power["error"]) == (POWER, "W", "VALID", "")
    assert power["age_s"] < 5
    assert chosen["value"] in ("SLOW", "MEDIUM", "FAST")


def test_what_can_be_read_is_shown_beside_what_cannot(site: Site) -> None:
    """The value on standard output, the reason on standard error, exit status 1."""
    done = site.command("read", POWER, "lab/power/1/nope", "lab/power/9/power")
    assert done.returncode == 1
    assert POWER in done.stdout
    assert "bandoneon: lab/power/1/nope: lab/power/1 has no such attribute" in done.stderr
    assert "bandoneon: lab/power/9/power: there is no device lab/power/9 in the Tango database" in done.stderr


def test_write_takes_numbers_words_and_negative_values(site: Site) -> None:
    """What was written is read back from the instrument."""
    site.text("write", "lab/power/1/filter", "slow")
    wait_until(lambda: site.text("read", "lab/power/1/filter").split()[0] == "SLOW", 15, "the filter is slow")
    site.text("write", "lab/power/1/filter", "MEDIUM")
    assert json.loads(site.text("write", "lab/power/1/wavelength", "632", "--json")) == {
        "name": "lab/power/1/wavelength",
        "written": 632.0,
    }
    site.text("write", f"{ROTATOR}/position", "-5")
    at_rest(site)
    assert float(site.text("read", f"{ROTATOR}/position").split()[0]) == pytest.approx(-5, abs=0.1)


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        (f"{ROTATOR}/position", "1e9", "lab/rotator/1/position 1000000000.0 deg is outside what is allowed: from "),
        ("lab/power/1/wavelength", "fast", "'fast' is no number"),
        ("lab/power/1/filter", "quick", "'quick' is none of SLOW, MEDIUM, FAST"),
        (POWER, "1", "lab/power/1/power cannot be written: it is read-only"),
        ("lab/power/9/power", "1", "there is no device lab/power/9 in the Tango database"),
        ("lab/power/1", "1", "lab/power/1 is a device: add the attribute, like lab/power/1/State"),
        ("power", "1", "power is no attribute: it has to be domain/family/member/attribute"),
    ],
)
def test_a_write_that_cannot_be_is_one_sentence(site: Site, attribute: str, value: str, said: str) -> None:
    """Exit status 1, and what is allowed."""
    assert said in refused(site, 1, "write", attribute, value)


def test_call_runs_commands(site: Site) -> None:
    """With and without argument, with and without result."""
    assert site.text("call", "lab/power/1", "State") == "ON\n"
    assert json.loads(site.text("call", "lab/elliptec/1", "Discover", "--json")) == ["2", "3"]
    at_rest(site)
    before = float(site.text("read", f"{ROTATOR}/position").split()[0])
    assert site.text("call", ROTATOR, "MoveRelative", "-3.5") == ""
    at_rest(site)
    assert float(site.text("read", f"{ROTATOR}/position").split()[0]) == pytest.approx(before - 3.5, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lab/power/1", "Explode"], "lab/power/1 has no command Explode"),
        (["lab/power/1", "Zero", "1"], "Zero of lab/power/1 takes no argument"),
        ([ROTATOR, "MoveRelative"], "MoveRelative of lab/rotator/1 needs an argument (DevDouble)"),
        ([ROTATOR, "MoveRelative", "far"], "'far' is no number"),
        (["lab/power/1", "Exchange", "5 Ω"], "'Ω' is none of the letters Tango has (Latin-1)"),
        (["lab/power", "State"], "lab/power is no device: it has to be domain/family/member"),
        (["lab/power/9", "State"], "there is no device lab/power/9 in the Tango database"),
    ],
)
def test_a_call_that_cannot_be_is_one_sentence(site: Site, arguments: list[str], said: str) -> None:
    """Exit status 1."""
    assert said in refused(site, 1, "call", *arguments)


def test_watch_shows_changes_until_interrupted(site: Site, tmp_path: Path) -> None:
    """The present value at once, then each change; Ctrl-C is its ordinary end."""
    with Background(site, tmp_path / "watch", "watch", "--json", f"{ROTATOR}/position", POWER) as watch:
        wait_until(lambda: ROTATOR in watch.output and POWER in watch.output, 15, "the present values")
        site.text("write", f"{ROTATOR}/position", "12")
        wait_until(lambda: '"value": 12.0' in watch.output or '"value": 11.99' in watch.output, 15, "the new position")
        assert interrupted(watch) == 0
        assert "Traceback" not in watch.errors
        readings = [json.loads(line) for line in watch.output.splitlines()]
    assert {reading["name"] for reading in readings} == {f"{ROTATOR}/position", POWER}
    with Background(site, tmp_path / "table", "watch", POWER) as watch:
        wait_until(lambda: " W  VALID" in watch.output, 15, "a line")
        assert interrupted(watch) == 0


def test_watch_of_an_unknown_device_is_refused(site: Site) -> None:
    """It does not wait for a device the database does not know."""
    assert "there is no device lab/power/9" in refused(site, 1, "watch", "lab/power/9/power")


@pytest.fixture(scope="module")
def interval(site: Site) -> list[str]:
    """The times of eleven rows of the power that are archived for good."""

    def times() -> list[str]:
        rows = json.loads(site.text("query", POWER, "--last", "1h", "--format", "json"))
        return [row["time"] for row in rows[:11]]

    return wait_until(lambda: times() if len(times()) == 11 else None, 20, "eleven rows")


def rows_of_csv(path: Path) -> int:
    """Rows a foreign reader finds in a csv file."""
    return polars.read_csv(path, try_parse_dates=True).height


def rows_of_json(path: Path) -> int:
    """Rows a foreign reader finds in a JSON file."""
    return len(json.loads(path.read_text()))


def rows_of_parquet(path: Path) -> int:
    """Rows another engine finds in a Parquet file."""
    (found,) = duckdb.sql(f"select count(value) from '{path}' where quality = 'VALID'").fetchall()[0:1]
    return int(found[0])


def rows_of_arrow(path: Path) -> int:
    """Rows the Arrow library finds in an IPC file."""
    with pyarrow.ipc.open_file(path) as reader:
        return reader.read_all().num_rows


def rows_of_hdf5(path: Path) -> int:
    """Values the HDF5 library finds anywhere in a file."""
    sizes: list[int] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, one: sizes.append(one.shape[0]) if name.endswith("value") else None)
    return max(sizes)


@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ("csv", rows_of_csv),
        ("json", rows_of_json),
        ("parquet", rows_of_parquet),
        ("arrow", rows_of_arrow),
        ("hdf5", rows_of_hdf5),
    ],
)
def test_what_was_queried_opens_in_foreign_programs(
    site: Site, tmp_path: Path, interval: list[str], form: str, rows: Callable[[Path], int]
) -> None:
    """The same closed interval has the same rows in every format."""
    path = tmp_path / f"rows.{form}"
    site.text("query", POWER, "--start", interval[0], "--stop", interval[-1], "--format", form, "-o", str(path))
    assert rows(path) == len(interval)


def test_csv_has_the_documented_columns(site: Site) -> None:
    """One attribute needs no name; several have it; times are UTC to the nanosecond."""
    wait_until(lambda: len(site.text("query", POWER, "--last", "1h", "--format", "csv").splitlines()) > 2, 15, "rows")
    one = list(csv.DictReader(io.StringIO(site.text("query", POWER, "--last", "5s", "--format", "csv"))))
    assert list(one[0]) == ["time", "value", "quality"]
    assert len(one[0]["time"]) == len("2026-11-23T15:51:32.123456789Z")
    assert one[0]["time"].endswith("Z")
    several = site.text("query", POWER, f"{ROTATOR}/position", "--last", "1h", "--format", "csv")
    assert several.startswith("time,attribute,value,quality\n")


def test_a_reader_that_has_seen_enough_is_no_error(site: Site) -> None:
    """`query … | head` ends quietly in every format."""
    for form in ("csv", "json", "table"):
        query = [sys.executable, "-m", "bandoneon", "query", POWER, "--last", "1h", "--format", form]
        command = f"{{ {' '.join(query)}; echo $? >&2; }} | :"
        done = subprocess.run(
            ["sh", "-c", command], env=site.environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.stderr == "0\n", form


@pytest.mark.parametrize(
    ("code", "arguments", "said"),
    [
        (2, [POWER, "--last", "soon"], "'soon' is no duration: write it like"),
        (2, [POWER, "--start", "later"], "'later' is no time: write it like"),
        (1, ["nope/x/y/z"], "no attribute nope/x/y/z is archived"),
        (2, [POWER, "--format", "xls"], "there is no format xls: use table, csv"),
    ],
)
def test_a_query_that_cannot_be_is_one_sentence(site: Site, code: int, arguments: list[str], said: str) -> None:
    """Wrong use is 2, a question without an answer 1."""
    assert said in refused(site, code, "query", *arguments)


def test_archive_status_tells_of_the_archiver(site: Site) -> None:
    """Its figures in the shape of `status`, and each attribute with its source."""
    wait_until(lambda: site.command("archive", "status").returncode == 0, 20, "the archiver is well")
    (archiver,) = json.loads(site.text("archive", "status", "--json"))
    assert archiver["device"] == "archive/demo/1"
    assert archiver["attributes"] > 20
    assert POWER in {row["name"] for row in archiver["report"]}
    assert "archive/demo/1" in site.text("archive", "status", "--all")


def test_archive_verify_and_rebuild(site: Site) -> None:
    """The journal is whole, before and after its files are made again."""
    found: dict[str, Any] = json.loads(site.text("archive", "verify", "--json"))
    assert found["journals"][0]["rows"] > 0
    site.text("archive", "rebuild", timeout_s=120)
    wait_until(lambda: site.command("archive", "verify").returncode == 0, 60, "everything is whole again")


def test_status_has_the_documented_shape(site: Site) -> None:
    """Servers and archivers with the keys of the contract, as table and as JSON."""
    site.wait_ready()
    status = site.status()
    assert list(status) == ["site", "tango_host", "ready", "servers", "archivers"]
    keys = {"name", "class", "devices", "state", "pid", "restarts", "since", "last_exit"}
    assert all(server.keys() == keys for server in status["servers"])
    (archiver,) = status["archivers"]
    assert archiver.keys() == {"device", "state", "attributes", "events_per_s", "lag_s", "lost"}
    assert archiver["attributes"] > 20
    table = site.text("status")
    assert table.startswith(f"demo at {status['tango_host']}: ready\n")
    assert all(server["name"] in table for server in status["servers"])


def test_status_needs_neither_tango_nor_pydantic(site: Site) -> None:
    """A site of this machine is told from the files that its processes write."""
    code = (
        "import contextlib, sys\nfrom bandoneon.cli import main\nsys.argv = ['bandoneon', 'status', '--json']\n"
        "with contextlib.suppress(SystemExit):\n    main()\n"
        "print([name for name in ('tango', 'pydantic', 'typer', 'numpy') if name in sys.modules], file=sys.stderr)"
    )

    def loaded() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=site.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr

    wait_until(lambda: loaded() == "[]\n", 15, "status loads nothing heavy")


def test_status_is_asked_by_tango_when_the_files_are_old(site: Site) -> None:
    """TANGO_HOST of the same database from another directory gives the same answer."""
    elsewhere = {**site.environment, "BANDONEON_RUN": str(site.run / "none"), "TANGO_HOST": site.tango_host}
    done = subprocess.run(
        [sys.executable, "-m", "bandoneon", "status", "--json"],
        env=elsewhere,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    status, asked = site.status(), json.loads(done.stdout)
    assert [(one["name"], one["pid"]) for one in asked["servers"]] == [
        (one["name"], one["pid"]) for one in status["servers"]
    ]
    assert asked["archivers"][0]["device"] == "archive/demo/1"


def test_logs_show_the_end_and_what_is_appended(site: Site, tmp_path: Path) -> None:
    """`-f` goes on until Ctrl-C."""
    name = "Newport1830C/lab_power_1"
    assert '"event"' in site.text("logs", name)
    with Background(site, tmp_path / "logs", "logs", name, "-f") as logs:
        wait_until(lambda: '"event"' in logs.output, 15, "the log's end")
        with (site.run / "demo" / "logs" / "Newport1830C_lab_power_1.log").open("a") as log:
            log.write("one more line\n")
        wait_until(lambda: "one more line" in logs.output, 15, "the new line")
        assert interrupted(logs) == 0
    assert "there is no log of Nope/1: known are " in refused(site, 1, "logs", "Nope/1")


def test_plan_and_apply_change_the_database(site: Site, tmp_path: Path) -> None:
    """Nothing to change at first; a changed file is a plan, is applied, and is then no change any more."""
    assert site.text("plan", "deploy/site.yaml") == "Nothing to change.\n"
    assert json.loads(site.text("plan", "deploy/site.yaml", "--json")) == {"changes": []}
    changed = tmp_path / "changed.yaml"
    changed.write_text(
        (REPOSITORY / "deploy/site.yaml").read_text().replace("poll_period_s: 0.1", "poll_period_s: 0.2")
    )
    wanted = {
        "action": "update",
        "kind": "property",
        "name": "lab/power/1/poll_period_s",
        "before": ["0.1"],
        "after": ["0.2"],
    }
    assert json.loads(site.text("plan", str(changed), "--json")) == {"changes": [wanted]}
    meter = "Newport1830C/lab_power_1"
    assert site.text("apply", str(changed)).splitlines() == [
        "~ property lab/power/1/poll_period_s 0.1 → 0.2",
        "demo: 1 changes applied.",
        f"{meter} runs with what was before: `./run up {changed}` starts it anew.",
    ]
    assert site.text("plan", str(changed)) == "Nothing to change.\n"
    before = site.pids()
    site.text("up", str(changed), "--detach")
    assert site.server(meter)["state"] == "running"
    assert {name for name, pid in site.pids().items() if pid != before[name]} == {meter}


def test_up_has_restarted_what_changed_when_it_returns(site: Site) -> None:
    """The server with the changed entry runs as another process, everything else as it was."""
    before = site.pids()
    assert "Restarting Newport1830C/lab_power_1" in site.command("up", "deploy/site.yaml", "--detach").stderr
    assert site.status()["ready"]
    assert {name for name, pid in site.pids().items() if pid != before[name]} == {"Newport1830C/lab_power_1"}
    assert site.text("plan") == "Nothing to change.\n"
    before = site.pids()
    site.text("up", "deploy/site.yaml", "--detach")
    assert site.pids() == before


def test_up_starts_what_was_stopped(site: Site) -> None:
    """The person asks for it, so it does not wait in vain; in the foreground it returns, since the site is up."""
    name = "Newport1830C/lab_power_1"
    site.text("call", "tango/admin/local", "DevStop", name)
    wait_until(lambda: site.server(name)["state"] == "stopped", 15, "it is stopped")
    done = site.command("up", "deploy/site.yaml", timeout_s=30)
    assert done.returncode == 0
    assert f"Starting {name}, which is stopped" in done.stderr
    assert site.status()["ready"]


def test_a_frozen_database_is_said_so_and_replaced(site: Site) -> None:
    """No instrument is blamed, nothing is well meanwhile, and another database is there without anybody's doing."""
    pid = site.pids()["DataBaseds/2"]
    servers = {server["name"]: server["pid"] for server in site.status()["servers"]}
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    said = refused(site, 1, "read", POWER)
    assert time.monotonic() - began_s < 6
    assert said.startswith(f"the Tango database at {site.tango_host} does not answer within 2 s")
    wait_until(lambda: not site.status()["ready"], 15, "it is noticed")
    done = site.command("status", "--json")
    assert f"the Tango database at {site.tango_host} does not answer" in done.stderr
    assert {server["state"] for server in json.loads(done.stdout)["servers"]} == {"running"}
    site.wait_ready()
    assert site.pids()["DataBaseds/2"] != pid
    assert {server["name"]: server["pid"] for server in site.status()["servers"]} == servers
    site.text("read", POWER)


def test_a_frozen_supervisor_leaves_the_servers_unknown_until_up_replaces_it(site: Site) -> None:
    """JSON as always, exit status 1, in time; here from files, elsewhere from the database. The servers run on."""
    pid = site.pids()["Supervisor/local"]
    pids = {server["name"]: server["pid"] for server in site.status()["servers"]}
    elsewhere = {**site.environment, "BANDONEON_RUN": str(site.run / "none"), "TANGO_HOST": site.tango_host}
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: {one["state"] for one in site.status()["servers"]} == {"unknown"}, 15, "they are unknown")
        for asked in (site, Site(site.run, site.data, elsewhere)):
            began_s = time.monotonic()
            done = asked.command("status", "--json")
            assert time.monotonic() - began_s < 6
            assert done.returncode == 1
            assert "bandoneon: " in done.stderr
            status = json.loads(done.stdout)
            assert {server["name"]: server["state"] for server in status["servers"]} == dict.fromkeys(pids, "unknown")
            assert not status["ready"]
        assert "the supervisor of local has written no report" in refused(site, 1, "archive", "status")
        assert "Restarting the supervisor, which hangs" in site.command("up", "deploy/site.yaml", timeout_s=30).stderr
        assert site.pids()["Supervisor/local"] != pid
        assert {server["name"]: server["pid"] for server in site.status()["servers"]} == pids
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    site.wait_ready()


def test_plan_tells_overrides_and_what_is_no_longer_named(site: Site, tmp_path: Path) -> None:
    """What the environment replaces is said; a device that left the file is deleted with --prune only."""
    smaller = tmp_path / "smaller.yaml"
    lines = (REPOSITORY / "deploy/site.yaml").read_text().replace(", lab/rotator/2]", "]").splitlines(keepends=True)
    smaller.write_text("".join(line for line in lines if "lab/rotator/2" not in line))
    assert "left alone: device lab/rotator/2 is no longer in the site file (--prune deletes it)" in site.text(
        "plan", str(smaller)
    )
    assert "- device lab/rotator/2" in site.text("plan", str(smaller), "--prune")
    overridden = Site(site.run, site.data, {**site.environment, "BANDONEON__INSTRUMENTS__0__TIMEOUT_S": "9"})
    done = overridden.command("plan", "deploy/site.yaml")
    assert done.stdout == "+ property lab/power/1/timeout_s 9.0\n"
    assert done.stderr == "BANDONEON__INSTRUMENTS__0__TIMEOUT_S overrides instruments.0.timeout_s\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("site: demo\ninstrument: []\n", "wrong.yaml:2: instrument: unknown key; allowed here are: site, database"),
        ("site: demo\ninstruments:\n  - {name: a/b/c, class: X, connection: c}\n", "wrong.yaml:3: instruments.0.class"),
        (
            "site: other\ndatabase: {kind: external, host: 'HOST'}\nhosts: [{name: local}]\n",
            "device tango/admin/local belongs to site demo; give yours another",
        ),
        ("site: other\n", "wrong.yaml has a database of its own (embedded), and TANGO_HOST is"),
    ],
)
def test_a_site_file_that_cannot_be_changes_nothing(site: Site, tmp_path: Path, text: str, said: str) -> None:
    """File, line and key, whose the entry is, or which database is meant; by plan and by apply alike."""
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace("HOST", site.tango_host))
    with_host = Site(site.run, site.data, {**site.environment, "TANGO_HOST": site.tango_host})
    for command in ("plan", "apply"):
        done = with_host.command(command, str(path))
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert site.text("plan", "deploy/site.yaml") == "Nothing to change.\n"


def test_sim_serves_an_instrument_without_tango(site: Site, tmp_path: Path) -> None:
    """`ready PATH` says when; any program can talk to it; the link is gone at the end."""
    path = tmp_path / "meter"
    with Background(site, tmp_path / "log", "sim", "newport_1830c", "--pty", str(path)) as sim:
        wait_until(lambda: f"ready {path}\n" in sim.output, 15, "ready")
        assert stat.S_ISCHR(path.stat().st_mode)
        with serial.Serial(str(path), 9600, timeout=2) as line:
            line.write(b"W?\n")
            assert line.readline().strip()
        assert interrupted(sim) == 0
    assert not path.is_symlink()


def test_sim_serves_on_a_port(site: Site, tmp_path: Path) -> None:
    """A port that is in use is one sentence."""
    port = free_port()
    with Background(site, tmp_path / "log", "sim", "ell14", "--tcp", str(port)) as sim:
        wait_until(lambda: "ready tcp://127.0.0.1:" in sim.output, 15, "ready")
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.sendall(b"2in")
            assert line.recv(64).startswith(b"2IN")
        said = refused(site, 1, "sim", "ell14", "--tcp", str(port))
        assert said == f"port {port} cannot be used (Address already in use): choose another"
        assert interrupted(sim) == 0
    file = tmp_path / "precious"
    file.write_text("x")
    assert "exists and is no link" in refused(site, 2, "sim", "ell14", "--pty", str(file))
    assert file.read_text() == "x"
