"""The launcher `run`: what it looks at before it becomes the command."""

import importlib.machinery
import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY


@pytest.fixture
def launcher() -> Any:
    """The launcher as a module of its own."""
    loader = importlib.machinery.SourceFileLoader("launcher", str(REPOSITORY / "run"))
    spec = importlib.util.spec_from_loader("launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("gui optics", "gui"),
        ("--site demo gui", "gui"),
        ("--site=demo --debug test -k x", "test"),
        ("--data gui status", "status"),
        ("--debug", ""),
        ("--site", ""),
        ("", ""),
    ],
)
def test_the_command_is_the_first_word_that_is_no_option(launcher: Any, line: str, command: str) -> None:
    """Options of all commands may stand in front of it, with their values."""
    assert launcher.command_of(line.split()) == command


def test_a_second_run_waits_for_the_first_ones_set_up(
    launcher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one installs is still there afterwards, and nothing is installed twice."""
    monkeypatch.setattr(launcher, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(launcher, "SETUP_LOCK", tmp_path / ".venv.lock")
    installing, may_go_on, installed = threading.Event(), threading.Event(), list[str]()

    def install() -> None:  # what would take minutes, and a network
        installed.append(threading.current_thread().name)
        (tmp_path / ".venv" / "package").touch()
        installing.set()
        assert may_go_on.wait(30)

    monkeypatch.setattr(launcher, "install_requirements", install)
    runs = [threading.Thread(target=launcher.make_venv, args=(False,), name=name) for name in ("first", "second")]
    runs[0].start()
    assert installing.wait(30)
    runs[1].start()
    runs[1].join(0.5)
    assert runs[1].is_alive()
    may_go_on.set()
    for one in runs:
        one.join(30)
    assert installed == ["first"]
    assert (tmp_path / ".venv" / "package").exists()
