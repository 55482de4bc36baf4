"""Pages of settings: a list of objects, the form of an object or section, and what the buttons on them do.

Everything goes to the administrator's draft. A form that is wrong is shown again with what is wrong, and nothing
of it is saved; what is wrong elsewhere because of it is said on the page of changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config import paths
from lockgate.server.config.changes import mask_at
from lockgate.server.config.edits import Edit, Insert, Move, Remove, Rename, SetValue
from lockgate.server.config.paths import Data, format_path
from lockgate.server.config.registry import Part
from lockgate.server.config.schema import Names, Node
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.lists import noun, table
from lockgate.server.web.console.menu import BASE, settings_url
from lockgate.server.web.console.spots import NOT_FOUND, Spot, form_fields, list_url, spot, tabs, trail
from lockgate.server.web.console.working import names_in
from lockgate.server.web.forms import labels
from lockgate.server.web.forms.fields import Field
from lockgate.server.web.forms.filling import Errors, Filled, Filling, place_errors
from lockgate.server.web.forms.reading import read, rearrange

SEEN = Problem(
    "changed-meanwhile",
    "These settings were changed in another window since you opened them.",
    "Both are shown below. Save again to put yours in place of the other, or leave the page to keep it.",
)


async def show(ask: Ask) -> Response:
    """GET: a list or a form."""
    data = await ask.console.working.data(ask.principal)
    here = spot(ask, data)
    if here.node.kind == "collection":
        return await _list(ask, data, here)
    return await _form(ask, data, here, here.value)


# -- lists -----------------------------------------------------------------------------------------


async def _list(ask: Ask, data: Data, here: Spot) -> Response:
    return await ask.page(
        "list.html",
        here.page.id,
        title=here.page.title if not here.at else labels.heading(here.at[-1]),
        trail=trail(here),
        here_spot=here,
        table=table(ask, here.node, here.value, here.path),
        tools=_tools(here, here.value),
        lead=here.page.help if not here.at else _help(here.node),
    )


# -- forms -----------------------------------------------------------------------------------------


async def _form(
    ask: Ask,
    data: Data,
    here: Spot,
    value: Any,
    *,
    errors: Errors | None = None,
    elsewhere: Sequence[Any] = (),
    problem: Problem | None = None,
    theirs: Any = None,
    focus: str = "",
    status: int = 200,
) -> Response:
    fields = form_fields(here)
    filling = Filling(lambda collection: names_in(data, collection), errors or {})
    filled = filling.fill(fields, value)
    collections = [] if here.new else list(_collections(here, fields))
    title = "New " + noun(here.node) if here.new else here.at[-1] if here.is_object else here.page.title
    return await ask.page(
        "form.html",
        here.page.id,
        status=status,
        title=title,
        trail=trail(here),
        here_spot=here,
        tabs=tabs(here.page),
        filled=_unwrapped(filled, here.part),
        tables=[
            (
                each,
                prefix,
                table(ask, each.node, paths.get(data, (*here.path, *prefix)), (*here.path, *prefix)),
            )
            for each, prefix in collections
        ],
        open=ask.principal.may(here.page.area, "write"),
        seen=_digest(here.value),
        problem=problem,
        problems=_summary(filled) if errors else [],
        elsewhere=elsewhere,
        theirs=theirs,
        focus=focus,
        lead=here.page.help if not here.is_object else (here.model.__doc__ or "").partition("\n\n")[0],
        tools=None if here.new else _tools(here, here.value),
    )


def _unwrapped(filled: tuple[Filled, ...], part: Part | None) -> tuple[Filled, ...]:
    """A page that is one section shows its fields without a frame around them."""
    while part is not None and len(filled) == 1 and filled[0].field.kind == "section":
        filled = filled[0].parts
    return filled


def _collections(here: Spot, fields: Sequence[Field], prefix: Names = ()) -> Any:
    for each in fields:
        if each.kind == "collection":
            yield each, (*prefix, each.key)
        elif each.kind == "section":
            yield from _collections(here, each.fields, (*prefix, each.key))


def _digest(value: Any) -> str:
    """Tells whether settings are still those that a form was made from. Secrets are sealed in there."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _summary(filled: Sequence[Filled]) -> list[tuple[str, str, str]]:
    """Every error of a form: id of the control, its label, what is wrong."""
    found: list[tuple[str, str, str]] = []
    for each in filled:
        found += [(each.id, each.field.label, text) for text in each.errors]
        found += _summary(each.parts)
        for row in each.rows:
            found += _summary(row)
    return found


async def save(ask: Ask) -> Response:
    """POST: the form's buttons."""
    data = await ask.console.working.data(ask.principal)
    here = spot(ask, data)
    if here.node.kind == "collection":
        raise ProblemError(NOT_FOUND)
    ask.principal.require(here.page.area, "write")
    sent = await ask.form()
    fields = form_fields(here)
    value = read(fields, sent, here.value)
    if do := sent.get("do", [""])[-1]:
        value, focus = rearrange(fields, value, sent, do)
        return await _form(ask, data, here, value, focus=_control(do, focus))
    seen = sent.get("seen", [""])[-1]
    if not here.new and seen and seen != _digest(here.value):
        current = mask_at(here.path, here.value)
        return await _form(
            ask,
            data,
            here,
            value,
            problem=SEEN,
            theirs=json.dumps(current, indent=2, ensure_ascii=False),
            status=409,
        )
    return await _save(ask, data, here, fields, value)


async def _save(
    ask: Ask, data: Data, here: Spot, fields: tuple[Field, ...], value: dict[str, Any]
) -> Response:
    keys = [each.key for each in fields]
    name = str(value.get("name", ""))
    edits: list[Edit] = []
    path = here.path
    if here.new:
        path = (*here.path, name)
        made = {key: each for key, each in value.items() if key not in ("guid", "version") or each}
        edits = [Insert(format_path(path), made)]
    else:
        if here.is_object and name != here.at[-1]:
            edits.append(Rename(format_path(path), name))
            path = (*path[:-1], name)
        edits += [
            SetValue(format_path((*path, key)), value[key])
            for key in keys
            if key != "name" and value.get(key) != here.value.get(key)
        ]
    if not edits:
        return ask.go(here.url(), "unchanged")
    try:
        _, checked = await ask.console.working.judge(data, edits)
    except ProblemError as error:
        wrong = f"{error.problem.summary} {error.problem.fix}"
        return await _form(ask, data, here, value, errors={("name",): [wrong]}, status=422)
    errors, elsewhere = place_errors(checked.findings, path, keys)
    if errors:
        serious = [each for each in elsewhere if not each.warning]
        return await _form(ask, data, here, value, errors=errors, elsewhere=serious, status=422)
    await ask.console.working.edit(ask.principal, edits)
    moved = replace(here, at=path[here.page.path.count("/") + 1 :], new=False)
    return ask.go(moved.url(), "added" if here.new else "saved")


async def remove(ask: Ask) -> Response:
    """POST: takes an object out of its collection."""
    data = await ask.console.working.data(ask.principal)
    here = _object(ask, data)
    await ask.console.working.edit(ask.principal, [Remove(format_path(here.path))])
    return ask.go(list_url(here), "removed")


async def move(ask: Ask) -> Response:
    """POST: gives an object another place in its collection."""
    data = await ask.console.working.data(ask.principal)
    here = _object(ask, data)
    siblings = [str(each.get("name")) for each in paths.get(data, here.path[:-1])]
    at = siblings.index(here.at[-1])
    rest = [each for each in siblings if each != here.at[-1]]
    match await ask.text("to"):
        case "up":
            to = max(0, at - 1)
        case "down":
            to = at + 1
        case "top":
            to = 0
        case _:
            to = len(rest)
    before = rest[to] if to < len(rest) else None
    await ask.console.working.edit(ask.principal, [Move(format_path(here.path), before)])
    return ask.go(list_url(here, q=ask.query("q")), "moved")


async def show_json(ask: Ask) -> Response:
    """GET: what the page shows, as JSON."""
    data = await ask.console.working.data(ask.principal)
    here = spot(ask, data)
    text = json.dumps(mask_at(here.path, here.value), indent=2, ensure_ascii=False)
    way = (*trail(here), ("JSON", ""))
    return await ask.page("json.html", here.page.id, title="JSON", trail=way, text=text, here_spot=here)


def _object(ask: Ask, data: Data) -> Spot:
    here = spot(ask, data)
    if not here.is_object or here.new:
        raise ProblemError(NOT_FOUND)
    ask.principal.require(here.page.area, "write")
    return here


def _control(do: str, focus: str) -> str:
    """The id of the control that the eye should be on after a button."""
    action, _, name = do.partition(":")
    base = "f-" + name.replace(".", "-").replace("_", "-")
    match action:
        case "select" | "unselect" | "raise" | "lower":
            return f"{base}-{action}"
        case "kind":
            return f"{base}-kind"
        case "add":
            return "f-" + focus.replace(".", "-").replace("_", "-")
        case _:
            return "f-" + focus.replace(".", "-").replace("_", "-") + "-add"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every page of settings offers: the same as JSON, as a command, and its history."""

    json_url: str
    command: str
    history_url: str


def _tools(here: Spot, value: Any) -> Tools:
    path = format_path(here.path)
    quoted = "'" + path.replace("'", "'\\''") + "'"
    return Tools(
        json_url=settings_url(here.page.id + "/json", here.below),
        command=f"lockgate config edit {quoted} --dir DIR",
        history_url=f"{BASE}revisions?{urlencode({'path': path})}",
    )


def _help(node: Node) -> str:
    return (node.field.description or "") if node.field is not None else ""
