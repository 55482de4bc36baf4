"""One request to the REST interface of another server: its certificate is verified before a byte of ours is sent."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from lockgate.model.text import printable
from lockgate.protocol.secret import Secret


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


def ask(
    target: Destination, method: str, path: str, patience: Patience, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and content of the answer; blocks. body: JSON. Raises NoAnswerError."""
    host, port = _address(target)
    token = target.token.reveal_text()
    if not re.fullmatch(r"[!-~]+", token):
        # The library's own error would quote it.
        raise NoAnswerError("its token is none", "Enter the token again, without spaces and line ends.")
    connection = http.client.HTTPSConnection(host, port, timeout=patience.each, context=_context(target))
    # A server that answers byte by byte keeps every single time-out.
    limit = threading.Timer(patience.whole, _cut, [connection])
    limit.daemon = True
    limit.start()
    try:
        # A redirect is an answer like any other: nothing is sent to where it points.
        connection.request(
            method,
            path,
            body,
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Authorization": f"Bearer {token}",
            },
        )
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


def _cut(connection: http.client.HTTPSConnection) -> None:
    with contextlib.suppress(OSError, ValueError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _context(target: Destination) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=target.ca or None)
    except (ssl.SSLError, ValueError):
        raise NoAnswerError("its CA is no certificate", "Give one certificate in PEM.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
