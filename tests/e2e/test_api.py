"""REST through the real edge: what strangers put into requests, tokens, commands, readiness.

Topology: the administrators' listener is on the gateway's own loopback, the public one on the internet side.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.lab import Gateway, Lab, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
OWNER = "root-of-all"
ADMIN = ("127.0.0.1", "8443")
PUBLIC = (GATEWAY4, "443")
BODY = re.compile(r"\r\n\r\n(.*)", re.DOTALL)


def request(
    target: str, *headers: str, method: str = "GET", body: str = "", host: str = "gw.lab.test"
) -> str:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body])


def ask(lab: Lab, gateway: Gateway, place: tuple[str, str], requests: list[str]) -> list[tuple[int, str]]:
    """Status (0 for no answer) and the rest of each answer."""
    origin = gateway.host if place == ADMIN else lab.client
    output = origin.run(origin.python("tests.e2e.raw_http", *place), input=json.dumps(requests), deadline=120)
    found = []
    for answer in json.loads(output.stdout):
        status = re.match(r"HTTP/1\.[01] (\d{3})", answer)
        found.append((int(status.group(1)) if status else 0, answer))
    return found


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    """Of an administrator with full power."""
    add = ("add", OWNER, "--server", "Administrators", "--password-stdin")
    gateway.host.run(_lockgate(gateway, "user", *add), input=PASSWORD + "\n")
    return _token(gateway, "everything")


def _token(gateway: Gateway, name: str) -> str:
    create = ("create", name, "--owner", OWNER, "--scope", "*", "--json")
    return str(json.loads(gateway.host.run(_lockgate(gateway, "token", *create)).stdout)["token"])


def _lockgate(gateway: Gateway, group: str, command: str, *arguments: str) -> list[str]:
    return [LOCKGATE, group, command, "--dir", str(gateway.directory), *arguments]


def test_what_a_client_says_about_itself_is_not_believed(lab: Lab, gateway: Gateway, token: str) -> None:
    """Our own headers in every odd form: none of them makes the public listener the administrators' one, or
    gives an address that may read the metrics."""
    bearer = f"Authorization: Bearer {token}"
    lies = [
        ("X-Lockgate-Listener: admin",),
        ("x-lockgate-listener: admin", "x-lockgate-listener: admin"),
        ("X-LOCKGATE-LISTENER: admin", "X-Lockgate-Peer: 127.0.0.1:1"),
        ("X_Lockgate_Listener: admin",),
        ("X-Lockgate_Listener: admin",),
        ("x-lockgate-listener:admin",),
        ("X-Lockgate-Listener: \tadmin",),
        ("X-Lockgate-Listener: gateway", "Connection: x-lockgate-listener"),
        ("X-Lockgate-Listener : admin",),
        ("X-Lockgate-Listener: gate", " way"),
        ("X-A: b\nX-Lockgate-Listener: admin",),
        ("X-A: b\rX-Lockgate-Listener: admin",),
        ("X-A: b\x00X-Lockgate-Listener: admin",),
        ("Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
        ("X-Original-URL: /api/v1/me", "X-Rewrite-URL: /api/v1/me"),
        ("Trailer: X-Lockgate-Listener",),
    ]
    requests = [
        request(target, bearer, *headers)
        for headers in lies
        for target in ("/api/v1/me", "/metrics", "/healthz")
    ]
    chunked = "Transfer-Encoding: chunked"
    requests.append(
        request("/api/v1/me", bearer, chunked, "Trailer: X-Lockgate-Listener")
        + "0\r\nX-Lockgate-Listener: admin\r\n\r\n"
    )
    # Two readings of where the first request ends.
    requests.append(
        request("/", chunked, "Content-Length: 4", method="POST") + "0\r\n\r\nGET /api/v1/me HTTP/1.1\r\n\r\n"
    )
    for sent, (status, answer) in zip(requests, ask(lab, gateway, PUBLIC, requests), strict=True):
        assert status != 0 or "\n" in sent, sent
        body = BODY.search(answer)
        assert not re.search(r'"rights"|lockgate_sessions|"status": ?"up"', body.group(1) if body else ""), (
            sent
        )
    # The same listener-less truth from the other side: a stranger's address is the edge's word.
    admin = [request("/metrics", *headers) for headers in lies]
    for sent, (status, _) in zip(admin, ask(lab, gateway, ADMIN, admin), strict=True):
        assert status in (0, 200, 400), sent  # its own address may read them, whatever it says
    (status, answer), *_ = ask(lab, gateway, ADMIN, [request("/api/v1/me", bearer)])
    assert status == 200
    assert '"kind":"token"' in answer


def test_addresses_with_two_readings_reach_nothing(lab: Lab, gateway: Gateway, token: str) -> None:
    bearer = f"Authorization: Bearer {token}"
    targets = [
        "//api/v1/me",
        "/api//v1/me",
        "/./api/v1/me",
        "/x/../api/v1/me",
        "/%2e%2e/api/v1/me",
        "/%2E./api/v1/me",
        "/api%2fv1/me",
        "/api/v1/me%00",
        "/api/v1/m%65",
        "/api\\v1\\me",
        "/api/v1/me;x=1",
        "/API/v1/me",
        "/api/v1/ME",
        "https://gw.lab.test/api/v1/me",
        "http://127.0.0.1:8443/api/v1/me",
        "*",
        "api/v1/me",
        "/api/v1/me\x00",
        "/api/v1/\xff",
    ]
    answers = ask(lab, gateway, ADMIN, [request(target, bearer) for target in targets])
    for target, (status, answer) in zip(targets, answers, strict=True):
        assert status in (0, 400, 404), target
        assert '"rights"' not in answer, target
    hosts = [request("/api/v1/me", bearer, host=host) for host in ("a b", "a/b", "a@b", "")]
    assert {status for status, _ in ask(lab, gateway, ADMIN, hosts)} == {400}


def test_bodies_that_are_too_large_end_at_the_limit(lab: Lab, gateway: Gateway, token: str) -> None:
    bearer, kind = f"Authorization: Bearer {token}", "Content-Type: application/json"
    large = '{"reason": "' + "x" * (3 << 20) + '"}'
    deep = "[" * 200_000
    path = "/api/v1/config/apply"
    answers = ask(
        lab,
        gateway,
        ADMIN,
        [
            request("/api/v1/config/revisions/1/rollback", bearer, kind, method="POST", body=large),
            request(path, bearer, kind, method="POST", body=deep),
            request(path, kind, method="POST", body=large),
            request(path, bearer, kind, f"Content-Length: {10**12}", method="POST"),
        ],
    )
    assert [status for status, _ in answers][:3] == [413, 400, 401]
    assert answers[3][0] in (400, 413)


def test_commands_and_requests_are_one_interface(lab: Lab, gateway: Gateway, token: str) -> None:
    """`lockgate config` on the running server, seen by REST at once; and the token's end."""
    mine = _token(gateway, "mine")
    bearer = f"Authorization: Bearer {mine}"
    setting = "roles/Users/session/reminder_seconds"
    gateway.config("set", setting, "333", "--commit", "-m", "by command")
    (status, answer), *_ = ask(lab, gateway, ADMIN, [request(f"/api/v1/config?path={setting}", bearer)])
    assert status == 200
    assert '"value":333' in answer
    assert json.loads(gateway.config("show", setting, "--json")) == 333
    gateway.config("remove", setting, "--commit", "-m", "as it was")
    listed = json.loads(gateway.host.run(_lockgate(gateway, "token", "list", "--json")).stdout)
    assert mine not in json.dumps(listed)
    (number,) = [each["id"] for each in listed if each["name"] == "mine"]
    gateway.host.run(_lockgate(gateway, "token", "revoke", number))
    (status, _), *_ = ask(lab, gateway, ADMIN, [request("/api/v1/me", bearer)])
    assert status == 401


def test_readiness_follows_the_edge(lab: Lab, gateway: Gateway) -> None:
    """The edge carries the question itself: without one there is no answer, with the next one there is."""
    (status, answer), *_ = ask(lab, gateway, ADMIN, [request("/readyz")])
    assert (status, '"edge":"up"' in answer) == (200, True)
    killed = gateway.kill("edge", signal.SIGKILL)
    gateway.wait_successor("edge", killed)
    wait_for(
        lambda: ask(lab, gateway, ADMIN, [request("/readyz")])[0][0] == 200, "the gateway is ready again"
    )
    (status, answer), *_ = ask(lab, gateway, ADMIN, [request("/healthz")])
    assert (status, '"up"' in answer) == (200, True)
