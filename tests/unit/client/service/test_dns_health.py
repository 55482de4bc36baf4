from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from lockgate.client.linux.dns import Address, DnsWish, Health, ServerHealth
from lockgate.client.service import dns_health
from lockgate.client.service.dns_health import DnsHealth

ONE, TWO = ip_address("10.0.0.1"), ip_address("fd00::1")
WISH = DnsWish((ONE, TWO), (), False, "lockgate0", 7)
OTHER = DnsWish((TWO,), (), False, "lockgate0", 7)


class Servers:
    """Answer as told, or from the second question on; `asked` counts the questions."""

    def __init__(self, *answering: Address, slow: Address | None = None) -> None:
        self.answering, self.slow, self.asked = answering, slow, 0

    async def __call__(
        self, servers: Sequence[Address], patience: float, interface: str
    ) -> list[ServerHealth]:
        self.asked += 1
        if self.asked > 1 and self.slow is not None:
            self.answering = (*self.answering, self.slow)
        await asyncio.sleep(0)
        return [
            ServerHealth(one, Health.ANSWERS if one in self.answering else Health.REFUSED) for one in servers
        ]


def test_those_that_do_not_answer_are_named() -> None:
    async def look() -> tuple[Address, ...]:
        health = DnsHealth(Servers(ONE))
        await health.refresh(WISH)
        return health.silent

    assert asyncio.run(look()) == (TWO,)


def test_one_lost_datagram_is_not_silence() -> None:
    async def look() -> tuple[tuple[Address, ...], int]:
        servers = Servers(ONE, slow=TWO)
        health = DnsHealth(servers)
        await health.refresh(WISH)
        return health.silent, servers.asked

    assert asyncio.run(look()) == ((), 2)


def test_who_looks_often_asks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> list[int]:
        servers = Servers(ONE, TWO)
        health = DnsHealth(servers)
        await asyncio.gather(health.refresh(WISH), health.refresh(WISH))
        await health.refresh(WISH)
        seen = [servers.asked]
        await health.refresh(OTHER)
        seen.append(servers.asked)
        monkeypatch.setattr(dns_health, "FRESH", 0.0)
        for _ in range(2):
            await health.refresh(WISH)
        return [*seen, servers.asked]

    assert asyncio.run(look()) == [1, 2, 4]


def test_without_a_tunnel_nothing_is_silent() -> None:
    async def look() -> tuple[Address, ...]:
        health = DnsHealth(Servers())
        await health.refresh(WISH)
        await health.refresh(None)
        return health.silent

    assert asyncio.run(look()) == ()
