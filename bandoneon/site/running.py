"""Which site is up on this machine, where its database, run directory and data are.

`<root>/<site>/site.json` describes each site that was brought up; `<root>/site.json` is a copy of the
last one, the default of all commands. `<root>` is `$BANDONEON_RUN` or `./.run`.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bandoneon.errors import SiteError

FILE = "site.json"


def default_root() -> Path:
    """Return the directory that holds one run directory per site: `$BANDONEON_RUN`, else `./.run`."""
    return Path(os.environ.get("BANDONEON_RUN") or ".run").absolute()


def default_data(site: str) -> Path:
    """Return the directory archived data goes to: `$BANDONEON_DATA`, else `./data/<site>`."""
    return Path(os.environ.get("BANDONEON_DATA") or Path("data") / site).absolute()


@dataclass
class RunningSite:
    """A site that was brought up.

    `tango_host` is its database as NAME:PORT, `host` the name its supervisor has (`tango/admin/<host>`), `hosts` the
    names of all its hosts ([]: not known), `run` and `data` are absolute paths, `pids` the level 0 processes (spawner,
    database, supervisor) when it came up; `panels` is that section of the site file, `may_end` are the servers whose
    policy lets them end well; `file` is the site file's absolute path, "" the demonstration's.
    """

    site: str
    tango_host: str
    data: Path
    run: Path
    host: str = ""
    hosts: list[str] = field(default_factory=list[str])
    pids: dict[str, int] = field(default_factory=dict[str, int])
    panels: dict[str, object] = field(default_factory=dict[str, object])
    may_end: list[str] = field(default_factory=list[str])
    file: str = ""

    @property
    def up_command(self) -> str:
        """The command that brings it up, and again what of it is down."""
        return f"./run up {self.file}".rstrip()

    @property
    def root(self) -> Path:
        """The directory of all sites' run directories."""
        return self.run.parent

    @property
    def socket(self) -> Path:
        """The spawner's Unix socket."""
        return self.run / "spawner.sock"

    @property
    def logs(self) -> Path:
        """The directory of the servers' log files."""
        return self.run / "logs"

    def write(self) -> None:
        """Remember this site, and make it the default of all commands."""
        text = json.dumps(asdict(self), default=str, indent=2) + "\n"
        for directory in (self.run, self.root):
            directory.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=directory, prefix=f".{FILE}.")
            try:
                with os.fdopen(descriptor, "w") as new:
                    new.write(text)
                Path(name).replace(directory / FILE)
            except BaseException:
                Path(name).unlink()  # on a full disk it would stay, empty
                raise

    @classmethod
    def find(cls, root: Path, name: str | None = None) -> "RunningSite":
        """Return site `name`, or the one last brought up; raise SiteError when there is none."""
        path = (root / name if name else root) / FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            values |= {key: Path(values[key]) for key in ("data", "run")}
            return cls(**values)
        except FileNotFoundError:
            known = ", ".join(sorted(found.parent.name for found in root.glob(f"*/{FILE}")))
            if name and known:
                raise SiteError(f"site {name} was never brought up here; known are: {known}") from None
            which = f"site {name}" if name else "no site"
            raise SiteError(f"{which} is {'not ' if name else ''}up here: bring one up with `./run up`") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SiteError(f"cannot be read ({error}): run `./run up` again", file=str(path)) from None
