"""Bookmarks that users make are theirs at two gateways, whoever was away when they were made.

Both gateways run on the gateway's host, each with its own store, key and administrators' listener.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockgate.model.problem import ProblemError
from tests.lab import Gateway, Lab, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4, GATEWAY_NAME

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
SERVER = "System Local"
SYNCHRONISED = "Staff"
OWNER = "exchange"
PLACES = (21, 22)


def command(gateway: Gateway, *arguments: str, input: str | None = None) -> str:
    line = [LOCKGATE, *arguments[:2], "--dir", str(gateway.directory), *arguments[2:]]
    return gateway.host.run(line, input=input).stdout


def token(gateway: Gateway, name: str, scope: str) -> str:
    made = command(gateway, "token", "create", name, "--owner", OWNER, "--scope", scope, "--json")
    return str(json.loads(made)["token"])


def put(path: str, value: object) -> dict[str, object]:
    return {"op": "set", "path": path, "value": value}


def introduce(one: Gateway, other: Gateway, secret: str) -> None:
    """From now on one knows the other."""
    peer = {
        "name": other.directory.name,
        "url": f"https://{GATEWAY_NAME}:{other.admin_port}",
        "token": secret,
        "ca": other.ca_file.read_text(),
    }
    one.commit(put("user_records", {"interval_seconds": 1, "peers": [peer]}))


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways with the users alice and bob; only the first knows the other."""
    lab.gateway.name_address(GATEWAY_NAME, "127.0.0.1")
    made = [Gateway(lab.gateway, f"records{place}", place=place).initialise() for place in PLACES]
    for gateway in made:
        for name in ("alice", "bob"):
            gateway.add_user(name)
        command(
            gateway,
            "user",
            "add",
            OWNER,
            "--server",
            "Administrators",
            "--password-stdin",
            input=PASSWORD + "\n",
        )
        gateway.start()
        gateway.commit(
            put(f"auth_servers/{SERVER}/user_record_synchronization", True),
            put(f"auth_servers/{SERVER}/logical_auth_server_name", SYNCHRONISED),
            put("roles/Users/web_options/own_bookmarks", True),
        )
    first, second = made
    introduce(first, second, token(second, "records", "user_records:write"))
    yield first, second
    for gateway in made:
        if gateway.program is not None and gateway.program.running:
            gateway.stop()


def browse(lab: Lab, gateway: Gateway, user: str, *steps: tuple[str, dict[str, str] | None]) -> list[str]:
    """What somebody sees at the portal."""
    task = {"user": user, "password": PASSWORD, "steps": [("/portal/bookmarks", None), *steps]}
    line = lab.client.python("tests.e2e.portal_user", GATEWAY4, str(gateway.port))
    pages: list[str] = json.loads(lab.client.run(line, input=json.dumps(task)).stdout)
    return pages


def add(name: str) -> tuple[str, dict[str, str]]:
    return "/portal/bookmarks", {"name": name, "url": f"https://{name}.example.org/", "new_window": "yes"}


def record(gateway: Gateway, user: str = "alice", server: str = SERVER) -> dict[str, Any]:
    path = f"/users/{server.replace(' ', '%20')}/{user}/record"
    found: dict[str, Any] = gateway.rest("GET", path)
    return found


def names(gateway: Gateway, user: str = "alice") -> list[str]:
    return [each["name"] for each in record(gateway, user)["bookmarks"]]


def both_have(pair: tuple[Gateway, Gateway], expected: list[str], user: str = "alice") -> None:
    wait_for(
        lambda: all(names(gateway, user) == expected for gateway in pair),
        f"both gateways have {expected}",
        deadline=30.0,
        explain=lambda: f"{[(names(each, user), each.rest('GET', '/user-records/peers')) for each in pair]}",
    )


def test_a_bookmark_is_at_both_and_nobody_elses(lab: Lab, pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    browse(
        lab, first, "alice", add("wiki"), ("/portal/preferences", {"colours": "dark", "density": "compact"})
    )
    both_have(pair, ["wiki"])
    home = browse(lab, second, "alice")[0]
    assert '<a href="https://wiki.example.org/" rel="noopener noreferrer" target="_blank">' in home
    assert 'data-colours="dark" data-density="compact"' in home
    assert "wiki" not in browse(lab, second, "bob")[0]
    # The other one knows nobody and sends nothing by itself: it is asked.
    browse(lab, second, "alice", add("mail"))
    both_have(pair, ["wiki", "mail"])
    assert names(first, "bob") == []


def test_both_are_edited_while_one_is_away(lab: Lab, pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    browse(lab, first, "bob", add("one"), add("two"), add("three"))
    both_have(pair, ["one", "two", "three"], "bob")
    assert second.stop() == 0
    page = browse(lab, first, "bob", add("four"))[-1]
    one = page.split("/portal/bookmarks?edit=")[1].partition('"')[0]
    browse(lab, first, "bob", ("/portal/bookmarks", {"id": one, "action": "delete"}))
    assert first.stop() == 0
    second.start()
    page = browse(lab, second, "bob", add("five"))[-1]
    two = page.split("/portal/bookmarks?edit=")[2].partition('"')[0]
    edited = {"id": two, "name": "second", "url": "https://second.example.org/"}
    browse(lab, second, "bob", ("/portal/bookmarks", edited))
    first.start()
    # "four" and "five" were both put behind the last one; the later edits of each side are there.
    wait_for(
        lambda: (
            sorted(names(first, "bob")) == ["five", "four", "second", "three"]
            and names(first, "bob") == names(second, "bob")
        ),
        "both have what was done at either",
        deadline=40.0,
        explain=lambda: (
            f"{names(first, 'bob')} {names(second, 'bob')} {first.rest('GET', '/user-records/peers')}"
        ),
    )
    told = command(first, "server", "peers")
    assert second.directory.name in told
    [peer] = first.rest("GET", "/user-records/peers")["peers"]
    assert (peer["names"], peer["waiting"], peer["error"]) == ([SYNCHRONISED], 0, "")


def test_a_deleted_record_is_deleted_at_both(lab: Lab, pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    browse(lab, first, "alice", add("short"))
    wait_for(lambda: "short" in names(second), "the other has it", deadline=30.0)
    assert "are deleted" in command(second, "user", "record", "alice", "--delete")
    both_have(pair, [])
    assert record(first)["preferences"]["colours"] == "auto"


def test_users_of_another_logical_server_have_their_own(lab: Lab, pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    browse(lab, first, "alice", add("before"))
    both_have(pair, ["before"])
    second.commit(put(f"auth_servers/{SERVER}/logical_auth_server_name", "Elsewhere"))
    browse(lab, first, "alice", add("mine"))
    wait_for(
        lambda: first.rest("GET", "/user-records/peers")["peers"][0]["names"] == [],
        "they have no logical server in common",
        deadline=30.0,
    )
    assert names(second) == ["before"]
    second.commit(put(f"auth_servers/{SERVER}/logical_auth_server_name", SYNCHRONISED))
    both_have(pair, ["before", "mine"])


def test_a_wrong_token_is_refused(lab: Lab, pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    for secret in (token(second, "reader", "*:read"), "lgt_" + "a" * 52):
        introduce(first, second, secret)
        browse(lab, first, "bob", add(f"kept{len(secret)}{secret[4:6]}"))
        peer = wait_for(
            lambda: (
                found if (found := first.rest("GET", "/user-records/peers")["peers"][0])["error"] else None
            ),
            "the first one is refused",
            deadline=30.0,
        )
        assert "refused" in peer["error"]
        assert secret not in json.dumps(peer)
        assert set(names(first, "bob")) - set(names(second, "bob"))
        with pytest.raises(ProblemError):
            second.rest("GET", "/user-records/nothing")
    introduce(first, second, token(second, "again", "user_records:write"))
    wait_for(lambda: names(first, "bob") == names(second, "bob"), "they are alike again", deadline=40.0)
