"""The service's end of the client link: messages, and the descriptors that come with some of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from lockgate.protocol import edge_link, edge_link_codec
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("edge-link")

KEEPALIVE_INTERVAL = 5.0  # seconds; the edge gives up after 30 s of silence
HELLO_PATIENCE = 5.0  # seconds for the edge's answer to hello
SILENCE = 30.0  # seconds without a word after which the edge counts as stuck; it reports every 5 s
READ_SIZE = 1 << 16
MAX_QUEUED = 8 << 20  # bytes that may wait for a stuck edge; a dial with all roots is 200 KiB


class EdgeLink:
    """One connection to a client edge. `open` it, then `run` it until it ends."""

    def __init__(self, on_message: Callable[[edge_link.FromEdge], None]) -> None:
        self._on_message = on_message
        self._socket: socket.socket | None = None
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = 0
        self._records = edge_link_codec.RecordReader()
        self._waits_to_write = False
        self._broken = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self._socket is not None

    async def open(self, path: Path) -> edge_link.EdgeHello:
        """Connects and says hello. Raises OSError when nobody listens or answers, PeerError on another
        version."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(HELLO_PATIENCE):
                await loop.sock_connect(connection, str(path))
                await loop.sock_sendall(
                    connection,
                    edge_link_codec.encode_record(edge_link.ControlHello(version=edge_link.VERSION)),
                )
                hello = await self._next(connection)
            if not isinstance(hello, edge_link.EdgeHello) or hello.version != edge_link.VERSION:
                raise PeerError("the edge is of another version of the program")
        except TimeoutError:
            connection.close()
            raise OSError("the edge does not answer") from None
        except BaseException:
            connection.close()
            raise
        self._socket = connection
        return hello

    async def run(self) -> None:
        """Hands on messages until the link ends, then returns."""
        assert self._socket is not None
        connection = self._socket
        broken = asyncio.ensure_future(self._broken.wait())
        keepalive = asyncio.ensure_future(self._keep_alive())
        reading = asyncio.ensure_future(self._read(connection))
        try:
            await asyncio.wait({broken, reading, keepalive}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (broken, keepalive, reading):
                task.cancel()
            await asyncio.gather(broken, keepalive, reading, return_exceptions=True)
            self.close()

    async def _read(self, connection: socket.socket) -> None:
        try:
            while (message := await self._next(connection)) is not None:
                self._on_message(message)
            log.warning("link-closed")
        except (PeerError, OSError, TimeoutError) as error:
            log.error("link-failed", reason=str(error) or type(error).__name__)

    async def _next(self, connection: socket.socket) -> edge_link.FromEdge | None:
        loop = asyncio.get_running_loop()
        while (record := self._records.next_record()) is None:
            async with asyncio.timeout(SILENCE):
                data = await loop.sock_recv(connection, READ_SIZE)
            if not data:
                return None
            self._records.feed(data)
        return edge_link_codec.decode_from_edge(record)

    def send(self, message: edge_link.ToEdge, descriptors: Sequence[int] = ()) -> None:
        """Queues a message. The descriptors are duplicated: the caller keeps its own. Without a link
        it is dropped: what was meant to be is brought about anew with the next edge."""
        if self._socket is None:
            return
        data = memoryview(edge_link_codec.encode_record(message))
        copies = tuple(os.dup(descriptor) for descriptor in descriptors)
        self._queue.append((data, copies))
        self._queued += len(data)
        self._flush()
        if self._queued > MAX_QUEUED:
            log.error("edge-stuck", queued=self._queued)
            self._broken.set()

    def _flush(self) -> None:
        connection = self._socket
        while connection is not None and self._queue:
            data, descriptors = self._queue.popleft()
            try:
                if descriptors:
                    sent = socket.send_fds(connection, [data], list(descriptors))
                else:
                    sent = connection.send(data)
            except (BlockingIOError, InterruptedError):
                self._queue.appendleft((data, descriptors))
                break
            except OSError as error:
                self._queue.appendleft((data, descriptors))
                log.error("link-failed", reason=str(error))
                self._broken.set()
                break
            _close_all(descriptors)
            self._queued -= sent
            if sent < len(data):
                self._queue.appendleft((data[sent:], ()))
        self._watch_writable(bool(self._queue))

    def _watch_writable(self, wanted: bool) -> None:
        if self._socket is None or wanted == self._waits_to_write:
            return
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_writer(self._socket, self._flush)
        else:
            loop.remove_writer(self._socket)
        self._waits_to_write = wanted

    def close(self) -> None:
        """Closes the link; the edge and its tunnels live on."""
        if self._socket is None:
            return
        self._watch_writable(False)
        self._socket.close()
        self._socket = None
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self._queue.clear()
        self._queued = 0

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_INTERVAL)
            self.send(edge_link.Keepalive())


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
