"""The servers' log files, followed, and what a supervisor keeps beside them."""

import json
import os
from pathlib import Path

import pytest

from device_servers.supervisor.fleet import HISTORY_KEPT, Kept, Registered, Server
from device_servers.supervisor.health import Ill
from device_servers.supervisor.logs import LAST_LINES, READ_BYTES, RECORDS_KEPT, Logs, record_of
from device_servers.supervisor.policy import Policy
from device_servers.supervisor.report import History, Memory, Reporter

METER, BENCH = "Meter/1", "Bench/1"


def line(event: str, second: int = 0, **more: str) -> str:
    """A record as our servers log it."""
    stamp = f"2025-01-01T00:00:{second:02}+00:00"
    return json.dumps({"event": event, "level": "info", "timestamp": stamp, **more}) + "\n"


def messages(logs: Logs) -> list[str]:
    """What the operator reads."""
    return [json.loads(record)["message"] for record in logs.records]


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    """The logs of a host without servers."""
    return Logs(tmp_path)


def append(logs: Logs, server: str, text: str) -> None:
    """A server writes."""
    with logs.path(server).open("a") as file:
        file.write(text)


def test_what_servers_append_is_followed_in_the_order_of_its_time(logs: Logs) -> None:
    """Whole lines of all servers, each once, sorted by their stamps; a line in the making waits for its end."""
    assert not logs.follow([METER, BENCH])
    append(logs, METER, line("second", 2) + line("third", 3)[:10])
    append(logs, BENCH, line("first", 1))
    assert logs.follow([METER, BENCH])
    assert messages(logs) == ["first", "second"]
    assert not logs.follow([METER, BENCH])
    append(logs, METER, line("third", 3)[10:])
    assert logs.follow([METER, BENCH])
    assert messages(logs) == ["first", "second", "third"]


def test_a_new_supervisor_begins_with_the_end_of_the_logs_at_a_whole_line(logs: Logs) -> None:
    """A long past is passed over, and half a line never shown."""
    append(logs, METER, "".join(line(f"event {n}", note="x" * 1000) for n in range(1000)))
    logs.follow([METER])
    assert 10 < len(messages(logs)) < RECORDS_KEPT
    assert all(message.startswith("event ") for message in messages(logs))
    assert messages(logs)[-1] == "event 999"


def test_a_server_that_writes_very_much_costs_only_the_end_of_it(logs: Logs) -> None:
    """What is read at once is bounded."""
    logs.follow([METER])
    append(logs, METER, line("begin"))
    logs.follow([METER])
    append(logs, METER, line("x" * 1000) * (2 * READ_BYTES // 1000) + line("end"))
    logs.follow([METER])
    assert messages(logs)[-1] == "end"
    assert len(logs.records) <= RECORDS_KEPT


def test_a_log_that_somebody_emptied_is_followed_from_its_begin(logs: Logs) -> None:
    """Log rotation by truncation loses nothing that comes after it."""
    append(logs, METER, line("old") * 3)
    logs.follow([METER])
    os.truncate(logs.path(METER), 0)
    append(logs, METER, line("new"))
    logs.follow([METER])
    assert messages(logs)[-1] == "new"


def test_the_last_lines_of_a_server_are_for_people(logs: Logs) -> None:
    """Messages of records, other lines as they are; none without a log."""
    assert logs.last_lines(METER) == []
    append(logs, METER, "".join(line(f"event {n}") for n in range(10)) + "Segmentation fault\n")
    last = logs.last_lines(METER)
    assert last[-2:] == ["event 9", "Segmentation fault"]
    assert len(last) == LAST_LINES


def test_the_end_of_a_log_can_be_read_as_it_is(logs: Logs) -> None:
    """However long it is; no log is an error."""
    with pytest.raises(OSError, match="No such file"):
        logs.read(METER)
    append(logs, METER, line("x" * 100) * (2 * READ_BYTES // 100) + "end\n")
    text = logs.read(METER)
    assert len(text) <= READ_BYTES
    assert text.startswith("{")
    assert text.endswith("end\n")


@pytest.mark.parametrize(
    ("text", "message", "source"),
    [
        (line("lost", device="lab/stage/1", reason="no reply"), "lost: no reply", "lab/stage/1"),
        (line("state", state="ON", status="fine"), "state: ON fine", METER),
        (line("restart", reason=""), "restart", METER),
        ("Traceback", "Traceback", METER),
        ("5", "5", METER),
        ("[1]", "[1]", METER),
        ('{"a": 1}', '{"a": 1}', METER),
        ('{"event": "no time"}', '{"event": "no time"}', METER),
    ],
)
def test_any_line_makes_a_record(text: str, message: str, source: str) -> None:
    """Our JSON by its fields, everything else as a message of the server."""
    time_ns, record = record_of(text.strip(), METER)
    found = json.loads(record)
    assert (found["message"], found["source"], found["time_ns"]) == (message, source, time_ns)


def test_history_outlives_supervisors_without_growing_for_ever(tmp_path: Path) -> None:
    """What is read is whole and bounded, also after a supervisor was killed in the middle of a line."""
    path = tmp_path / "history.jsonl"
    assert History(path).read() == []
    lines = [json.dumps({"server": METER, "what": f"event {n}"}) for n in range(HISTORY_KEPT + 50)]
    History(path).append(lines)
    with path.open("a") as file:
        file.write(lines[0][:20])
    history = History(path)
    assert history.read() == lines[-HISTORY_KEPT:]
    history.append(["{}"])
    assert path.read_text().splitlines() == [*lines[-HISTORY_KEPT:], "{}"]


def test_history_is_shortened_while_it_is_written(tmp_path: Path) -> None:
    """A supervisor that lives for years does not let it grow for years."""
    path = tmp_path / "history.jsonl"
    history = History(path)
    lines = [json.dumps({"server": METER, "what": f"event {n}"}) for n in range(5 * HISTORY_KEPT + 100)]
    for one in lines:
        history.append([one])
    assert len(path.read_text().splitlines()) < 2 * HISTORY_KEPT
    assert history.read() == lines[-HISTORY_KEPT:]


def test_what_somebody_stopped_is_remembered_until_the_host_starts_anew(tmp_path: Path) -> None:
    """Over supervisors and over spawners that a supervisor lived through; another run of the host forgets it."""
    path = tmp_path / "memory.json"
    memory = Memory(path)
    memory.begin("first", lived_through=False)
    memory.note_stopped(METER, stopped=True)
    memory.note_exits([Server(Registered(METER, (), 2, Policy()), restarts=2, last_exit="code 1")])
    remembered = {METER: Kept(stopped=True, restarts=2, last_exit="code 1")}
    memory = Memory(path)
    memory.begin("first", lived_through=False)
    assert memory.servers == remembered
    memory.begin("second", lived_through=True)
    memory = Memory(path)
    memory.begin("second", lived_through=False)
    assert memory.servers == remembered
    memory.note_stopped(METER, stopped=False)
    assert not Memory(path).servers[METER].stopped
    memory = Memory(path)
    memory.begin("third", lived_through=False)
    assert memory.servers == Memory(path).servers == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"run": "x", "servers": []}', '{"run": "x", "servers": {"Meter/1": {"colour": 1}}}']
)
def test_a_memory_that_cannot_be_read_is_a_clean_slate(tmp_path: Path, text: str) -> None:
    """Half a file, or one of another version, stops no supervisor."""
    (tmp_path / "memory.json").write_text(text)
    memory = Memory(tmp_path / "memory.json")
    memory.begin("x", lived_through=False)
    assert memory.servers == {}


def test_a_stop_that_cannot_be_remembered_is_an_error(tmp_path: Path) -> None:
    """Whoever stops a laser has to know that the next supervisor would start it."""
    memory = Memory(tmp_path / "missing" / "memory.json")
    memory.begin("x", lived_through=False)
    memory.note_exits([])
    with pytest.raises(OSError, match="No such file"):
        memory.note_stopped(METER, stopped=True)


def test_what_is_not_ascii_is_escaped_in_what_tango_carries(logs: Logs) -> None:
    """Records and report are JSON in ASCII: Tango's strings are latin-1 and hold no µ → Ω as UTF-8."""
    append(logs, METER, line("10 Ω → 5 µA") + "plain Ω\n")
    logs.follow([METER])
    assert messages(logs) == ["10 Ω → 5 µA", "plain Ω"]
    assert all(record.isascii() for record in logs.records)


def test_a_disk_that_takes_nothing_stops_no_supervisor(tmp_path: Path) -> None:
    """History and report are written where nothing can be."""
    nowhere = tmp_path / "missing"
    History(nowhere / "history.jsonl").append(["{}"])
    assert Reporter(nowhere / "report.json", Logs(nowhere), {}).make([], "") == "[]"


def test_the_report_says_what_a_process_uses(tmp_path: Path) -> None:
    """And which devices of one that lives need a person; of one that was given up, its last words."""
    logs = Logs(tmp_path)
    append(logs, BENCH, "no such module\n")
    policy = Policy()
    alive = Server(Registered(METER, ("lab/meter/1",), 2, policy), "running", pid=os.getpid())
    dead = Server(Registered(BENCH, ("bench/1/1",), 2, policy), "given_up", last_exit="code 1")
    silent = Ill("UNKNOWN", "The line is silent.")
    ill = {"lab/meter/1": silent, "bench/1/1": silent}
    reporter = Reporter(tmp_path / "report.json", logs, ill)
    first, second = json.loads(reporter.make([alive, dead], "no database"))
    assert (first["name"], first["pid"], first["last_lines"]) == (BENCH, None, ["no such module"])
    assert first["memory_mib"] is None
    assert (second["name"], second["class"], second["devices"]) == (METER, "Meter", ["lab/meter/1"])
    assert (first["ill"], second["ill"]) == (
        [], [{"device": "lab/meter/1", "state": "UNKNOWN", "status": "The line is silent."}]
    )  # fmt: skip
    assert second["memory_mib"] > 1
    assert second["descriptors"] > 2
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == {"problem": "no database", "servers": [first, second]}
