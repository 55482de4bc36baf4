"""The names of the figures of a peer. Rates are 10⁹ bits per second of TCP payload that arrived."""

from __future__ import annotations

UP, DOWN = "up", "down"
"""Client to intranet, intranet to client."""
WAYS = (UP, DOWN)

DATAGRAMS = "kpps of 64-byte datagrams"
IDLE, LOADED = "ping idle", "ping loaded"
CONNECT = "connect s"
AFTER_CUT = "reply after a cut s"
AFTER_ROAMING = "reply after a new address s"
FALLBACK, RETURN = "fallback to TLS s", "return to ESP s"


def rate(way: str, streams: int, *, bad: bool = False) -> str:
    """bad: over the long and lossy path."""
    return f"Gbit/s {way}, {streams} stream{'s' if streams > 1 else ''}{', bad path' if bad else ''}"


def cpu(end: str, way: str) -> str:
    """end: "gateway" or "client". CPU seconds of its processes per 10⁹ bytes, one stream."""
    return f"{end} s/GB {way}"


def memory(end: str, kind: str) -> str:
    """kind: "RSS" or "PSS" of the processes of one end together; shared pages count in RSS as often as they are shared."""
    return f"{end} {kind} MiB"


def ping(state: str, share: str) -> str:
    """state: `IDLE` or `LOADED`; share: "median" or "p99". Milliseconds."""
    return f"{state} {share} ms"
