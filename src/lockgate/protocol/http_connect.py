"""The way through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6).

The proxy is not trusted: it carries TLS that it cannot read, and its answer is read strictly. Supported is
Basic authentication (RFC 7617); other schemes are told by `NeedsCredentials`.
"""

import base64
import re
from dataclasses import dataclass
from typing import TypeAlias

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.host_name import canonical_host
from lockgate.protocol.pulse.text import shown_text
from lockgate.protocol.secret import Secret

MAX_HEAD = 16384
"""Bytes of an answer's head, interim answers included; proxies send a few hundred."""

MAX_LINE = 8192
"""Bytes of one line of it; the longest, a ticket in an authentication header, stays below 6 KiB."""

MAX_HEADERS = 100
"""Header lines, interim answers included."""

MAX_CREDENTIALS = 1024
"""Bytes of user name, colon and password."""

MAX_REASON = 128
"""Bytes kept of the proxy's own words for its status."""

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BASIC = re.compile(rb"(?:^|,)[ \t]*basic(?:[ \t,]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A way to `host`, a name or an IP address, IPv6 without brackets.

    credentials: `user:password` in UTF-8 for the proxy.
    """

    host: str
    port: int
    credentials: Secret | None = None

    def encode(self) -> bytes:
        """The request; it holds the credentials. UsageError if a part cannot be sent."""
        try:
            host = canonical_host(self.host)
        except ValueError:
            raise UsageError("a proxy cannot be asked for this host") from None
        if not 0 < self.port <= 0xFFFF:
            raise UsageError(f"port {self.port}")
        target = host.with_port(self.port).encode()
        lines = [b"CONNECT %s HTTP/1.1" % target, b"Host: " + target]
        if self.credentials is not None:
            lines.append(b"Proxy-Authorization: Basic " + _basic(self.credentials))
        return b"\r\n".join([*lines, b"", b""])


def _basic(credentials: Secret) -> bytes:
    data = credentials.reveal()
    if len(data) > MAX_CREDENTIALS or b":" not in data:
        raise UsageError("credentials for a proxy are user:password, and not longer than 1024 bytes")
    if any(byte < 0x20 or byte == 0x7F for byte in data):  # RFC 7617, section 2
        raise UsageError("credentials for a proxy hold no control characters")
    return base64.b64encode(data)


@dataclass(frozen=True, slots=True)
class Connected:
    """From now on the bytes of the connection are those of the gateway."""


@dataclass(frozen=True, slots=True)
class NeedsCredentials:
    """Ask for user name and password, or for others, and come again on a new connection.

    basic: whether they can be sent; if not, the proxy wants a scheme that is not built.
    """

    basic: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """No. `reason` is the proxy's own text, for a person to read."""

    status: int
    reason: str


Answer: TypeAlias = Connected | NeedsCredentials | Refused


class AnswerReader:
    """Reads the answer to one ConnectRequest.

    `feed` takes bytes as they come; `result` is None until the head is complete. Bytes behind a yes are a
    PeerError: the gateway says nothing before we do, so they are the proxy's. The body of a no is not
    read; close the connection.
    """

    def __init__(self) -> None:
        self.result: Answer | None = None
        self._line = bytearray()
        self._size = 0
        self._headers = 0
        self._status: tuple[int, bytes] | None = None
        self._basic = False

    def feed(self, data: bytes) -> None:
        """Take bytes; PeerError if they are no answer. After one, the reader is of no use."""
        at = 0
        while at < len(data) and self.result is None:
            end = data.find(b"\n", at)
            piece = data[at:] if end < 0 else data[at : end + 1]
            self._line += piece
            at += len(piece)
            self._size += len(piece)
            if self._size > MAX_HEAD or len(self._line) > MAX_LINE:
                raise PeerError("the proxy's answer is too long")
            if end >= 0:
                line = bytes(self._line)
                self._line.clear()
                if not line.endswith(b"\r\n"):
                    raise PeerError("a line of the proxy's answer does not end in CR and LF")
                self._take(line[:-2])
        if at < len(data) and isinstance(self.result, Connected):
            raise PeerError("the proxy speaks in the gateway's place")

    def _take(self, line: bytes) -> None:
        if self._status is None:
            found = _STATUS.fullmatch(line)
            if found is None:
                raise PeerError("the proxy does not answer in HTTP/1.1")
            self._status = int(found[1]), found[2] or b""
        elif line:
            self._headers += 1
            if self._headers > MAX_HEADERS:
                raise PeerError(f"more than {MAX_HEADERS} headers from the proxy")
            header = _HEADER.fullmatch(line)
            if header is None:
                raise PeerError("a header of the proxy's answer is malformed")
            if header[1].lower() == b"proxy-authenticate" and _BASIC.search(_QUOTED.sub(b'""', header[2])):
                self._basic = True
        else:
            self._end(*self._status)

    def _end(self, status: int, reason: bytes) -> None:
        self._status = None
        if 200 <= status < 300:
            self.result = Connected()  # what it says about lengths counts for nothing, RFC 9110, 9.3.6
        elif status == 407:
            self.result = NeedsCredentials(self._basic)
        elif status >= 200 or status == 101:  # other 1xx: more is to come
            self.result = Refused(status, shown_text(reason.strip(), MAX_REASON))
