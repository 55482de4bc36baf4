"""What every DNS driver does, and the forwarder that some of them need beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lockgate.client.linux.dns.forwarder import Forwarder
from lockgate.client.linux.dns.forwarding import Routes
from lockgate.client.linux.dns.wish import DnsWish
from lockgate.model.problem import Problem, ProblemError

Saved = Mapping[str, Any]
"""JSON-able; `driver` names who can undo it, the rest is that driver's own."""


class Driver(ABC):
    """One way to change the machine's name resolution.

    saved:   what `revert` and `restore` need: to be in the journal before `apply`. Changes nothing.
    apply:   do it, or do it again. `saved` must have been called for the same wish.
    verify:  False when somebody overwrote it (or the forwarder ended): journal `saved()` anew, then `apply`.
    revert:  undo it; twice does no harm. What somebody else has put there since stays.
    close:   stop what runs in this process and leave the machine's settings: the tunnel outlives the service.

    All but `close` raise ProblemError: dns-not-writable, dns-refused, dns-not-in-effect, dns-forwarder-busy.
    """

    name: str

    def __init__(self) -> None:
        self._forwarder: Forwarder | None = None

    @abstractmethod
    async def saved(self, wish: DnsWish) -> dict[str, Any]: ...

    @abstractmethod
    async def apply(self, wish: DnsWish) -> None: ...

    @abstractmethod
    async def verify(self, wish: DnsWish) -> bool: ...

    @abstractmethod
    async def revert(self, saved: Saved) -> None: ...

    async def close(self) -> None:
        await self._forward(None)

    @property
    def _forwarding(self) -> bool:
        return self._forwarder is not None and self._forwarder.running

    async def _forward(self, routes: Routes | None) -> None:
        """Forward along these routes from now on; None: no longer."""
        if self._forwarder is not None and (routes is None or not self._forwarder.running):
            await self._forwarder.close()
            self._forwarder = None
        if routes is None:
            return
        if self._forwarder is not None:
            self._forwarder.routes = routes
            return
        forwarder = Forwarder(routes)
        try:
            await forwarder.start()
        except OSError as error:
            raise ProblemError(
                Problem(
                    "dns-forwarder-busy",
                    f"The client cannot answer name queries on {forwarder.address} port {forwarder.port}: "
                    f"{error.strerror or error}.",
                    "Let the name server that runs on this computer listen on its own address only, "
                    "or use systemd-resolved.",
                )
            ) from error
        self._forwarder = forwarder


def not_writable(path: object, error: OSError) -> ProblemError:
    return ProblemError(
        Problem(
            "dns-not-writable",
            f"The file {path} cannot be changed: {error.strerror or error}.",
            "Make it a file that only root can change and that root can write to, then connect again.",
        )
    )
