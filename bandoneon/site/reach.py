"""Whether a Tango database or server answers, found out in time and without Tango, which takes ten seconds."""

import socket
import struct
import time
from typing import Final, Literal

Reach = Literal["answers", "silent", "unreachable"]

PROBE_TIMEOUT_S: Final = 2.0

_LOCATE_REQUEST: Final = 3
_LOCATE_REPLY: Final = 4
_HEADER: Final = struct.Struct("<4sBBBBI")
"""Of every GIOP message (CORBA 3.0, 15.4.1): magic, version, byte order, message type, length of what follows."""


def address(tango_host: str) -> tuple[str, int]:
    """Return name and port of a TANGO_HOST, of its first database when it lists several; ValueError for none."""
    name, _, port = tango_host.split(",")[0].strip().rpartition(":")
    if not name or not port.isdigit():
        raise ValueError(f"{tango_host!r} has to be NAME:PORT")
    return name, int(port)


def endpoint(reference: str) -> tuple[str, int]:
    """Return name and port in an object reference (`IOR:…`, CORBA 3.0, 13.6.10), of its first profile."""
    data = bytes.fromhex(reference.removeprefix("IOR:"))
    order = "<" if data[0] else ">"
    (length,) = struct.unpack_from(f"{order}I", data, 4)
    at = (8 + length + 3) // 4 * 4 + 12  # behind type id, number of profiles, and the first one's tag and length
    order = "<" if data[at] else ">"
    (length,) = struct.unpack_from(f"{order}I", data, at + 4)
    name = data[at + 8 : at + 8 + length - 1].decode()
    (port,) = struct.unpack_from(f"{order}H", data, at + (8 + length + 1) // 2 * 2)
    return name, port


def reach(place: tuple[str, int], timeout_s: float = PROBE_TIMEOUT_S) -> Reach:
    """Return whether the server at `place` answers, is silent though its port is open, or is not there.

    A GIOP LocateRequest (CORBA 3.0, 15.4.6) proves that its ORB is alive, whatever object it is for.
    """
    key = b"database"
    body = struct.pack("<II", 1, len(key)) + key
    deadline_s = time.monotonic() + timeout_s
    try:
        connection = socket.create_connection(place, timeout_s)
    except OSError:
        return "unreachable"
    with connection:
        try:
            connection.sendall(_HEADER.pack(b"GIOP", 1, 0, 1, _LOCATE_REQUEST, len(body)) + body)
            header = b""
            while len(header) < _HEADER.size:
                connection.settimeout(max(0.001, deadline_s - time.monotonic()))
                part = connection.recv(_HEADER.size - len(header))
                if not part:
                    return "silent"
                header += part
        except OSError:
            return "silent"
    magic, *_, kind, _length = _HEADER.unpack(header)
    return "answers" if (magic, kind) == (b"GIOP", _LOCATE_REPLY) else "silent"
