"""REST for commands: without a server, and without paying for a web framework that nobody asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lockgate.model.problem import ProblemError
from lockgate.server.config.current import STARTED
from lockgate.server.config.revision import first_revision
from lockgate.server.local_api import LINE_LIMIT
from lockgate.server.web.body import DOCUMENT_LIMIT
from lockgate.server.web.local import call
from tests.unit.server.support import HASH, new_store, place_of, run, user
from tests.unit.server.web_subject import configuration

SETTING = "roles/Users/session/idle_seconds"


@pytest.fixture
def directory(tmp_path):
    place = place_of(tmp_path)
    place.config.write_text("")  # nobody reads it after the first start

    async def work():
        async with new_store(place) as store:
            await store.revisions.add(first_revision(configuration(), "config.toml", "first start", 1.0), 0)
            await store.meta.set(STARTED, "1")
            await store.users.add(user("admin", password_hash=HASH, server="Administrators"))

    run(work())
    return place


def test_a_stopped_gateway_answers_commands(directory):
    assert call(directory, "GET", "/api/v1/config", query={"path": SETTING}).body["value"] == 1800
    edits = [{"op": "set", "path": SETTING, "value": 600}]
    done = call(directory, "POST", "/api/v1/config/apply", body={"edits": edits, "reason": "r"}, actor="me")
    assert (done.body["number"], done.body["author"]) == (2, "me")
    assert (
        call(directory, "GET", "/api/v1/config", query={"path": SETTING, "revision": 2}).body["value"] == 600
    )
    new = {"name": "n", "scopes": ["logs:read"], "owner": "admin"}
    assert call(directory, "POST", "/api/v1/tokens", body=new).body["token"].startswith("lgt_")
    status = call(directory, "GET", "/api/v1/status").body
    assert (status["edge"], status["store"], status["revision"]) == ("none", "up", 2)
    exported = call(directory, "GET", "/api/v1/logs/admin-access/export")
    assert "config-committed" in exported.body


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/sessions", "server-not-running"),
        ("GET", "/api/v1/config?path=nowhere", "bad-address"),
        ("GET", "/api/v1/nothing", "not-found"),
        ("DELETE", "/api/v1/me", "method-not-allowed"),
        ("GET", "/api/v1/config/revisions/77", "no-such-revision"),
    ],
)
def test_what_cannot_be_done_is_a_problem_with_its_code(directory, method, path, code):
    with pytest.raises(ProblemError) as raised:
        call(directory, method, path)
    assert raised.value.problem.code == code


def test_the_local_socket_takes_what_rest_takes():
    assert LINE_LIMIT > DOCUMENT_LIMIT * 4 // 3


@pytest.mark.parametrize(
    "module", ["cli.main", "cli.user", "cli.token", "cli.config_show", "cli.server", "server.web.local"]
)
def test_commands_start_without_the_web_framework(module):
    program = (
        f"import sys, lockgate.{module}\n"
        "print(*sorted({'fastapi', 'starlette', 'uvicorn', 'jinja2', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
