"""The OpenAPI document: what it promises is what comes back, for whatever schemathesis thinks of sending."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lockgate.server.store.interface import UploadRecord
from lockgate.server.web.app import route_table
from tests.unit.server.support import HASH, run, user
from tests.unit.server.web_subject import NOBODY, Caller, Reply, Subject, web

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rest.md"
EXAMPLES = 6  # of each operation; all of them together take some ten seconds
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PREFIX = "/api/v1"


def test_every_route_is_described_with_the_right_it_needs(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            document = (await subject.get(f"{PREFIX}/openapi.json", await subject.token("logs:read"))).json
            described = {
                (PREFIX + path, method.upper()): operation["x-lockgate-needs"]
                for path, item in document["paths"].items()
                for method, operation in item.items()
            }
            served = {
                (row.path, method): row.needs.text()
                for row in route_table(subject.app)
                for method in row.methods
                if row.path.startswith(PREFIX) and not row.path.endswith("openapi.json")
            }
            assert described == served
            assert all(
                operation.get("description") or operation.get("summary")
                for item in document["paths"].values()
                for operation in item.values()
            )
            assert (await subject.get(f"{PREFIX}/openapi.json", NOBODY)).status == 401
            rows = re.findall(r"^\| `([A-Z]+) (\S+)` \| ([a-z_]+:[a-z]+) \|", PAGE.read_text(), re.MULTILINE)
            assert {(PREFIX + path, method): right for method, path, right in rows} == served

    run(work())


@pytest.mark.filterwarnings("ignore")
def test_answers_are_what_the_document_says(tmp_path):
    with asyncio.Runner() as runner:
        context = web(tmp_path)
        subject = runner.run(context.__aenter__())
        try:
            _send_everything(runner, subject)
        finally:
            runner.run(context.__aexit__(None, None, None))


def _send_everything(runner: asyncio.Runner, subject: Subject) -> None:
    token = runner.run(subject.token("*"))
    document = runner.run(subject.get(f"{PREFIX}/openapi.json", token)).json
    schema = schemathesis.openapi.from_dict(document)
    asked: dict[str, int] = {}
    answered: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def send(case: schemathesis.Case) -> None:
            label = case.operation.label
            asked[label] = asked.get(label, 0) + 1
            response = _ask(runner, subject, token, case, real=asked[label] % 2 == 0)
            if response.status_code < 300:
                answered.add(label)
            case.validate_response(response, checks=CHECKS)

        send()
    assert len(asked) > 45
    assert sum(asked.values()) > 150
    # Where everything that is asked for was there, schemathesis found an answer.
    assert len(answered) > 30, sorted(asked.keys() - answered)


def _real(runner: asyncio.Runner, subject: Subject, path: str) -> str:
    """The address of things that are there, or stand where they could be."""
    values = {"number": "1", "server": "System Local", "name": "bob", "component_set": "Default"}
    if not runner.run(subject.store.sessions.live()):
        runner.run(subject.tunnel("alice"))
    if not runner.run(subject.store.web_sessions.live()):
        runner.run(subject.portal())
    values["session"] = str(runner.run(subject.store.sessions.live())[0].id)
    if "{draft}" in path:
        values["draft"] = runner.run(subject.parts.config.create_draft("admin")).id
    if "/logs/" in path:
        values["name"] = "admin-access"
    if "/web-sessions/" in path:
        values["session"] = runner.run(subject.store.web_sessions.live())[0].id
    if "{upload}" in path:
        values["upload"] = uuid.uuid4().hex
        record = UploadRecord(values["upload"], "bob", "System Local", "laptop", 7, 1.0, 3, "log.zip")
        runner.run(subject.store.uploads.add(record, b"log"))
    if "{token}" in path:
        values["token"] = runner.run(subject.store.tokens.all())[0].id
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "0" * 64), path)


def _ask(
    runner: asyncio.Runner, subject: Subject, token: Caller, case: schemathesis.Case, real: bool
) -> Response:
    path = PREFIX + (_real(runner, subject, case.path) if real else case.formatted_path)
    if case.method == "DELETE" and "tokens" in path and real:
        return _answer(case, runner.run(_with_own_token(subject)))
    query = urlencode(
        [
            (key, each)
            for key, value in (case.query or {}).items()
            for each in (value if isinstance(value, list) else [value])
        ]
    )
    body = None
    if case.operation.body and not isinstance(case.body, type(schemathesis.core.NOT_SET)):
        body = case.body
    address = re.sub(r"[^ !-~]", "_", path) + (f"?{query}" if query else "")
    reply = runner.run(subject.ask(case.method, address, token, body=body))
    if case.method == "DELETE" and "/users/" in path and reply.status == 200:
        runner.run(subject.store.users.add(user("bob", password_hash=HASH)))
    return _answer(case, reply)


async def _with_own_token(subject: Subject) -> Reply:
    """Revoking the token that one comes with."""
    mine = await subject.token("logs:read", owner="second")
    (record, *_) = await subject.store.tokens.all("second")
    return await subject.ask("DELETE", f"{PREFIX}/tokens/{record.id}", mine)


def _answer(case: schemathesis.Case, reply: Reply) -> Response:
    return Response(
        status_code=reply.status,
        headers={name: [value] for name, value in reply.headers.items()},
        content=reply.content,
        request=requests.Request(case.method, f"https://gw.example.org{PREFIX}/").prepare(),
        elapsed=0.0,
        verify=True,
    )
