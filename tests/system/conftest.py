"""The demonstration site, brought up once for all tests of a module exactly as a person does it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY, wait_until


@dataclass(frozen=True)
class Site:
    """A site that is up: run commands against it, look at its files, find its processes."""

    run: Path
    data: Path
    environment: dict[str, str]

    def command(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one `bandoneon` command and return what it printed, whatever its exit status."""
        return subprocess.run(
            [sys.executable, "-m", "bandoneon", *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def text(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run a command that has to succeed and return its output."""
        done = self.command(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What `status --json` says; it exits with 1 while the site is not ready."""
        return json.loads(self.command("status", "--json").stdout)

    def server(self, name: str) -> dict[str, Any]:
        """The status of one server."""
        return next(server for server in self.status()["servers"] if server["name"] == name)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every server runs again."""
        wait_until(lambda: self.status()["ready"], timeout_s, "the site is ready")

    def pids(self) -> dict[str, int]:
        """The spawner's children by server name, as it keeps them on disk."""
        state = json.loads((self.run / "demo" / "state.json").read_text())
        return {name: child["pid"] for name, child in state["children"].items()}

    @property
    def tango_host(self) -> str:
        """The database's address."""
        return json.loads((self.run / "site.json").read_text())["tango_host"]

    def device(self, name: str) -> Any:
        """A proxy of one device."""
        import tango

        return tango.DeviceProxy(f"tango://{self.tango_host}/{name}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demonstration site on free ports, in directories of its own."""
    directory = tmp_path_factory.mktemp("site")
    environment = {name: value for name, value in os.environ.items() if name != "TANGO_HOST"}
    environment |= {"BANDONEON_RUN": str(directory / "run"), "PYTHONPATH": str(REPOSITORY)}
    demo = Site(directory / "run", directory / "data", environment)
    try:
        demo.text("up", "deploy/site.yaml", "--detach", "--data", str(demo.data), timeout_s=90)
        yield demo
    finally:
        # every site of this run directory: a test that failed may have left a second one behind
        for socket in demo.run.glob("*/spawner.sock"):
            demo.command("down", "--site", socket.parent.name, timeout_s=60)
