"""Copies of the audit to syslog servers (RFC 5424), over UDP (RFC 5426) or TCP (RFC 6587).

Whoever writes an event never waits for a syslog server: every target has a queue with a bound. What
does not fit is dropped and counted, and the target is told how many when it listens again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from lockgate.model.flow import Flow
from lockgate.server.config.tree.system import SyslogTarget
from lockgate.server.store.interface import AuditEntry, AuditFilter, Log, Store

log = structlog.get_logger("syslog")

POSITION = "syslog-position"
"""Key of the number of the last record that was sent to all targets (`interface.Meta`)."""
PAGE = 500  # records read at a time
MAX_QUEUED = 10_000  # events of one target; some megabytes
CONNECT_SECONDS = 10.0
SEND_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries

WARNING, INFO = 4, 6  # RFC 5424, section 6.2.1
LOCAL0 = 16
# The number that documentation may use for a private enterprise (RFC 5612); we have none of our own.
SD_ID = "lockgate@32473"
APP_NAME = "lockgate"


def message(
    entry: AuditEntry,
    *,
    facility: str,
    host_name: str,
    number: int | None = None,
    flow: Flow | None = None,
) -> bytes:
    """An event as one syslog message. facility: "local0" to "local7". number: of its record, by which
    whoever receives it sees that none is missing. flow: what it was made of."""
    severity = INFO if entry.outcome == "ok" else WARNING
    priority = (LOCAL0 + int(facility.removeprefix("local"))) * 8 + severity
    when = datetime.fromtimestamp(entry.time, UTC)
    fields = {
        "number": "" if number is None else str(number),
        "log": entry.log,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "user": entry.user,
        "actor": entry.actor,
        "source": entry.source,
        "session": "" if entry.session is None else str(entry.session),
        "revision": "" if entry.revision is None else str(entry.revision),
    }
    if flow is not None:
        fields |= {
            "protocol": str(flow.protocol),
            "device": flow.device,
            "remote": flow.remote,
            "port": "" if flow.port is None else str(flow.port),
            "rule": flow.rule,
        }
    data = "".join(f' {name}="{_escaped(value)}"' for name, value in fields.items() if value)
    words = [entry.event, entry.outcome, entry.reason, entry.user and f"user {entry.user}", entry.text]
    text = " ".join(word for word in words if word)
    head = (
        f"<{priority}>1 {when:%Y-%m-%dT%H:%M:%S.%f}Z {_name(host_name, 255)} {APP_NAME} - {_name(entry.event, 32)}"
        f" [{SD_ID}{data}] "
    )
    # Section 6.4: a text that is not ASCII begins with the byte order mark.
    mark = "" if text.isascii() else "\ufeff"
    return (head + mark + text).encode(errors="replace")


class Syslog:
    """All targets. `offer` from anywhere in the event loop's thread; `run` sends."""

    def __init__(self, host_name: str = "") -> None:
        self._host_name = host_name or socket.gethostname()
        self._targets: dict[SyslogTarget, Target] = {}
        self._changed = asyncio.Event()

    def configure(self, targets: Sequence[SyslogTarget], host_name: str = "") -> None:
        """Sends to `targets` from now on; one that stays the same keeps its queue and connection."""
        host_name = host_name or socket.gethostname()
        if host_name != self._host_name:
            self._host_name, self._targets = host_name, {}
        self._targets = {each: self._targets.get(each) or Target(each, self._host_name) for each in targets}
        self._changed.set()

    def offer(self, entry: AuditEntry, number: int | None = None, flow: Flow | None = None) -> None:
        """Queues the event for every target that wants its log. Never waits, never raises."""
        for target in self._targets.values():
            target.offer(entry, number, flow)

    def wants(self, log: Log) -> bool:
        """Whether some target does."""
        return any(target.wants(log) for target in self._targets.values())

    @property
    def targets(self) -> list[Target]:
        """The present ones, for who wants to show their state."""
        return list(self._targets.values())

    @property
    def dropped(self) -> int:
        """Events that no queue had room for, of the present targets."""
        return sum(target.dropped for target in self._targets.values())

    async def run(self) -> None:
        """Sends until it is cancelled."""
        running: dict[Target, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = set(self._targets.values())
                for target in set(running) - wanted:
                    running.pop(target).cancel()
                for target in wanted - set(running):
                    running[target] = group.create_task(target.run(), name=f"syslog {target.name}")
                await self._changed.wait()

    async def drain(self, seconds: float) -> None:
        """Waits until all queues are empty, at most that long; for the end of a process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for target in self.targets:
                    await target.empty.wait()


class AuditFeed:
    """Brings the audit's records to the targets: also those that other processes wrote, such as commands,
    and after a restart those that had not been sent. A record may be sent twice, none is left out."""

    def __init__(self, syslog: Syslog, store: Store) -> None:
        self._syslog, self._records, self._meta = syslog, store.audit, store.meta
        self._last: int | None = None  # number of the record offered last
        self._saved = ""

    async def turn(self) -> None:
        """Offers what is new. For every second."""
        if not self._syslog.targets:
            self._last = None
            return
        if self._last is None:
            self._last = await self._begin()
        while True:
            page = await self._records.page(AuditFilter(after=self._last), PAGE, oldest_first=True)
            for record in page:
                self._syslog.offer(record.entry, record.number)
                if record.entry.log == "flows" and self._syslog.wants("flows"):
                    for line in await self._records.flows_of(record.number):
                        self._syslog.offer(line.entry, line.number, line.flow)
                self._last = record.number
            if len(page) < PAGE:
                break
        text = str(self._last)
        # What waits in a queue would be lost with this process.
        if text != self._saved and all(target.empty.is_set() for target in self._syslog.targets):
            await self._meta.set(POSITION, text)
            self._saved = text

    async def _begin(self) -> int:
        """Where an earlier process stopped; the present end of the audit the first time."""
        saved = await self._meta.get(POSITION)
        if saved is not None and saved.isdecimal():
            self._saved = saved
            return int(saved)
        newest = await self._records.page(AuditFilter(), 1)
        return newest[0].number if newest else 0


class Target:
    """One syslog server: its queue and its connection."""

    def __init__(self, settings: SyslogTarget, host_name: str, queued: int = MAX_QUEUED) -> None:
        self.name = settings.name
        self.dropped = 0
        self.connected = False
        self.empty = asyncio.Event()
        self.empty.set()
        self._settings, self._host_name, self._most = settings, host_name, queued
        self._wanted = {
            "events": settings.events,
            "user": settings.user_access,
            "admin": settings.admin_access,
            "flows": settings.flows,
        }
        self._queue: deque[bytes] = deque()
        self._untold = 0  # dropped, and the server does not know
        self._waiting = asyncio.Event()

    def wants(self, log: Log) -> bool:
        return self._wanted[log]

    def offer(self, entry: AuditEntry, number: int | None = None, flow: Flow | None = None) -> None:
        if not self.wants(entry.log):
            return
        if len(self._queue) >= self._most:
            self.dropped += 1
            self._untold += 1
            return
        settings = self._settings
        self._queue.append(
            message(entry, facility=settings.facility, host_name=self._host_name, number=number, flow=flow)
        )
        self.empty.clear()
        self._waiting.set()

    async def run(self) -> None:
        """Connects, sends, and does both again after a failure, until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect()
            except OSError as error:
                self._complain(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self.connected = True
            try:
                while True:
                    await self._send_next(connection)
                    pause = FIRST_PAUSE
            except OSError as error:
                self._complain(error)
            finally:
                self.connected = False
                connection.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _send_next(self, connection: _Connection) -> None:
        while not self._queue:
            self.empty.set()
            self._waiting.clear()
            await connection.wait(self._waiting)
        async with asyncio.timeout(SEND_SECONDS):
            # Forgotten only when the kernel has it: what is under way when a connection breaks may be lost,
            # since syslog has no receipts; what waits is not.
            await connection.send(self._queue[0])
        self._queue.popleft()
        if self._untold:
            count, self._untold = self._untold, 0
            now = datetime.now(UTC).timestamp()
            entry = AuditEntry(
                now, "events-dropped", "failed", "", "", "", None, f"{count} events were not sent"
            )
            self._queue.appendleft(
                message(entry, facility=self._settings.facility, host_name=self._host_name)
            )

    async def _connect(self) -> _Connection:
        address = self._settings.address
        if self._settings.transport == "tcp":
            reader, writer = await asyncio.open_connection(str(address.address), address.port)
            return _Stream(reader, writer)
        return _Datagrams(str(address.address), address.port)

    def _complain(self, error: OSError) -> None:
        log.warning(
            "syslog-unreachable",
            target=self.name,
            address=str(self._settings.address),
            error=str(error) or type(error).__name__,
            queued=len(self._queue),
        )


class _Connection:
    """What a target sends through."""

    async def send(self, content: bytes) -> None:
        raise NotImplementedError

    async def wait(self, event: asyncio.Event) -> None:
        """Returns when `event` is set; OSError when the connection is found broken before."""
        await event.wait()

    def close(self) -> None:
        raise NotImplementedError


class _Stream(_Connection):
    """TCP: every message with its length before it (RFC 6587, section 3.4.1)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # A syslog server says nothing: the end of what it sends is the end of the connection.
        self._broken = asyncio.ensure_future(reader.read(1))

    async def send(self, content: bytes) -> None:
        if self._broken.done():
            raise ConnectionResetError("the server closed the connection")
        self._writer.write(b"%d " % len(content) + content)
        await self._writer.drain()

    async def wait(self, event: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiting, self._broken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._broken.done():
            raise ConnectionResetError("the server closed the connection")

    def close(self) -> None:
        if self._broken.done() and not self._broken.cancelled():
            self._broken.exception()  # seen: it ends the connection all the same
        self._broken.cancel()
        self._writer.transport.abort()


class _Datagrams(_Connection):
    """UDP: one message, one datagram. Nobody knows whether it arrives."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect((address, port))
        except BaseException:
            self._socket.close()
            raise

    async def send(self, content: bytes) -> None:
        with contextlib.suppress(ConnectionRefusedError):  # about an earlier one
            self._socket.send(content)

    def close(self) -> None:
        self._socket.close()


def _escaped(value: str) -> str:
    """RFC 5424, section 6.3.3."""
    return "".join("\\" + c if c in '"\\]' else c for c in value)


def _name(text: str, longest: int) -> str:
    """RFC 5424, section 6: printable ASCII without spaces, "-" for nothing."""
    return "".join(c if "!" <= c <= "~" else "_" for c in text)[:longest] or "-"
