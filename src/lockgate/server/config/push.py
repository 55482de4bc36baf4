"""Sends the configuration, or parts of it, to other servers: an import there, by their own REST interface.

Each server judges and commits what it gets as one revision, or refuses it and stays as it is. Its certificate is
verified before a byte of ours is sent; secrets travel under a passphrase of their own inside TLS.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server.config.findings import shown
from lockgate.server.config.registry import AREAS
from lockgate.server.config.sealing import Vault
from lockgate.server.config.service import ConfigService
from lockgate.server.config.tree import Configuration
from lockgate.server.other_server import Destination, NoAnswerError, Patience, ask

IMPORT_PATH = "/api/v1/config/import"
TIMEOUT = 60.0  # seconds for connecting, and for each answer
LONGEST = 300.0  # seconds for all of one push
MAX_ANSWER = 1 << 20  # bytes
AT_ONCE = 8  # servers that are pushed to side by side
MAX_TARGETS = 200

# What belongs to one server, to its own administrators, or would let the receiver push on.
LEFT_OUT = frozenset(
    {
        "gateway",
        "network",
        "esp",
        "limits",
        "metrics",
        "traces",
        "certificates",
        "admin_realms",
        "admin_roles",
        "push_targets",
        "user_records",
    }
)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one push. revision: the one that the server made; None when nothing changed there."""

    name: str
    revision: int | None = None
    problem: Problem | None = None

    def as_dict(self) -> dict[str, Any]:
        problem = None if self.problem is None else self.problem.as_dict()
        return {"target": self.name, "ok": problem is None, "revision": self.revision, "problem": problem}


def default_parts(tree: Configuration) -> list[str]:
    """Everything but what belongs to one server. The server id goes along, so that all may update the same clients."""
    keys = [key for key in AREAS if key not in LEFT_OUT and key != "cluster"]
    # An administrators' URL needs realms that only the receiver knows.
    policies = [
        f"sign_in_policies/{each.name}" for each in tree.sign_in_policies if each.user_type == "users"
    ]
    keys.remove("sign_in_policies")
    return ["cluster/server_id", "cluster/cluster_name", *keys, *policies]


def destinations(tree: Configuration, vault: Vault, names: Sequence[str]) -> list[Destination]:
    """The push targets of the configuration with these names. Raises ProblemError for one that is not there."""
    known = {target.name: target for target in tree.push_targets}
    found = []
    for name in dict.fromkeys(names):
        target = known.get(name)
        if target is None or not target.token:
            what = (
                f"There is no push target {shown(name)}."
                if target is None
                else f"{shown(name)} has no token."
            )
            raise ProblemError(
                Problem("no-such-target", what, "Look at push_targets: `lockgate config show push_targets`.")
            )
        found.append(
            Destination(target.name, target.url, Secret.of_text(vault.open(target.token)), target.ca)
        )
    return found


async def push(
    config: ConfigService,
    targets: Sequence[Destination],
    *,
    parts: Sequence[str] | None = None,
    reason: str = "",
) -> list[Pushed]:
    """Pushes the current revision to all targets; one result each, in their order. Raises ProblemError only for
    parts that are not there."""
    if len(targets) > MAX_TARGETS:
        raise ProblemError(
            Problem(
                "too-many-targets", f"At most {MAX_TARGETS} servers are pushed to at once.", "Name fewer."
            )
        )
    passphrase = secrets.token_urlsafe(32)
    document = await config.export(
        default_parts(config.tree) if parts is None else parts, Secret.of_text(passphrase)
    )
    request = {
        "document": document,
        "mode": "replace",
        "passphrase": passphrase,
        "commit": True,
        "reason": reason or f"pushed from {config.tree.gateway.hostname}, revision {config.number}",
    }
    body = await asyncio.to_thread(lambda: json.dumps(request).encode())
    # Threads of their own: servers that do not answer must not keep a commit here waiting.
    pool = ThreadPoolExecutor(AT_ONCE, "push")
    loop = asyncio.get_running_loop()

    async def one(target: Destination) -> Pushed:
        try:
            return await loop.run_in_executor(pool, copy_context().run, send, target, body)
        except ProblemError as error:
            return Pushed(target.name, problem=error.problem)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(target), name=f"push to {target.name}") for target in targets]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [task.result() for task in tasks]


def send(target: Destination, body: bytes) -> Pushed:
    """One import there; blocks. Raises ProblemError when the server did not take it."""
    try:
        status, content = ask(target, "POST", IMPORT_PATH, Patience(TIMEOUT, LONGEST, MAX_ANSWER), body)
    except NoAnswerError as error:
        raise _failed(target, error.why, error.fix) from None
    return _result(target, status, content)


def _result(target: Destination, status: int, content: bytes) -> Pushed:
    try:
        document = json.loads(content) if len(content) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _failed(target, f"its answer ({status}) is none of a Lockgate server", "Look at its address.")
    if 200 <= status < 300:
        number = document.get("revision")
        if isinstance(number, dict):
            number = number.get("number")
        return Pushed(target.name, revision=number if isinstance(number, int) else None)
    if document.get("code") == "nothing-changed":
        return Pushed(target.name)
    details = document.get("details")
    raise ProblemError(
        Problem(
            code=printable(str(document.get("code", "push-failed")), 64),
            summary=f"{target.name} refused it: {printable(str(document.get('summary', status)), 300)}",
            fix=printable(str(document.get("fix", "")), 300),
            details=tuple(printable(str(each), 300) for each in details[:50])
            if isinstance(details, list)
            else (),
        )
    )


def _failed(target: Destination, why: str, fix: str) -> ProblemError:
    return ProblemError(Problem("push-failed", f"Nothing was pushed to {target.name}: {why}.", fix))
