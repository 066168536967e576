"""Brings a site up: spawner, database, what the site file asks of it, supervisor; and waits for the servers."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tango

from bandoneon.cli import processes
from bandoneon.cli.inquiry import ask, supervisor_of
from bandoneon.cli.options import CommandError, Target
from bandoneon.cli.report import REPORT, Report, from_files
from bandoneon.site.database import SiteDatabase
from bandoneon.site.desired import Entry, Value, desired_of, supervisor_ports
from bandoneon.site.diff import Plan
from bandoneon.site.reader import SiteFile
from bandoneon.site.running import RunningSite, default_data, default_root
from bandoneon.tangolink.proxy import device
from device_servers.registry import SERVERS
from device_servers.supervisor.spawner_client import SpawnerClient

DATABASE = "DataBaseds/2"
"""Name of the embedded database's server: its device is sys/database/2."""

DATABASE_PORT = 10000
DATABASE_TIMEOUT_S = 15.0
READY_TIMEOUT_S = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Launched:
    """A site that was brought up, or was up already, and what that changed in its database."""

    site: RunningSite
    already: bool
    plan: Plan


def data_of(file: SiteFile, data: Path | None) -> Path:
    """Return where a site's data goes when it is not up yet."""
    return data or default_data(file.site.site)


def launch(file: SiteFile, data: Path | None, say: Say) -> Launched:
    """Bring a site up as far as its supervisor; a site that is up already only gets the changes."""
    site, run = file.site, default_root() / file.site.site
    wanted = desired_of(file, run, SERVERS)
    _need_writable(run, "run directory", "set BANDONEON_RUN to another")
    with _alone(run):
        known = _known(run)
        already = known is not None and processes.spawner_pid(known) is not None
        if already and known is not None and data is not None and data != known.data:
            raise CommandError(
                f"{site.site} is up with its data in {known.data}: `down` first, then give --data {data}"
            )
        running = RunningSite(
            site=site.site,
            tango_host=_tango_host(file, known, already),
            data=known.data if already and known is not None else data_of(file, data),
            run=run,
            host=site.hosts[0].name,
            hosts=[host.name for host in site.hosts],
            panels=site.panels.model_dump(exclude_none=True),
        )
        environment = _environment(file, running)
        os.environ["TANGO_HOST"] = running.tango_host
        before = processes.children(running)
        if not already:
            _need_writable(running.data, "data directory", "name another by --data DIR")
            (run / REPORT).unlink(missing_ok=True)  # the last supervisor's, which `status` would take for news
            say("Starting the spawner")
            processes.start_spawner(running, environment)
        try:
            plan = _level_0(file, running, wanted, environment, say)
        except BaseException:
            if not already and not before:
                processes.stop(running, say)  # half a site would be in the way of the next try
            raise
    return Launched(running, already, plan)


def _level_0(
    file: SiteFile, running: RunningSite, wanted: dict[Entry, Value], environment: dict[str, str], say: Say
) -> Plan:
    """Start what the spawner's other children need: database, its entries, supervisor."""
    embedded = file.site.database.kind == "embedded"
    with contextlib.closing(SpawnerClient(running.socket)) as spawner:
        living = processes.children(running)
        if embedded and DATABASE not in living:
            say(f"Starting the Tango database at {running.tango_host}")
            _fork_database(spawner, running, environment)
        _wait_for_database(running, embedded=embedded)
        plan = _apply(file, running, wanted, say)
        running.write()
        supervisor = f"Supervisor/{running.host}"
        if supervisor not in living:
            say("Starting the supervisor")
            _fork(spawner, running, supervisor, "device_servers", supervisor.split("/"), environment)
    running.pids = _pids(running)
    running.write()
    return plan


def _need_writable(directory: Path, what: str, instead: str) -> None:
    """Make a directory and see to it that files can be made there."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700 if what == "run directory" else 0o777)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise CommandError(f"the {what} {directory} cannot be written ({error.strerror}): {instead}") from None


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Let only one `up` of a site work at a time."""
    with (run / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another `up` of {run.name} is at work: wait for it to end") from None
        yield


def _known(run: Path) -> RunningSite | None:
    """Return what is remembered of the site from last time."""
    return RunningSite.find(run.parent, run.name) if (run / "site.json").exists() else None


def _tango_host(file: SiteFile, known: RunningSite | None, already: bool) -> str:
    """Return the database's address: configured, the one of last time, 10000, or any free port."""
    database = file.site.database
    if database.host is not None:
        return database.host
    if known is not None and (already or DATABASE in processes.children(known)):
        return known.tango_host
    if database.port is not None:
        if processes.free_port(database.port) is None:
            raise CommandError(
                f"port {database.port} is in use: change `database: port:` in {file.path}, or leave it out"
            )
        return f"127.0.0.1:{database.port}"
    remembered = [] if known is None else [int(known.tango_host.rpartition(":")[2])]
    free = (processes.free_port(port) for port in [*remembered, DATABASE_PORT])
    return f"127.0.0.1:{next(filter(None, free), None) or processes.free_port()}"


def _environment(file: SiteFile, running: RunningSite) -> dict[str, str]:
    """Return what every process of the site gets."""
    host = file.site.hosts[0]
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        "TANGO_HOST": running.tango_host,
        "BANDONEON_RUN_DIR": str(running.run),
        "BANDONEON_DATA": str(running.data),
        "BANDONEON_SITE": running.site,
        "BANDONEON_HOST": running.host,
        "BANDONEON_LOG_LEVEL": os.environ.get("BANDONEON_LOG_LEVEL", "INFO"),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    if host.public_host is not None:
        environment["BANDONEON_PUBLIC_HOST"] = host.public_host
    if host.ports is not None:
        environment["BANDONEON_PORTS"] = supervisor_ports(host)
    return environment


def _fork(
    spawner: SpawnerClient, running: RunningSite, name: str, module: str, argv: list[str], environment: dict[str, str]
) -> None:
    log = running.logs / f"{name.replace('/', '_')}.log"
    spawner.fork(name=name, module=module, argv=argv, env=environment, log=str(log), level=0)


def _fork_database(spawner: SpawnerClient, running: RunningSite, environment: dict[str, str]) -> None:
    host, _, port = running.tango_host.partition(":")
    sqlite = {"PYTANGO_DATABASE_NAME": str(running.run / "database.sqlite")}
    arguments = ["--host", host, "--port", port, DATABASE.split("/")[1]]
    _fork(spawner, running, DATABASE, "databaseds.database", arguments, {**environment, **sqlite})


def _wait_for_database(running: RunningSite, *, embedded: bool) -> None:
    """Wait until the database answers; an embedded one has to be ours and not one that took the port meanwhile."""
    log = running.logs / f"{DATABASE.replace('/', '_')}.log"

    def ready() -> bool:
        host, _, port = running.tango_host.partition(":")
        try:
            database = tango.Database(host, int(port))
            pid = database.get_device_info("sys/database/2").pid if embedded else 0
        except tango.DevFailed:
            return False
        return not embedded or pid == processes.children(running).get(DATABASE)

    if not processes.wait_for(ready, DATABASE_TIMEOUT_S, 0.05):
        where = f": see {log}" if embedded else ": is it running, and is `database: host:` right?"
        raise CommandError(f"no Tango database of this site answers at {running.tango_host}{where}")


def _apply(file: SiteFile, running: RunningSite, wanted: dict[Entry, Value], say: Say) -> Plan:
    database = SiteDatabase(running.tango_host)
    plan = database.plan(file.site.site, wanted, adopt=file.site.adopt)
    for override in file.overrides:
        say(f"{override.variable} overrides {override.key}")
    if plan.changes:
        say(f"Applying {len(plan.changes)} changes to the database")
        database.apply(file.site.site, wanted, plan)
    return plan


def _pids(running: RunningSite) -> dict[str, int]:
    names = (DATABASE, f"Supervisor/{running.host}")
    found = {name: pid for name, pid in processes.children(running).items() if name in names}
    spawner = processes.spawner_pid(running)
    return found if spawner is None else {"spawner": spawner, **found}


def changed_servers(plan: Plan, wanted: dict[Entry, tuple[str, ...]]) -> list[str]:
    """Return the servers that a plan changes although they exist: they have to start again to see it."""
    made = {change.entry.name for change in plan.changes if change.action == "create" and change.entry.kind == "server"}
    found: list[str] = []
    for change in plan.changes:
        parent = change.entry.parent
        server = parent.name if parent.kind == "server" else wanted.get(parent, ("", ""))[1]
        if server and server not in made and not server.startswith("Supervisor/") and server not in found:
            found.append(server)
    return found


def restart_changed(launched: Launched, file: SiteFile, say: Say) -> None:
    """Let the supervisor restart what the plan changed, and start what is new."""
    if not launched.already or not launched.plan.changes:
        return
    supervisor = device(supervisor_of(launched.site.host))
    supervisor.command_inout("UpdateServersInfo")
    for server in changed_servers(launched.plan, desired_of(file, launched.site.run, SERVERS)):
        say(f"Restarting {server}")
        supervisor.command_inout("DevRestart", server)


def wait_until_ready(running: RunningSite, expected: set[str], progress: Callable[[Report, set[str]], None]) -> Report:
    """Wait until all `expected` servers run and answer; `progress` is told what runs. Raises CommandError."""
    found = Target(running.tango_host, running, running.data)
    deadline = time.monotonic() + READY_TIMEOUT_S
    problem = "the supervisor does not answer"
    answering: set[str] = set()
    while time.monotonic() < deadline:
        try:
            now = ask(found)
        except CommandError as error:
            problem = str(error)
            time.sleep(0.1)
            continue
        states: dict[str, Any] = {server["name"]: server for server in now.servers}
        running_now = {name for name in expected if states.get(name, {}).get("state") == "running"}
        answering = {name for name in running_now if name in answering or _answers(name)}
        progress(now, answering)
        if answering == expected and now.ready and _told(found):
            return now
        bad = {name: states[name] for name in expected - answering if states.get(name, {}).get("state") == "given_up"}
        problem = _problem(expected - answering, states, now)
        if bad and expected - answering == set(bad):
            break
        time.sleep(0.1)
    raise CommandError(f"{running.site} is up, but not all of it: {problem}")


def _told(found: Target) -> bool:
    """Whether `status`, which looks at files first, says ready too: they are up to a second late."""
    written = from_files(found)
    return written is None or written.ready


def _problem(missing: set[str], states: dict[str, Any], now: Report) -> str:
    parts: list[str] = []
    for name in sorted(missing):
        server = states.get(name, {"state": "unknown to the supervisor"})
        last = f" (last exit: {server['last_exit']})" if server.get("last_exit") else ""
        parts.append(f"{name} is {server['state']}{last}, see `./run logs {name}`")
    if not parts:
        parts = [f"{one['device']} is {one['state']}" for one in now.archivers if one["state"] not in ("ON", "RUNNING")]
    return "; ".join(parts) or "some server of an earlier site file does not run, see `./run status`"


def _answers(server: str) -> bool:
    try:
        device(f"dserver/{server}", 1.0).ping()
    except tango.DevFailed:
        return False
    return True
