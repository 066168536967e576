"""Whether a Tango database answers, without Tango: within its time, whatever is wrong with it."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import tango

from bandoneon.site.reach import address, endpoint, reach
from tests.support import TangoDatabase, free_port


@pytest.mark.parametrize(
    ("tango_host", "place"),
    [("host:10000", ("host", 10000)), ("a:1,b:2", ("a", 1)), ("lab.example.org:7", ("lab.example.org", 7))],
)
def test_an_address_is_that_of_the_first_database(tango_host: str, place: tuple[str, int]) -> None:
    """TANGO_HOST may list several."""
    assert address(tango_host) == place


@pytest.mark.parametrize("tango_host", ["", "host", "host:", ":1", "host:many"])
def test_what_is_no_address_is_refused(tango_host: str) -> None:
    """The sentence says what it has to be."""
    with pytest.raises(ValueError, match="has to be NAME:PORT"):
        address(tango_host)


def test_a_database_answers_and_a_frozen_one_is_silent(tmp_path: Path) -> None:
    """A port that is open proves nothing: the server behind it may be stopped; the answer is there in time."""
    with TangoDatabase(tmp_path) as database:
        place = address(database.tango_host)
        assert reach(place) == "answers"
        reference = tango.Database(*place).import_device("sys/database/2").ior
        assert endpoint(reference) == place
        assert database.process is not None
        os.kill(database.process.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        assert reach(place, timeout_s=0.3) == "silent"
        assert time.monotonic() - began_s < 2
    assert reach(place) == "unreachable"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n"])
def test_what_is_no_database_is_silent(answer: bytes) -> None:
    """Something else listens there, or hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.listen()
        place = listener.getsockname()
        with socket.create_connection(place) as other:
            theirs, _ = listener.accept()
            with theirs:
                theirs.sendall(answer)
            other.recv(1)
        assert reach(place, timeout_s=0.1) == "silent"
    assert reach(("127.0.0.1", free_port())) == "unreachable"
