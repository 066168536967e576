"""The site in containers, seen from outside their network. Needs a container engine."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import REPOSITORY, wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

PROJECT = f"bandoneon-test-{os.getpid()}"
NAMES = ("bandoneon-database", "bandoneon-instruments", "bandoneon-archive")
CLIENT = """
import tango, time
power = tango.DeviceProxy("lab/power/1")
identifier = power.subscribe_event("power", tango.EventType.CHANGE_EVENT, 0)
deadline, seen = time.monotonic() + 20, 0
while seen < 20 and time.monotonic() < deadline:
    seen += sum(not event.err for event in power.get_events(identifier))
    time.sleep(0.1)
print("events", seen)
"""


def docker(*arguments: str, timeout_s: float = 60.0, **more: Any) -> str:
    """Run a docker command that has to succeed; return its output."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, cwd=REPOSITORY, timeout=timeout_s, check=False, **more
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def host_gateway() -> str:
    """The address under which containers of any network reach this machine."""
    code = "import socket; print(socket.gethostbyname('outside'))"
    return docker(
        "run", "--rm", "--add-host", "outside:host-gateway", "--entrypoint", "python", "bandoneon", "-c", code
    )


@pytest.fixture(scope="module")
def compose() -> Iterator[tuple[str, ...]]:
    """The composed site, brought up from nothing with `up --wait`; everything is removed afterwards."""
    os.environ["DOCKER_BUILDKIT"] = "0"
    command = ("compose", "-p", PROJECT, "-f", "deploy/compose.yaml")
    try:
        docker(*command, "build", timeout_s=600)
        os.environ["BANDONEON_BIND"] = host_gateway()
        docker(*command, "up", "--wait", "--wait-timeout", "120", timeout_s=180)
        yield command
    finally:
        docker(*command, "down", "--volumes", "--timeout", "6", timeout_s=90)


def outside(*arguments: str) -> str:
    """Run Python in a container of another network, which reaches the site by its published ports only."""
    hosts = [part for name in NAMES for part in ("--add-host", f"{name}:host-gateway")]
    return docker(
        "run", "--rm", *hosts, "--env", "TANGO_HOST=bandoneon-database:10000", "--entrypoint", "python",
        "bandoneon", *arguments,
    )  # fmt: skip


def status(compose: tuple[str, ...]) -> dict[str, Any]:
    """What the site says of itself, asked inside its network."""
    return json.loads(docker(*compose, "exec", "-T", "archive", "python", "-m", "bandoneon", "status", "--json"))


def test_every_server_runs_after_up_wait(compose: tuple[str, ...]) -> None:
    """`up --wait` returns when every server of every container is running."""
    shown = status(compose)
    assert shown["ready"]
    assert {server["state"] for server in shown["servers"]} == {"running"}


def test_a_client_outside_the_network_gets_events(compose: tuple[str, ...]) -> None:
    """A client that cannot route to the site's network receives events through the published names and ports."""
    assert compose
    assert int(outside("-c", CLIENT).split()[1]) >= 20


def test_containers_are_confined(compose: tuple[str, ...]) -> None:
    """No container runs as root, can write to its image, or keeps a capability."""
    for identifier in docker(*compose, "ps", "--quiet").split():
        host = json.loads(docker("inspect", identifier))[0]
        assert host["HostConfig"]["ReadonlyRootfs"]
        assert host["HostConfig"]["CapDrop"] == ["ALL"]
        assert host["Config"]["User"] == "10001:10001"


def test_a_container_that_dies_comes_back_and_leaves_a_gap(compose: tuple[str, ...]) -> None:
    """When PID 1 of the instruments is killed the restart policy brings all back, and the outage is a gap row."""
    identifier = docker(*compose, "ps", "--quiet", "instruments")
    os.kill(int(docker("inspect", identifier, "--format", "{{.State.Pid}}")), signal.SIGKILL)
    wait_until(lambda: docker("inspect", identifier, "--format", "{{.RestartCount}}") == "1", 30, "restarted")
    wait_until(lambda: status(compose)["ready"], 60, "every server runs again", every_s=0.5)

    def gaps() -> list[str]:
        text = docker(
            *compose, "exec", "-T", "archive", "python", "-m", "bandoneon",
            "query", "lab/power/1/power", "--last", "5m", "--gaps", "--format", "csv",
        )  # fmt: skip
        return [line for line in text.splitlines() if "server_down" in line or "restart" in line]

    assert wait_until(gaps, 30, "the gap is archived")
