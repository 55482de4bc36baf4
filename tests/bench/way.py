"""What a peer opens, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

Processes = Callable[[], list[int]]


def _nobody() -> list[int]:
    return []


@dataclass(frozen=True, slots=True)
class Way:
    """An open way from client to intranet.

    interface:       the tunnel's, on the client; None for plain routing.
    gateway, client: the processes of each end, asked at the moment they are looked at.
    check:           raises LabError when packets do not go the way the row says.
    connect_seconds: from the command to the intranet's first answer.
    transport:       "esp" or "tls", what carries packets at this moment; for those that can change.
    """

    interface: str | None = None
    gateway: Processes = _nobody
    client: Processes = _nobody
    check: Callable[[], None] = lambda: None
    connect_seconds: float | None = None
    transport: Callable[[], str] | None = None


Opener = Callable[[], AbstractContextManager[Way]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One row.

    brief: only its streams and what they cost. roams: it carries on from another address.
    """

    row: str
    open: Opener
    brief: bool = False
    roams: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """How long things are measured.

    seconds:  of one TCP transfer. pings: echo requests for a latency. trial: seconds of datagrams at one rate;
    steps:    bisections of that rate. cut: seconds without a network.
    bad:      numbers of TCP streams on the bad path.
    """

    seconds: int
    pings: int = 300
    trial: float = 0.6
    steps: int = 4
    cut: float = 3.0
    bad: tuple[int, ...] = (1, 4)


QUICK = Scale(seconds=1, pings=60, trial=0.2, steps=1, cut=0.5, bad=(1,))
