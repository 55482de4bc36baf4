"""The control plane's end of the edge link: connects, says hello, keeps connecting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link, edge_link_codec
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("edge-link")

KEEPALIVE_INTERVAL = 5.0  # seconds; the edge gives up after 30 s of silence
RETRY_PAUSE = 0.1  # seconds between attempts; the edge listens before it does anything else
HELLO_PATIENCE = 10.0  # seconds for the edge's answer
SILENCE = 30.0  # seconds without a word after which the edge counts as stuck; it reports every 5 s
READ_SIZE = 1 << 18
# Bytes of a message that is read where the event loop is not; a report about 10,000 sessions, 2 MiB, takes a
# quarter of a second.
LARGE = 1 << 16
# Bytes that may wait for a stuck edge before the link is given up. Rules for 10,000 sessions may be more: who
# sends those waits for `room`.
MAX_QUEUED = 64 << 20
CROWDED = 4 << 20  # bytes that may wait before whoever sends much should


class EdgeClient:
    """Calls `on_hello` once per connection, then `on_message` for everything else, `on_lost` at its end."""

    def __init__(
        self,
        path: Path,
        *,
        on_hello: Callable[[edge_link.EdgeHello], Awaitable[None]],
        on_message: Callable[[edge_link.FromEdge], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = path
        self._on_hello, self._on_message, self._on_lost = on_hello, on_message, on_lost
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_up(self) -> bool:
        return self._writer is not None

    def send(self, message: edge_link.ToEdge) -> None:
        """Queues a message. Without a link it is dropped: `on_hello` brings edge and store together again."""
        if self._writer is None:
            return
        self._writer.write(edge_link_codec.encode_record(message))
        if self._writer.transport.get_write_buffer_size() > MAX_QUEUED:
            log.error("edge-stuck", queued=self._writer.transport.get_write_buffer_size())
            self._writer.transport.abort()

    async def room(self) -> None:
        """Returns once the edge has taken most of what waits for it; at once without a link. OSError when the
        link breaks, TimeoutError when the edge takes nothing."""
        writer = self._writer
        if writer is not None and writer.transport.get_write_buffer_size() > CROWDED:
            async with asyncio.timeout(SILENCE):
                await writer.drain()

    async def run(self) -> None:
        """Keeps the link up until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_alive(), name="edge-link keepalive")
            group.create_task(self._keep_connected(), name="edge-link reader")

    async def _keep_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(RETRY_PAUSE)
                continue
            try:
                await self._serve(reader, writer)
            except (PeerError, ProblemError, OSError, TimeoutError) as error:
                log.error("link-failed", reason=str(error) or type(error).__name__)
            finally:
                self._writer = None
                writer.close()
                self._on_lost()
            await asyncio.sleep(RETRY_PAUSE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        records = edge_link_codec.RecordReader()
        writer.write(edge_link_codec.encode_record(edge_link.ControlHello(version=edge_link.VERSION)))
        async with asyncio.timeout(HELLO_PATIENCE):
            hello = await self._next(reader, records)
        if not isinstance(hello, edge_link.EdgeHello):
            raise PeerError("the edge did not answer hello")
        if hello.version != edge_link.VERSION:
            raise PeerError(f"the edge speaks version {hello.version} of the link, not {edge_link.VERSION}")
        self._writer = writer
        log.info("link-up", edge=hello.edge, sessions=len(hello.sessions))
        await self._on_hello(hello)
        while (message := await self._next(reader, records)) is not None:
            self._on_message(message)
        log.warning("link-closed")

    @staticmethod
    async def _next(
        reader: asyncio.StreamReader, records: edge_link_codec.RecordReader
    ) -> edge_link.FromEdge | None:
        """The next message, or None when the edge closed the link."""
        while (record := records.next_record()) is None:
            async with asyncio.timeout(SILENCE):
                data = await reader.read(READ_SIZE)
            if not data:
                return None
            records.feed(data)
        if len(record) <= LARGE:
            return edge_link_codec.decode_from_edge(record)
        return await asyncio.to_thread(edge_link_codec.decode_from_edge, record)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_INTERVAL)
            self.send(edge_link.Keepalive())
