"""The main job: our client, our gateway, packets of both versions over ESP and over TLS."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.e2e.client.conftest import Connected, url, user_of
from tests.lab import Gateway, Lab, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY4, GATEWAY6, INTRANET4, INTRANET6
from tests.lab.transfer import download, upload

SIZE = 20_000_000


@pytest.mark.parametrize("outside", [GATEWAY4, GATEWAY6], ids=["over IPv4", "over IPv6"])
@pytest.mark.parametrize("esp", [True, False], ids=["ESP", "TLS"])
def test_both_versions_pass_over_either(
    lab: Lab, gateway: Gateway, connected: Connected, outside: str, esp: bool
) -> None:
    client = connected(
        gateway, host=outside, transport="esp" if esp else "tls", **({} if esp else {"esp": False})
    )
    for inside in (INTRANET4, INTRANET6):
        assert lab.client.ping(inside)
        download(lab.client, lab.intranet, inside, SIZE)
        upload(lab.client, lab.intranet, inside, SIZE)
    details = client.details()
    assert details["transport"] == ("esp" if esp else "tls")
    assert details["vpn_type"] == ("ESP" if esp else "SSL")
    assert details["esp_suite"] == ("aes128-gcm" if esp else None)
    assert details["bytes_in"] > 2 * SIZE
    assert details["bytes_out"] > 2 * SIZE
    session = gateway.session_of(user_of(client))
    assert session["transport"] == ("esp" if esp else "tls")
    assert [details["ipv4"], details["ipv6"]] == session["addresses"]


def test_the_session_can_be_watched_and_ended(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway)
    [status] = client.status()
    assert (status["state"], status["user"]) == ("connected", user_of(client))
    table = client.command("details").stdout
    for fact in ("ESP", status["ipv4"], status["ipv6"]):
        assert fact in table
    client.disconnect()
    gateway.wait_no_sessions(user_of(client))
    assert client.connections() == []
    assert not lab.client.ping(INTRANET4)
    assert lab.client.ip_json("rule", "show", "table", "19527") == []
    assert not any(link["ifname"].startswith("lockgate") for link in lab.client.ip_json("link", "show"))


def test_the_end_of_the_session_is_told_in_time(gateway: Gateway, connected: Connected) -> None:
    """The reminder is longer than the session, so that it is time at once."""
    options = {"reminder_seconds": "86400", "persistent_password_caching": "true"}

    def commit(options: dict[str, str]) -> None:
        for name, value in options.items():
            gateway.config("set", f"roles/Users/session/{name}", value, "--commit", "-m", "reminder")

    commit(options)
    try:
        client = connected(gateway)
        note = wait_for(lambda: client.live()["note"], "the reminder")
        minutes = client.details()["session_remaining"] // 60
        assert re.fullmatch(r"the session ends in \d+ minutes: sign in again", note)
        assert 0 <= int(note.split()[4]) - minutes <= 2
        assert note in client.command("status").stdout
        assert client.details()["password_caching"] is True
    finally:
        commit({"reminder_seconds": "0", "persistent_password_caching": "false"})


def test_a_terminal_that_closes_takes_the_tunnel_along(
    lab: Lab, gateway: Gateway, client: OwnClient, new_user: Callable[[Gateway], str]
) -> None:
    user = new_user(gateway)
    program = client.connect_in_terminal(url(gateway), user, ca=gateway.ca_file)
    client.wait_state("connected", transport="esp")
    assert lab.client.ping(INTRANET4)
    program.process.kill()
    gateway.wait_no_sessions(user)
    client.wait_gone()
    assert not lab.client.ping(INTRANET4)


def test_ctrl_c_disconnects_and_restores(
    lab: Lab, gateway: Gateway, client: OwnClient, new_user: Callable[[Gateway], str]
) -> None:
    import signal

    user = new_user(gateway)
    program = client.connect_in_terminal(url(gateway), user, ca=gateway.ca_file)
    client.wait_state("connected", transport="esp")
    _lockgate_process(program).send_signal(signal.SIGINT)
    assert program.wait(deadline=20) == 0
    assert gateway.sessions_of(user) == []
    assert not lab.client.ping(INTRANET4)


def _lockgate_process(program: object) -> object:
    return program.process  # type: ignore[attr-defined]


def test_wrong_passwords_are_refused_with_words(
    gateway: Gateway, client: OwnClient, new_user: Callable[[Gateway], str]
) -> None:
    user = new_user(gateway)
    done = client.connect(url(gateway), user, "wrong", ca=gateway.ca_file, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "wrong" not in client.debug_log()
    assert gateway.sessions_of(user) == []
    told = client.connect(url(gateway), user, "wrong", ca=gateway.ca_file, check=False, json=True)
    [problem] = [line["error"] for line in map(json.loads, told.stdout.splitlines()) if "error" in line]
    assert f"Support code: {problem['support_code']}" in problem["summary"]
    found = gateway.rest("GET", f"/decisions/{problem['support_code']}")
    assert (found["user"], found["kind"]) == (user, "attempt")
    assert found["reasons"][-1]["text"] == "the password is wrong"


def test_json_for_machines(gateway: Gateway, client: OwnClient, new_user: Callable[[Gateway], str]) -> None:
    user = new_user(gateway)
    done = client.connect(url(gateway), user, ca=gateway.ca_file, json=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["state"] for line in lines if line.get("event") == "state"][-1] == "connected"
    assert client.details()["user"] == user


def test_suspend_gives_the_network_back_and_resume_the_session(
    lab: Lab, gateway: Gateway, connected: Connected
) -> None:
    client = connected(gateway)
    before, session = client.live(), gateway.session_of(user_of(client))["id"]
    client.suspend()
    assert client.connections()[0]["state"] == "suspended"
    assert not lab.client.ping(INTRANET4)
    assert lab.client.ip_json("rule", "show", "table", "19527") == []
    client.resume()
    client.wait_state("connected", transport="esp")
    wait_for(lambda: lab.client.ping(INTRANET4), "packets pass again")
    after = client.live()
    assert (after["ipv4"], after["ipv6"]) == (before["ipv4"], before["ipv6"])
    assert gateway.session_of(user_of(client))["id"] == session
    client.suspend()
    client.disconnect()
    gateway.wait_no_sessions(user_of(client))


def test_a_gateway_without_gcm(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    client = connected(another_gateway({"esp": {"own_cipher": '"off"'}}))
    assert client.live()["esp_suite"] == "aes256-cbc-sha256"
    download(lab.client, lab.intranet, INTRANET4, SIZE)


def test_rekeying_loses_nothing(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    gateway = another_gateway({"esp": {"rekey_seconds": "10"}})
    client = connected(gateway)
    before = len(gateway.events("rekey"))
    ping = lab.client.start(["ping", "-i", "0.05", "-c", "500", "-q", INTRANET4], "ping-rekey")
    wait_for(lambda: len(gateway.events("rekey")) >= before + 2, "two rekeys", deadline=40)
    assert ping.wait(deadline=60) == 0
    assert " 0% packet loss" in ping.log()
    assert client.live()["transport"] == "esp"
