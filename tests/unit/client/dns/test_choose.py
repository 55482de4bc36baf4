from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from lockgate.client.linux.dns import choose, resolvconf, resolved
from lockgate.client.linux.dns.choose import choose_driver, restore, uses_resolve_module
from lockgate.client.linux.dns.resolved import kept_domains
from lockgate.client.linux.dns.wish import DnsWish
from lockgate.model.problem import ProblemError

FULL = DnsWish((ip_address("10.0.0.53"),), ("corp.example",), False, "tun0", 7)
SPLIT = replace(FULL, split=True)


@pytest.mark.parametrize(
    ("line", "uses"),
    [
        ("hosts: files resolve [!UNAVAIL=return] dns", True),
        ("hosts:\tfiles resolve", True),
        ("hosts: files dns # resolve", False),
        ("#hosts: resolve", False),
        ("networks: resolve", False),
        ("hosts: files mdns4_minimal dns", False),
    ],
)
def test_resolve_module(line: str, uses: bool) -> None:
    assert uses_resolve_module(f"passwd: files\n{line}\n") is uses


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("runs", "content", "nsswitch", "chosen"),
    [
        (True, "nameserver 127.0.0.53\n", "hosts: files dns", "systemd-resolved"),
        (True, "nameserver 192.0.2.53\n", "hosts: files resolve dns", "systemd-resolved"),
        (True, "nameserver 192.0.2.53\n", "hosts: files dns", "file"),
        (True, "nameserver 127.0.0.53\nnameserver 192.0.2.53\n", "hosts: files dns", "file"),
        (False, "nameserver 127.0.0.53\n", "hosts: files resolve dns", "file"),
        (False, "", "", "file"),
        (True, "# lockgate: ours\n", "hosts: files resolve", "file"),
    ],
)
async def test_which_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool, content: str, nsswitch: str, chosen: str
) -> None:
    async def running() -> bool:
        return runs

    async def no_resolvconf() -> None:
        return None

    (tmp_path / "resolv.conf").write_text(content)
    (tmp_path / "nsswitch.conf").write_text(nsswitch)
    monkeypatch.setattr(resolved, "running", running)
    monkeypatch.setattr(resolvconf, "find", no_resolvconf)
    monkeypatch.setattr(choose, "RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(choose, "_NSSWITCH", tmp_path / "nsswitch.conf")
    assert (await choose_driver()).name == chosen


@pytest.mark.parametrize(
    ("wish", "domain", "kept"),
    [
        (SPLIT, "lan", True),
        (SPLIT, "example", True),  # wider than ours: ours matches better
        (SPLIT, "", True),
        (SPLIT, "corp.example", False),  # as good a match as ours: a network that calls itself like us
        (SPLIT, "eu.Corp.Example", False),  # a better one
        (FULL, "lan", False),
        (FULL, "", False),
    ],
)
def test_domains_that_another_link_may_keep(wish: DnsWish, domain: str, kept: bool) -> None:
    assert kept_domains([(domain, False)], wish) == ([(domain, True)] if kept else [])


def test_a_journal_without_a_driver_undoes_nothing() -> None:
    assert restore({}) == ["DNS: the journal names no driver, nothing to undo"]


def test_a_journal_cannot_pass_options_to_resolvconf() -> None:
    for record in ("-a", "", "x y", "../x"):
        with pytest.raises(ProblemError):
            resolvconf.removal({"driver": "openresolv", "record": record})
    assert resolvconf.removal({"driver": "resolvconf", "record": "lo.lockgate"}) == ["-d", "lo.lockgate"]
