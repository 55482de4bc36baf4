"""The portal at a real port, for browsers: TLS, and a stand-in for what the edge attaches to requests."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lockgate.server.config.tree import Configuration
from tests.unit.server.portal_subject import Portal, portal

T = TypeVar("T")
DEADLINE = 60.0  # seconds


class Served:
    """A portal in a thread of its own. `call` runs a coroutine there."""

    def __init__(self, folder: Path, tree: Configuration) -> None:
        self._folder, self._tree = folder, tree
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="portal", daemon=True)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(DEADLINE), "the portal did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    def call(self, make: Callable[[Portal], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(make(self.subject), self._loop).result(DEADLINE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        certificate = _certificate(self._folder)
        async with portal(self._folder, self._tree, time.time) as subject:
            self.subject, self._loop = subject, asyncio.get_running_loop()
            config = uvicorn.Config(
                _Edge(subject.app),
                host="127.0.0.1",
                port=0,
                ssl_certfile=certificate,
                ssl_version=ssl.PROTOCOL_TLS_SERVER,
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            self._server.capture_signals = _no_signals  # type: ignore[method-assign]
            running = asyncio.create_task(self._server.serve(), name="http")
            while not self._server.started and not running.done():  # noqa: ASYNC110  # uvicorn tells nobody
                await asyncio.sleep(0.01)
            if not running.done():
                self.port = self._server.servers[0].sockets[0].getsockname()[1]
                self._ready.set()
            await running


class _no_signals:  # stands in for a method
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Edge:
    """Adds what the edge adds, and removes what it removes."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            kept = [pair for pair in scope["headers"] if not pair[0].startswith(b"x-lockgate-")]
            added = [(b"x-lockgate-listener", b"gateway"), (b"x-lockgate-peer", b"127.0.0.1:4000")]
            scope = {**scope, "headers": kept + added}
        await self._app(scope, receive, send)


def _certificate(folder: Path) -> str:
    """A file with key and certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)
