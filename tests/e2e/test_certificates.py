"""How clients make sure of the gateway, and which TLS they may speak."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab
from tests.lab.tls_hello import X25519MLKEM768
from tests.lab.topology import GATEWAY4, GATEWAY6, INTRANET4


@pytest.mark.parametrize(
    ("address", "server"),
    [
        (GATEWAY4, "https://gw.lab.test/"),
        (GATEWAY6, "https://gw.lab.test/"),
        (GATEWAY4, f"https://{GATEWAY4}/"),
        (GATEWAY6, f"https://[{GATEWAY6}]/"),
    ],
    ids=["name-ipv4", "name-ipv6", "ipv4", "ipv6"],
)
def test_the_ca_file_is_enough(
    lab: Lab, connect: Connect, gateway: Gateway, address: str, server: str
) -> None:
    connect(gateway, address=address, server=server).wait_configured()
    assert lab.client.ping(INTRANET4)


def test_without_the_ca_nothing_is_said(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway, trust=[])
    assert client.wait_refused() == 1
    assert "signer not found" in client.log()
    assert not gateway.events("sign-in", user=client.user)


def test_the_pin_is_enough(connect: Connect, gateway: Gateway) -> None:
    connect(gateway, trust=["--servercert", gateway.pin()]).wait_configured()


def test_another_pin_is_not(connect: Connect, gateway: Gateway) -> None:
    assert connect(gateway, trust=["--servercert", "pin-sha256:" + "A" * 43 + "="]).wait_refused() == 1


@pytest.mark.parametrize(
    ("priority", "version"),
    [("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.2"), ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS1.3")],
    ids=["tls-1.2", "tls-1.3"],
)
def test_tls_versions(lab: Lab, connect: Connect, gateway: Gateway, priority: str, version: str) -> None:
    client = connect(gateway, options=["--gnutls-priority", priority]).wait_configured().wait_esp()
    assert f"({version})" in client.log()
    assert lab.client.ping(INTRANET4)


def test_older_tls_is_refused(connect: Connect, gateway: Gateway) -> None:
    client = connect(
        gateway, options=["--gnutls-priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1:%UNSAFE_RENEGOTIATION"]
    )
    assert client.wait_refused() == 1


def test_the_server_certificate_names_host_and_listening_addresses(lab: Lab, gateway: Gateway) -> None:
    path = str(gateway.directory / "tls" / "server.pem")
    names = lab.gateway.run(["openssl", "x509", "-in", path, "-noout", "-ext", "subjectAltName"]).stdout
    assert "DNS:gw.lab.test" in names
    assert f"IP Address:{GATEWAY4}" in names
    assert "2001:DB8:2:0:0:0:0:2" in names.upper()
    assert gateway.ca_file.read_text().count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in gateway.ca_file.read_text()


def test_hybrid_key_exchange_is_taken_when_offered(lab: Lab) -> None:
    """A client hello with shares for X25519MLKEM768 and X25519."""
    hello = lab.client.run(lab.client.python("tests.lab.tls_hello", GATEWAY4, "443")).stdout
    assert int(hello) == X25519MLKEM768
