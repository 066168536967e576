"""The site file: what is wrong is said with file, line, key and what is allowed; the environment overrides values."""

from pathlib import Path

import pytest

from bandoneon.errors import SiteError
from bandoneon.site.reader import SiteFile, read_site
from tests.support import REPOSITORY

WHOLE = """\
site: bench
hosts:
  - {name: local}
instruments:
  - name: lab/power/1
    class: Newport1830C
    simulate: {model: newport_1830c}
    poll_period_s: 0.1
    quantities:
      power: {deadband: 1.0e-9}
archivers:
  - name: archive/bench/1
    attributes: ["lab/*/*/*"]
"""


def read(tmp_path: Path, text: str, **environment: str) -> SiteFile:
    """Read `text` as a site file."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return read_site(path, environment)


def refusal(tmp_path: Path, text: str, **environment: str) -> SiteError:
    """The error `text` is refused with."""
    with pytest.raises(SiteError) as caught:
        read(tmp_path, text, **environment)
    return caught.value


@pytest.mark.parametrize("name", ["site.yaml", "compose.site.yaml"])
def test_the_committed_sites_are_valid(name: str) -> None:
    """What is in deploy/ can be used as it is."""
    assert read_site(REPOSITORY / "deploy" / name, {}).site.site == "demo"


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    """Values come as written, what is left out has its default."""
    site = read(tmp_path, WHOLE).site
    assert site.instruments[0].device_class == "Newport1830C"
    assert site.instruments[0].quantities["power"].deadband == 1e-9
    assert site.database.kind == "embedded"
    assert site.host_of(site.archivers[0]) == "local"


def test_the_smallest_site_is_its_name(tmp_path: Path) -> None:
    """Everything but the name has a default."""
    assert [host.name for host in read(tmp_path, "site: x").site.hosts] == ["local"]


@pytest.mark.parametrize(
    ("change", "line", "key", "said"),
    [
        (("hosts:", "hostz:"), 2, "hostz", "unknown key; allowed here are: site, database, hosts"),
        (("poll_period_s", "poll_periods"), 8, "instruments.0.poll_periods", "allowed here are: name, class"),
        (("deadband", "dead_band"), 10, "instruments.0.quantities.power.dead_band", "allowed here are: period_s"),
        (("0.1", "-1"), 8, "instruments.0.poll_period_s", "must be greater than 0 and not -1"),
        (("0.1", ".inf"), 8, "instruments.0.poll_period_s", "must be a finite number"),
        (("0.1", "fast"), 8, "instruments.0.poll_period_s", "must be a valid number"),
        (("lab/power/1", "power"), 5, "instruments.0.name", "does not fit the pattern"),
        (("site: bench", "site: [a]"), 1, "site", "must be a valid string"),
        (("site: bench", "panels: {}"), 1, "site", "is missing"),
        (("    class: Newport1830C\n", ""), 5, "instruments.0.class", "is missing"),
        (('["lab/*/*/*"]', "[]"), 13, "archivers.0.attributes", "at least 1 item"),
        (("archive/bench/1", "lab/archive/1"), 12, "archivers.0.name", "does not fit the pattern"),
        (("{name: local}", "{name: local, ports: [20, 10]}"), 3, "hosts.0", "ports are [first, last]"),
        (("{name: local}", "{name: local, public_host: a.example}"), 3, "hosts.0", "needs `ports: [first, last]`"),
        (("{name: local}", "{name: local, ports: [0, 10]}"), 3, "hosts.0.ports.0", "greater than or equal to 1"),
        (("{name: local}\n", "{name: local}\n  - {name: LOCAL}\n"), 4, "hosts.1.name", "LOCAL is there twice"),
        (
            ("    poll_period_s", "    host: far\n    poll_period_s"),
            8,
            "instruments.0.host",
            "none of the hosts: lo",
        ),
        (("    simulate", "    connection: tcp://x:1\n    simulate"), 5, "instruments.0", "exactly one of connection"),
        (("simulate: {model: newport_1830c}", "bus: lab/power/2"), 7, "instruments.0.bus", "no instrument with a"),
        (("{deadband: 1.0e-9}", "{min_value: 2, max_value: 1}"), 10, "instruments.0.quantities.power", "not below"),
        (("site: bench", "site: bench\nsite: other"), 2, "site", "already on line 1"),
        (("hosts:", "database: {kind: external}\nhosts:"), 2, "database", "needs `host: NAME:PORT`"),
        (("hosts:", "database: {port: 70000}\nhosts:"), 2, "database.port", "less than or equal to 65535"),
        (
            ("hosts:", "panels: {power_meter: lab/x/1}\nhosts:"),
            2,
            "panels.power_meter",
            "none of the instruments: ",
        ),
        (("hosts:", "supervision: {restart: never}\nhosts:"), 2, "supervision.restart", "'permanent', 'transient' or"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, change: tuple[str, str], line: int, key: str, said: str
) -> None:
    """File, line and key are in the error and in its text, with what is allowed there."""
    assert WHOLE.count(change[0]) >= 1
    error = refusal(tmp_path, WHOLE.replace(*change, 1))
    assert (error.line, error.key) == (line, key)
    assert said in str(error)
    assert str(error).startswith(f"{tmp_path / 'site.yaml'}:{line}: {key}: ")


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    """Two mistakes are two lines."""
    error = refusal(tmp_path, WHOLE.replace("hosts:", "hostz:").replace("0.1", "-1"))
    assert len(str(error).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "simulate", "key", "said"),
    [
        ("lab/power/1", "{model: ell14}", "instruments.1.name", "there twice"),
        ("LAB/Power/1", "{model: ell14}", "instruments.1.name", "there twice"),
        ("lab2/power/1", "{model: ell14}", "instruments.1.simulate", "sim/power/1, the name of the simulator of lab/p"),
        ("archive/bench/1", "{model: ell14}", "instruments.1.name", "the name of archivers.0"),
        ("project/bench/1", "{model: ell14}", "instruments.1.name", "the name of archivers.0"),
        ("tango/admin/local", "{model: ell14}", "instruments.1.name", "the name of the supervisor of local"),
        ("lab_power/1/x", "{model: ell14}", "", ""),
    ],
)
def test_no_device_can_be_named_twice(tmp_path: Path, name: str, simulate: str, key: str, said: str) -> None:
    """Also not by what the site makes by itself: simulators, projectors, supervisors."""
    text = WHOLE.replace("archivers:", f"  - {{name: {name}, class: ELL14, simulate: {simulate}}}\narchivers:")
    if not key:
        read(tmp_path, text)
        return
    error = refusal(tmp_path, text)
    assert (error.line, error.key) == (11, key)
    assert said in str(error)


def test_two_instruments_cannot_have_one_server(tmp_path: Path) -> None:
    """Names that differ only in where the slashes are would be the same server."""
    second = "  - {name: lab_power/1/x, class: A, connection: tcp://a:1}\n"
    third = "  - {name: lab/power_1/x, class: A, connection: tcp://b:1}\n"
    error = refusal(tmp_path, WHOLE.replace("archivers:", second + third + "archivers:"))
    assert error.key == "instruments.2.name"
    assert "lab_power_1_x" in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"site: [", "is no YAML"),
        (b"- a\n- b\n", "begins with `site: NAME`"),
        (b"", "begins with `site: NAME`"),
        (b"site: \xff\xfe", "is no text"),
        (b"site: x\npanels: &a {title: *a}\n", "contains itself"),
        (b"site: x\nadopt: &a [*a]\n", "contains itself"),
        (b"1: x\nsite: y\n", "site.yaml:1"),
    ],
)
def test_what_is_no_site_file_at_all(tmp_path: Path, content: bytes, said: str) -> None:
    """Broken files are refused in words too."""
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    with pytest.raises(SiteError, match=r"site\.yaml") as caught:
        read_site(path, {})
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The path is in the sentence."""
    with pytest.raises(SiteError, match=r"nope\.yaml: cannot be read .*No such file"):
        read_site(tmp_path / "nope.yaml", {})


def test_the_environment_overrides_values(tmp_path: Path) -> None:
    """Keys, list items by index and by name; each override is told with what was there."""
    file = read(
        tmp_path,
        WHOLE,
        BANDONEON__DATABASE__PORT="10001",
        BANDONEON__INSTRUMENTS__0__POLL_PERIOD_S="0.5",
        BANDONEON__INSTRUMENTS__LAB_POWER_1__QUANTITIES__POWER__DEADBAND="0.25",
        BANDONEON_RUN="/elsewhere",
    )
    assert file.site.database.port == 10001
    assert file.site.instruments[0].poll_period_s == 0.5
    assert file.site.instruments[0].quantities["power"].deadband == 0.25
    assert [(one.key, one.before, one.after) for one in file.overrides] == [
        ("database.port", None, 10001),
        ("instruments.0.poll_period_s", 0.1, 0.5),
        ("instruments.0.quantities.power.deadband", 1e-9, 0.25),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BANDONEON__DATABASE__PORT", "many", "BANDONEON__DATABASE__PORT: database.port: must be a valid integer"),
        ("BANDONEON__NOPE", "1", "BANDONEON__NOPE: nope: unknown key; allowed"),
        ("BANDONEON__INSTRUMENTS__7__HOST", "x", "7 is none of the list's items: 0, LAB_POWER_1"),
        ("BANDONEON__SITE__NAME", "x", "NAME is below a single value"),
    ],
)
def test_a_wrong_override_names_its_variable(tmp_path: Path, variable: str, value: str, said: str) -> None:
    """An override that cannot be is blamed on the environment, not on a line of the file."""
    assert said in str(refusal(tmp_path, WHOLE, **{variable: value}))


def test_an_error_found_later_gets_its_line(tmp_path: Path) -> None:
    """What only the plan can find wrong is said with file and line as well."""
    error = read(tmp_path, WHOLE).located(SiteError("there is none", key="instruments.0.class"))
    assert str(error) == f"{tmp_path / 'site.yaml'}:6: instruments.0.class: there is none"
