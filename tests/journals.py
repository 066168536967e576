"""Small real journals for tests of what reads them, and what an archiver under test has written into its own."""

import json
import resource
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from archiver.journal import Follower, JournalWriter
from archiver.ledger import Account, read_ledger_row
from bandoneon.record import AttributeDefinition, Format, Kind, Quality, Row, decode_value, encode_value

SECOND = 10**9
NOON = 1_790_000_000 * SECOND // (86_400 * SECOND) * (86_400 * SECOND) + 43_200 * SECOND
"""Noon of some day, ns since 1970."""


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process can grow over `size` bytes: writes then fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Journal:
    """Writes the journal of one archiver, row by row; `commit` seals what was given since the last."""

    def __init__(self, data_dir: Path, archiver: str = "archive/demo/1") -> None:
        self.archiver = archiver
        self.directory = data_dir / "journal" / archiver
        self.writer = JournalWriter(self.directory)
        self.rows: list[Row] = []
        self.commits = 0
        self.last_ns = NOON
        self._definitions: dict[str, AttributeDefinition] = {}

    def define(
        self, name: str, type_: int = Kind.DOUBLE, format_: Format = "SCALAR", **facts: Any
    ) -> AttributeDefinition:
        """Add the definition of an attribute; the same name again is its next epoch."""
        before = self._definitions.get(name)
        number, epoch = (before.id, before.epoch + 1) if before else (len(self._definitions) + 1, 0)
        definition = AttributeDefinition(
            id=number, name=name, tango_host="here:10000", type=int(type_), format=format_, epoch=epoch, **facts
        )
        self._definitions[name] = definition
        self.writer.append(self.rows)
        self.rows = []
        self.writer.define(definition, self.last_ns)
        return definition

    def read(self, name: str, time_ns: int, value: Any, quality: int = 0, *, part: int = 0) -> None:
        """Add a reading; None is an INVALID one."""
        definition = self._definitions[name]
        cells = encode_value(definition.type, definition.format, value)
        quality = Quality.INVALID if value is None else quality
        self._row(definition, definition.type, time_ns, quality=quality, part=part, **cells._asdict())

    def error(self, name: str, time_ns: int, text: str) -> None:
        """Add a failed reading."""
        description = json.dumps([{"reason": "Test", "desc": text, "origin": "", "severity": "ERR"}])
        self._row(self._definitions[name], Kind.ERROR, time_ns, text=description)

    def gap(self, name: str, start_ns: int, stop_ns: int, cause: str, count: int | None = None) -> None:
        """Add a gap."""
        row = {"text": cause, "i64": count, "received_ns": stop_ns}
        self._row(self._definitions[name], Kind.GAP, start_ns, **row)

    def batch(self, stream: str, device: str, number: int, columns: dict[str, Sequence[Any]]) -> None:
        """Add a stream batch as the stream device sends it."""
        import pyarrow as pa

        metadata = {
            "v": "1",
            "device": device,
            "incarnation": "7",
            "seq": str(number),
            "rows_before": "0",
            "epoch": "0",
        }
        table = pa.table(columns).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        time_ns = int(columns["time_ns"][0])
        payload = sink.getvalue().to_pybytes()
        self._row(self._definitions[stream], Kind.STREAM, time_ns, i64=table.num_rows, payload=payload, counter=number)

    def _row(self, definition: AttributeDefinition, kind: int, time_ns: int, **columns: Any) -> None:
        self.last_ns = time_ns
        facts = {"part": 0, "counter": -1, "incarnation": 7, "received_ns": time_ns, "quality": 0, **columns}
        self.rows.append(Row(attr=definition.id, kind=int(kind), time_ns=time_ns, **facts))

    def commit(self) -> None:
        """Seal the rows given so far."""
        self.writer.append(self.rows)
        self.writer.commit()
        self.rows = []
        self.commits += 1

    def restart(self) -> None:
        """End the segment, as a restart of the archiver does; the next commit begins another."""
        self.writer.close()
        self.writer = JournalWriter(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()


class Written:
    """What an archiver wrote, read as it grows: call `refresh`, or use it as a condition to wait for."""

    def __init__(self, directory: Path) -> None:
        self._follower = Follower(directory)
        self.commits = 0
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.accounts: list[Account] = []
        self._definitions: dict[str, list[AttributeDefinition]] = defaultdict(list)

    def refresh(self) -> Self:
        """Read what is new."""
        while commits := self._follower.poll():
            for commit in commits:
                self.commits = commit.number + 1
                for row in commit.table.to_pylist():
                    self._take(Row(**row))
        return self

    def _take(self, row: Row) -> None:
        if row.kind == Kind.LEDGER:
            self.accounts += read_ledger_row(row.payload or b"")
        elif row.kind == Kind.DEFINE:
            definition = AttributeDefinition.from_json(row.payload or b"")
            if definition not in self._definitions[definition.name]:
                self._definitions[definition.name].append(definition)
        elif row.attr >= 0:
            self.rows[self._follower.definitions[row.attr].name].append(row)

    def readings(self, name: str, *, part: int = 0) -> list[Row]:
        """The values of an attribute, errors left out."""
        return [row for row in self.refresh().rows[name] if row.kind <= Kind.ENUM and row.part == part]

    def values(self, name: str, *, part: int = 0) -> list[Any]:
        """The same, decoded."""
        readings = self.readings(name, part=part)
        return [decode_value(row, row.kind, self._definitions[name][0].format) for row in readings]

    def definitions(self, name: str) -> list[AttributeDefinition]:
        """What an attribute was, epoch after epoch."""
        return self._definitions[name]

    def of_kind(self, name: str, kind: Kind) -> list[Row]:
        """The GAP, ERROR or STREAM rows of an attribute."""
        return [row for row in self.refresh().rows[name] if row.kind == kind]
