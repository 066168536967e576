"""A program for the spawner to fork: says that it is ready, waits for SIGTERM, says when it came."""

import os
import signal
import sys
import time

if "--default" in sys.argv:
    signal.pause()
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", os.environ["WHO"], *sys.argv[2:3], flush=True)  # noqa: T201
if "--exit" in sys.argv:
    sys.exit(int(sys.argv[2]))
try:
    while True:
        signal.pause()
finally:
    print("ended", time.monotonic(), flush=True)  # noqa: T201
