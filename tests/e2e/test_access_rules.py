"""Access rules hold on every packet: by address, protocol and port, in both families, fragments included."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, wait_for
from tests.lab.gateway import WEB_AND_ECHO
from tests.lab.probe import ICMP, ICMP6, UDP, ip_packet, udp_datagram
from tests.lab.topology import INTRANET4, INTRANET6

OTHER4, OTHER6 = "10.77.0.11", "fd77::11"
"""A second machine in the intranet, which no rule allows."""


@pytest.fixture(scope="module", autouse=True)
def other_machine(lab: Lab) -> None:
    lab.intranet.ip(f"address replace {OTHER4}/16 dev eth0\naddress replace {OTHER6}/64 dev eth0 nodad")


@pytest.fixture(scope="module")
def ruled(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway(extra=WEB_AND_ECHO)


@pytest.fixture(params=["ESP", "TLS"])
def client(request: pytest.FixtureRequest, connect: Connect, ruled: Gateway) -> OpenConnect:
    client = connect(ruled, options=["--no-dtls"] if request.param == "TLS" else []).wait_configured()
    return client.wait_esp() if request.param == "ESP" else client


def _web(lab: Lab, address: str) -> bool:
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    done = lab.client.run(["curl", "-sS", "-m", "2", "-o", "/dev/null", url], check=False)
    return done.returncode == 0


def _probe(lab: Lab, *arguments: str) -> bool:
    return lab.client.run(lab.client.python("tests.lab.probe", *arguments), check=False).returncode == 0


def _dropped(gateway: Gateway, client: OpenConnect) -> int:
    return int(gateway.session_of(client.user)["dropped"])


def test_what_is_allowed_passes(lab: Lab, client: OpenConnect) -> None:
    for address in (INTRANET4, INTRANET6):
        assert _web(lab, address)
        assert _probe(lab, "udp", address, "7", "100")


def test_what_is_not_allowed_does_not_and_is_counted(lab: Lab, ruled: Gateway, client: OpenConnect) -> None:
    before = _dropped(ruled, client)
    for address in (INTRANET4, INTRANET6):
        assert not lab.client.ping(address)
        assert _probe(lab, "udp-silent", address, "80", "100")  # right port, other protocol
        assert (
            lab.client.run(
                [
                    "curl",
                    "-sS",
                    "-m",
                    "1",
                    f"telnet://[{address}]:7" if ":" in address else f"telnet://{address}:7",
                ],
                check=False,
            ).returncode
            != 0
        )
    for address in (OTHER4, OTHER6):
        assert not _web(lab, address)
        assert _probe(lab, "udp-silent", address, "7", "100")
    wait_for(lambda: _dropped(ruled, client) >= before + 6, "the drops are counted", deadline=30)


def test_fragments_of_allowed_datagrams_pass(lab: Lab, client: OpenConnect) -> None:
    for address in (INTRANET4, INTRANET6):
        assert _probe(lab, "udp", address, "7", "6000")


def test_fragments_do_not_smuggle(lab: Lab, ruled: Gateway, client: OpenConnect) -> None:
    """A first fragment of something denied, a stray later fragment, and one that would rewrite the ports."""
    capture = lab.gateway.capture("inside", f"fragments-{client.tun}")
    packets = []
    for source, address, other in (
        (client.address4, INTRANET4, OTHER4),
        (client.address6, INTRANET6, OTHER6),
    ):
        denied = udp_datagram(source, other, 7, b"DENIED--" * 100)
        packets += [
            ip_packet(source, other, UDP, denied[:400], fragment=(0, True)),
            ip_packet(source, other, UDP, denied[400:], fragment=(400, False)),
            ip_packet(source, address, UDP, b"STRAY---" * 10, fragment=(800, False)),
        ]
        allowed = udp_datagram(source, address, 7, b"ALLOWED-" * 100)
        rewriting = udp_datagram(source, address, 53, b"REWRITE-" * 100)
        packets += [
            ip_packet(source, address, UDP, allowed[:8], fragment=(0, True)),
            ip_packet(source, address, UDP, rewriting[:400], fragment=(0, True)),
        ]
    before = _dropped(ruled, client)
    lab.client.run(
        lab.client.python("tests.lab.probe", "raw-dev", client.tun, *(packet.hex() for packet in packets))
    )
    wait_for(lambda: _dropped(ruled, client) >= before + 6, "the drops are counted", deadline=30)
    capture.stop()
    seen = b"".join(lab.gateway.packets(f"fragments-{client.tun}"))
    for mark in (b"DENIED--", b"STRAY---", b"REWRITE-"):
        assert mark not in seen


def test_a_spoofed_inner_source_never_leaves_the_gateway(
    lab: Lab, ruled: Gateway, client: OpenConnect
) -> None:
    capture = lab.gateway.capture("inside", f"spoofed-{client.tun}")
    forged = []
    for source, address in (
        ("10.77.0.99", INTRANET4),
        ("198.51.100.2", INTRANET4),
        ("127.0.0.1", INTRANET4),
        ("0.0.0.0", INTRANET4),
        (client.address4.rpartition(".")[0] + ".250", INTRANET4),
        ("fd77::99", INTRANET6),
        ("::1", INTRANET6),
        ("fe80::1", INTRANET6),
    ):
        forged.append(ip_packet(source, address, UDP, udp_datagram(source, address, 7, b"SPOOFED-" * 4)))
    before = _dropped(ruled, client)
    lab.client.run(
        lab.client.python("tests.lab.probe", "raw-dev", client.tun, *(packet.hex() for packet in forged))
    )
    wait_for(lambda: _dropped(ruled, client) >= before + len(forged), "the drops are counted", deadline=30)
    capture.stop()
    assert b"SPOOFED-" not in b"".join(lab.gateway.packets(f"spoofed-{client.tun}"))


def test_other_protocols_are_dropped(lab: Lab, ruled: Gateway, client: OpenConnect) -> None:
    before = _dropped(ruled, client)
    packets = [
        ip_packet(client.address4, INTRANET4, 47, b"\0" * 20),  # GRE
        ip_packet(client.address4, INTRANET4, 41, b"\x60" + b"\0" * 39),  # IPv6 in IPv4
        ip_packet(client.address6, INTRANET6, 47, b"\0" * 20),
        ip_packet(client.address4, INTRANET4, ICMP, b"\x05\0\0\0" + bytes(12)),  # a redirect
        ip_packet(client.address6, INTRANET6, ICMP6, b"\x86\0\0\0" + bytes(12)),  # a router advertisement
    ]
    lab.client.run(
        lab.client.python("tests.lab.probe", "raw-dev", client.tun, *(packet.hex() for packet in packets))
    )
    wait_for(lambda: _dropped(ruled, client) >= before + len(packets), "the drops are counted", deadline=30)


def test_by_default_the_gateway_and_other_sessions_are_out_of_reach(
    lab: Lab, connect: Connect, gateway: Gateway
) -> None:
    first = connect(gateway).wait_configured().wait_esp()
    second = connect(gateway, host=lab.guest).wait_configured().wait_esp()
    # The client's routes lead into the tunnel for all of these.
    lab.client.ip(
        f"route replace {gateway.pool4} dev {first.tun}\n-6 route replace {gateway.pool6} dev {first.tun}"
    )
    assert lab.client.ping(INTRANET4)
    assert not lab.client.ping(second.address4)
    assert not lab.client.ping(second.address6)
    assert not lab.client.ping("10.88.0.1")
    assert lab.intranet.ping(second.address4)


def test_sessions_reach_each_other_where_a_rule_says_so(
    lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]
) -> None:
    open_ = another_gateway()
    open_.stop()
    open_.append_config(
        f'[[access]]\nname = "peers"\naction = "allow"\nto = ["{open_.pool4}", "{open_.pool6}"]\n'
    )
    open_.start()
    first = connect(open_).wait_configured().wait_esp()
    second = connect(open_, host=lab.guest).wait_configured().wait_esp()
    for host, own, peer in ((lab.client, first, second), (lab.guest, second, first)):
        host.ip(f"route replace {open_.pool4} dev {own.tun}\n-6 route replace {open_.pool6} dev {own.tun}")
        assert peer.address4
    assert lab.client.ping(second.address4)
    assert lab.client.ping(second.address6)
    assert lab.guest.ping(first.address4)
    # With a rule of one's own, the default one is gone.
    assert not lab.client.ping(INTRANET4)


def test_a_later_rule_does_not_undo_an_earlier_one(
    lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]
) -> None:
    ordered = another_gateway(
        extra=f"""
[[access]]
name = "not the echo"
action = "deny"
to = ["{INTRANET4}/32"]
protocol = "udp"
ports = ["7"]

[[access]]
name = "all the rest"
action = "allow"
to = ["10.77.0.0/16"]
"""
    )
    connect(ordered).wait_configured().wait_esp()
    assert lab.client.ping(INTRANET4)
    assert _probe(lab, "udp-silent", INTRANET4, "7", "100")
    assert lab.client.ping(OTHER4)
    assert _probe(lab, "tcp", INTRANET4, "7", "100")
