"""Seconds until ten servers answer: forked by spawner and supervisor, against ten interpreters of their own.

Both with a real database, the same servers and the same condition: every device answers a ping.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tango

from tests.support import Process, TangoDatabase, wait_until

SERVERS = 10
HOST = "bench"


def register(database: TangoDatabase, directory: Path) -> list[str]:
    """Register the servers for the supervisor; return their devices."""
    database.register(f"Supervisor/{HOST}", {f"tango/admin/{HOST}": "Supervisor"})
    connection = tango.Database("127.0.0.1", database.port)
    devices = []
    for n in range(SERVERS):
        server, device = f"Simulator/bench_{n}", f"sim/bench/{n}"
        properties = {device: {"model": "newport_1830c", "pty": directory / "pty" / str(n)}}
        database.register(server, {device: "Simulator"}, properties)
        info = tango.DbServerInfo()
        info.name, info.host, info.mode, info.level = server, HOST, 1, 2
        connection.put_server_info(info)
        connection.put_device_property(f"dserver/{server}", {"host": [HOST]})
        devices.append(device)
    return devices


def answer(database: TangoDatabase, devices: list[str]) -> None:
    """Wait until every device answers."""
    for name in devices:
        wait_until(lambda name=name: database.device(name).ping() >= 0, 60, f"{name} answers", every_s=0.01)


def forked(database: TangoDatabase, run: Path, devices: list[str]) -> tuple[float, float]:
    """Seconds from starting the spawner until all answer, and the proportional memory of a server in MiB."""
    environment = {"TANGO_HOST": database.tango_host, "BANDONEON_RUN_DIR": str(run), "BANDONEON_HOST": HOST}
    began_s = time.perf_counter()
    command = [sys.executable, "-m", "device_servers.supervisor.spawner", "--run", str(run), "--host", HOST]
    with Process(command, run / "spawner.log", environment):
        answer(database, devices)
        elapsed_s = time.perf_counter() - began_s
        children = json.loads((run / "state.json").read_text())["children"]
        pids = [child["pid"] for name, child in children.items() if name.startswith("Simulator/")]
        return elapsed_s, sum(map(proportional_mib, pids)) / len(pids)


def interpreted(database: TangoDatabase, devices: list[str]) -> tuple[float, float]:
    """The same with an interpreter for each server."""
    began_s = time.perf_counter()
    processes = [database.server("Simulator", f"bench_{n}") for n in range(SERVERS)]
    try:
        answer(database, devices)
        elapsed_s = time.perf_counter() - began_s
        return elapsed_s, sum(proportional_mib(process.pid) for process in processes) / SERVERS
    finally:
        for process in processes:
            process.stop()


def proportional_mib(pid: int) -> float:
    """A process's proportional share of memory (PSS of proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run() -> list[dict[str, Any]]:
    """Measure both, each on a database of its own."""
    figures: list[tuple[float, float]] = []
    for how in ("forked", "interpreted"):
        with tempfile.TemporaryDirectory() as name, TangoDatabase(Path(name) / "database") as database:
            os.environ["TANGO_HOST"] = database.tango_host
            devices = register(database, Path(name))
            figures.append(
                forked(database, Path(name) / "run", devices) if how == "forked" else interpreted(database, devices)
            )
    (ours_s, ours_mib), (theirs_s, theirs_mib) = figures
    rival = "an interpreter for each server"
    return [
        {
            "metric": f"{SERVERS} servers answer",
            "value": ours_s,
            "unit": "s",
            "rival": rival,
            "rival_value": theirs_s,
            "ratio": ours_s / theirs_s,
        },
        {
            "metric": "memory of a server (proportional)",
            "value": ours_mib,
            "unit": "MiB",
            "rival": rival,
            "rival_value": theirs_mib,
            "ratio": ours_mib / theirs_mib,
        },
    ]
