"""`lockgate connect` with a launch link, as a real process before a service that a test plays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.scripted_service import Service, state

HANDLE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
LINK = f"pulsesecureclient://connect?name=Office&server=https://gw.example.org/staff/&handle={HANDLE}"


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    service.close()


def arguments_of(process) -> bytes:
    return Path(f"/proc/{process.process.pid}/cmdline").read_bytes()


def test_start_in_the_portal_connects_after_a_yes_and_without_a_password(service):
    process = service.command("connect", LINK, terminal=True)
    shown = process.until("Connect (yes/no)? [no] ")
    assert "https://gw.example.org/staff/" in shown
    assert "session that is signed in there in your browser" in shown
    assert HANDLE not in shown
    assert HANDLE.encode() not in arguments_of(process)
    assert b"connect" in arguments_of(process)
    process.type("yes\n")
    caller = service.accept()
    request = caller.serve("connect", {"connection": "c1"})
    assert {key: request[key] for key in ("server", "name", "handle")} == {
        "server": "https://gw.example.org/staff/",
        "name": "Office",
        "handle": HANDLE,
    }
    assert "user" not in request
    caller.say(state("connecting"), state("connected"))


def test_an_administrators_link_fills_in_the_form(service):
    link = "pulsesecureclient://connect?name=Office&server=gw.example.org&username=alice&userrealm=Users"
    process = service.command("connect", "-", terminal=True)
    process.until("Link: ")
    process.type(link + "\n")
    shown = process.until("Connect (yes/no)? [no] ")
    assert "as user alice" in shown
    assert "in realm Users" in shown
    process.type("y\n")
    request = service.accept().serve("connect", {"connection": "c1"})
    assert (request["name"], request["user"], request["realm"]) == ("Office(Auto Launch)", "alice", "Users")


@pytest.mark.parametrize("typed", ["\n", "no\n", "yess\n", "\x04"])
def test_without_a_clear_yes_nothing_happens(service, typed):
    process = service.command("connect", LINK, terminal=True)
    process.until("[no] ")
    process.type(typed)
    process.until("Nothing was connected.")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((LINK, "--json"), "link-not-confirmed"),
        (("-", "--json"), "bad-link"),
        ((LINK + "&x=y", "--json"), "bad-link"),
        (("PULSESECURECLIENT://disconnect?name=a&server=b", "--json"), "bad-link"),
        ((LINK.replace("https://gw.example.org/staff/", "javascript:alert(1)"), "--json"), "bad-link"),
    ],
)
def test_links_that_are_none_and_nobody_to_agree(service, words, code):
    status, out, err = service.command("connect", *words).output()
    assert (status, err) == (1, "")
    assert json.loads(out)["error"]["code"] == code
    assert HANDLE not in out


def test_a_link_says_who_somebody_is(service):
    status, _, err = service.command("connect", LINK, "--user", "bob").output()
    assert status == 2
    assert "leave --user and --realm out" in err
