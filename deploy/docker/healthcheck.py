"""Container health checks that cost a few milliseconds: no Tango library is loaded.

Usage: healthcheck.py database HOST PORT     the Tango database answers on its CORBA port
       healthcheck.py host REPORT            the supervisor wrote REPORT within 5 s and every server is running

The first sends a GIOP 1.0 LocateRequest for the database's object and expects a LocateReply (CORBA 3.0,
section 15.4.6); it proves that the server's ORB is alive, not only that a port is open.
"""

import json
import socket
import struct
import sys
import time
from pathlib import Path

TIMEOUT_S = 2.0
REPORT_AGE_S = 5.0
LOCATE_REQUEST, LOCATE_REPLY = 3, 4


def check_database(host: str, port: int) -> str:
    """Return what is wrong with a Tango database, "" when it answers."""
    key = b"database"
    body = struct.pack("<II", 1, len(key)) + key
    message = struct.pack("<4sBBBBI", b"GIOP", 1, 0, 1, LOCATE_REQUEST, len(body)) + body
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.sendall(message)
            header = connection.recv(12, socket.MSG_WAITALL)
    except OSError as error:
        return f"{host}:{port}: {error}"
    if len(header) < 12 or header[:4] != b"GIOP" or header[7] != LOCATE_REPLY:
        return f"{host}:{port} does not answer as a CORBA server"
    return ""


def check_host(report: Path) -> str:
    """Return what is wrong with a host's servers, "" when all of them run."""
    try:
        age_s = time.time() - report.stat().st_mtime
        servers = json.loads(report.read_text())["servers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"no report of the supervisor: {error}"
    if age_s > REPORT_AGE_S:
        return f"the supervisor's report is {age_s:.0f} s old"
    waiting = [f"{server['name']} is {server['state']}" for server in servers if server["state"] != "running"]
    return "; ".join(waiting) if servers else "no server is registered for this host"


def main(arguments: list[str]) -> int:
    """Print what is wrong; return 0 when healthy."""
    match arguments:
        case ["database", host, port]:
            wrong = check_database(host, int(port))
        case ["host", report]:
            wrong = check_host(Path(report))
        case _:
            wrong = __doc__ or ""
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
