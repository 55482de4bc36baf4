"""A session is extended while its tunnel runs: by an administrator's command, and by its user in the portal.

The portal's user sits at another machine, the tunnel is one of our own client; both ends of it keep their own
timers for the end of the session.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.e2e.client.conftest import Connected, user_of
from tests.lab import Gateway, Host, Lab, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY4, GATEWAY_NAME, INTRANET4

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
LENGTH = 40  # seconds
EXTEND = "/portal/sessions/extend"
ALLOW = "roles/Users/session/allow_extension"


@pytest.fixture(scope="module")
def short(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway({"sessions": {"length_seconds": str(LENGTH), "idle_seconds": "0"}})


class Browser:
    """Somebody at the portal, by requests of HTTP over TLS."""

    def __init__(self, host: Host, gateway: Gateway, user: str) -> None:
        self._host, self._gateway = host, gateway
        self._cookies: dict[str, str] = {}
        self._token = self._field(self.ask("GET", "/")[1], "csrf")
        status, _ = self.ask("POST", "/", {"username": user, "password": PASSWORD})
        assert status == 303
        self._token = self._field(self.home(), "csrf")

    def home(self) -> str:
        status, page = self.ask("GET", "/")
        assert status == 200
        return page

    def buttons(self) -> list[str]:
        """What the page offers to extend."""
        return re.findall(rf'action="{EXTEND}">.*?name="session" value="([^"]*)"', self.home())

    def extend(self, session: str) -> str:
        """The page that tells what came of it."""
        status, answer = self.ask("POST", EXTEND, {"session": session})
        place = re.search(r"(?im)^location: (\S+)", answer)
        assert status == 303
        assert place is not None
        return self.ask("GET", place[1])[1]

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and answer. form: sent as a page of the portal sends it, unless it has a token of its own."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {GATEWAY_NAME}:{self._gateway.port}",
            "Connection: close",
        ]
        if self._cookies:
            lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in self._cookies.items()))
        body = "" if form is None else urlencode({"csrf": self._token, **form})
        if form is not None:
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        program = self._host.python("tests.e2e.raw_http", GATEWAY4, str(self._gateway.port))
        sent = json.dumps(["\r\n".join([*lines, "", body])])
        [answer] = json.loads(self._host.run(program, input=sent, deadline=60).stdout)
        for name, value in re.findall(r"(?im)^set-cookie: ([^=]+)=([^;]*)", answer):
            self._cookies[name] = value
        return int(answer.split()[1]), answer

    @staticmethod
    def _field(page: str, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', page)
        assert found is not None
        return html.unescape(found[1])


def left(client: OwnClient) -> int:
    """What `lockgate details --json` says about the end of the session."""
    return int(client.details()["session_remaining"])


def wait_until_left(client: OwnClient, seconds: int) -> None:
    wait_for(
        lambda: left(client) <= seconds,
        f"{seconds} seconds are left",
        deadline=LENGTH + 10,
        explain=client.tail,
    )


def test_the_tunnel_lives_on_past_its_former_end(
    lab: Lab, short: Gateway, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    short.commit({"op": "set", "path": ALLOW, "value": True})
    client = connected(short)
    session = short.session_of(user_of(client))["id"]
    assert left(client) <= LENGTH
    wait_until_left(client, LENGTH - 12)
    told = short.server("extend", session)
    assert told.startswith(f"the session of {user_of(client)} ends in ")
    wait_for(lambda: left(client) > LENGTH - 12, "the client hears of its new end", explain=client.tail)
    # From here on the session would be over without the first extension, and soon after that without the second.
    wait_until_left(client, 10)
    browser = Browser(lab.hosts["guest"], short, user_of(client))
    assert f"tunnel:{session}" in browser.buttons()
    assert "Your session was extended." in browser.extend(f"tunnel:{session}")
    wait_for(lambda: left(client) > 15, "the client hears of its new end again", explain=client.tail)
    wait_until_left(client, LENGTH - 15)
    # The edge of the client and that of the gateway have both passed the second end.
    assert client.wait_state("connected")["transport"] == "esp"
    assert lab.client.ping(INTRANET4)
    assert client.details()["reconnects"] == 0
    assert short.session_of(user_of(client))["id"] == session
    assert short.events("session-extend", user=user_of(client), outcome="failed") == []
    # And the last end is one.
    client.wait_state("failed", deadline=LENGTH + 20)
    short.wait_no_sessions(user_of(client))
    assert short.wait_event("session-end", user=user_of(client))["reason"] == "expired"


def test_without_the_permission_there_is_no_button_and_a_form_of_ones_own_is_refused(
    lab: Lab, short: Gateway, connected: Connected
) -> None:
    short.commit({"op": "set", "path": ALLOW, "value": False})
    client = connected(short)
    user, session = user_of(client), short.session_of(user_of(client))
    browser = Browser(lab.hosts["guest"], short, user)
    assert browser.buttons() == []
    assert "was not extended" in browser.extend(f"tunnel:{session['id']}")
    assert short.wait_event("session-extend", user=user)["reason"] == "not-extendable"
    assert left(client) < LENGTH
    # With it, the session is the user's own to extend, and only from the portal's own pages.
    short.commit({"op": "set", "path": ALLOW, "value": True})
    assert f"tunnel:{session['id']}" in browser.buttons()
    for token in ("", "x" * 43):
        assert browser.ask("POST", EXTEND, {"session": f"tunnel:{session['id']}", "csrf": token})[0] == 403
    other = f"{user}-other"
    short.add_user(other)
    stranger = Browser(lab.hosts["guest"], short, other)
    assert "was not extended" in stranger.extend(f"tunnel:{session['id']}")
    assert short.events("session-extend", user=user, outcome="ok") == []
    done = lab.gateway.run(
        [LOCKGATE, "server", "extend", "12345", "--dir", str(short.directory)], check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no session 12345." in done.stderr
