"""Which proxy the environment names for a gateway: a row per case, as curl would take it."""

from __future__ import annotations

import pytest

from lockgate.cli.proxy_environment import proxy_for

P = "http://proxy.test:3128"

TABLE = [
    ("nothing is set", "https://gw.test/", {}, ""),
    ("small letters", "https://gw.test/", {"https_proxy": P}, P),
    ("capital letters", "https://gw.test/", {"HTTPS_PROXY": P}, P),
    ("small ones first", "https://gw.test/", {"https_proxy": P, "HTTPS_PROXY": "other:1"}, P),
    ("an empty one means none", "https://gw.test/", {"https_proxy": "", "HTTPS_PROXY": P}, ""),
    ("for http alone", "https://gw.test/", {"http_proxy": P}, ""),
    ("without a scheme", "https://gw.test/", {"https_proxy": "proxy.test:8080"}, "proxy.test:8080"),
    ("all are excepted", "https://gw.test/", {"https_proxy": P, "no_proxy": "*"}, ""),
    ("a name", "https://gw.test/", {"https_proxy": P, "no_proxy": "x.test, GW.test"}, ""),
    ("what is under a name", "https://gw.corp.test/", {"https_proxy": P, "NO_PROXY": "corp.test"}, ""),
    ("with a dot in front", "https://gw.corp.test/", {"https_proxy": P, "no_proxy": ".corp.test"}, ""),
    ("or an asterisk", "https://gw.corp.test/", {"https_proxy": P, "no_proxy": "*.corp.test"}, ""),
    ("not the end of a word", "https://mycorp.test/", {"https_proxy": P, "no_proxy": "corp.test"}, P),
    ("its own port", "https://gw.test:8443/", {"https_proxy": P, "no_proxy": "gw.test:8443"}, ""),
    ("another port", "https://gw.test:8443/", {"https_proxy": P, "no_proxy": "gw.test:443"}, P),
    ("the usual port", "https://gw.test/", {"https_proxy": P, "no_proxy": "gw.test:443"}, ""),
    ("an address", "https://192.0.2.1/", {"https_proxy": P, "no_proxy": "192.0.2.1"}, ""),
    ("a network", "https://192.0.2.1/", {"https_proxy": P, "no_proxy": "192.0.2.0/24"}, ""),
    ("another network", "https://192.0.3.1/", {"https_proxy": P, "no_proxy": "192.0.2.0/24"}, P),
    ("a network for a name", "https://gw.test/", {"https_proxy": P, "no_proxy": "192.0.2.0/24"}, P),
    ("no network at all", "https://192.0.2.1/", {"https_proxy": P, "no_proxy": "192.0.2/x"}, P),
    ("IPv6", "https://[2001:db8::1]/", {"https_proxy": P, "no_proxy": "2001:db8::1"}, ""),
    ("IPv6 with a port", "https://[2001:db8::1]:8443/", {"https_proxy": P, "no_proxy": "[2001:db8::1]:8443"}, ""),
    ("an IPv6 network", "https://[2001:db8::1]/", {"https_proxy": P, "no_proxy": "2001:db8::/32"}, ""),
    ("an empty exception", "https://gw.test/", {"https_proxy": P, "no_proxy": " , ."}, P),
]  # fmt: skip


@pytest.mark.parametrize(("url", "environment", "proxy"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_table(url: str, environment: dict[str, str], proxy: str) -> None:
    warned: list[str] = []
    assert proxy_for(url, environment, warned.append) == proxy
    assert warned == []


@pytest.mark.parametrize(
    "value", ["http://me:secret@proxy.test", "https://proxy.test", "socks5://proxy.test"]
)
def test_what_we_cannot_use_is_told_without_repeating_it(value: str) -> None:
    warned: list[str] = []
    assert proxy_for("https://gw.test/", {"https_proxy": value}, warned.append) == ""
    assert len(warned) == 1
    assert "https_proxy" in warned[0]
    assert "secret" not in warned[0]
    assert proxy_for("https://gw.test/", {"https_proxy": value, "no_proxy": "gw.test"}, warned.append) == ""
    assert len(warned) == 1
