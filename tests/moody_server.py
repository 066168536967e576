"""A server for tests of supervision, `python -m tests.moody_server INSTANCE`: its devices do as they are told."""

import sys

from tango import DevState
from tango.server import Device, command

from bandoneon.tangolink.server import serve


class Moody(Device):
    """In INIT until it is told otherwise, as an instrument is until its first poll."""

    def init_device(self) -> None:
        """Begin in INIT."""
        super().init_device()
        self.mood = "INIT"

    def dev_state(self) -> DevState:
        """Be what it was told, or fail."""
        return DevState.names[self.mood]

    def dev_status(self) -> str:
        """Say so."""
        return f"Feels {self.mood}."

    @command(dtype_in=str, doc_in="a state, or anything else for a failure")
    def Be(self, mood: str) -> None:
        """Change its mood."""
        self.mood = mood


if __name__ == "__main__":
    serve((Moody,), "Moody", sys.argv[1])
