"""How a command ends: every error is one sentence and an exit status."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from bandoneon.cli.options import WrongUse
from bandoneon.errors import BandoneonError


def outcome(work: Callable[[], int], *, debug: bool) -> int:
    """Do the work and return its exit status: 0 done, 1 failed, 2 wrong use. With `debug` failures show a traceback."""
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 1
    except Exception as error:  # noqa: BLE001  the last resort: one sentence, or the traceback when asked for
        if _nobody_reads(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
            return 0
        if debug:
            traceback.print_exc()
        complain(in_words(error))
        return 2 if isinstance(error, WrongUse) else 1
    return code


def _nobody_reads(error: Exception) -> bool:
    """Whether the program behind the pipe has ended; polars says so in words alone."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and "Broken pipe" in str(error))


def in_words(error: Exception) -> str:
    """Return any error as a sentence."""
    if isinstance(error, BandoneonError):
        return str(error)
    if "tango" in sys.modules:
        from tango import DevFailed

        if isinstance(error, DevFailed):
            from bandoneon.tangolink.proxy import sentence

            return sentence(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the operating system'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error} (an error of this program; --debug shows where)"


def complain(sentence: str) -> None:
    """Say what went wrong on standard error."""
    print(f"bandoneon: {sentence}", file=sys.stderr)


def program() -> str:
    """Return how the person called this program."""
    return "bandoneon" if Path(sys.argv[0]).name == "bandoneon" else "./run"
