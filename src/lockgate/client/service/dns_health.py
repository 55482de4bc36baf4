"""Which name servers of the tunnel are silent, for those who look at its details.

Nobody is asked without a looker: a query now and then would keep a session alive that is to end when idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lockgate.client.linux import dns
from lockgate.client.linux.dns import DnsWish, Health, ServerHealth

ROUNDS = (0.4, 0.6)  # seconds that each round waits, as long as somebody is silent: who looks waits for them
FRESH = 10.0  # seconds that an answer counts: details are looked at every second

Probe = Callable[[Sequence[dns.Address], float, str], Awaitable[Sequence[ServerHealth]]]


async def _probe(servers: Sequence[dns.Address], patience: float, interface: str) -> Sequence[ServerHealth]:
    return await dns.probe(servers, patience, interface=interface)


class DnsHealth:
    """silent: servers that did not answer when last asked."""

    def __init__(self, probe: Probe = _probe) -> None:
        self._probe = probe
        self._wish: DnsWish | None = None
        self._fresh_until = 0.0
        self.silent: tuple[dns.Address, ...] = ()

    async def refresh(self, wish: DnsWish | None) -> None:
        """Asks the servers of `wish`, unless that was just done; takes no longer than the ROUNDS."""
        now = asyncio.get_running_loop().time()
        if wish == self._wish and now < self._fresh_until:
            return
        if wish != self._wish:
            self.silent = ()
        # At once, so that a second one who looks meanwhile does not ask too.
        self._wish, self._fresh_until = wish, now + FRESH
        if wish is None:
            return
        silent = wish.servers
        for patience in ROUNDS:  # one datagram may be lost
            found = await self._probe(silent, patience, wish.interface)
            silent = tuple(each.server for each in found if each.health is not Health.ANSWERS)
            if not silent:
                break
        if wish == self._wish:
            self.silent = silent
