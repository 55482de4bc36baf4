"""Connections through the tunnel are in the audit: who, where to, how much, and which rule decided."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.client.conftest import Connected, user_of
from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, wait_for
from tests.lab.gateway import WEB_AND_ECHO
from tests.lab.topology import INTRANET4

PATIENCE = 40.0  # seconds: the edge gathers for 10


@pytest.fixture(scope="module")
def ruled(another_gateway: Callable[..., Gateway]) -> Gateway:
    gateway = another_gateway(extra=WEB_AND_ECHO)
    gateway.config("set", "log/flows", "all", "--commit", "-m", "flows")
    return gateway


def _flows(gateway: Gateway, user: str, *options: str) -> list[dict[str, Any]]:
    """What an administrator sees."""
    found = gateway.audit("list", "--log", "flows", "--user", user, "--json", *options)
    return json.loads(found)  # type: ignore[no-any-return]


def _exchange(lab: Lab) -> None:
    """Allowed TCP, denied TCP, allowed UDP."""
    web = ["curl", "-sS", "-m", "5", "-o", "/dev/null"]
    lab.client.run([*web, f"http://{INTRANET4}/"])
    assert lab.client.run([*web, "-m", "1", f"http://{INTRANET4}:81/"], check=False).returncode != 0
    lab.client.run(lab.client.python("tests.lab.probe", "udp", INTRANET4, "7", "100"))


def _judge(gateway: Gateway, user: str, session: str, device: str) -> None:
    wait_for(lambda: len(_flows(gateway, user)) >= 3, "the flows are in the audit", deadline=PATIENCE)
    by_port = {}
    for line in _flows(gateway, user):
        flow = line["flow"]
        assert (line["log"], line["event"], line["user"], line["session"]) == ("flows", "flow", user, session)
        assert line["source"]
        assert (flow["remote"], flow["device"], flow["roles"]) == (INTRANET4, device, ["Users"])
        assert flow["began"] == "client"
        by_port[flow["protocol"], flow["port"]] = line
    web, refused, echo = by_port[6, 80], by_port[6, 81], by_port[17, 7]
    for line, rule in ((web, "web"), (echo, "echo")):
        assert (line["outcome"], line["flow"]["rule"]) == ("ok", rule)
        assert line["flow"]["packets_in"] > 0
        assert line["flow"]["packets_out"] > 0
    assert web["flow"]["bytes_out"] > 100
    assert (refused["outcome"], refused["flow"]["rule"]) == ("failed", "")
    assert refused["flow"]["packets_in"] >= 1
    assert refused["flow"]["packets_out"] == 0
    found = _flows(gateway, user, "--failed", "--remote", INTRANET4, "--port", "81", "--session", session)
    assert found == [refused]
    assert _flows(gateway, user, "--remote", "10.77.0.99") == []


def test_flows_of_openconnect_are_recorded(lab: Lab, ruled: Gateway, connect: Connect) -> None:
    client = connect(ruled).wait_configured().wait_esp()
    _exchange(lab)
    session, device = str(ruled.session_of(client.user)["id"]), client.address4
    client.log_out()
    _judge(ruled, client.user, session, device)


def test_flows_of_our_client_are_recorded_and_proven(lab: Lab, ruled: Gateway, connected: Connected) -> None:
    client = connected(ruled)
    _exchange(lab)
    seen = ruled.session_of(user_of(client))
    client.disconnect()
    _judge(ruled, user_of(client), str(seen["id"]), seen["addresses"][0])
    assert "records are right" in ruled.audit("verify")
    with sqlite3.connect(ruled.directory / "db" / "lockgate.db") as database:
        database.execute('UPDATE flow_pieces SET "user" = \'mallory\' WHERE "user" = ?', (user_of(client),))
    assert "WRONG: Flows of record" in ruled.audit("verify", check=False)
