from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client import settings
from lockgate.client.settings import parse_settings, pem_certificates
from lockgate.model.problem import ProblemError


def pem(*bodies: bytes) -> str:
    return "".join(
        f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(body).decode()}\n-----END CERTIFICATE-----\n"
        for body in bodies
    )


def test_a_server_is_enough() -> None:
    found = parse_settings({"id": 1, "op": "connect", "server": "GW.example.org"})
    assert (str(found.server), found.name) == ("https://gw.example.org/", "gw.example.org")
    assert (found.user, found.realm, found.roots, found.pin, found.proxy) == ("", "", (), b"", "")
    assert (found.esp, found.background, found.trust_prompt) == (True, False, False)


def test_everything_that_can_be_said() -> None:
    pin = bytes(range(32))
    found = parse_settings(
        {
            "server": "https://gw:8443/users/",
            "name": "Büro",
            "user": "alice",
            "realm": "staff",
            "ca": pem(b"0one", b"0two"),
            "pin": f"sha256:{pin.hex().upper()}",
            "esp": False,
            "proxy": "http://proxy.test:8080/",
            "background": True,
            "trust_prompt": True,
        }
    )
    assert str(found.server) == "https://gw:8443/users/"
    assert (found.name, found.user, found.realm) == ("Büro", "alice", "staff")
    assert (found.roots, found.pin, found.proxy) == ((b"0one", b"0two"), pin, "proxy.test:8080")
    assert (found.esp, found.background, found.trust_prompt) == (False, True, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", ""),
        ("none", ""),
        ("proxy.test", "proxy.test:3128"),
        ("proxy.test:8080", "proxy.test:8080"),
        ("http://proxy.test", "proxy.test:3128"),
        ("HTTP://Proxy.Test:80/", "proxy.test:80"),
        ("192.0.2.1", "192.0.2.1:3128"),
        ("[2001:db8::1]", "[2001:db8::1]:3128"),
        ("http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"),
    ],
)
def test_a_proxy_as_people_write_it(typed: str, meant: str) -> None:
    assert parse_settings({"server": "gw", "proxy": typed}).proxy == meant


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("server", ""),
        ("server", "http://gw/"),
        ("server", None),
        ("server", "gw?x"),
        ("name", "x" * (settings.MAX_NAME + 1)),
        ("name", "two\nlines"),
        ("user", "x" * (settings.MAX_USER + 1)),
        ("user", 7),
        ("realm", "\x1b[2J"),
        ("ca", "no certificate"),
        ("ca", "-----BEGIN CERTIFICATE-----\nAAAA"),
        ("ca", "x" * (settings.MAX_PEM + 1)),
        ("ca", 1),
        ("pin", "sha256:00"),
        ("pin", "md5:" + "00" * 32),
        ("pin", "sha256:" + "zz" * 32),
        ("esp", 1),
        ("background", "yes"),
        ("proxy", "socks5://proxy.test"),
        ("proxy", "http://user:secret@proxy.test/"),
        ("proxy", "http://proxy.test/path"),
        ("proxy", "2001:db8::1"),
    ],
)
def test_anything_else_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_settings({"server": "gw", field: value})
    problem = caught.value.problem
    assert problem.code == "bad-request"
    assert problem.summary.startswith(f"{field}:")


@given(
    st.dictionaries(st.sampled_from(["server", "name", "ca", "pin", "proxy", "esp"]), st.text() | st.none())
)
def test_whatever_is_asked_for_there_is_one_answer(request: dict[str, object]) -> None:
    try:
        found = parse_settings(request)
    except ProblemError:
        return
    assert parse_settings({**request, "server": str(found.server), "proxy": found.proxy}) == found


def test_text_around_certificates_does_not_matter() -> None:
    assert pem_certificates(f"subject=CN = CA\n{pem(b'0one')}\nmore text\n{pem(b'0two')}") == (
        b"0one",
        b"0two",
    )


def test_one_damaged_certificate_spoils_the_file() -> None:
    with pytest.raises(ProblemError):
        pem_certificates(pem(b"0one") + "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
