"""What a projection of the journal is, and which there are.

A projection is a set of files made from the journal that can be deleted and made again. It keeps its cursor (the last
commit included) inside those files, so that whatever kills it, a new one knows where to go on.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from archiver.series import Unfolded
from bandoneon.errors import BandoneonError
from bandoneon.record import AttributeDefinition


class OnlyCopy(BandoneonError):
    """Files were to be deleted that hold what the journal does not hold any more."""


class NoSpace(OSError):
    """The disk has too little room left: nothing was changed, the same call can be made again later."""


class Projection(Protocol):
    """Follows one archiver's journal. One thread uses it.

    `tick` and `close` raise OSError when files cannot be written. After `NoSpace` the projection is as before and the
    call may be made again; after any other error `abandon` it and open a new one, which goes on at its cursor.
    """

    @property
    def cursor(self) -> int:
        """Every commit up to this one is stored: follow the journal behind it (-1: from its beginning)."""
        ...

    def define(self, definitions: Iterable[AttributeDefinition]) -> None:
        """Take definitions that are in force at the cursor."""
        ...

    def add(self, commit: int, unfolded: Unfolded) -> None:
        """Take the rows of the next commit into memory."""
        ...

    def tick(self, now_s: float) -> None:
        """Do what is due at `now_s` (a steady clock, seconds): write, rotate, compress. Call it after each `add`."""
        ...

    @property
    def files(self) -> int:
        """How many files are being written."""
        ...

    @property
    def unfinished(self) -> int:
        """How many files are written but not compressed yet: each `tick` goes on with that."""
        ...

    def close(self) -> None:
        """Store everything and close every file."""
        ...

    def abandon(self) -> None:
        """Let go of every file without storing more; never raises, and does nothing after `close`."""
        ...


Opener = Callable[[Path, str], Projection]
"""Makes a projection from (data directory, archiver): recovers its files first, quickly: they open plainly then."""

Remover = Callable[[Path, str], int]
"""Deletes a projection's files of (data directory, archiver) and returns how many they were.

Reads the journal first and raises OnlyCopy when that does not hold everything; BlockingIOError while they are written.
"""

_PLACES: Mapping[str, str] = {"hdf5": "archiver.projections.hdf5"}

NAMES = tuple(_PLACES)
"""Every projection there is."""


def opener(name: str) -> Opener:
    """Return what opens projection `name`; ValueError names those there are."""
    return cast("Opener", _module(name).open_projection)


def remover(name: str) -> Remover:
    """Return what deletes projection `name`'s files."""
    return cast("Remover", _module(name).remove)


def _module(name: str) -> Any:
    if name not in _PLACES:
        raise ValueError(f"there is no projection {name!r}: use {', '.join(_PLACES)}")
    return importlib.import_module(_PLACES[name])
