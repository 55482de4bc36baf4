"""One request to another server, mostly to its REST interface: its certificate is verified before a byte of ours
is sent."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server import tracing


@dataclass(frozen=True, slots=True)
class Destination:
    """Another server, with a token of it. ca: PEM; empty is the system's store."""

    name: str
    url: str
    token: Secret
    ca: str = ""


class NoAnswerError(Exception):
    """There is no answer; `why` and `fix` in words."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


@dataclass(frozen=True, slots=True)
class Patience:
    """each: seconds for connecting and for every step. whole: for all of it. most: bytes of the answer that are
    read; one more is read to notice a longer one."""

    each: float
    whole: float
    most: int


@dataclass(frozen=True, slots=True)
class Server:
    """Where a request goes. tls: off only for what listens on this machine. ca: PEM; empty is the system's store."""

    host: str
    port: int
    tls: bool = True
    ca: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def ask(
    target: Destination, method: str, path: str, patience: Patience, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and content of the answer; blocks. body: JSON. Raises NoAnswerError."""
    host, port = _address(target)
    token = target.token.reveal_text()
    if not re.fullmatch(r"[!-~]+", token):
        # The library's own error would quote it.
        raise NoAnswerError("its token is none", "Enter the token again, without spaces and line ends.")
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": f"Bearer {token}",
    }
    where = path.partition("?")[0]
    about: tracing.Attributes = {
        "http.request.method": method,
        "url.template": where,
        "server.address": host,
        "server.port": port,
    }
    with tracing.part(f"{method} {where}", about, kind="client") as trace:
        if trace.is_recorded:
            headers["traceparent"] = trace.traceparent
        status, content = exchange(Server(host, port, ca=target.ca), method, path, headers, patience, body)
        trace.note({"http.response.status_code": status})
        if status >= 400:
            trace.fail(str(status))
        return status, content


def exchange(
    server: Server,
    method: str,
    path: str,
    headers: Mapping[str, str],
    patience: Patience,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """`ask` with headers and body of any kind."""
    connection = (
        http.client.HTTPSConnection(
            server.host, server.port, timeout=patience.each, context=_context(server.ca)
        )
        if server.tls
        else http.client.HTTPConnection(server.host, server.port, timeout=patience.each)
    )
    # A server that answers byte by byte keeps every single time-out.
    limit = threading.Timer(patience.whole, _cut, [connection])
    limit.daemon = True
    limit.start()
    try:
        # A redirect is an answer like any other: nothing is sent to where it points.
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as answer:
            return answer.status, answer.read(patience.most + 1)
    except ssl.SSLCertVerificationError as error:
        raise NoAnswerError(
            f"its certificate cannot be verified ({printable(error.verify_message, 200)})",
            "Give the CA of its certificate with the target, or the name that the certificate is for.",
        ) from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        why = printable(str(error) or type(error).__name__, 200)
        raise NoAnswerError(
            f"it cannot be reached: {why}", "Look whether it runs and listens there."
        ) from None
    finally:
        limit.cancel()
        connection.close()


def _address(target: Destination) -> tuple[str, int]:
    """Host and port."""
    try:
        parts = urlsplit(target.url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        parts, host, port = None, None, 0
    if parts is None or parts.scheme != "https" or not host or parts.username is not None:
        raise NoAnswerError("its address is no https:// address", "Correct the address of the target.")
    return host, port


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, ValueError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _context(ca: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise NoAnswerError("its CA is no certificate", "Give one certificate in PEM.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
