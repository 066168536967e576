"""Fixtures of all tests, and the guard that fails a test which leaves something running."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import TangoDatabase, wait_until

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_API", "pyqt6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt6")
os.environ.pop("TANGO_HOST", None)

LEFT_OUT = pytest.StashKey[int]()

# Threads that a library starts once and keeps: cppTango's are not Python threads; these are.
LIBRARY_THREADS = ("ThreadPoolExecutor", "Dummy-", "pytest_timeout", "tango", "taurus", "Taurus", "QThread", "pydevd")


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(LIBRARY_THREADS)}


def _children() -> set[int]:
    me = psutil.Process()
    return {child.pid for child in me.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}


def _listening() -> set[tuple[str, int]]:
    found = set()
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            found.add((connection.laddr.ip, connection.laddr.port))
    return found


@pytest.fixture(autouse=True)
def _nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a process or a listening socket behind."""
    fixtures = set(request.fixturenames)
    before_threads, before_children, before_listening = _threads(), _children(), _listening()
    yield
    if fixtures & {"qtbot", "qapp"}:
        return
    gc.collect()
    # the Tango client library opens one event endpoint of its own and keeps it for the process
    kept_by_tango = "tango" in sys.modules
    wait_until(
        lambda: not _threads() - before_threads and not _children() - before_children,
        5,
        f"threads {_threads() - before_threads} and processes {_children() - before_children} ended",
    )
    assert kept_by_tango or not _listening() - before_listening, "a listening socket was left open"


def engine_answers() -> bool:
    """Whether a container engine and its compose plugin can be used."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        if shutil.which("docker") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            return False
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the container tests out where no engine answers, and remember to say so."""
    container = [item for item in items if item.get_closest_marker("container")]
    if container and not engine_answers():
        config.hook.pytest_deselected(items=container)
        items[:] = [item for item in items if item not in container]
        config.stash[LEFT_OUT] = len(container)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in one line what was left out."""
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(f"Left out: {count} container tests, since no container engine answers here.")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TangoDatabase]:
    """A real Tango database for the tests of one module; TANGO_HOST is set while it runs."""
    directory = tmp_path_factory.mktemp("database")
    with TangoDatabase(directory) as running:
        os.environ["TANGO_HOST"] = running.tango_host
        yield running
        os.environ.pop("TANGO_HOST", None)


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of its own, so that a test never touches a site that is up."""
    root = tmp_path / "run"
    monkeypatch.setenv("BANDONEON_RUN", str(root))
    return root
