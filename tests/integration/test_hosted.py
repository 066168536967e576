"""Which servers of a Tango database a host's supervisor takes for its own."""

import pytest
import structlog
import tango

from device_servers.supervisor.fleet import Registered
from device_servers.supervisor.hosted import hosted_servers
from device_servers.supervisor.policy import Policy
from tests.support import TangoDatabase


def register(database: TangoDatabase, server: str, *, mode: int, level: int, **properties: str) -> None:
    """Register a server with one device, and how it is to be kept."""
    database.register(server, {f"test/{server.lower()}": "Device"})
    tango_database = tango.Database("127.0.0.1", database.port)
    info = tango.DbServerInfo()
    info.name, info.host, info.mode, info.level = server, properties.get("host", ""), mode, level
    tango_database.put_server_info(info)
    tango_database.put_device_property(f"dserver/{server}", {key: [value] for key, value in properties.items()})


def test_a_host_has_the_servers_that_are_given_to_it_and_controlled(
    database: TangoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of another host, those nobody is to control, the supervisor itself, or what somebody made by hand."""
    monkeypatch.setenv("TANGO_HOST", database.tango_host)
    register(database, "Meter/1", mode=1, level=2, host="here", max_restarts="7", ports="1,2,3")
    register(database, "Meter/odd", mode=1, level=3, host="here", restart="sometimes")
    register(database, "Meter/far", mode=1, level=2, host="there")
    register(database, "Meter/free", mode=0, level=2, host="here")
    register(database, "Supervisor/here", mode=1, level=0, host="here")
    database.register("Stray/1", {"test/stray/1": "Stray"})
    found = {server.name: server for server in hosted_servers("here", structlog.get_logger())}
    ports = (("BANDONEON_PORTS", "1,2,3"),)
    assert found == {
        "Meter/1": Registered("Meter/1", ("test/meter/1",), 2, Policy(max_restarts=7), ports),
        "Meter/odd": Registered("Meter/odd", ("test/meter/odd",), 3, Policy()),
    }
