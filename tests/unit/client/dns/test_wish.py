from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.dns.wish import (
    MAX_DOMAINS,
    MAX_SERVERS,
    DnsWish,
    usable_domains,
    usable_servers,
    within,
)
from lockgate.protocol.errors import UsageError

SERVER = (ip_address("10.0.0.53"),)


@pytest.mark.parametrize(
    ("told", "used"),
    [
        ("Corp.Example.", "corp.example"),
        ("*.corp.example", "corp.example"),
        (".corp.example", "corp.example"),
        ("_sip.corp-1.example", "_sip.corp-1.example"),
        ("", None),
        (".", None),
        ("corp..example", None),
        ("-corp.example", None),
        ("corp.example nameserver", None),
        ("corp.example\nnameserver 6.6.6.6", None),
        ("corp.example#", None),
        ("corp\N{LATIN SMALL LETTER E WITH ACUTE}.example", None),
        ("a" * 64 + ".example", None),
        ("a." * 127 + "b", None),
    ],
)
def test_domain(told: str, used: str | None) -> None:
    assert usable_domains([told]) == (() if used is None else (used,))


@pytest.mark.parametrize(
    "odd",
    [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.251",
        "fe80::1",
        "255.255.255.255",
        "x",
        "10.0.0.1\n",
        "fd00::1%x\nnameserver 6.6.6.6",
        "::ffff:127.0.0.1",
    ],
)
def test_server_that_no_gateway_may_give(odd: str) -> None:
    assert usable_servers([odd, "10.0.0.53"]) == SERVER


@given(st.lists(st.text()), st.lists(st.text() | st.ip_addresses().map(str)))
def test_what_is_usable_stays_usable_and_fits_one_line(domains: list[str], servers: list[str]) -> None:
    used = usable_domains(domains)
    assert usable_domains(used) == used
    assert len(used) <= MAX_DOMAINS
    assert not set("".join(used)) & set(" \t\r\n#;\0\"'$`\\")
    addresses = usable_servers(servers)
    assert usable_servers(addresses) == addresses
    assert len(addresses) <= MAX_SERVERS


def test_wish_takes_only_what_is_usable() -> None:
    with pytest.raises(UsageError):
        DnsWish((), (), False, "tun0", 1)
    with pytest.raises(UsageError):
        DnsWish(SERVER, ("Corp.Example",), False, "tun0", 1)


@pytest.mark.parametrize(
    ("split", "domains", "divided"),
    [(True, ("corp.example",), True), (True, (), False), (False, ("corp.example",), False)],
)
def test_names_are_divided_only_with_split_and_domains(
    split: bool, domains: tuple[str, ...], divided: bool
) -> None:
    assert DnsWish(SERVER, domains, split, "tun0", 1).divided is divided


def test_within() -> None:
    assert within("corp.example", "corp.example")
    assert within("www.corp.example", "corp.example")
    assert not within("evilcorp.example", "corp.example")
    assert not within("example", "corp.example")
