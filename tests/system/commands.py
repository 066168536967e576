"""Commands as tests run them: refused with one sentence, or in the background until they are told to end."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY, Process
from tests.system.conftest import Site

SECOND = """\
site: second
hosts: [{name: second}]
instruments:
  - {name: second/power/1, class: Newport1830C, simulate: {model: newport_1830c}}
"""


class Background(Process):
    """A command that runs until it is told to end; `output` is what it wrote on standard output alone."""

    def __init__(self, site: Site, log: Path, *arguments: str) -> None:
        self.log, self.errors_log = log, log.with_name(f"{log.name}.errors")
        with log.open("wb") as output, self.errors_log.open("wb") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "bandoneon", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=site.environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )

    @property
    def errors(self) -> str:
        """Everything it wrote on standard error so far."""
        return self.errors_log.read_text(errors="replace")


def interrupted(process: Process) -> int:
    """Press Ctrl-C; return the exit status."""
    process.send_signal(signal.SIGINT)
    return process.popen.wait(timeout=15)


def refused(site: Site, code: int, *arguments: str) -> str:
    """The one sentence a command is refused with."""
    done = site.command(*arguments)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("bandoneon: ")]
    assert len(lines) == 1, done.stderr
    return lines[0].removeprefix("bandoneon: ")
