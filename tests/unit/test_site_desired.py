"""What a site asks of the Tango database: names, levels, ports, properties, policies."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from bandoneon.errors import SiteError
from bandoneon.site.desired import Entry, Value, desired, desired_of, supervisor_ports
from bandoneon.site.model import Site
from bandoneon.site.reader import read_site
from device_servers.registry import SERVERS
from tests.support import REPOSITORY

RUN = Path("/run/here")


@dataclass(frozen=True)
class Server:
    """A class of server as the registry describes it."""

    devices: tuple[str, ...]
    streams: bool = False


def entries(instruments: list[dict[str, object]], **more: object) -> dict[Entry, Value]:
    """What a site with these instruments asks for."""
    site = Site.model_validate({"site": "bench", "instruments": instruments, **more})
    servers = {**SERVERS, "Camera": Server(("Camera",), streams=True)}
    return desired(site, RUN, servers)


METER = {"name": "Lab/Power/1", "class": "Newport1830C", "connection": "tcp://meter:1"}


def test_the_demonstration_site_has_the_documented_names() -> None:
    """Servers with host and level, devices with class and server."""
    found = desired(read_site(REPOSITORY / "deploy" / "site.yaml", {}).site, RUN, SERVERS)
    assert {entry.name: value for entry, value in found.items() if entry.kind == "server"} == {
        "Supervisor/local": ("local", "0"),
        "Simulator/demo": ("local", "1"),
        "Newport1830C/lab_power_1": ("local", "2"),
        "ElliptecBus/lab_elliptec_1": ("local", "2"),
        "Archiver/demo_1": ("local", "3"),
        "Projector/demo_1": ("local", "3"),
    }
    assert {entry.name: value for entry, value in found.items() if entry.kind == "device"} == {
        "tango/admin/local": ("Supervisor", "Supervisor/local"),
        "sim/power/1": ("Simulator", "Simulator/demo"),
        "lab/power/1": ("Newport1830C", "Newport1830C/lab_power_1"),
        "sim/elliptec/1": ("Simulator", "Simulator/demo"),
        "lab/elliptec/1": ("ElliptecBus", "ElliptecBus/lab_elliptec_1"),
        "lab/rotator/1": ("ELL14", "ElliptecBus/lab_elliptec_1"),
        "lab/rotator/2": ("ELL14", "ElliptecBus/lab_elliptec_1"),
        "archive/demo/1": ("Archiver", "Archiver/demo_1"),
        "project/demo/1": ("Projector", "Projector/demo_1"),
    }


def test_a_simulated_instrument_is_opened_where_its_simulator_serves() -> None:
    """Both sides have the same pseudo-terminal; what shares a line has the line's connection."""
    found = entries(
        [
            {"name": "lab/bus/1", "class": "ElliptecBus", "simulate": {"model": "ell14", "seed": 3}},
            {"name": "lab/rotator/1", "class": "ELL14", "bus": "LAB/bus/1", "properties": {"address": "2"}},
        ]
    )
    terminal = "/run/here/pty/lab_bus_1"
    assert found[Entry("property", "sim/bus/1/pty")] == (terminal,)
    assert found[Entry("property", "sim/bus/1/seed")] == ("3",)
    assert Entry("property", "sim/bus/1/setup") not in found
    for device in ("lab/bus/1", "lab/rotator/1"):
        assert found[Entry("property", f"{device}/connection")] == (f"serial://{terminal}?baud=9600",)
    assert found[Entry("property", "lab/rotator/1/address")] == ("2",)


def test_names_are_lower_case() -> None:
    """Tango tells no upper from lower case, and the database keeps one."""
    found = entries([METER])
    assert found[Entry("device", "lab/power/1")] == ("Newport1830C", "Newport1830C/lab_power_1")


def test_settings_become_properties() -> None:
    """Periods, time-out, serial number and the instrument's own properties, as the database's text."""
    found = entries(
        [
            {
                **METER,
                "poll_period_s": 0.1,
                "timeout_s": 2,
                "expected_serial": "007",
                "properties": {"flags": [1, 2.5, True, "x"], "careful": False},
                "quantities": {"power": {"period_s": 0.05}, "beam": {"period_s": 2, "deadband": 1}},
            }
        ]
    )
    values = {
        entry.name.split("/")[3]: value for entry, value in found.items() if entry.name.startswith("lab/power/1/")
    }
    assert values == {
        "connection": ("tcp://meter:1",),
        "poll_period_s": ("0.1",),
        "timeout_s": ("2.0",),
        "expected_serial": ("007",),
        "flags": ("1", "2.5", "true", "x"),
        "careful": ("false",),
        "quantity_periods_s": ("power=0.05", "beam=2.0"),
        "beam": ("1.0",),
    }


def test_limits_and_deadband_become_attribute_properties() -> None:
    """The deadband is Tango's abs_change; limits keep their names."""
    settings = {"deadband": 1e-9, "min_value": 0, "max_alarm": 0.5, "period_s": 1}
    found = entries([{**METER, "quantities": {"power": settings}}])
    assert {entry.name: value for entry, value in found.items() if entry.kind == "attribute_property"} == {
        "lab/power/1/power/abs_change": ("1e-09",),
        "lab/power/1/power/min_value": ("0.0",),
        "lab/power/1/power/max_alarm": ("0.5",),
    }


def test_a_streaming_server_has_a_stream_device() -> None:
    """It is named after the server and lives in it."""
    found = entries([{"name": "lab/camera/1", "class": "Camera", "connection": "tcp://camera:1"}])
    assert found[Entry("device", "stream/camera/lab_camera_1")] == ("Stream", "Camera/lab_camera_1")


def test_an_archiver_without_files_has_no_projector() -> None:
    """`projections: []` leaves the journal alone."""
    archiver = {"name": "archive/bench/1", "attributes": ["a", "b"], "excluded": ["c"], "projections": []}
    found = entries([], archivers=[archiver])
    assert found[Entry("property", "archive/bench/1/attributes")] == ("a", "b")
    assert found[Entry("property", "archive/bench/1/excluded")] == ("c",)
    assert not [entry for entry in found if "roject" in entry.name]


def test_servers_of_a_public_host_have_ports() -> None:
    """The supervisor has the first three of the range, every other server the next three."""
    host = {"name": "far", "public_host": "far.example", "ports": [100, 108]}
    other = {"name": "near"}
    found = entries([METER, {**METER, "name": "lab/power/2", "host": "near"}], hosts=[host, other])
    ports = {entry.name: value for entry, value in found.items() if entry.name.endswith("/ports")}
    assert ports == {"dserver/Newport1830C/lab_power_1/ports": ("103,104,105",)}
    assert found[Entry("server", "Newport1830C/lab_power_2")] == ("near", "2")
    site = Site.model_validate({"site": "x", "hosts": [host]})
    assert supervisor_ports(site.hosts[0]) == "100,101,102"


def test_too_few_ports_are_refused() -> None:
    """The sentence says which range is needed."""
    host = {"name": "far", "public_host": "far.example", "ports": [100, 104]}
    with pytest.raises(SiteError, match=r"hosts\.0\.ports: its 2 servers need the ports 100 to 105"):
        entries([METER], hosts=[host])


def test_policies_go_from_general_to_particular() -> None:
    """Every server but the supervisor has the general policy, and those that fit a pattern also theirs."""
    supervision = {
        "restart": "permanent",
        "max_restarts": 5,
        "servers": {"Newport1830C/*": {"max_restarts": 9}, "*/lab_power_1": {"restart": "transient"}},
    }
    found = entries([METER, {**METER, "name": "lab/power/2"}], supervision=supervision)
    policy = {entry.name: value for entry, value in found.items() if entry.name.startswith("dserver/")}
    assert policy == {
        "dserver/Newport1830C/lab_power_1/restart": ("transient",),
        "dserver/Newport1830C/lab_power_1/max_restarts": ("9",),
        "dserver/Newport1830C/lab_power_2/restart": ("permanent",),
        "dserver/Newport1830C/lab_power_2/max_restarts": ("9",),
    }
    assert Entry("property", "dserver/Newport1830C/lab_power_1/restart").parent in found


@pytest.mark.parametrize(
    ("instrument", "said"),
    [
        ({"class": "Newport1830"}, r"instruments\.1\.class: there is no class Newport1830; did you mean Newport1830C"),
        ({"class": "Zzz"}, r"instruments\.1\.class: there is no class Zzz; known are: Archiver, "),
        ({"class": "ELL14", "connection": None, "bus": "lab/power/1"}, r"instruments\.1\.bus: a ELL14 cannot be on"),
    ],
)
def test_a_class_has_to_exist_and_fit_its_line(instrument: dict[str, object], said: str) -> None:
    """What no server has is refused, with what is near."""
    with pytest.raises(SiteError, match=said):
        entries([METER, {**METER, "name": "lab/other/1", **instrument}])


def test_what_cannot_be_is_said_with_its_line(tmp_path: Path) -> None:
    """An unknown class is found at its place in the file."""
    path = tmp_path / "site.yaml"
    path.write_text("site: x\ninstruments:\n  - name: a/b/c\n    class: Nope\n    connection: tcp://a:1\n")
    with pytest.raises(SiteError, match=r"site\.yaml:4: instruments\.0\.class: there is no class Nope; known"):
        desired_of(read_site(path, {}), RUN, SERVERS)


def test_devices_are_made_after_their_servers_and_before_their_properties() -> None:
    """The order of the entries is the order in which they can be made."""
    order = list(entries([METER]))
    server, device = Entry("server", "Newport1830C/lab_power_1"), Entry("device", "lab/power/1")
    assert order.index(server) < order.index(device) < order.index(Entry("property", "lab/power/1/connection"))
