"""The older Network Connect protocol with the real client, openconnect --protocol=nc: sign-in, tunnel, ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, wait_for
from tests.lab.capture import esp_spis
from tests.lab.gateway import PASSWORD
from tests.lab.topology import CLIENT4, GATEWAY4, GATEWAY6, GATEWAY_NAME, INTRANET4, INTRANET_NET4
from tests.lab.transfer import download, upload

NewUser = Callable[[Gateway], str]

EXCLUDED = "10.77.200.0/24"
OTHER4 = "10.77.2.1"
"""A machine of the intranet that only one role reaches."""
ROLES = [{"name": name, "vpn": {"split_tunneling": "enabled"}} for name in ("Staff", "Guests")]
ACCESS = [
    {"name": "all", "action": "allow", "to": [f"{INTRANET4}/32"]},
    {
        "name": "staff",
        "action": "allow",
        "to": [f"{OTHER4}/32"],
        "applies": {"to": "selected", "roles": ["Staff"]},
    },
]


def _realm(name: str, *roles: str, **rest: Any) -> dict[str, Any]:
    everybody = {"name": "all", "condition": {"kind": "user", "values": ["*"]}, "roles": list(roles)}
    return {"name": name, "server": "System Local", "rules": [everybody], **rest}


@pytest.fixture(scope="module")
def rich(lab: Lab, another_gateway: Callable[..., Gateway]) -> Gateway:
    """Keys that change every ten seconds, ESP that is given up early, realms, roles, all a client can be told."""
    lab.intranet.ip(f"address replace {OTHER4}/16 dev eth0")
    gateway = another_gateway(
        {
            "network": {
                "dns": '["10.77.0.10", "fd77::10", "10.77.0.11", "10.77.0.12", "10.77.0.13"]',
                "search_domains": '["corp.example", "lab.example"]',
                "split_include": '["10.77.0.0/16", "172.20.0.0/14", "fd77::/64"]',
                "split_exclude": f'["{EXCLUDED}"]',
                "mtu": "1350",
            },
            "esp": {"rekey_seconds": "10", "fallback_seconds": "2"},
        }
    )
    administrators = gateway.rest("GET", "/config", query={"path": "sign_in_policies/Default administrators"})
    policies = [
        {"name": "Users", "url": "*/", "realms": ["Company", "Choice"]},
        {"name": "Choose", "url": "*/choose/", "realms": ["Choice"]},
        {"name": "Guests", "url": "*/guests/", "realms": ["Visitors"]},
        administrators["value"],
    ]
    realms = [
        _realm("Company", "Staff"),
        _realm("Choice", "Staff", "Guests", when_several="choose-role"),
        _realm("Visitors", "Guests", policy={"limits": {"max_sessions_per_user": 1}}),
    ]
    gateway.commit(
        *(
            {"op": "set", "path": path, "value": value}
            for path, value in (
                ("roles", ROLES),
                ("realms", realms),
                ("access_control", ACCESS),
                ("sign_in_policies", policies),
            )
        )
    )
    return gateway


@pytest.fixture(autouse=True)
def machine_as_before(lab: Lab) -> Iterator[None]:
    """Once its keys have changed, this client does not know any more which routes and name servers it had made its
    own (oncp.md, section 6.2), and leaves them behind."""
    names = lab.client.run(["cat", "/etc/resolv.conf"]).stdout
    yield
    lab.client.run(["ip", "route", "flush", EXCLUDED])
    lab.client.run(["cp", "/dev/stdin", "/etc/resolv.conf"], input=names)


def _authenticate(
    lab: Lab, gateway: Gateway, user: str, *options: str, path: str = "", input: str = ""
) -> str:
    """Signs in without a tunnel; what the client said."""
    command = ["openconnect", "--protocol=nc", "--authenticate", "--user", user, "--passwd-on-stdin"]
    command += [*gateway.trust, "--resolve", f"{GATEWAY_NAME}:{GATEWAY4}", *options]
    command.append(f"https://{GATEWAY_NAME}:{gateway.port}/{path}")
    done = lab.client.run(command, input=f"{PASSWORD}\n{input}", check=False)
    return done.stdout + done.stderr


def _networks(told: dict[str, str], name: str) -> set[str]:
    return {
        f"{told[f'{name}_{number}_ADDR']}/{told[f'{name}_{number}_MASKLEN']}"
        for number in range(int(told.get(name, "0")))
    }


# -- tunnels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["ESP", "TLS", "TLS over IPv6"])
def test_traffic_both_ways_until_the_log_out(lab: Lab, connect: Connect, gateway: Gateway, way: str) -> None:
    client = connect(
        gateway,
        protocol="nc",
        address=GATEWAY6 if way.endswith("IPv6") else GATEWAY4,
        options=["--no-dtls"] if way == "TLS" else [],
    ).wait_configured()
    if way == "ESP":
        client.wait_esp()
    assert lab.client.ping(INTRANET4, count=3)
    download(lab.client, lab.intranet, INTRANET4, 3_000_000)
    upload(lab.client, lab.intranet, INTRANET4, 3_000_000)
    assert lab.intranet.ping(client.address4, count=3)
    assert client.transport() == way[:3]
    session = gateway.session_of(client.user)
    assert session["addresses"] == client.addresses() == [client.address4]
    assert session["transport"] == way[:3].lower()
    assert session["host_name"] == lab.client.run(["uname", "-n"]).stdout.strip()
    assert session["client"].startswith("Open AnyConnect VPN Agent")
    # openconnect overlooks what begins near the end of its configuration; without ESP that is another end.
    told = client.configuration()
    assert (told["INTERNAL_IP4_MTU"], told["INTERNAL_IP4_DNS"]) == ("1400", INTRANET4)
    assert _networks(told, "CISCO_SPLIT_INC") == {INTRANET_NET4}
    assert client.log_out() == 0
    assert "Logout successful" in client.log()
    gateway.wait_no_sessions(client.user)
    assert gateway.wait_event("session-end", user=client.user)["reason"] == "logout"
    assert not lab.intranet.ping(session["addresses"][0])


def test_every_value_arrives(lab: Lab, connect: Connect, rich: Gateway) -> None:
    client = connect(rich, protocol="nc", options=["--authgroup", "Company"]).wait_configured()
    told = client.configuration()
    assert told["INTERNAL_IP4_DNS"] == "10.77.0.10 10.77.0.11 10.77.0.12"
    assert told["CISCO_DEF_DOMAIN"].split() == ["corp.example", "lab.example"]
    assert told["INTERNAL_IP4_MTU"] == "1350"
    assert told["INTERNAL_IP4_NETMASK"] == "255.255.255.255"
    assert _networks(told, "CISCO_SPLIT_INC") == {"10.77.0.0/16", "172.20.0.0/14"}
    assert _networks(told, "CISCO_SPLIT_EXC") == {EXCLUDED}
    assert "INTERNAL_IP6_ADDRESS" not in told


def test_roles_decide_what_is_reached(lab: Lab, connect: Connect, rich: Gateway) -> None:
    reached = {}
    for role in ("Staff", "Guests"):
        server = f"https://{GATEWAY_NAME}:{rich.port}/choose"
        client = connect(rich, protocol="nc", server=server, options=["--authgroup", role]).wait_configured()
        assert rich.session_of(client.user)["roles"] == [role]
        assert lab.client.ping(INTRANET4)
        reached[role] = lab.client.ping(OTHER4)
        client.log_out()
    assert reached == {"Staff": True, "Guests": False}


# -- what happens to them --------------------------------------------------------------------------


def test_a_new_control_plane_keeps_the_tunnel_and_changes_its_keys(
    lab: Lab, connect: Connect, rich: Gateway
) -> None:
    client = connect(rich, protocol="nc", options=["--authgroup", "Company"]).wait_configured().wait_esp()
    session = rich.session_of(client.user)
    rich.wait_successor("control", rich.kill("control"))
    capture = lab.internet.capture("to-gateway", "nc-rekey")
    ping = lab.client.start(["ping", "-n", "-q", "-i", "0.05", INTRANET4], f"ping-{client.tun}")

    def spis(way: bool) -> list[bytes]:
        packets = lab.internet.packets("nc-rekey")
        return esp_spis(packets, GATEWAY4, rich.esp_port, to_gateway=way)

    wait_for(
        lambda: all(len(spis(way)) >= 2 for way in (True, False)),
        "other keys in both directions",
        deadline=60,
        every=0.5,
    )
    capture.stop()
    ping.stop(signal.SIGINT)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", ping.log())
    assert found, ping.log()
    assert int(found[1]) - int(found[2]) <= 1, client.program.tail()
    after = rich.session_of(client.user)
    assert (after["id"], after["addresses"], after["transport"]) == (
        session["id"],
        session["addresses"],
        "esp",
    )


def test_where_udp_stops_passing_packets_go_over_tls(lab: Lab, connect: Connect, rich: Gateway) -> None:
    client = connect(rich, protocol="nc", options=["--authgroup", "Company"]).wait_configured().wait_esp()
    lab.impair.block_udp()
    client.program.wait_log("ESP detected dead peer", deadline=60)
    wait_for(lambda: lab.client.ping(INTRANET4), "packets pass over TLS", deadline=30)
    wait_for(
        lambda: rich.session_of(client.user)["transport"] == "tls", "the gateway uses TLS too", deadline=30
    )
    assert lab.intranet.ping(client.address4)


def test_the_edge_restarts_and_the_client_comes_back(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway, protocol="nc").wait_configured().wait_esp()
    before, session = client.addresses(), gateway.session_of(client.user)["id"]
    gateway.wait_successor("edge", gateway.kill("edge"))
    gateway.wait_event("session-resume", user=client.user, count=2, outcome="ok", deadline=60)
    wait_for(
        lambda: lab.client.ping(INTRANET4), "packets pass again", deadline=60, explain=client.program.tail
    )
    assert client.addresses() == before
    assert gateway.session_of(client.user)["id"] == session
    assert len(gateway.events("sign-in", user=client.user)) == 1  # nobody typed a password again


def test_an_administrator_ends_a_session(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway, protocol="nc").wait_configured()
    gateway.disconnect(client.user)
    assert client.program.wait() == 1
    assert re.search(r"terminated connection \(reason: 7\)", client.log()), client.program.tail()


def test_leaving_keeps_the_session_and_its_end_the_cookie_from_coming_back(
    lab: Lab, connect: Connect, gateway: Gateway, new_user: NewUser
) -> None:
    user = new_user(gateway)
    found = re.search(r"COOKIE='(.*)'", _authenticate(lab, gateway, user))
    assert found
    first = connect(gateway, protocol="nc", user=user, cookie=found[1]).wait_configured()
    addresses = first.addresses()
    assert first.leave() == 0
    again = connect(gateway, protocol="nc", user=user, cookie=found[1]).wait_configured()
    assert again.addresses() == addresses
    # One session, whichever protocol its cookie is shown in.
    again.leave()
    other = connect(gateway, protocol="pulse", user=user, cookie=found[1]).wait_configured()
    assert other.addresses() == addresses
    gateway.disconnect(user)
    assert connect(gateway, protocol="nc", user=user, cookie=found[1]).wait_refused() == 2


# -- signing in ------------------------------------------------------------------------------------


def test_a_wrong_password_and_a_disabled_user(connect: Connect, gateway: Gateway, new_user: NewUser) -> None:
    wrong = connect(gateway, protocol="nc", password="not this one")
    assert wrong.wait_refused() == 1
    assert re.search(r"User name or password is wrong.* Support code: ", wrong.log())
    assert gateway.wait_event("sign-in", user=wrong.user)["reason"] == "wrong-password"
    connect(gateway, protocol="nc", password="mistyped", input=f"{PASSWORD}\n").wait_configured()
    user = new_user(gateway)
    gateway.user("disable", user)
    disabled = connect(gateway, protocol="nc", user=user)
    assert disabled.wait_refused() == 1
    assert "This account is disabled" in disabled.log()
    assert gateway.wait_event("sign-in", user=user)["reason"] == "user-disabled"
    assert not gateway.sessions_of(user)


def test_a_password_that_must_change(lab: Lab, rich: Gateway) -> None:
    rich.user("add", "newcomer", "--must-change", "--password-stdin", input=f"{PASSWORD}\n")
    new = "another long passphrase"
    told = _authenticate(lab, rich, "newcomer", path="guests", input=f"{PASSWORD}\n{new}\n{new}\n")
    assert "COOKIE='DSID=" in told, told
    assert rich.session_of("newcomer")["realm"] == "Visitors"
    rich.disconnect("newcomer")


def test_a_session_too_many(lab: Lab, rich: Gateway, new_user: NewUser) -> None:
    user = new_user(rich)
    assert "COOKIE" in _authenticate(lab, rich, user, path="guests/")
    session = rich.session_of(user)["id"]
    # Blindly, nothing ends; by its name, the session does.
    told = _authenticate(lab, rich, user, path="guests/", input="None: do not sign in\nStop\n")
    assert "Too many sessions" in told
    assert rich.session_of(user)["id"] == session
    told = _authenticate(lab, rich, user, path="guests/", input=f"{CLIENT4}\n")
    assert "COOKIE" in told
    assert rich.session_of(user)["id"] != session
