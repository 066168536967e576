"""A process that follows a journal with one projection until it is killed (argv: projection, data, archiver)."""

import sys
import threading
from pathlib import Path

from archiver.projections import hdf5
from archiver.projections.loop import ProjectionLoop

hdf5.SETTLE_S, hdf5.FLUSH_S = 0.05, 0.1

loop = ProjectionLoop(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
threading.Thread(target=loop.run, daemon=True).start()
while True:
    threading.Event().wait(0.02)
    print(loop.progress.commit, loop.progress.fault, flush=True)  # noqa: T201
