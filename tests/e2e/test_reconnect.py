"""Back by cookie: the same session and the same inner addresses after whatever happened to the network."""

from __future__ import annotations

import re
import signal

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4, GATEWAY_NAME, INTRANET4, INTRANET6, ROAMING4


def _reaches(lab: Lab) -> bool:
    return lab.client.ping(INTRANET4) and lab.client.ping(INTRANET6)


def _authenticate(lab: Lab, gateway: Gateway, user: str) -> str:
    """Sign in without a tunnel; the cookie."""
    command = ["openconnect", "--protocol=pulse", "--authenticate", "--user", user, "--passwd-on-stdin"]
    command += [*gateway.trust, "--resolve", f"{GATEWAY_NAME}:{GATEWAY4}", f"https://{GATEWAY_NAME}/"]
    output = lab.client.run(command, input=f"{PASSWORD}\n").stdout
    found = re.search(r"COOKIE='(.*)'", output)
    assert found, output
    return found.group(1)


def _with_cookie(connect: Connect, gateway: Gateway, user: str, cookie: str) -> OpenConnect:
    return connect(gateway, user=user, cookie=cookie)


def test_the_client_reconnects_on_request(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured().wait_esp()
    before, session = client.addresses(), gateway.session_of(client.user)["id"]
    client.send(signal.SIGUSR2)
    gateway.wait_event("session-resume", user=client.user, outcome="ok")
    wait_for(lambda: _reaches(lab), "packets pass again", deadline=20, explain=client.program.tail)
    assert client.addresses() == before
    assert gateway.session_of(client.user)["id"] == session
    assert [call["reason"] for call in client.calls()][-1] == "reconnect"


def test_a_cut_network_costs_nothing_but_time(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured().wait_esp()
    before, session = client.addresses(), gateway.session_of(client.user)["id"]
    lab.impair.cut()
    assert not lab.client.ping(INTRANET4)
    client.send(signal.SIGUSR2)  # finds no way, and goes on trying
    wait_for(lambda: lab.impair.dropped("cut") > 5, "the client tries in vain", deadline=30)
    lab.impair.restore()
    wait_for(lambda: _reaches(lab), "packets pass again", deadline=90, explain=client.program.tail)
    assert client.addresses() == before
    assert gateway.session_of(client.user)["id"] == session


def test_a_new_source_address(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured().wait_esp()
    before, session = client.addresses(), gateway.session_of(client.user)["id"]
    lab.impair.roam()
    client.send(signal.SIGUSR2)
    wait_for(
        lambda: _reaches(lab), "packets pass from the new address", deadline=60, explain=client.program.tail
    )
    assert client.addresses() == before
    assert gateway.session_of(client.user)["id"] == session
    assert gateway.wait_event("session-resume", user=client.user, outcome="ok")["source"] == ROAMING4


def test_a_new_connection_takes_the_place_of_one_that_vanished(
    lab: Lab, connect: Connect, gateway: Gateway, new_user: object
) -> None:
    user = new_user(gateway)  # type: ignore[operator]
    cookie = _authenticate(lab, gateway, user)
    first = _with_cookie(connect, gateway, user, cookie).wait_configured()
    addresses, session = first.addresses(), gateway.session_of(user)["id"]
    first.vanish()
    second = _with_cookie(connect, gateway, user, cookie).wait_configured().wait_esp()
    assert second.addresses() == addresses
    assert gateway.session_of(user)["id"] == session
    assert _reaches(lab)


def test_leaving_keeps_the_session_and_logging_out_ends_the_cookie(
    lab: Lab, connect: Connect, gateway: Gateway, new_user: object
) -> None:
    user = new_user(gateway)  # type: ignore[operator]
    cookie = _authenticate(lab, gateway, user)
    first = _with_cookie(connect, gateway, user, cookie).wait_configured()
    addresses = first.addresses()
    assert first.leave() == 0
    second = _with_cookie(connect, gateway, user, cookie).wait_configured()
    assert second.addresses() == addresses
    assert second.log_out() == 0
    gateway.wait_no_sessions(user)
    assert _with_cookie(connect, gateway, user, cookie).wait_refused() == 2
    assert gateway.wait_event("session-resume", user=user, outcome="failed")["reason"] == "ended"


def test_an_invented_cookie(connect: Connect, gateway: Gateway, new_user: object) -> None:
    user = new_user(gateway)  # type: ignore[operator]
    client = _with_cookie(connect, gateway, user, "0123456789abcdef" * 2)
    assert client.wait_refused() == 2
    assert gateway.wait_event("session-resume", outcome="failed", reason="unknown")
