"""A server on loopback with a certificate of its own, for what calls other servers over TLS."""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from lockgate.server import pki


class TlsServer:
    """Runs while it is entered. ca: PEM. folder: for its key."""

    def __init__(self, folder: Path, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        material = pki.create("127.0.0.1", [ipaddress.ip_address("127.0.0.1")], datetime.now(UTC))
        (folder / "chain.pem").write_bytes(material.chain)
        (folder / "key.pem").write_bytes(material.key.reveal())
        self.ca = material.ca.decode()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
