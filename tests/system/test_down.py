"""The end of a site: `down`, whatever hangs or is dead."""

import json
import os
import signal
import time
from pathlib import Path

from bandoneon.cli import processes
from bandoneon.site.running import RunningSite
from tests.support import wait_until
from tests.system.conftest import Site


def test_down_ends_everything_also_with_a_frozen_database(site: Site) -> None:
    """The database does not answer and a mount is turning: `down` ends every process within its time, and says so."""
    site.device("lab/rotator/1").write_attribute("position", 300.0)
    pids = site.pids()
    os.kill(pids["DataBaseds/2"], signal.SIGSTOP)
    began_s = time.monotonic()
    assert "demo is down" in site.text("down")
    assert time.monotonic() - began_s < 9
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    assert site.command("status").returncode == 1
    again = site.command("down")
    assert (again.returncode, again.stdout) == (0, "demo was not up.\n")


def test_down_ends_everything_also_after_the_spawner_was_killed(site: Site) -> None:
    """The supervisor starts another spawner meanwhile, which takes over what ends: nothing comes back."""
    site.text("up", "deploy/site.yaml", "--detach", "--data", str(site.data), timeout_s=90)
    running = RunningSite.find(site.run, "demo")
    before = processes.children(running)
    os.kill(json.loads((site.run / "demo" / "state.json").read_text())["spawner"], signal.SIGKILL)
    killed_s = time.monotonic()
    wait_until(lambda: time.monotonic() > killed_s + 0.6, 5, "the successor is on its way")
    assert "demo is down" in site.text("down")
    assert not [name for name, process in before.items() if process.lives]
    down_s = time.monotonic()

    def nothing_for_a_while() -> bool:
        assert not processes.spawners(running), "the spawner came back"
        assert not processes.children(running), "servers came back"
        return time.monotonic() > down_s + 4

    wait_until(nothing_for_a_while, 10, "nothing comes back", every_s=0.2)
