"""The configuration as a file, its way to other servers, and files for clients."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.bounds import read_json
from lockgate.server.config.registry import AREAS
from lockgate.server.web.console.ask import Ask, file
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import call, rest, segment
from lockgate.server.web.forms import labels
from lockgate.server.web.problems import status_of

UNNAMED = Problem(
    "no-file", "No file was chosen.", "Choose a file that was exported here or on another server."
)


def _parts(ask: Ask) -> list[tuple[str, str]]:
    """The parts of the tree that somebody may read: key and name."""
    keys = ask.services.config.data
    return [(key, labels.heading(key)) for key in keys if ask.principal.may(AREAS.get(key, "administrators"))]


async def show(ask: Ask, problem: Problem | None = None, status: int = 200) -> Response:
    """GET: the two forms."""
    return await ask.page(
        "transfer.html",
        "import-export",
        parts=_parts(ask),
        may_write=ask.principal.may("maintenance", "write"),
        problem=problem,
        status=status,
    )


async def export(ask: Ask) -> Response:
    """POST: the file."""
    sent = await ask.form()
    known = {key for key, _ in _parts(ask)}
    parts = [part for part in sent.get("parts", []) if part in known]
    passphrase = sent.get("passphrase", [""])[-1]
    body: dict[str, Any] = {}
    if parts and sent.get("what", ["all"])[-1] == "parts":
        body["parts"] = parts
    if passphrase:
        body["passphrase"] = passphrase
    try:
        document = await rest(ask, "POST", "config/export", body=body)
    except ProblemError as error:
        return await show(ask, error.problem, status_of(error.problem.code))
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return file(text.encode(), f"lockgate-revision-{document['revision']}.json", "application/json")


async def import_(ask: Ask) -> Response:
    """POST: the file becomes a draft, which is looked at before it counts."""
    content = await ask.file("document")
    if not content:
        return await show(ask, UNNAMED, 422)
    passphrase = await ask.text("passphrase")
    try:
        document = read_json(content, "file")
        body = {"document": document, "mode": await ask.text("mode", "replace")}
        if passphrase:
            body["passphrase"] = passphrase
        made = await rest(ask, "POST", "config/import", body=body)
    except ProblemError as error:
        return await show(ask, error.problem, status_of(error.problem.code))
    return ask.go(f"{BASE}changes?draft={segment(made['draft']['id'])}", "saved")


async def show_push(
    ask: Ask, results: Any = None, problem: Problem | None = None, status: int = 200
) -> Response:
    """GET: targets and parts."""
    return await ask.page(
        "push.html",
        "push",
        targets=ask.services.config.tree.push_targets,
        parts=_parts(ask),
        results=results,
        problem=problem,
        status=status,
        may_write=ask.principal.may("maintenance", "write"),
        revision=ask.services.config.number,
    )


async def push(ask: Ask) -> Response:
    """POST: sends the configuration in force."""
    sent = await ask.form()
    body: dict[str, Any] = {
        "targets": sent.get("targets", []),
        "reason": sent.get("reason", [""])[-1].strip()[:500],
    }
    if sent.get("what", ["all"])[-1] == "parts":
        body["parts"] = sent.get("parts", [])
    try:
        done = await rest(ask, "POST", "config/push", body=body)
    except ProblemError as error:
        return await show_push(ask, problem=error.problem, status=422)
    return await show_push(ask, results=done["results"])


async def show_installers(ask: Ask) -> Response:
    """GET: component sets and their files."""
    return await ask.page(
        "installers.html",
        "installers",
        sets=ask.services.config.tree.component_sets,
        hostname=ask.services.in_force.tree.gateway.hostname,
    )


async def installer(ask: Ask) -> Response:
    """POST: Download Installer Configuration."""
    name, server = await ask.text("set"), (await ask.text("server")).strip()
    answer = await call(ask, "GET", f"installer-configuration/{segment(name)}", query={"server": server})
    response = file(answer.content, "lockgate.pulsepreconfig", "text/plain")
    response.headers["Content-Disposition"] = answer.headers["content-disposition"]
    return response
