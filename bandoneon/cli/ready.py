"""Waits for the servers of a site that was brought up, starting again what is stopped or runs with old entries."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tango

from bandoneon.cli.inquiry import ask, supervisor_of
from bandoneon.cli.launch import Launched, Say
from bandoneon.cli.options import CommandError, Target
from bandoneon.cli.report import HEALTHY, Report, from_files
from bandoneon.tangolink.proxy import device, sentence

READY_TIMEOUT_S = 60.0
ASK_EVERY_S = 0.1

Progress = Callable[[int], None]
"""Is told how many servers run."""


def wait_until_ready(launched: Launched, say: Say, progress: Progress) -> None:
    """Wait until all servers of this host run and answer; raise CommandError when they do not in time."""
    waiting = _Waiting(launched, say)
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and not waiting.hopeless:
        if waiting.turn(progress):
            return
        time.sleep(ASK_EVERY_S)
    raise CommandError(f"{launched.site.site} is up, but not all of it: {waiting.problem}")


@dataclass
class _Waiting:
    """What is waited for, and what was seen so far. `before`: the server as it was when it was asked to start anew."""

    launched: Launched
    say: Say
    problem: str = "the supervisor does not answer"
    hopeless: bool = False
    reread: bool = False
    before: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    seen: set[str] = field(default_factory=set[str])
    answering: set[str] = field(default_factory=set[str])

    def turn(self, progress: Progress) -> bool:
        """Ask once; return whether all is well."""
        site, expected = self.launched.site, self.launched.expected
        try:
            supervisor = device(supervisor_of(site.host))
            if not self.reread:
                supervisor.command_inout("UpdateServersInfo")
                self.reread = True
            now = ask(Target(site.tango_host, site, site.data), [site.host])
            rows = {server["name"]: server for server in now.servers}
            for name in sorted(expected & rows.keys() - self.seen):
                self._start_anew(supervisor, rows[name])
        except tango.DevFailed as error:
            self.problem = sentence(error, f"the supervisor of {site.host}")
            return False
        except CommandError as error:
            self.problem = str(error)
            return False
        now.may_end = frozenset(site.may_end)
        fresh = {name: rows[name] for name in expected & rows.keys() if self._is_fresh(rows[name])}
        ended = {name for name, row in fresh.items() if now.ended_well(row)}
        running = {name for name, row in fresh.items() if row["state"] == "running"}
        self.answering = {name for name in running if name in self.answering or _answers(name)}
        progress(len(self.answering | ended))
        missing = expected - self.answering - ended
        if not missing and now.ready and self._told():
            return True
        self.problem = "; ".join(now.problems) or _problem(missing, rows, now)
        self.hopeless = bool(missing) and all(name in fresh and self._is_over(fresh[name]) for name in missing)
        return False

    def _start_anew(self, supervisor: tango.DeviceProxy, row: dict[str, Any]) -> None:
        """Restart a server that runs with old entries; start one that is stopped or given up on a site that was up."""
        name = row["name"]
        if row["pid"] is not None and row["pid"] == self.launched.outdated.get(name):
            self.say(f"Restarting {name}")
            supervisor.command_inout("DevRestart", name)
            self.before[name] = row
        elif self.launched.already and row["state"] in ("stopped", "given_up"):
            self.say(f"Starting {name}, which is {row['state'].replace('_', ' ')}")
            supervisor.command_inout("DevStart", name)
            self.before[name] = row
        self.seen.add(name)

    def _is_fresh(self, row: dict[str, Any]) -> bool:
        """Whether a row is of after the start that was asked for, if one was: the supervisor only queues it."""
        before = self.before.get(row["name"])
        if before is None or row["pid"] != before["pid"]:
            return True
        return before["pid"] is None and row["since"] != before["since"]

    def _is_over(self, row: dict[str, Any]) -> bool:
        """Whether a server will not run any more by itself."""
        ended = row["state"] == "stopped" and row["last_exit"] is not None
        return row["state"] == "given_up" or (ended and row["name"] in self.launched.site.may_end)

    def _told(self) -> bool:
        """Whether `status` says ready too: where it looks at files, they are up to a second late."""
        site = self.launched.site
        return site.hosts != [site.host] or from_files(site).ready


def _problem(missing: set[str], rows: dict[str, Any], now: Report) -> str:
    parts: list[str] = []
    for name in sorted(missing):
        server = rows.get(name, {"state": "unknown to the supervisor"})
        last = f" (last exit: {server['last_exit']})" if server.get("last_exit") else ""
        parts.append(f"{name} is {server['state']}{last}, see `./run logs {name}`")
    if not parts:
        ill = [f"{one['device']} is {one['state']}" for one in now.archivers if one["state"] not in HEALTHY]
        parts = [f"{text}, see `./run archive status`" for text in ill]
    return "; ".join(parts) or "some server of an earlier site file does not run, see `./run status`"


def _answers(server: str) -> bool:
    try:
        device(f"dserver/{server}", 1.0).ping()
    except tango.DevFailed:
        return False
    return True
