"""Flows: what passed between sessions and the machines behind the gateway, or was denied to them."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_RULE = "?"


@dataclass(frozen=True, slots=True)
class Flow:
    """One remote end (address, protocol, port) in a span of time; connections that follow each other closely are one
    flow.

    first, last:  its packets, in seconds since 1970.
    protocol:     IP protocol number; 0 where `remote` is "".
    device:       address of the client inside the tunnel; "" where nobody knows it any more.
    remote:       address of the other end; "" for several that were not told apart.
    port:         of the other end, for protocols that have ports.
    outbound:     whether the client began.
    packets_in:   from the client, as were judged; packets_out: to it. Bytes are those of whole inner packets.
    rule:         name of the access rule that decided; "" where none matches, UNKNOWN_RULE where its name is not
                  known any more. A later fragment goes where its first one may, and has no rule.
    revision:     of the configuration that the rule stands in.
    cause:        why it was recorded (`protocol.edge_link.FlowCause`).
    """

    first: float
    last: float
    allowed: bool
    protocol: int
    device: str
    remote: str
    port: int | None
    outbound: bool
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    rule: str
    revision: int | None
    cause: str


@dataclass(frozen=True, slots=True)
class FlowGroup:
    """Flows of one session that are written down together.

    source: address that the client came from.
    """

    session: int
    user: str
    source: str
    roles: tuple[str, ...]
    flows: tuple[Flow, ...]


@dataclass(frozen=True, slots=True)
class FlowLoss:
    """Records that are missing. count: None where nobody knows how many."""

    time: float
    count: int | None
    reason: str  # a code: "no-room" or "edge-gone"
