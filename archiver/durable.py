"""What survives a power cut besides a file's content."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make a new file's name durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
