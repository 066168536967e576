"""The end of a site: `down`, whatever hangs."""

import os
import signal
import time
from pathlib import Path

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
