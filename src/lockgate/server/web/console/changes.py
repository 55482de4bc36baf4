"""The page of a draft: what it changes, what is wrong with it, what others changed meanwhile; commit and discard."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config import registry
from lockgate.server.config.paths import parse_path
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.menu import BASE, settings_url
from lockgate.server.web.console.rest import rest, segment
from lockgate.server.web.forms import labels

MAX_SHOWN = 500  # changes on one page
URL = BASE + "changes"


@dataclass(frozen=True, slots=True)
class Shown:
    """One difference, ready to be read."""

    where: str
    url: str
    kind: str
    before: str
    after: str


def shown(change: dict[str, Any]) -> Shown:
    """A change as REST tells it."""
    path, kind = str(change["path"]), str(change["kind"])
    before, after = _text(change["before"]), _text(change["after"])
    if kind == "moved":
        before, after = f"place {before}", f"place {after}"
    return Shown(
        path, url_of(path), kind, "" if kind == "added" else before, "" if kind == "removed" else after
    )


def url_of(path: str) -> str:
    """The page of settings where something stands; "" when there is none."""
    try:
        parts = parse_path(path)
    except ProblemError:
        return ""
    page = registry.page_of(parts)
    if page is None:
        return ""
    below = parts[page.path.count("/") + 1 :]
    if page.kind == "section":
        return settings_url(page.id)
    at, part = below[:1], ""
    if len(below) > 1 and page.parts:
        inside = "/".join(below[1:])
        fits = [
            each
            for each in page.parts
            for p in each.paths
            if p and (inside == p or inside.startswith(p + "/") or p.startswith(inside + "/"))
        ]
        part = fits[0].id if fits else ""
    if len(below) >= 3 and below[1] in ("rules", "connections"):
        return settings_url(page.id, "/".join(below[:3]))
    return settings_url(page.id, "/".join(at), part=part)


def name_of(path: str) -> str:
    """A path in words: "roles › Staff › Session options › Idle time-out"."""
    parts = path.split("/")
    return " › ".join(labels.heading(part) if part.replace("_", "").islower() else part for part in parts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    return json.dumps(value, indent=2, ensure_ascii=False)


async def show(ask: Ask) -> Response:
    """GET: a draft; without ?draft= the administrator's own."""
    chosen = ask.query("draft")
    if not chosen:
        mine = await ask.console.working.draft(ask.principal)
        chosen = mine.id if mine is not None else ""
    return await _page(ask, chosen)


async def _page(
    ask: Ask, id: str, *, problem: Problem | None = None, reason: str = "", status: int = 200
) -> Response:
    drafts = (await rest(ask, "GET", "config/drafts"))["drafts"]
    head = next((each for each in drafts if each["id"] == id), None)
    others = [each for each in drafts if each["id"] != id]
    if head is None:
        return await ask.page(
            "changes.html",
            "",
            title="Pending changes",
            draft=None,
            others=others,
            problem=problem,
            status=status,
        )
    found = await rest(ask, "GET", f"config/drafts/{segment(id)}/diff", query={"limit": MAX_SHOWN})
    judged = await rest(ask, "GET", f"config/drafts/{segment(id)}/validate")
    # In a thread: objects that are new are shown as a whole, hundreds of them.
    changes = await asyncio.to_thread(lambda: [shown(each) for each in found["changes"]])
    findings = [{**each, "url": url_of(each["path"])} for each in judged["findings"]]
    return await ask.page(
        "changes.html",
        "",
        title="Pending changes",
        draft=head,
        mine=head["author"] == ask.principal.actor,
        others=others,
        changes=changes,
        total=found["total"],
        errors=[each for each in findings if not each["warning"]],
        warnings=[each for each in findings if each["warning"]],
        conflicts=[
            {"path": each["path"], "mine": shown(each["mine"]), "theirs": shown(each["theirs"])}
            for each in found["conflicts"]
        ],
        outdated=found["base"] != found["current"],
        current=found["current"],
        reason=reason,
        problem=problem,
        status=status,
        may_commit=ask.principal.may_anywhere("write"),
    )


async def act(ask: Ask) -> Response:
    """POST: commit, rebase or discard."""
    sent = await ask.form()
    draft, version = sent.get("draft", [""])[-1], sent.get("version", [""])[-1]
    action, reason = sent.get("action", [""])[-1], sent.get("reason", [""])[-1].strip()[:500]
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 1
    path = f"config/drafts/{segment(draft)}"
    try:
        match action:
            case "discard":
                await rest(ask, "DELETE", path)
                return ask.go(URL, "discarded")
            case "rebase" | "rebase-mine" | "rebase-theirs":
                prefer = {"rebase": "neither", "rebase-mine": "mine", "rebase-theirs": "theirs"}[action]
                await rest(ask, "POST", path + "/rebase", body={"version": number, "prefer": prefer})
                return ask.go(f"{URL}?draft={segment(draft)}", "rebased")
            case _:
                done = await rest(ask, "POST", path + "/commit", body={"version": number, "reason": reason})
                return ask.go(f"{BASE}revisions/{done['number']}", "committed")
    except ProblemError as error:
        if error.problem.code in ("no-such-draft", "not-allowed"):
            raise
        status = 422 if error.problem.code in ("config-invalid", "nothing-changed") else 409
        return await _page(ask, draft, problem=error.problem, reason=reason, status=status)
