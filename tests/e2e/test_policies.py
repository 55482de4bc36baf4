"""Realms, roles and rules with the real client: who lands where, who reaches what, and what a commit cuts at once."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, Program, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.host import Host
from tests.lab.name_server import NameServer
from tests.lab.topology import GATEWAY_NAME, INTRANET4

# Machines of the intranet, one for each role.
STAFF4, GUESTS4, MOVED4 = "10.77.1.1", "10.77.1.2", "10.77.1.3"
WIKI = "wiki.lab.test"
LOCKGATE = str(Path(sys.executable).with_name("lockgate"))


def _rule(name: str, *roles: str, **condition: Any) -> dict[str, Any]:
    return {"name": name, "condition": condition, "roles": list(roles)}


def _access(name: str, target: str, *roles: str) -> dict[str, Any]:
    return {
        "name": name,
        "action": "allow",
        "to": [target],
        "applies": {"to": "selected", "roles": list(roles)},
    }


def _realm(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "server": "System Local", "rules": list(rules)}


def _url(url: str, *realms: str, **rest: Any) -> dict[str, Any]:
    return {"name": url.replace("/", "_"), "url": url, "realms": list(realms), **rest}


BY_GROUP = (
    _rule("staff", "Staff", kind="group", values=["Staff"]),
    _rule("guests", "Guests", kind="expression", text='NOT group = "Staff"'),
)
EVERYBODY = {"kind": "user", "values": ["*"]}
REALMS = [
    _realm("Company", *BY_GROUP),
    _realm("Visitors", _rule("all", "Guests", **EVERYBODY)),
    {**_realm("Choice", _rule("all", "Staff", "Guests", **EVERYBODY)), "when_several": "choose-role"},
]
ACCESS = [_access("staff", f"{STAFF4}/32", "Staff"), _access("guests", f"{GUESTS4}/32", "Guests")]
# What goes through the tunnel is the intranet, so that a client which roams still finds its way to the gateway.
SPLIT = {"split_tunneling": "enabled"}
ROLES = [{"name": "Staff", "vpn": SPLIT}, {"name": "Guests", "vpn": SPLIT}]


@pytest.fixture(scope="module")
def gateway(lab: Lab, another_gateway: Callable[..., Gateway]) -> Gateway:
    lab.intranet.ip("\n".join(f"address replace {each}/16 dev eth0" for each in (STAFF4, GUESTS4, MOVED4)))
    gateway = another_gateway()
    gateway.add_user("alice")
    gateway.user("set", "alice", "--group", "Staff")
    for name in ("bob", "carol"):
        gateway.add_user(name)
    administrators = _get(gateway, "sign_in_policies/Default administrators")
    _commit(
        gateway,
        roles=ROLES,
        realms=REALMS,
        access_control=ACCESS,
        sign_in_policies=[
            _url("*/", "Company"),
            _url("*/visitors/", "Visitors"),
            _url("*/any/", "Company", "Visitors"),
            _url("*/choose/", "Choice"),
            _url("*/suffix/", "Company", "Visitors", realm_by_suffix=True, fail_without_suffix=True),
            administrators,
        ],
    )
    return gateway


@pytest.fixture(autouse=True)
def _as_it_was(gateway: Gateway) -> Iterator[None]:
    """Every test finds the first configuration of this module."""
    yield
    if _get(gateway, "roles") != _get(gateway, "roles", 2) or any(
        _get(gateway, part) != _get(gateway, part, 2) for part in ("realms", "access_control")
    ):
        gateway.rest("POST", "/config/revisions/2/rollback", body={})


def _get(gateway: Gateway, path: str, revision: int | None = None) -> Any:
    body = gateway.rest("GET", "/config", query={"path": path, "revision": revision})
    return body.get("value", body) if isinstance(body, dict) else body


def _commit(gateway: Gateway, **parts: Any) -> None:
    gateway.commit(*({"op": "set", "path": path, "value": value} for path, value in parts.items()))


def _at(gateway: Gateway, path: str) -> str:
    return f"https://{GATEWAY_NAME}:{gateway.port}{path}"


def _reaches(host: Host, client: OpenConnect, address: str) -> bool:
    return host.ping(address, source=client.tun)


def _flow(host: Host, client: OpenConnect, address: str) -> Program:
    """A ping that goes on until it is stopped."""
    command = ["ping", "-n", "-O", "-i", "0.05", "-I", client.tun, address]
    flow = host.start(command, f"flow-{client.tun}")
    flow.wait_log("bytes from")
    return flow


def _replies(flow: Program) -> int:
    return flow.log().count("bytes from")


# -- where people land -----------------------------------------------------------------------------


LANDINGS = [
    # user, URL, options, realm, roles
    ("alice", "/", [], "Company", ["Staff"]),
    ("bob", "/", [], "Company", ["Guests"]),
    ("alice", "/visitors/", [], "Visitors", ["Guests"]),
    ("alice", "/any/", ["--authgroup", "Visitors"], "Visitors", ["Guests"]),
    ("alice@Visitors", "/suffix/", [], "Visitors", ["Guests"]),
    ("Company\\alice", "/suffix/", [], "Company", ["Staff"]),
    ("alice", "/choose/", ["--form-entry", "pulse_gtc:tokencode=2"], "Choice", ["Guests"]),
]


@pytest.mark.parametrize(("user", "path", "options", "realm", "roles"), LANDINGS)
def test_url_suffix_and_choice_lead_to_a_realm(
    connect: Connect,
    gateway: Gateway,
    user: str,
    path: str,
    options: list[str],
    realm: str,
    roles: list[str],
) -> None:
    client = connect(gateway, user=user, server=_at(gateway, path), options=options).wait_configured()
    session = gateway.session_of(re.sub(r"@.*|.*\\", "", user))
    assert (session["realm"], session["roles"]) == (realm, roles)
    client.log_out()


def test_a_name_without_its_realm_is_refused_where_it_must_have_one(
    connect: Connect, gateway: Gateway
) -> None:
    client = connect(gateway, user="alice", server=_at(gateway, "/suffix/"))
    client.wait_refused()
    gateway.wait_event("sign-in", user="alice", reason="no-realm")


# -- what a commit does to those who are connected -------------------------------------------------


@pytest.fixture
def alice(lab: Lab, connect: Connect, gateway: Gateway) -> OpenConnect:
    return connect(gateway, user="alice").wait_configured().wait_esp()


@pytest.fixture
def bob(lab: Lab, connect: Connect, gateway: Gateway) -> OpenConnect:
    return connect(gateway, user="bob", host=lab.guest, options=["--no-dtls"]).wait_configured()


def test_roles_reach_what_is_theirs_and_a_commit_cuts_one_flow_and_no_other(
    lab: Lab, gateway: Gateway, alice: OpenConnect, bob: OpenConnect
) -> None:
    assert not _reaches(lab.client, alice, GUESTS4)
    assert not _reaches(lab.guest, bob, STAFF4)
    mine, other = _flow(lab.client, alice, STAFF4), _flow(lab.guest, bob, GUESTS4)

    _commit(gateway, access_control=[_access("staff", f"{MOVED4}/32", "Staff"), ACCESS[1]])
    mine.wait_log("no answer yet")
    stopped = _replies(mine)
    assert _reaches(lab.client, alice, MOVED4)
    count = _replies(other)
    wait_for(lambda: _replies(other) > count + 10, "the other flow goes on")
    assert _replies(mine) == stopped
    followed = gateway.wait_event("followed", reason="policy-changed")
    assert followed["rules_sent"] == 1
    enforced = _enforced(gateway, "policy-changed")
    assert enforced["revision"] == _get_number(gateway)

    other.stop(signal.SIGINT)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", other.log())
    assert found
    assert int(found.group(1)) - int(found.group(2)) <= 1  # the last one may be on its way
    mine.stop(signal.SIGINT)


def test_a_lost_role_ends_its_session_and_no_other(
    lab: Lab, gateway: Gateway, alice: OpenConnect, bob: OpenConnect
) -> None:
    other = _flow(lab.guest, bob, GUESTS4)
    before = gateway.session_of("bob")
    _commit(gateway, realms=[_realm("Company", BY_GROUP[1]), *REALMS[1:]])
    alice.program.wait(deadline=20)
    assert "gives no VPN access any more" in alice.log()
    assert not gateway.sessions_of("alice")
    assert not lab.intranet.ping(alice_address(alice))
    count = _replies(other)
    wait_for(lambda: _replies(other) > count + 5, "the other flow goes on")
    assert gateway.session_of("bob")["id"] == before["id"]
    ended = gateway.wait_event("session-end", user="alice", reason="policy-changed")
    assert ended["revision"] == _get_number(gateway)
    other.stop(signal.SIGINT)


def _enforced(gateway: Gateway, cause: str) -> dict[str, Any]:
    """The record of the audit that one session has lost what it lost, and when the edge said so."""
    gateway.wait_event("access-enforced", reason=cause)
    entries = gateway.rest("GET", "/logs/events", query={"limit": 100})["entries"]
    found: dict[str, Any] = next(
        each for each in entries if (each["event"], each["reason"]) == ("access-enforced", cause)
    )
    assert found["outcome"] == "ok"
    assert re.fullmatch(r"1 session; the last after \d+ ms", found["text"])
    return found


def alice_address(client: OpenConnect) -> str:
    return client.configuration()["INTERNAL_IP4_ADDRESS"]


def _get_number(gateway: Gateway) -> int:
    return int(gateway.status()["revision"])


def test_groups_of_a_user_move_the_session_to_other_roles(
    lab: Lab, gateway: Gateway, connect: Connect
) -> None:
    client = connect(gateway, user="carol").wait_configured().wait_esp()
    assert _reaches(lab.client, client, GUESTS4)
    gateway.user("set", "carol", "--group", "Staff")
    assert gateway.session_of("carol")["roles"] == ["Staff"]
    assert _reaches(lab.client, client, STAFF4)
    assert not _reaches(lab.client, client, GUESTS4)
    gateway.user("set", "carol", "--no-groups")


def test_a_disabled_user_is_cut_off(lab: Lab, gateway: Gateway, connect: Connect) -> None:
    client = connect(gateway, user="carol").wait_configured().wait_esp()
    flow = _flow(lab.client, client, GUESTS4)
    gateway.user("disable", "carol")
    count = _replies(flow)
    client.program.wait(deadline=20)
    assert "The account was disabled" in client.log()
    assert _replies(flow) == count
    _enforced(gateway, "user-disabled")
    gateway.user("enable", "carol")
    flow.stop(signal.SIGINT)


# -- names -----------------------------------------------------------------------------------------


@pytest.fixture
def names(lab: Lab) -> Iterator[Callable[[str], None]]:
    """A name server in the intranet that the gateway asks; sets the address of WIKI."""
    server = NameServer(lab.intranet, INTRANET4, wiki=STAFF4)
    resolver = lab.gateway.directory / "resolv.conf"
    resolver.write_text(f"nameserver {INTRANET4}\n")
    yield lambda address: server.move(wiki=address)
    resolver.write_text("")
    server.stop()


def test_a_rule_for_a_name_follows_its_address(
    lab: Lab, gateway: Gateway, connect: Connect, names: Callable[[str], None]
) -> None:
    client = connect(gateway, user="alice").wait_configured().wait_esp()
    _commit(gateway, access_control=[_access("wiki", WIKI, "Staff"), ACCESS[1]])
    wait_for(lambda: _reaches(lab.client, client, STAFF4), "the name is resolved", deadline=30)
    assert not _reaches(lab.client, client, MOVED4)
    names(MOVED4)
    wait_for(lambda: _reaches(lab.client, client, MOVED4), "the rule follows the name", deadline=30)
    assert not _reaches(lab.client, client, STAFF4)
    answer = _explain(gateway, "alice", f"{WIKI}:443")
    assert answer["allow"]
    assert MOVED4 in json.dumps(answer)


# -- options of a session --------------------------------------------------------------------------


def test_session_options_hold(lab: Lab, gateway: Gateway, connect: Connect) -> None:
    short = {"length_seconds": 3600, "idle_seconds": 900, "roaming": "disabled"}
    _commit(gateway, roles=[ROLES[0] | {"session": short}, ROLES[1]])
    client = connect(gateway, user="alice").wait_configured().wait_esp()
    session = gateway.session_of("alice")
    assert 3500 < session["remaining"] <= 3600
    assert client.configuration()["IDLE_TIMEOUT"] == "900"
    lab.impair.roam()
    client.send(signal.SIGUSR2)
    gateway.wait_event("session-resume", user="alice", outcome="failed", reason="roaming", deadline=60)
    # This client takes the refusal for the end and logs out.
    gateway.wait_no_sessions("alice")
    lab.impair.roam()
    connect(gateway, user="alice").wait_configured()
    _commit(gateway, roles=[ROLES[0] | {"session": {"length_seconds": 5}}, ROLES[1]])
    gateway.wait_event("session-end", user="alice", reason="expired")


def test_a_client_that_stays_away(gateway: Gateway, connect: Connect) -> None:
    _commit(gateway, roles=[ROLES[0] | {"session": {"heartbeat_timeout_seconds": 2}}, ROLES[1]])
    client = connect(gateway, user="alice").wait_configured()
    client.leave()
    gateway.wait_event("session-end", user="alice", reason="away")
    gateway.wait_no_sessions("alice")


# -- why, and what if ------------------------------------------------------------------------------


def _explain(gateway: Gateway, user: str, target: str, *options: str, status: int = 0) -> dict[str, Any]:
    line = [LOCKGATE, "explain", "--dir", str(gateway.directory), "--user", user, "--to", target, "--json"]
    done = gateway.host.run([*line, *options], check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_why_and_what_if(gateway: Gateway, connect: Connect) -> None:
    connect(gateway, user="alice").wait_configured()
    connect(gateway, user="bob").wait_configured()
    allowed = _explain(gateway, "alice", f"{STAFF4}:443")
    assert allowed["reasons"][-2]["text"].startswith("rule 'staff'")
    denied = _explain(gateway, "alice", f"{GUESTS4}:443", status=1)
    assert [reason["ok"] for reason in denied["reasons"]][-1] is False
    assert _explain(gateway, "nobody-at-all", GUESTS4, status=2)["error"]["code"] == "no-such-user"

    draft = json.loads(gateway.config("set", "realms/Company/rules/staff/roles", '["Guests"]', "--json"))
    line = [LOCKGATE, "whatif", draft["draft"], "--dir", str(gateway.directory), "--since", "1h", "--json"]
    report = json.loads(gateway.host.run(line).stdout)
    people = {person["user"]: person for person in report["affected"]}
    assert "bob" not in people
    person = people["alice"]
    assert any("Staff" in change["text"] for change in person["loses"])
    assert any("Guests" in change["text"] for change in person["gains"])
    gateway.config("discard", draft["draft"])


def _code(text: str) -> str:
    """The support code that openconnect has printed last."""
    found = re.findall(r"Support code: ([0-9A-Z]{4}-[0-9A-Z]{4})", text)
    assert found, text
    return str(found[-1])


def _by_code(gateway: Gateway, code: str) -> dict[str, Any]:
    line = [LOCKGATE, "explain", "--dir", str(gateway.directory), "--code", code, "--json"]
    done = gateway.host.run(line, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_code_of_a_refusal_leads_the_help_desk_to_the_rule(gateway: Gateway, connect: Connect) -> None:
    client = connect(gateway, user="alice").wait_configured()
    board = _realm("Company", _rule("nobody", "Staff", kind="group", values=["Board"]))
    _commit(gateway, realms=[board, *REALMS[1:]])
    revision = gateway.rest("GET", "/status")["revision"]
    gateway.wait_event("session-end", user="alice", reason="policy-changed")
    client.program.wait_log("Support code: ")
    ended = _by_code(gateway, _code(client.log()))
    assert (ended["kind"], ended["user"], ended["revision"]) == ("end", "alice", revision)
    assert "realms/Company/rules/nobody" in [reason["path"] for reason in ended["reasons"]]

    refused = connect(gateway, user="alice")
    refused.wait_refused()
    assert "Your account has no role here." in refused.log()
    code = _code(refused.log())
    found = _by_code(gateway, code.lower().replace("-", ""))
    assert (found["code"], found["kind"], found["realm"]) == (code, "sign-in", "Company")
    assert "realms/Company/rules/nobody" in [reason["path"] for reason in found["reasons"]]
    text = gateway.host.run(
        [LOCKGATE, "explain", "--dir", str(gateway.directory), "--code", code], check=False
    ).stdout
    again = re.search(r"^Ask the same of now: lockgate (.*)$", text, re.MULTILINE)
    assert again, text
    assert gateway.host.run([LOCKGATE, *shlex.split(again[1])], check=False).returncode == 1
    wrong = connect(gateway, user="alice", password="wrong", input="wrong\nwrong\nwrong\n")
    wrong.wait_refused()
    attempt = _by_code(gateway, _code(wrong.log()))
    assert attempt["reasons"][-1]["text"] == "the password is wrong"
    line = [LOCKGATE, "explain", "--dir", str(gateway.directory), "--code", "0000-0000"]
    unknown = gateway.host.run(line, check=False)
    assert unknown.returncode == 2
    assert "30 days" in unknown.stderr


def test_the_password_has_to_be_changed_first(gateway: Gateway, connect: Connect) -> None:
    gateway.add_user("dora")
    gateway.user("set", "dora", "--must-change")
    answers = f"{PASSWORD}\nanother long secret\nanother long secret\n"
    client = connect(gateway, user="dora", input=answers).wait_configured()
    client.log_out()
    connect(gateway, user="dora", password="another long secret").wait_configured()
