from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from lockgate.client.linux import resolve as module
from lockgate.client.linux.resolve import MAX_LOOKUPS, prefer, resolve
from lockgate.model.problem import ProblemError


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(host: str, port: None, **more: object) -> list[object]:
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_both_versions_in_the_systems_order_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "2001:db8::1", "192.0.2.1", "192.0.2.1", "fe80::1%eth0", "0.0.0.0")
    assert asyncio.run(resolve("gw.test")) == (ip_address("2001:db8::1"), ip_address("192.0.2.1"))


def test_a_literal_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert asyncio.run(resolve("2001:db8::1")) == (ip_address("2001:db8::1"),)


@pytest.mark.parametrize("host", ["", "a" * 300, "no.such.name.invalid", "\udcff", "a..b"])
def test_a_name_without_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "no.such.name.invalid":
        answering(monkeypatch, "fe80::1%eth0")
    with pytest.raises(ProblemError) as refusal:
        asyncio.run(resolve(host))
    assert refusal.value.problem.code == "name-unknown"


def test_silence_ends_at_the_deadline_and_hanging_lookups_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        freed.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def ask() -> list[str]:
        codes = []
        for _ in range(MAX_LOOKUPS + 2):
            with pytest.raises(ProblemError) as refusal:
                await resolve("gw.test", timeout=0.01)
            codes.append(refusal.value.problem.code)
        return codes

    assert asyncio.run(ask()) == ["name-timeout"] * (MAX_LOOKUPS + 2)
    mine = [thread for thread in threading.enumerate() if thread.name == "resolve gw.test"]
    assert len(mine) == MAX_LOOKUPS
    freed.set()
    for thread in mine:
        thread.join()
    assert all(module._running.acquire(blocking=False) for _ in range(MAX_LOOKUPS))
    module._running.release(MAX_LOOKUPS)


def test_the_address_that_worked_comes_first() -> None:
    a, b, c = (ip_address(f"192.0.2.{n}") for n in range(3))
    assert prefer((a, b, c), b) == (b, a, c)
