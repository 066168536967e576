"""The command line itself: options anywhere, which site is meant, errors as one sentence with an exit status."""

import socket
import sys
from pathlib import Path

import pytest

from bandoneon import cli
from bandoneon.cli import status
from bandoneon.cli.options import CommandError, Options, WrongUse, found_by, json_text, need_database, options_first
from bandoneon.cli.outcome import outcome
from bandoneon.errors import OutOfRange, SiteError
from bandoneon.site.reach import address, reach
from bandoneon.site.running import RunningSite
from tests.support import free_port


@pytest.mark.parametrize(
    ("given", "sorted_out"),
    [
        ("read a --site x", "--site x read a"),
        ("--site x read a", "--site x read a"),
        ("read --data=d a --debug", "--data=d --debug read a"),
        ("archive status --json --site x", "--site x archive status --json"),
        ("test -k name --debug", "test -k name --debug"),
        ("--site x test --debug", "--site x test --debug"),
        ("call a b -- --debug", "call a b -- --debug"),
        ("read test --site x", "--site x read test"),
    ],
)
def test_the_options_of_all_commands_stand_anywhere(given: str, sorted_out: str) -> None:
    """They are taken out wherever they are; what belongs to pytest or follows `--` stays."""
    assert options_first(given.split()) == sorted_out.split()


@pytest.mark.parametrize("name", ["--site", "--data"])
def test_an_option_needs_its_value(name: str) -> None:
    """At the end of the line there is none."""
    with pytest.raises(WrongUse, match=f"{name} needs"):
        options_first(["read", "a", name])


@pytest.mark.parametrize(
    ("line", "options", "as_json"),
    [
        ("status", Options(), False),
        ("status --json", Options(), True),
        ("status --json --site x --debug", Options("x", debug=True), True),
        ("--site status status", Options("status"), False),
        ("--site=x status --data /d", Options("x", Path("/d")), False),
    ],
)
def test_status_is_understood_without_typer(line: str, options: Options, as_json: bool) -> None:
    """The same options as every command has, in any order."""
    assert status.asked(line.split()) == (options, as_json)


@pytest.mark.parametrize(
    "line", ["", "read a", "status --help", "status --bogus", "status x", "archive status", "--site status", "--site"]
)
def test_any_other_line_is_left_to_typer(line: str) -> None:
    """Also a wrong one: typer says what is wrong."""
    assert status.asked(line.split()) is None


@pytest.fixture
def here(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> RunningSite:
    """A site that was brought up here and is not up now."""
    monkeypatch.setenv("TANGO_HOST", "to be restored")
    monkeypatch.delenv("TANGO_HOST")
    address = f"127.0.0.1:{free_port()}"
    site = RunningSite(
        "here", address, data=run_directory / "d", run=run_directory / "here", host="local", file="/lab/here.yaml"
    )
    site.write()
    return site


def test_the_last_site_is_meant_without_options(here: RunningSite) -> None:
    """Its database and its data."""
    found = found_by(Options())
    assert (found.tango_host, found.running, found.data) == (here.tango_host, here, here.data)


def test_tango_host_wins_over_the_last_site_and_site_over_it(
    here: RunningSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of somebody else has no running site; --site names one of here."""
    monkeypatch.setenv("TANGO_HOST", "elsewhere:10000")
    found = found_by(Options())
    assert (found.tango_host, found.running) == ("elsewhere:10000", None)
    with pytest.raises(CommandError, match="no site with that database is up here"):
        found.need_running()
    assert found_by(Options("here")).running == here


@pytest.mark.usefixtures("here")
def test_data_may_be_named() -> None:
    """`--data` wins over the site's directory."""
    assert found_by(Options(data=Path("/there"))).data == Path("/there")


@pytest.mark.usefixtures("here")
def test_a_site_that_is_down_is_said_so() -> None:
    """No Tango time-out: the port tells at once."""
    with pytest.raises(CommandError, match=r"site here is not up: bring it up with `./run up /lab/here.yaml`"):
        need_database(found_by(Options()))


def test_a_site_without_its_database_is_said_so(here: RunningSite) -> None:
    """The spawner listens, the database does not: it is being restarted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as spawner:
        spawner.bind(str(here.socket))
        spawner.listen()
        with pytest.raises(CommandError, match="it is being restarted"):
            need_database(found_by(Options()))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("address", ["nonsense", "host:", ":10", "host:many"])
def test_a_tango_host_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The sentence shows what it has to be."""
    monkeypatch.setenv("TANGO_HOST", address)
    with pytest.raises(CommandError, match="it has to be NAME:PORT"):
        need_database(found_by(Options()))


def test_a_database_that_is_silent_is_said_so_in_time(here: RunningSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is open, and nothing answers: no instrument is blamed."""
    monkeypatch.setattr("bandoneon.cli.options.reach", lambda place: reach(place, 0.1))
    with (
        socket.create_server(address(here.tango_host)),
        pytest.raises(CommandError, match=f"the Tango database at {here.tango_host} does not answer within 2 s"),
    ):
        need_database(found_by(Options()))


def test_json_has_null_for_what_is_no_number() -> None:
    """NaN and infinity are no JSON; a strict reader would refuse all of it."""
    value = {"a": [1.5, float("nan")], "b": (float("inf"), "Ω"), "c": None}
    assert json_text(value) == '{"a": [1.5, null], "b": [null, "Ω"], "c": null}'


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OutOfRange("position 9 is too much"), 1, "bandoneon: position 9 is too much\n"),
        (SiteError("wrong", file="site.yaml", line=3, key="a.b"), 1, "bandoneon: site.yaml:3: a.b: wrong\n"),
        (WrongUse("choose one"), 2, "bandoneon: choose one\n"),
        (PermissionError(13, "Permission denied", "/data"), 1, "bandoneon: /data: Permission denied\n"),
        (RuntimeError("oops"), 1, "bandoneon: RuntimeError: oops (an error of this program; --debug shows where)\n"),
        (KeyboardInterrupt(), 1, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_every_error_is_a_sentence_and_an_exit_status(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    """No traceback, whatever happened."""
    with Path("/dev/null").open("w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)

        def work() -> int:
            raise error

        assert outcome(work, debug=False) == code
    assert capfd.readouterr().err == said


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence is the last line all the same."""

    def work() -> int:
        raise OutOfRange("too much")

    assert outcome(work, debug=True) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "bandoneon: too much"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the program inside this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["bandoneon", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "bandoneon: No such command 'bogus'. Did you mean 'logs'? Help: bandoneon --help"),
        (["read", "a/b/c/d", "--bogus"], "bandoneon: No such option: --bogus. Help: bandoneon read --help"),
        (["status", "--bogus"], "bandoneon: No such option: --bogus. Help: bandoneon status --help"),
        (["status", "--site"], "bandoneon: --site needs the name of a site behind it"),
        (["write", "a/b/c/d"], "bandoneon: Missing argument 'VALUE'. Help: bandoneon write --help"),
        (["query", "a", "--max-points", "x"], "Help: bandoneon query --help"),
        (
            ["query", "a", "--format", "xls"],
            "bandoneon: there is no format xls: use table, csv, json, parquet, arrow, hdf5",
        ),
        (["query", "a", "--last", "soon"], "bandoneon: 'soon' is no duration: write it like 30s, 10m, 2h or 1d"),
        (["sim", "ell14"], "give either --pty PATH or --tcp PORT. Help: bandoneon sim --help"),
        (["sim", "nope", "--tcp", "0"], "bandoneon: there is no simulator of 'nope': choose one of ell14"),
        (["sim", "ell14", "--tcp", "0", "--fault", "x"], "there is no fault x: choose one of"),
        (["bench", "nope"], "bandoneon: there is no benchmark nope: choose one of"),
        (["archive", "bogus"], "No such command 'bogus'. Help: bandoneon archive --help"),
    ],
)
@pytest.mark.usefixtures("here")
def test_wrong_use_is_one_line_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """What is wrong, and where its help is."""
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["read"], ["archive"], ["logs"]])
def test_a_command_without_arguments_shows_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """On standard error, with exit status 2: nothing was done."""
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: bandoneon")


def test_help_is_on_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the contract that exists is in it."""
    assert run(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    commands = {line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line.strip()}
    assert commands >= {
        *("up", "down", "status", "test", "plan", "apply", "read", "write", "call", "watch"),
        *("query", "archive", "sim", "bench", "gui", "logs"),
    }
