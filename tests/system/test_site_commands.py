"""Sites are brought up and down beside each other, and at any moment."""

import json
import signal
from pathlib import Path

import pytest

from bandoneon.cli import processes
from bandoneon.site.running import RunningSite
from tests.journals import files_limited_to
from tests.support import free_port, wait_until
from tests.system.commands import SECOND, Background, refused
from tests.system.conftest import Site

POWER = "lab/power/1/power"


def test_up_says_what_stands_in_its_way(site: Site, tmp_path: Path) -> None:
    """A directory that cannot be written, a port in use, an unknown class: one sentence, and nothing is left behind."""
    path = tmp_path / "second.yaml"
    path.write_text(SECOND)
    file = tmp_path / "file"
    file.write_text("")
    said = refused(site, 1, "up", str(path), "--detach", "--data", str(file / "below"))
    assert said.startswith(f"the data directory {file / 'below'} cannot be written (Not a directory): name another by")
    port = site.tango_host.rpartition(":")[2]
    path.write_text(f"{SECOND}database: {{port: {port}}}\n")
    said = refused(site, 1, "up", str(path), "--detach", "--data", str(tmp_path / "data"))
    assert said == f"port {port} is in use: change `database: port:` in {path}, or leave it out"
    path.write_text(SECOND.replace("class: Newport1830C", "class: Newport1830"))
    assert "second.yaml:4: instruments.0.class: there is no class Newport1830; did you mean Newport1830C?" in refused(
        site, 1, "up", str(path), "--detach"
    )
    path.write_text(SECOND)
    said = refused(site, 1, "up", "deploy/site.yaml", "--detach", "--data", str(tmp_path / "other"))
    assert said.startswith(f"demo is up with its data in {site.data}: `down` first")
    with files_limited_to(1 << 16):  # as on a full disk
        said = refused(site, 1, "up", str(path), "--detach")
    assert said.startswith(f"the run directory {site.run / 'second'} cannot be written (File too large)")
    assert not (site.run / "second" / "spawner.sock").exists()
    assert site.status()["site"] == "demo"


def test_up_that_fails_halfway_leaves_nothing_running(site: Site, tmp_path: Path) -> None:
    """A plan that is refused ends the spawner it was made with; the database is another site's."""
    path = tmp_path / "third.yaml"
    path.write_text(f"site: third\ndatabase: {{kind: external, host: '{site.tango_host}'}}\nhosts: [{{name: local}}]\n")
    said = refused(site, 1, "up", str(path), "--detach", "--data", str(tmp_path / "data"))
    assert said == "third: server Supervisor/local belongs to site demo; give yours another name"
    assert not (site.run / "third" / "site.json").exists()
    assert not (site.run / "third" / "spawner.sock").exists()
    assert site.status()["site"] == "demo"


def test_a_second_site_does_not_disturb_the_first(site: Site, tmp_path: Path) -> None:
    """Its own database, processes and data; `--site` says which one is meant; the last one is the default."""
    path, data = tmp_path / "second.yaml", tmp_path / "data"
    path.write_text(SECOND)
    before = site.pids()
    site.text("up", str(path), "--detach", "--data", str(data), timeout_s=90)
    try:
        assert site.status()["site"] == "second"
        assert " W" in site.text("read", "second/power/1/power")
        assert "there is no device lab/power/1" in refused(site, 1, "read", POWER)
        assert " W" in site.text("read", POWER, "--site", "demo")
        first = json.loads(site.text("--site", "demo", "status", "--json"))
        assert first["ready"]
        assert first["tango_host"] != site.status()["tango_host"]
    finally:
        site.text("down", "--site", "second")
    assert site.pids() == before
    assert f"site second is not up: bring it up with `./run up {path}`" in refused(site, 1, "status")
    site.text("up", "deploy/site.yaml", "--detach")
    assert site.status()["site"] == "demo"
    assert site.pids() == before


def test_a_database_that_is_nobodys_is_said_so(site: Site) -> None:
    """TANGO_HOST of a port where nothing listens."""
    address = f"127.0.0.1:{free_port()}"
    stranger = Site(site.run, site.data, {**site.environment, "TANGO_HOST": address})
    for command in (["status"], ["read", POWER], ["watch", POWER], ["call", "a/b/c", "State"]):
        assert refused(stranger, 1, *command) == f"no Tango database answers at TANGO_HOST {address}"
    assert f"and TANGO_HOST is {address}: unset TANGO_HOST" in refused(stranger, 1, "plan")


def test_a_site_file_with_an_external_database_is_planned_there(site: Site, tmp_path: Path) -> None:
    """Whatever TANGO_HOST and the site that is up say, also before the site was ever brought up."""
    path = tmp_path / "third.yaml"
    path.write_text(f"site: third\ndatabase: {{kind: external, host: '{site.tango_host}'}}\nhosts: [{{name: third}}]\n")
    stranger = Site(site.run, site.data, {**site.environment, "TANGO_HOST": f"127.0.0.1:{free_port()}"})
    assert "+ device tango/admin/third Supervisor Supervisor/third" in stranger.text("plan", str(path))


def test_down_and_up_again(site: Site) -> None:
    """Commands say that the site is down, its data can still be queried; up again it has its database and its data."""
    address = site.tango_host
    assert site.text("down") == "demo is down.\n"
    assert site.text("down") == "demo was not up.\n"
    for command in (["status"], ["read", POWER], ["watch", POWER], ["call", "lab/power/1", "State"], ["plan"]):
        assert refused(site, 1, *command) == "site demo is not up: bring it up with `./run up`"
    rows = len(site.text("query", POWER, "--last", "1h", "--format", "csv").splitlines())
    assert rows > 10
    site.text("archive", "verify")
    told = site.text("up", "deploy/site.yaml", "--detach", timeout_s=90)
    assert f"database {address}, data in {site.data}\n" in told
    assert site.status()["ready"]
    assert site.text("plan", "deploy/site.yaml") == "Nothing to change.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Ctrl-C brings it down.", "Starting the supervisor"])
def test_up_stays_until_it_is_told_to_end(site: Site, tmp_path: Path, number: int, moment: str) -> None:
    """Without --detach the site lives as long as the command: Ctrl-C and a hang-up end both, also while it waits."""
    path = tmp_path / "second.yaml"
    path.write_text(SECOND)
    with Background(site, tmp_path / "up", "up", str(path), "--data", str(tmp_path / "data")) as up:
        wait_until(lambda: moment in up.output + up.errors, 60, "it is so far")
        wait_until(lambda: "second" in (site.run / "site.json").read_text(), 10, "the site is known")
        running = RunningSite.find(site.run, "second")
        wait_until(lambda: len(processes.children(running)) >= 2, 10, "its processes are there")
        up.send_signal(number)
        code = up.popen.wait(timeout=15)
        assert code == 0 or (code == 1 and moment not in up.output), up.errors
    assert not processes.children(running)
    assert not processes.spawners(running)
    (site.run / "second" / "site.json").unlink()
    site.text("up", "deploy/site.yaml", "--detach")
