"""What is said to be committed is on the disk, in the order that makes it true."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archiver.ingest import Ingest
from archiver.journal import JournalWriter, segment_paths
from archiver.recovery import recover
from tests.unit.test_ledger import DEFINITION, Queue, reading


def recorded(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[str, int]]:
    """Calls of functions of `os` from now on, with how long the file was then (-1: no file)."""
    calls: list[tuple[str, int]] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: int, *arguments: Any) -> Any:
            result = real(file, *arguments)
            calls.append((name, os.fstat(file).st_size))
            return result

        return call

    for name in names:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return calls


def test_a_commit_is_counted_only_when_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit is written, then synced at its full length; one that cannot be synced is none."""
    ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    calls = recorded(monkeypatch, "fdatasync")
    for number in range(3):
        source.waiting = [reading(number)]
        ingest.step()
        (segment,) = segment_paths(tmp_path)
        assert calls.pop() == ("fdatasync", segment.stat().st_size)
        assert calls == []
        assert ingest.commits == number + 1
    with monkeypatch.context() as patch:

        def broken(_: int) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr(os, "fdatasync", broken)
        source.waiting = [reading(3)]
        ingest.step()
        assert (ingest.commits, ingest.paused) == (3, "Input/output error")
    ingest.close()


def test_a_new_segment_s_name_is_synced_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose directory was not synced may be gone after a power cut, with all its commits."""
    writer = JournalWriter(tmp_path)
    synced: list[bool] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(bool(segment_paths(tmp_path))), real(file))[1])
    ingest, source = Ingest(writer), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    source.waiting = [reading(1)]
    ingest.step()
    assert synced == [True]
    ingest.close()


def test_damage_is_copied_and_synced_before_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy and its name are on the disk while the original is still there."""
    ingest, source = Ingest(JournalWriter(tmp_path)), Queue()
    ingest.attach(replace(DEFINITION, id=-1), source, 1)
    for number in range(3):
        source.waiting = [reading(number)]
        ingest.step()
    ingest.close()
    (segment,) = segment_paths(tmp_path)
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    sizes: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (sizes.append(segment.stat().st_size), real(file))[1])
    assert recover(tmp_path).damaged
    # the copy, and its directory
    assert sizes == [len(data)] * 2
