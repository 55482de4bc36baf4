"""Every configuration there was: list, one of them, comparison of two, and the way back."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from starlette.responses import Response

from lockgate.server.config.paths import parse_path
from lockgate.server.config.registry import area_of
from lockgate.server.web.console.ask import Ask, with_query
from lockgate.server.web.console.changes import MAX_SHOWN, name_of, shown, url_of
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import rest

PAGE_SIZE = 50
CHANGES_SIZE = 100  # changes on a page
LOOKED_THROUGH = 200  # revisions, for the history of one place
URL = BASE + "revisions"


async def show(ask: Ask) -> Response:
    """GET: revisions, newest first; with ?path= those that changed something there."""
    if path := ask.query("path"):
        return await _history(ask, path)
    before = ask.number("before", 1, 1 << 30, 0) or None
    found = await rest(ask, "GET", "config/revisions", query={"limit": PAGE_SIZE, "before": before})
    revisions = found["revisions"]
    following = revisions[-1]["number"] if revisions and revisions[-1]["number"] > 1 else None
    return await ask.page(
        "revisions.html",
        "revisions",
        revisions=revisions,
        current=found["current"],
        following=following if len(revisions) == PAGE_SIZE else None,
        path="",
    )


async def _history(ask: Ask, path: str) -> Response:
    """The revisions that changed what stands at a place. Whoever may see the place may see its history."""
    parts = parse_path(path)
    ask.principal.require(area_of(parts), "read")
    config = ask.services.config
    heads = await config.log(LOOKED_THROUGH)
    found = []
    for newer, older in pairwise(heads):
        compared = await config.compare(older.number, newer.number)
        changes = [each for each in compared if parse_path(each.path)[: len(parts)] == parts]
        if changes:
            found.append((newer, [shown(each.as_dict()) for each in changes[:MAX_SHOWN]]))
    return await ask.page(
        "history.html",
        "revisions" if ask.principal.may("maintenance") else "",
        title=f"History of {parts[-1] if parts else 'everything'}",
        trail=[("History", "")],
        path=path,
        where=name_of(path),
        back=url_of(path),
        found=found,
        oldest=heads[-1].number if len(heads) == LOOKED_THROUGH else None,
        may_see=ask.principal.may("maintenance"),
    )


async def show_one(ask: Ask) -> Response:
    """GET: one revision, compared with another: the one before it, or ?with=."""
    number = int(ask.request.path_params["number"])
    as_json = bool(ask.query("json"))
    head = await (rest(ask, "GET", f"config/revisions/{number}") if as_json else _head(ask, number))
    other = ask.number("with", 1, 1 << 30, max(1, number - 1))
    skip = ask.number("skip", 0, 1 << 30, 0)
    found: dict[str, Any] = {"changes": [], "total": 0}
    if other != number and not as_json:
        low, high = min(other, number), max(other, number)
        query = {"a": low, "b": high, "skip": skip, "limit": CHANGES_SIZE}
        found = await rest(ask, "GET", "config/compare", query=query)
    following = skip + CHANGES_SIZE
    return await ask.page(
        "revision.html",
        "revisions",
        title=f"Revision {number}",
        trail=[(f"Revision {number}", "")],
        head=head,
        other=other,
        current=ask.services.config.number,
        changes=[shown(each) for each in found["changes"]],
        total=found["total"],
        skip=skip,
        first=with_query(ask.request, skip="") if skip else "",
        following=with_query(ask.request, skip=str(following)) if following < found["total"] else "",
        text=json.dumps(head["data"], indent=2, ensure_ascii=False) if as_json else "",
        may_roll_back=ask.principal.may("maintenance", "write"),
    )


async def _head(ask: Ask, number: int) -> dict[str, Any]:
    """A revision without its content, which takes a while where it is large."""
    query = {"limit": 1, "before": number + 1}
    found: list[dict[str, Any]] = (await rest(ask, "GET", "config/revisions", query=query))["revisions"]
    if not found or found[0]["number"] != number:
        await rest(ask, "GET", f"config/revisions/{number}")  # says that there is none
    return found[0]


async def roll_back(ask: Ask) -> Response:
    """POST: makes a new revision that says what this one said."""
    number = int(ask.request.path_params["number"])
    reason = (await ask.text("reason")).strip()[:500]
    done = await rest(ask, "POST", f"config/revisions/{number}/rollback", body={"reason": reason})
    return ask.go(f"{URL}/{done['number']}", "committed")
