"""Revisions: what was committed when, by whom and why; what differs; and the way back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from lockgate.server.web.api.configuration import Committed, committed
from lockgate.server.web.api.models import ChangeTold, Given, Reason, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.api.visible import visible, visible_changes
from lockgate.server.web.principal import needs

router = make_router("revisions")

READ = [rights(needs("maintenance"))]
Which = Annotated[int, Path(ge=1, lt=1 << 31)]
WhichQuery = Annotated[int, Query(ge=1, lt=1 << 31)]


class RevisionHead(Told):
    """A revision without its content. base: the revision it was made from."""

    number: int
    time: float
    author: str
    reason: str
    base: int | None


class RevisionTold(RevisionHead):
    """A revision, as far as the caller may see it."""

    data: dict[str, Any]


class RevisionList(Told):
    """current: the revision in force."""

    current: int
    revisions: list[RevisionHead]


class Comparison(Told):
    """total: changes in all, also those that were not asked for."""

    a: int
    b: int
    changes: list[ChangeTold]
    total: int


class Rollback(Given):
    reason: Reason = ""


@router.get("/config/revisions", dependencies=READ)
async def log(
    services: Of,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
) -> RevisionList:
    """Revisions, newest first."""
    found = await services.config.log(limit, before)
    return RevisionList(
        current=services.config.number, revisions=[RevisionHead(**each.as_dict()) for each in found]
    )


@router.get("/config/revisions/{number}", dependencies=READ)
async def show(who: Who, services: Of, number: Which) -> RevisionTold:
    """A revision with its content."""
    found = await services.config.revision(number)
    return RevisionTold(**found.as_dict(), data=visible(found.data, who))


@router.get("/config/compare", dependencies=READ)
async def compare(
    who: Who,
    services: Of,
    a: WhichQuery,
    b: WhichQuery,
    skip: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
) -> Comparison:
    """What changed from revision a to revision b.

    In the order of the tree; all of it unless `limit` is given.
    """
    found = visible_changes(await services.config.compare(a, b), who)
    end = None if limit is None else skip + limit
    return Comparison(
        a=a, b=b, changes=[ChangeTold(**each.as_dict()) for each in found[skip:end]], total=len(found)
    )


@router.post("/config/revisions/{number}/rollback", dependencies=[rights(needs("maintenance", "write"))])
async def rollback(who: Who, services: Of, number: Which, given: Rollback) -> Committed:
    """Commits what an older revision said."""
    revision = await services.config.rollback(
        number, who.actor, given.reason, source=who.source, permit=who.require_all
    )
    return committed(revision, who)
