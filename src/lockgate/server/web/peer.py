"""Facts about a request's connection that the edge attached.

The edge removes every header of this namespace from what a client sends before it adds its own, and
only the edge can reach the socket behind which this application runs. A header that is there twice, or
an address that is none, was not written by the edge: then there is no peer, and nothing is served.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from lockgate.model.place import plain_address

PREFIX = "x-lockgate-"
LISTENERS = ("gateway", "admin")
MAX_CERTIFICATES = 8  # of a chain


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end.

    listener:     "gateway" or "admin"; "" for a request that did not come from the edge.
    address:      the client's, without port; "local" for a command on the gateway.
    local:        address and port it connected to.
    server_name:  of TLS, as the client said it.
    tls:          version, cipher and group.
    certificates: what the client showed in TLS, DER, its own first; nobody has looked at it.
    """

    listener: str
    address: str
    local: str = ""
    server_name: str = ""
    tls: str = ""
    certificates: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, request: HTTPConnection) -> Peer:
        return cls.of_scope(request.scope)

    @classmethod
    def of_scope(cls, scope: Scope) -> Peer:
        # A call from this very process (`local`): no header can make this key.
        known = scope.get("lockgate.peer")
        if isinstance(known, Peer):
            return known
        headers = Headers(scope=scope)
        values: dict[str, str] = {}
        for name in ("listener", "peer", "local", "server-name", "tls", "client-certificate"):
            given = headers.getlist(PREFIX + name)
            if len(given) > 1:
                return NOBODY
            values[name] = given[0] if given else ""
        host, _, _ = values["peer"].rpartition(":")
        address = _address(host.removeprefix("[").removesuffix("]"))
        if address is None or values["listener"] not in LISTENERS:
            return NOBODY
        return cls(
            listener=values["listener"],
            address=address,
            local=values["local"],
            server_name=values["server-name"],
            tls=values["tls"],
            certificates=_certificates(values["client-certificate"]),
        )


NOBODY = Peer(listener="", address="")


def _address(text: str) -> str | None:
    """In its one form; an IPv4 client of an IPv6 socket is an IPv4 client."""
    try:
        return str(plain_address(text))
    except ValueError:
        return None


def _certificates(text: str) -> tuple[bytes, ...]:
    """Base64 of DER, separated by commas; nothing when one of them is not."""
    try:
        return tuple(
            base64.b64decode(each.strip(), validate=True)
            for each in text.split(",", MAX_CERTIFICATES)
            if each
        )
    except (ValueError, binascii.Error):
        return ()
