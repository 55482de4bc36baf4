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
    """Answer as told; `asked` counts the rounds."""

    def __init__(self, *answering: Address) -> None:
        self.answering, self.asked = answering, 0

    async def __call__(self, servers: Sequence[Address], interface: str) -> list[ServerHealth]:
        self.asked += 1
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


def test_who_looks_often_asks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> list[int]:
        servers = Servers()
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
