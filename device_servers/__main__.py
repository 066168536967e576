"""`python -m device_servers CLASS INSTANCE`: run a server, as the supervisor does."""

import importlib
import os
import sys

import setproctitle
import tango

from bandoneon.logging import configure, get_logger
from bandoneon.tangolink.proxy import sentence
from bandoneon.tangolink.server import EXIT_DATABASE_UNREACHABLE, database_answers, serve
from device_servers.core import lifecycle
from device_servers.registry import SERVERS


def main(arguments: list[str]) -> int:
    """Run the server that `arguments` (class, instance) name; return the exit status."""
    if len(arguments) != 2:
        print("usage: python -m device_servers CLASS INSTANCE", file=sys.stderr)  # noqa: T201
        return 2
    if arguments[0] not in SERVERS:
        print(f"there is no server class {arguments[0]} here; known are {', '.join(SERVERS)}", file=sys.stderr)  # noqa: T201
        return 2
    name, instance = arguments
    setproctitle.setproctitle(f"python -m device_servers {name} {instance}")
    configure(os.environ.get("BANDONEON_LOG_LEVEL", "INFO"), server=f"{name}/{instance}")
    log = get_logger()
    server = SERVERS[name]
    module = importlib.import_module(server.module)
    classes = [getattr(module, device) for device in server.devices]
    if server.streams:
        classes.append(importlib.import_module("device_servers.core.stream").Stream)
    if not database_answers():
        # cppTango would leave with 255, as for a server that is wrong itself
        log.error("not started", reason="the Tango database does not answer")
        return EXIT_DATABASE_UNREACHABLE
    try:
        serve(classes, name, instance, streams=server.streams)
    except tango.DevFailed as error:
        log.error("not started", reason=sentence(error, f"{name}/{instance}"))
        return EXIT_DATABASE_UNREACHABLE if refused_by_database(error) else 1
    finally:
        lifecycle.make_all_safe()
    return 0


def refused_by_database(error: tango.DevFailed) -> bool:
    """Whether a command of the Tango database failed, because its disk is full for one: the server is not to blame."""
    return any("on device sys/database/" in str(entry.desc) for entry in error.args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
