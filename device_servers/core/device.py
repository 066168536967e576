"""`InstrumentDevice`: what every instrument's Tango device subclasses.

A subclass gives its quantities and its probe, and says how to connect, poll, write, judge and make safe. Everything
else is here: attributes, polling, events, states, limits, the line's coming and going, safe exit.

Threads: the line's poll loop alone talks to the instrument on its own accord and alone pushes events, never while it
holds the line; Init pushes too, while the device is on no line. A client's write or command does its exchange in the
client's thread, with Tango's monitor of the device released, so that State and Stop answer meanwhile.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# (pytango's stubs are not complete)

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, NamedTuple

import tango
from tango import DevState, DispLevel
from tango.server import Device, command, device_property

from bandoneon.errors import BandoneonError, InterlockRefused, LinkDown
from bandoneon.logging import get_logger
from bandoneon.quantity import Quantity
from bandoneon.tangolink.server import INCARNATION_NS, failed
from device_servers.core import lifecycle
from device_servers.core.attributes import InstrumentMeta, as_tango
from device_servers.core.polling import PollLoop, join, leave, loop_for, periods_s, start_loops
from device_servers.core.publishing import Publisher
from device_servers.core.states import Latch, Settings, Shown, Value, as_sentence, shown_after
from device_servers.core.transport import Line, Priority, Probe

__all__ = ["Identity", "InstrumentDevice", "Value"]

REPEAT_S = 1.0
"""An identical motion within this time, while MOVING, is taken for a client's silent repetition and refused."""


class Identity(NamedTuple):
    """Who an instrument says it is: a sentence, and its serial number by itself, "" when it does not tell one."""

    sentence: str
    serial_number: str = ""


class InstrumentDevice(Device, metaclass=InstrumentMeta):
    """An instrument that is polled over a line."""

    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("identity", "str", label="Identity", doc="What the instrument says it is."),
        Quantity("poll_count", "i8", label="Polls", doc="Polls that were answered since this server's start."),
        Quantity("missed_polls", "i8", label="Missed polls", doc="Polls of this line skipped as it was busy."),
        Quantity("exchanges", "i8", label="Exchanges", doc="Requests sent on this line since this server's start."),
        Quantity("timeouts", "i8", label="Time-outs", doc="Requests on this line that were not answered in time."),
        Quantity("reconnects", "i8", label="Reconnects", doc="How often this line was lost and came back."),
        Quantity("protocol_errors", "i8", label="Protocol errors", doc="Replies on this line that did not fit."),
        Quantity("failed_pushes", "i8", label="Failed pushes", doc="Events that were not pushed when they were due."),
        Quantity("incarnation", "i8", unit="ns", label="Started", doc="This process's start in ns since 1970."),
    )
    probe: ClassVar[Probe]
    volatile: ClassVar[frozenset[str]] = frozenset()
    """Writable quantities that change by themselves (a position, an automatic range): not compared after an outage."""

    connection: Any = device_property(
        dtype=str, mandatory=True, doc="serial:///dev/serial/by-id/…?baud=9600, tcp://host:port"
    )
    timeout_s: Any = device_property(dtype=float, default_value=0.4, doc="How long a reply may take.")
    poll_period_s: Any = device_property(dtype=float, default_value=0.2, doc="How often quantities are polled.")
    quantity_periods_s: Any = device_property(
        dtype=(str,), default_value=[], doc="Exceptions from that: name=period in s."
    )
    expected_serial: Any = device_property(
        dtype=str, default_value="", doc="Serial number it must have; else writes are refused."
    )
    allow_exchange: Any = device_property(
        dtype=bool, default_value=False, doc="Whether the command Exchange may be used."
    )

    def connect(self, transport: Line) -> Any:
        """Return a driver of the instrument at the other end; nothing is sent yet, so that Stop is always possible."""
        raise NotImplementedError

    def greet(self, driver: Any) -> Identity | None:
        """Prepare an instrument on a new connection and return who it is; None when it cannot tell now."""
        raise NotImplementedError

    def poll(self, driver: Any, due: frozenset[str]) -> Mapping[str, Value]:
        """Return the values of the quantities that are due, by name; what cannot be read now is left out."""
        raise NotImplementedError

    def write(self, driver: Any, name: str, value: Value) -> None:
        """Write a quantity that has passed its range check."""
        raise NotImplementedError

    def judge(self, row: Mapping[str, Value]) -> tuple[DevState, str]:
        """Return state and status that follow from the latest values."""
        raise NotImplementedError

    def line_probe(self) -> Probe:
        """Return what proves the line; a property of the device may decide about it."""
        return self.probe

    def make_safe(self, driver: Any) -> None:
        """Bring the instrument into its safe state; called when the process ends, and only then."""
        raise NotImplementedError

    def __init__(self, device_class: Any, name: str) -> None:
        self.log = get_logger(device=name)
        self._latch = Latch(Shown("INIT", "Connecting."))
        self._publisher = Publisher(self, (*InstrumentDevice.quantities, *type(self).quantities))
        self._loop: PollLoop | None = None
        own = type(self).quantities
        self._settings_names = {quantity.name for quantity in own if quantity.writable} - self.volatile
        self._measured = {quantity.name for quantity in own if quantity.period_s is None}
        """What is INVALID as soon as it cannot be read."""
        self._tracing = False
        self._poll_count = 0
        self._last_motion: tuple[object, float] = (None, 0.0)
        self._stopped_s = 0.0
        """When Stop was last called."""
        super().__init__(device_class, name)

    def init_device(self) -> None:
        """Read the properties and join the line; Init moves nothing, and reopens only a connection that changed."""
        super().init_device()
        self.register_signal(signal.SIGTERM)
        self.register_signal(signal.SIGINT)
        self._publisher.prepare()
        lifecycle.at_exit(self.get_name(), self._make_safe)
        if self._loop is not None and self._loop.line.url != self.connection:
            leave(self._loop, self.get_name())
            self._loop = None
        self._driver: Any = None
        self._greeted: int | None = None
        """The line's connection on which the instrument was last greeted; None = greet it again."""
        self._identity: Identity | None = None
        self._row: dict[str, Value] = {}
        self._settings = Settings()
        try:
            loop = self._loop = loop_for(self.connection, self.line_probe(), tango.EnsureOmniThread)
            self._driver = self.connect(loop.line)
            periods = periods_s(type(self).quantities, self.poll_period_s, self.quantity_periods_s)
        except (ValueError, BandoneonError) as error:
            self._forget(Shown("FAULT", as_sentence(f"{error}: correct the property and call Init")))
            self._publisher.publish({"identity": None}, time.time())
            self._publisher.tend(self._latch.shown, {})
            return
        self._publisher.know({**self._figures(loop), "poll_count": self._poll_count})
        join(loop, self.get_name(), self, periods)

    def server_init_hook(self) -> None:
        """Begin to poll: all attributes of all devices exist now."""
        start_loops()

    def delete_device(self) -> None:
        """Leave the line's loop; the instrument is made safe when the whole process ends."""
        ending = tango.Util.instance().is_svr_shutting_down()
        with tango.AutoTangoAllowThreads(self):
            if ending:
                lifecycle.make_all_safe()
            if self._loop is not None:
                leave(self._loop, self.get_name(), keep_open=not ending)
        super().delete_device()

    def signal_handler(self, signo: int) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make everything safe at SIGTERM and SIGINT, in Tango's signal thread."""
        lifecycle.make_all_safe()

    def dev_state(self) -> DevState:
        """The state as last judged, or as an action under way has it."""
        return DevState.names[self._latch.shown.state]

    def dev_status(self) -> str:
        """The status that goes with it."""
        return self._latch.shown.status

    def do(self, verb: Callable[[Any], Any], *, priority: Priority = Priority.WRITE) -> Any:
        """Do a driver's verb in the caller's thread, and poll soon after; errors become Tango's.

        What waits for the line when a Stop is called is refused: nothing happens after it that was asked for before.
        """
        asked_s = time.monotonic()
        if priority is Priority.STOP:
            self._stopped_s = asked_s
        with tango.AutoTangoAllowThreads(self):
            try:
                driver, loop = self._need_driver(priority)
                with self._turn(loop.line, priority):
                    if priority is Priority.STOP:
                        result = _urgently(loop.line, verb, driver)
                    else:
                        self._refuse_now(asked_s)
                        result = verb(driver)
            except BandoneonError as error:
                raise failed(error, self.get_name()) from error
            loop.hasten(self.get_name())
            return result

    def start(self, state: DevState, status: str, verb: Callable[[], None]) -> None:
        """Start a long action: show `state` before it is sent, and until a poll begun after it says otherwise."""
        self._latch.hold(Shown(str(state), status), time.monotonic())
        try:
            verb()
        except BaseException:
            self._latch.withdraw()
            raise
        self._latch.sent(time.monotonic())

    def refuse_repetition(self, motion: object) -> None:
        """Raise when the same motion was asked for a moment ago and still goes on."""
        last, at_s = self._last_motion
        now_s = time.monotonic()
        if motion == last and now_s - at_s < REPEAT_S and self._latch.shown.state == "MOVING":
            raise InterlockRefused(f"{motion} was asked for {now_s - at_s:.1f} s ago and still goes on")
        self._last_motion = (motion, now_s)

    def read_quantity(self, quantity: Quantity) -> tuple[Any, float, tango.AttrQuality]:
        """Return the last reading, at once."""
        return as_tango(quantity, self._publisher.reading(quantity.name))

    def write_quantity(self, quantity: Quantity, value: Any) -> None:
        """Check a value, write it and poll soon after."""

        def verb(driver: Any) -> None:
            checked = quantity.checked(value)
            self.write(driver, quantity.name, checked)
            self._settings.written(quantity.name)

        self.do(verb)

    def poll_due(self, due: frozenset[str]) -> Exception | None:
        """Read what is due and publish it; return what went wrong."""
        assert self._loop is not None
        try:
            with self._turn(self._loop.line, Priority.POLL):
                if self._greeted != self._loop.line.generation:
                    self._greet(self._loop.line)
                began_s, began = time.monotonic(), time.time()
                row = dict(self.poll(self._driver, due))
                ended = time.time()
                self._settings.read({name: row[name] for name in row.keys() & self._settings_names})
        except BandoneonError as error:
            self._lost(error)
            return error
        self._poll_count += 1
        # what is read seldom and could not be read now is as it was, and is asked again at the next poll
        unread = due - row.keys()
        gone = unread & self._measured
        self._loop.owe(self.get_name(), unread)
        for name in gone:
            self._row.pop(name, None)
        self._row.update(row)
        self._judge(began_s)
        values: dict[str, Value | None] = {**dict.fromkeys(gone), **row, "poll_count": self._poll_count}
        self._publisher.publish(values, (began + ended) / 2)
        return None

    def fail(self, error: Exception) -> None:
        """Something unforeseen: FAULT, with its traceback in the log."""
        self.log.error("internal error", reason=str(error), exc_info=error)
        self._lost(error)

    def _greet(self, transport: Line) -> None:
        """Ask who is there; settings are compared with those of before."""
        self._settings.lost()
        identity = self.greet(self._driver)
        if identity is not None:
            self._identity, self._greeted = identity, transport.generation

    def tell_down(self, error: BandoneonError) -> None:
        """The line is down: nothing is known."""
        self._lost(error)

    def tend(self) -> None:
        """Publish State and the line's figures when they changed, and at least once a second."""
        assert self._loop is not None
        self._publisher.tend(self._latch.shown, self._figures(self._loop))

    def _figures(self, loop: PollLoop) -> dict[str, Value | None]:
        """What this process knows by itself, also while the instrument is away."""
        stats = loop.line.stats
        return {
            "identity": self._identity and self._identity.sentence,
            "missed_polls": loop.schedule.missed,
            "exchanges": stats.exchanges,
            "timeouts": stats.timeouts,
            "reconnects": stats.reconnects,
            "protocol_errors": stats.protocol_errors,
            "failed_pushes": self._publisher.failed_pushes,
            "incarnation": INCARNATION_NS,
        }

    def _lost(self, error: Exception) -> None:
        """Nothing is known now; a broken line also means that the instrument has to be greeted anew."""
        shown = shown_after(error)
        if self._latch.shown.state != shown.state:
            self.log.warning("lost", reason=str(error))
        if shown.state == "UNKNOWN":
            self._greeted = None
        self._forget(shown)

    def _forget(self, shown: Shown) -> None:
        """Show that, and INVALID for all of the instrument's own quantities."""
        self._latch.release(shown)
        self._row.clear()
        self._publisher.publish(dict.fromkeys(quantity.name for quantity in type(self).quantities), time.time())

    def _judge(self, began_s: float) -> None:
        if stranger := self._stranger():
            shown = Shown("ALARM", f"This is {stranger}, not {self.expected_serial}: writes are refused.")
        elif self._settings.differences:
            changes = "; ".join(self._settings.differences)
            shown = Shown("ALARM", f"After the outage {changes}: call AcceptSettings, or write them again.")
        else:
            state, status = self.judge(self._row)
            shown = Shown(str(state), status)
        before = self._latch.shown
        if self._latch.judge(shown, began_s) and before.state != shown.state:
            self.log.info("state", state=shown.state, status=shown.status)

    @contextlib.contextmanager
    def _turn(self, transport: Line, priority: Priority) -> Generator[None]:
        """Hold the line, and let its exchanges be traced when this device's are."""
        with transport.turn(priority):
            transport.trace = self._trace if self._tracing else None
            yield

    def _trace(self, what: str, data: bytes) -> None:
        self.log.info("wire", what=what, data=data.decode("latin-1"))

    def _need_driver(self, priority: Priority = Priority.WRITE) -> tuple[Any, PollLoop]:
        """Return driver and line; a Stop is tried before the instrument has answered and on a broken line too."""
        if self._loop is None or self._driver is None:
            raise LinkDown(self._latch.shown.status.rstrip("."))
        if self._greeted != self._loop.line.generation and priority is not Priority.STOP:
            raise LinkDown(self._loop.line.problem or "the instrument has not said yet who it is")
        return self._driver, self._loop

    def _refuse_now(self, asked_s: float) -> None:
        if self._stopped_s >= asked_s:
            raise InterlockRefused("Stop was called while this waited for the line: nothing was sent")
        if lifecycle.ending():
            raise InterlockRefused("this server is ending, and the instrument was made safe")
        if stranger := self._stranger():
            raise InterlockRefused(f"this is {stranger}, not {self.expected_serial}: nothing is written to it")

    def _stranger(self) -> str:
        """Who is there instead of the instrument that is expected; "" when it is the right one, or not known yet."""
        if self._identity is None or self.expected_serial in ("", self._identity.serial_number):
            return ""
        return self._identity.sentence

    def _make_safe(self) -> None:
        """Make the instrument safe, also over a line that is broken; raise when nothing could be sent."""
        if self._driver is not None and self._loop is not None:
            with self._loop.line.turn(Priority.STOP):
                _urgently(self._loop.line, self.make_safe, self._driver)

    @command
    def AcceptSettings(self) -> None:
        """Take the settings that an outage changed as the right ones."""
        self._settings.accept()
        if self._loop is not None:
            self._loop.hasten(self.get_name())

    @command(dtype_in=bool, doc_in="whether", display_level=DispLevel.EXPERT)
    def Trace(self, on: bool) -> None:
        """Log what this device sends and receives, or stop that."""
        self._tracing = on

    @command
    def Reset(self) -> None:
        """Drop the connection and make it anew."""
        if self._loop is not None:
            with tango.AutoTangoAllowThreads(self):
                self._loop.line.close()
                self._loop.wake()

    @command(
        dtype_in=str,
        doc_in="Request as the protocol has it, without its end",
        dtype_out=str,
        doc_out="Reply; empty when none came",
        display_level=DispLevel.EXPERT,
    )
    def Exchange(self, request: str) -> str:
        """Send a request and return its reply, for an engineer; off unless `allow_exchange` is set."""
        if not self.allow_exchange:
            error = InterlockRefused("Exchange is off for this device: set the property allow_exchange and call Init")
            raise failed(error, self.get_name())

        def verb(driver: Any) -> str:
            reply: str = driver.exchange_text(request)
            if not self._settings.differences:
                self._settings = Settings()  # the engineer may have changed any
            return reply

        return self.do(verb)


def _urgently(line: Line, verb: Callable[[Any], Any], driver: Any) -> Any:
    """Do a Stop; when the link turns out to be dead, once more over one that is opened for it."""
    connected = line.connected
    try:
        return verb(driver)
    except LinkDown:
        if not connected:
            raise
        return verb(driver)
