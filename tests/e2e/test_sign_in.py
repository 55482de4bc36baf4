"""Who gets in, who does not, what each is told, and what the log says about it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.topology import CLIENT4, INTRANET4

NewUser = Callable[[Gateway], str]


def test_right_password_is_audited(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured()
    entry = gateway.wait_event("sign-in", user=client.user)
    assert (entry["outcome"], entry["source"]) == ("ok", CLIENT4)


def test_wrong_password(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway, password="not this one")
    assert client.wait_refused() == 1
    assert gateway.wait_event("sign-in", user=client.user)["reason"] == "wrong-password"
    assert not gateway.sessions_of(client.user)
    assert "not this one" not in gateway.log()


def test_a_second_try_in_the_same_sign_in(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway, password="mistyped", input=f"{PASSWORD}\n").wait_configured()
    assert [entry["outcome"] for entry in gateway.events("sign-in", user=client.user)] == ["failed", "ok"]


def test_unknown_user_sees_the_same_as_a_wrong_password(connect: Connect, gateway: Gateway) -> None:
    unknown = connect(gateway, user="nobody-here")
    known = connect(gateway, password="wrong")
    assert unknown.wait_refused() == known.wait_refused() == 1
    assert gateway.wait_event("sign-in", user="nobody-here")["reason"] == "unknown-user"

    def shown(client: OpenConnect) -> list[str]:
        text, codes = re.subn(r"Support code: [0-9A-Z]{4}-[0-9A-Z]{4}", "Support code: …", client.log())
        assert codes
        return [line for line in text.splitlines() if "with ciphersuite" not in line]

    assert shown(unknown) == shown(known)


def test_disabled_user(connect: Connect, gateway: Gateway, new_user: NewUser) -> None:
    user = new_user(gateway)
    gateway.user("disable", user)
    client = connect(gateway, user=user)
    assert client.wait_refused() == 1
    assert gateway.wait_event("sign-in", user=user)["reason"] == "user-disabled"
    assert "disabled" in client.log()


def test_disabling_a_user_ends_his_session(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured()
    gateway.user("disable", client.user)
    gateway.wait_no_sessions(client.user)
    assert client.program.wait() == 1


def test_new_password(connect: Connect, gateway: Gateway, new_user: NewUser) -> None:
    user = new_user(gateway)
    gateway.user("passwd", user, "--password-stdin", input="another long passphrase\n")
    assert connect(gateway, user=user).wait_refused() == 1
    connect(gateway, user=user, password="another long passphrase").wait_configured()


def test_names_and_passwords_beyond_ascii(connect: Connect, gateway: Gateway) -> None:
    gateway.add_user("jörg", "Grüße, Κόσμε! 🔑")
    connect(gateway, user="jörg", password="Grüße, Κόσμε! 🔑").wait_configured()


def test_no_address_left(lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]) -> None:
    # Of the two hosts of a /30 the first is the gateway's own.
    small = another_gateway({"sessions": {"address_quarantine_seconds": "0"}}, pools=["10.99.0.0/30"])
    first = connect(small).wait_configured()
    second = connect(small, host=lab.guest)
    assert second.wait_refused() == 1
    assert small.wait_event("session-open", user=second.user, outcome="failed")["reason"]
    assert lab.client.ping(INTRANET4)
    first.log_out()
    small.wait_no_sessions()
    connect(small, host=lab.guest, user=second.user).wait_configured()


@pytest.fixture(scope="module")
def strict(another_gateway: Callable[..., Gateway]) -> Gateway:
    """Two sessions a user; a few wrong passwords lock a name for an address."""
    return another_gateway(
        {"sessions": {"max_per_user": "2"}, "sign_in.guard": {"failures_per_user_and_address": "2"}}
    )


def test_too_many_sessions(lab: Lab, connect: Connect, strict: Gateway, new_user: NewUser) -> None:
    user = new_user(strict)
    first = connect(strict, user=user).wait_configured()
    oldest = strict.session_of(user)["id"]
    connect(strict, user=user).wait_configured()
    before = {session["id"] for session in strict.sessions_of(user)}

    # Without an answer to "which one shall end?" nothing changes.
    connect(strict, user=user, host=lab.guest).wait_refused()
    assert {session["id"] for session in strict.sessions_of(user)} == before

    chosen = ["--form-entry", f"pulse_session_kill:session_choice={oldest}"]
    connect(strict, user=user, host=lab.guest, options=chosen).wait_configured()
    assert first.program.wait() == 1  # its session was ended
    after = {session["id"] for session in strict.sessions_of(user)}
    assert len(after) == 2
    assert before - after == {oldest}
    assert strict.wait_event("session-end", user=user)["reason"] == "replaced"


def test_guessing_locks_the_name_for_that_address_alone(
    lab: Lab, connect: Connect, strict: Gateway, new_user: NewUser
) -> None:
    user = new_user(strict)
    guesses = "wrong\n" * 2
    assert connect(strict, user=user, password="wrong", input=guesses).wait_refused() == 1
    locked = connect(strict, user=user)  # the right password, too late
    assert locked.wait_refused() == 1
    wait_for(
        lambda: any(
            "lock" in entry["reason"] for entry in strict.events("sign-in", user=user, outcome="failed")
        ),
        "the log says that the name is locked",
    )
    connect(strict, user=user, host=lab.guest).wait_configured()


def test_an_administrator_ends_a_session(connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured()
    gateway.disconnect(client.user)
    assert client.program.wait() == 1
    assert gateway.wait_event("session-end", user=client.user)["reason"] == "disconnected"


def test_logging_out_frees_everything(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    client = connect(gateway).wait_configured()
    address = client.address4
    assert client.log_out() == 0
    gateway.wait_no_sessions(client.user)
    assert gateway.wait_event("session-end", user=client.user)["reason"] == "logout"
    assert not lab.intranet.ping(address)


def test_many_at_once(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    clients = [connect(gateway, host=host) for _ in range(4) for host in (lab.client, lab.guest)]
    addresses = [address for client in clients for address in client.wait_configured().addresses()]
    assert len(set(addresses)) == 2 * len(clients)
