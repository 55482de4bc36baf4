"""REST without a network: what `lockgate` commands call on the gateway's own machine.

    answer = call(directory, "GET", "/api/v1/config", query={"path": "roles/Staff"})
    answer.body   # the JSON value, or text

A running server answers through its local socket (operation "api" of `local_api`), a stopped one's store is opened
by this process, with the same application. Either way the caller is the principal "local" and may do everything:
only the owner of the data directory and root get here. Nothing of the web framework is imported before it is needed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from lockgate.model.problem import ProblemError
from lockgate.server import control_client
from lockgate.server.datadir import DataDirectory
from lockgate.server.web.in_process import exchange, problem_told

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lockgate.server.web.services import Services

PATIENCE = 120.0  # seconds for an answer of a running server: a what-if over a month takes some

Query = Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What REST said. body: a JSON value where the answer is JSON, else text; None for nothing."""

    status: int
    body: Any
    content_type: str = "application/json"


def call(
    directory: DataDirectory,
    method: str,
    path: str,
    *,
    query: Query | None = None,
    body: Any = None,
    actor: str = "",
    headers: Mapping[str, str] | None = None,
    alone: bool = True,
) -> Answer:
    """Calls REST for a command. path: percent-encoded where it has names in it.

    query: None values are left out. body: a JSON value, or bytes as they are. actor: who runs the command.
    alone: whether a stopped gateway is asked too; what a server alone can do need not open its store.
    Raises ProblemError for every answer above 399, with the problem that REST told.
    """
    request = request_of(method, path, query, body, actor or caller(), headers)
    try:
        found = control_client.call(directory, request, timeout=PATIENCE)
    except ProblemError as error:
        if error.problem.code != "server-not-running" or not alone:
            raise
        found = asyncio.run(_alone(directory, request))
    return answer_of(found)


def api_operation(app: ASGIApp) -> Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]:
    """The operation "api" for the table of a running server's local API."""

    async def api(request: Mapping[str, Any]) -> dict[str, Any]:
        return await _ask(app, request)

    return api


# -- one call ------------------------------------------------------------------------------------------


async def _ask(app: ASGIApp, request: Mapping[str, Any]) -> dict[str, Any]:
    """{"method", "path", "query", "actor", "headers", "body" or "raw"} → {"status", "content_type", "body" or "text"}."""
    from lockgate.server.web.peer import Peer
    from lockgate.server.web.principal import local_principal

    content = b""
    headers = {str(key).lower(): str(value) for key, value in dict(request.get("headers") or {}).items()}
    if "raw" in request:
        content = str(request["raw"]).encode("latin-1")
        headers.setdefault("content-type", "application/octet-stream")
    elif request.get("body") is not None:
        content = json.dumps(request["body"]).encode()
        headers["content-type"] = "application/json"
    answered = await exchange(
        app,
        str(request.get("method", "GET")).upper(),
        str(request.get("path", "")),
        str(request.get("query", "")),
        headers=headers,
        content=content,
        peer=Peer(listener="admin", address="local"),
        principal=local_principal(str(request.get("actor") or "local")),
    )
    kind = answered.headers.get("content-type", "")
    answer: dict[str, Any] = {"status": answered.status, "content_type": kind}
    if not answered.content:
        answer["body"] = None
    elif "json" in kind.partition(";")[0] and "jsonl" not in kind:
        answer["body"] = json.loads(answered.content)
    else:
        answer["text"] = answered.content.decode("utf-8", "surrogateescape")
    return answer


def request_of(
    method: str, path: str, query: Query | None, body: Any, actor: str, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the operation "api" takes; the arguments as those of `call`."""
    return {
        "op": "api",
        "method": method,
        "path": path,
        "query": _query(query),
        "actor": actor,
        "headers": dict(headers or {}),
        **_body(body),
    }


def answer_of(found: Mapping[str, Any]) -> Answer:
    """What the operation "api" gave. Raises ProblemError for every answer above 399."""
    status, kind = int(found.get("status", 500)), str(found.get("content_type", ""))
    body = found["text"] if "text" in found else found.get("body")
    if status < 400:
        return Answer(status, body, kind)
    raise ProblemError(problem_told(body))


def _body(body: Any) -> dict[str, Any]:
    return {"raw": body.decode("latin-1")} if isinstance(body, bytes) else {"body": body}


def _query(query: Query | None) -> str:
    pairs = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in (query or {}).items()
        if value is not None
    }
    return urlencode(pairs)


def caller() -> str:
    """Who runs this command: the account, and the one behind sudo."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid:{os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if behind and behind != name else name


# -- without a server ----------------------------------------------------------------------------------


async def _alone(directory: DataDirectory, request: Mapping[str, Any]) -> dict[str, Any]:
    from lockgate.server.web.app import make_app

    async with offline(directory) as services:
        return await _ask(make_app(services), request)


@asynccontextmanager
async def offline(directory: DataDirectory) -> AsyncIterator[Services]:
    """The services of a gateway that does not run: everything but the gateway itself and sign-in."""
    from lockgate.server.audit import Audit
    from lockgate.server.config.current import bring_up
    from lockgate.server.config.revision import Revision
    from lockgate.server.config.service import ConfigService
    from lockgate.server.config.tree import Configuration
    from lockgate.server.decisions import Decisions
    from lockgate.server.explanations import Explanations
    from lockgate.server.in_force import InForce
    from lockgate.server.names import Names
    from lockgate.server.sessions import Sessions
    from lockgate.server.store import open_store
    from lockgate.server.vault import open_vault
    from lockgate.server.web.accounts import local_directory
    from lockgate.server.web.services import Services
    from lockgate.server.web.sessions import WebSessions

    store = await open_store(directory)
    try:
        await bring_up(store, directory)
        vault, audit = open_vault(directory), Audit(store.audit)
        config = ConfigService(store, vault, audit)
        await config.load()
        in_force = InForce(config.tree, config.tree, config.number)

        async def resolved(_: object) -> None:
            return None

        names = Names(resolved)
        decisions = Decisions(store, in_force)
        directory_of = local_directory(store.users, in_force)
        sessions = Sessions(store, in_force, audit, decisions)

        async def follow(_: Configuration, revision: Revision) -> None:
            await in_force.adopt(revision.tree, revision.number)

        config.subscribe(follow)
        yield Services(
            directory=directory,
            store=store,
            vault=vault,
            audit=audit,
            config=config,
            in_force=in_force,
            sessions=sessions,
            web_sessions=WebSessions(store, in_force, audit),
            decisions=decisions,
            explanations=Explanations(store, in_force, decisions, directory_of, names.ask),
            addresses=names.ask,
        )
        await decisions.flush()
    finally:
        await store.close()
