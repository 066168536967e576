"""Brings a site up as far as its supervisor: spawner, database, what the site file asks of it, supervisor."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tango

from bandoneon.cli import processes
from bandoneon.cli.inquiry import supervisor_of
from bandoneon.cli.options import DEMO, CommandError
from bandoneon.cli.report import REPORT
from bandoneon.cli.wanted import wanted_of
from bandoneon.site.database import SiteDatabase
from bandoneon.site.desired import Entry, Value, supervisor_ports
from bandoneon.site.diff import Plan
from bandoneon.site.reach import address, endpoint, reach
from bandoneon.site.reader import SiteFile
from bandoneon.site.running import RunningSite, default_data, default_root
from device_servers.supervisor.spawner_client import DATABASE, SpawnerClient

DATABASE_PORT = 10000
DATABASE_TIMEOUT_S = 15.0
SPACE_NEEDED = 1 << 20
"""So many bytes have to be free for a site to come up: its database alone takes a quarter of them."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Launched:
    """A site that was brought up, or was up already, and what that changed in its database.

    `expected` are the servers that have to run on this host, `outdated` those with their pids that run with entries
    of before a change.
    """

    site: RunningSite
    already: bool
    plan: Plan
    expected: set[str]
    outdated: dict[str, int]


def launch(file: SiteFile, data: Path | None, say: Say) -> Launched:
    """Bring a site up as far as its supervisor; a site that is up already only gets the changes."""
    site, run = file.site, default_root() / file.site.site
    wanted = wanted_of(file)
    _need_writable(run, "run directory", "set BANDONEON_RUN to another")
    with _alone(run), contextlib.ExitStack() as claims:
        known = _known(run)
        already = known is not None and processes.spawner_pid(known) is not None
        if already and known is not None and data is not None and data != known.data:
            raise CommandError(
                f"{site.site} is up with its data in {known.data}: `down` first, then give --data {data}"
            )
        running = RunningSite(
            site=site.site,
            tango_host=_tango_host(file, known, already, claims),
            data=_data_of(site.site, known, already, data),
            run=run,
            host=site.hosts[0].name,
            hosts=[host.name for host in site.hosts],
            panels=site.panels.model_dump(exclude_none=True),
            may_end=may_end(wanted),
            file="" if file.path.resolve() == DEMO else str(file.path.resolve()),
        )
        environment = _environment(file, running)
        os.environ["TANGO_HOST"] = running.tango_host
        before = processes.children(running)
        if not already:
            _need_writable(running.data, "data directory", "name another by --data DIR")
            (run / REPORT).unlink(missing_ok=True)  # the last supervisor's, which `status` would take for news
        try:
            if not already:
                say("Starting the spawner")
                processes.start_spawner(running, environment)
            plan = _level_0(file, running, wanted, environment, say)
            return Launched(running, already, plan, servers_of(running.host, wanted), outdated(running))
        except BaseException:
            if not already and not before:
                processes.stop(running, say)  # half a site would be in the way of the next try
            raise


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
        if supervisor in living and _supervisor_hangs(running):
            say("Restarting the supervisor, which hangs")
            living[supervisor].send(signal.SIGKILL)  # the spawner starts another one, which adopts the servers
        elif supervisor not in living:
            say("Starting the supervisor")
            _fork(spawner, running, supervisor, "device_servers", supervisor.split("/"), environment)
    running.pids = _pids(running)
    running.write()
    return plan


def _supervisor_hangs(running: RunningSite) -> bool:
    """Whether this host's supervisor has a port and does not answer there; one that still starts has none."""
    reference = SiteDatabase(running.tango_host).reference(supervisor_of(running.host))
    return bool(reference) and reach(endpoint(reference)) == "silent"


def servers_of(host: str, wanted: dict[Entry, Value]) -> set[str]:
    """Return the servers that a host's supervisor keeps running."""
    return {
        entry.name for entry, value in wanted.items() if entry.kind == "server" and value[0] == host and value[1] != "0"
    }


def may_end(wanted: dict[Entry, Value]) -> list[str]:
    """Return the servers whose policy lets them end well."""
    return sorted(
        entry.parent.name
        for entry, value in wanted.items()
        if entry.parent.kind == "server" and entry.name.endswith("/restart") and value[0] != "permanent"
    )


def outdated(running: RunningSite) -> dict[str, int]:
    """Return the servers that run here since before their entries changed in the database, with their pids."""
    living = {name: process for name, process in processes.children(running).items() if process.level > 0}
    changed_ns = SiteDatabase(running.tango_host).changed_ns(living)
    return {name: living[name].pid for name, at_ns in changed_ns.items() if living[name].started_ns < at_ns}


def _need_writable(directory: Path, what: str, instead: str) -> None:
    """Make a directory and see to it that files can be made there, and that its disk is not full."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700 if what == "run directory" else 0o777)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(SPACE_NEEDED))
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


def _data_of(site: str, known: RunningSite | None, already: bool, data: Path | None) -> Path:
    """Return where a site's data goes: as asked for, as the environment says, where it was last time, or data/SITE."""
    if data is not None:
        return data
    if known is not None and (already or "BANDONEON_DATA" not in os.environ):
        return known.data
    return default_data(site)


def _tango_host(file: SiteFile, known: RunningSite | None, already: bool, claims: contextlib.ExitStack) -> str:
    """Return the database's address: configured, the one of last time, 10000, or any free port.

    A port that is free is held in `claims`, for another site may be brought up at this moment.
    """
    database = file.site.database
    if database.host is not None:
        return database.host
    if known is not None and (already or DATABASE in processes.children(known)):
        return known.tango_host
    remembered = [] if known is None else [address(known.tango_host)[1]]
    wanted = [*remembered, DATABASE_PORT, 0, 0, 0] if database.port is None else [database.port]
    port = next(filter(None, map(processes.claim_port, wanted)), None)
    if port is None:
        raise CommandError(f"port {wanted[0]} is in use: change `database: port:` in {file.path}, or leave it out")
    claims.enter_context(port.claim)
    return f"127.0.0.1:{port.number}"


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
    host, port = address(running.tango_host)
    sqlite = {"PYTANGO_DATABASE_NAME": str(running.run / "database.sqlite")}
    arguments = ["--host", host, "--port", str(port), DATABASE.split("/")[1]]
    _fork(spawner, running, DATABASE, "databaseds.database", arguments, {**environment, **sqlite})


def _wait_for_database(running: RunningSite, *, embedded: bool) -> None:
    """Wait until the database answers; an embedded one has to be ours and not one that took the port meanwhile."""
    log = running.logs / f"{DATABASE.replace('/', '_')}.log"

    def ready() -> bool:
        try:
            database = tango.Database(*address(running.tango_host))
            pid = database.get_device_info("sys/database/2").pid if embedded else 0
        except tango.DevFailed:
            return False
        own = processes.children(running).get(DATABASE)
        return not embedded or (own is not None and pid == own.pid)

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
    found = {name: process.pid for name, process in processes.children(running).items() if name in names}
    spawner = processes.spawner_pid(running)
    return found if spawner is None else {"spawner": spawner, **found}
