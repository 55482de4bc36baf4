"""The configuration in force, its schema, and changes in one step."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from lockgate.server.config.edits import MAX_EDITS, parse_edit
from lockgate.server.config.registry import PAGES
from lockgate.server.config.revision import Revision
from lockgate.server.config.tree import Configuration
from lockgate.server.web.api.models import FindingTold, Given, Reason, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights, takes
from lockgate.server.web.api.visible import visible_at, visible_findings
from lockgate.server.web.body import DOCUMENT_LIMIT
from lockgate.server.web.principal import Principal, needs_any

router = make_router("configuration")

Path = Annotated[str, Query(max_length=1000, description="Such as roles/Staff/session; empty is everything.")]
Number = Annotated[int, Field(ge=0, lt=1 << 31)]


class Value(Told):
    """A part of the configuration, as far as the caller may see it."""

    revision: int
    path: str
    value: Any


class PageTold(Told):
    """A page of settings: its place in the menus, and in the tree."""

    id: str
    menu: list[str]
    path: str
    kind: str
    title: str
    help: str
    area: str


class Schema(Told):
    """The shape of the configuration as JSON Schema, with a hint wherever a setting has one."""

    # "schema" would hide a method of the model.
    tree: dict[str, Any]
    pages: list[PageTold]


class Edits(Given):
    """Changes in order, all or none: {"op": "set" | "remove" | "insert" | "move" | "rename", "path": …}."""

    edits: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_EDITS)]


class Apply(Edits):
    """Changes to commit at once. base: the revision that the author looked at; another one is a conflict."""

    reason: Reason = ""
    base: Number | None = None


class Committed(Told):
    """A revision that has just been made."""

    number: int
    time: float
    author: str
    reason: str
    base: int | None
    warnings: list[FindingTold]


def committed(revision: Revision, principal: Principal) -> Committed:
    return Committed(
        **revision.as_dict(),
        warnings=[FindingTold(**each) for each in visible_findings(revision.warnings, principal)],
    )


@router.get("/config", dependencies=[rights(needs_any())])
async def show(
    who: Who,
    services: Of,
    path: Path = "",
    revision: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
) -> Value:
    """The configuration, or what stands at a path of it."""
    number = services.config.number if revision is None else revision
    data = (
        services.config.data
        if number == services.config.number
        else (await services.config.revision(number)).data
    )
    return Value(revision=number, path=path, value=visible_at(data, path, who))


@router.get("/config/schema", dependencies=[rights(needs_any())])
async def schema() -> Schema:
    """What settings there are."""
    return _schema()


@functools.cache
def _schema() -> Schema:
    pages = [
        PageTold(
            id=page.id,
            menu=list(page.menu),
            path=page.path,
            kind=page.kind,
            title=page.title,
            help=page.help,
            area=page.area,
        )
        for page in PAGES
    ]
    return Schema(tree=Configuration.model_json_schema(), pages=pages)


@router.post("/config/apply", dependencies=[rights(needs_any("write"))])
@takes(DOCUMENT_LIMIT)
async def apply(who: Who, services: Of, given: Apply) -> Committed:
    """Edits the configuration in force and commits that in one step."""
    edits = [parse_edit(each) for each in given.edits]
    revision = await services.config.apply(
        who.actor, given.reason, edits, given.base, source=who.source, permit=who.require_all
    )
    return committed(revision, who)
