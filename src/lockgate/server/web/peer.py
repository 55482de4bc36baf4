"""Facts about a request's connection that the edge attached.

The edge removes every header of this namespace from what a client sends before it adds its own, and
only the edge can reach the socket behind which this application runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

PREFIX = "x-lockgate-"


@dataclass(frozen=True, slots=True)
class Peer:
    """`listener` is "gateway" or "admin"; `address` is the client's, without port."""

    listener: str
    address: str

    @classmethod
    def of(cls, request: Request) -> Peer:
        endpoint = request.headers.get(PREFIX + "peer", "")
        host, _, _ = endpoint.rpartition(":")
        return cls(
            listener=request.headers.get(PREFIX + "listener", ""),
            address=host.removeprefix("[").removesuffix("]"),
        )
