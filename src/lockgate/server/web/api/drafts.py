"""Drafts: what is being worked on, before it is committed.

Whoever may write somewhere may have drafts; each edit needs the right to write where it edits, and a commit
everywhere where it changes something.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from lockgate.server.config.changes import areas, diff, mask
from lockgate.server.config.drafts import Draft
from lockgate.server.config.edits import parse_edit
from lockgate.server.config.merge import Prefer
from lockgate.server.config.paths import parse_path
from lockgate.server.config.registry import area_of
from lockgate.server.web.api.configuration import Committed, Edits, Number, committed
from lockgate.server.web.api.models import ChangeTold, FindingTold, Given, Reason, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights, takes
from lockgate.server.web.api.visible import (
    visible,
    visible_changes,
    visible_conflicts,
    visible_findings,
)
from lockgate.server.web.body import DOCUMENT_LIMIT
from lockgate.server.web.principal import Principal, needs_any

router = make_router("drafts")

Id = Annotated[str, Path(max_length=64)]
Version = Annotated[int, Field(ge=1, lt=1 << 31)]
READ, WRITE = [rights(needs_any())], [rights(needs_any("write"))]


class DraftHead(Told):
    """A draft without its content. Times are seconds since 1970."""

    id: str
    author: str
    base: int
    version: int
    created: float
    changed: float


class DraftTold(DraftHead):
    """A draft, as far as the caller may see it."""

    data: dict[str, Any]


class DraftList(Told):
    drafts: list[DraftHead]


class NewDraft(Given):
    """base: the revision to begin with; without it the one in force."""

    base: Number | None = None


class EditDraft(Edits):
    """version: of the draft that was looked at; another one is refused."""

    version: Version


class ReplaceDraft(Given):
    """The whole tree anew. A secret of "(secret)" stays what it is."""

    version: Version
    data: dict[str, Any]


class CommitDraft(Given):
    version: Version
    reason: Reason = ""


class Rebase(Given):
    """prefer: whose value counts where both changed the same; "neither" refuses then."""

    version: Version
    prefer: Prefer = "neither"


class Judged(Told):
    """valid: it could be committed. Findings about settings that the caller may not see are left out."""

    valid: bool
    findings: list[FindingTold]


class ConflictTold(Told):
    path: str
    mine: ChangeTold
    theirs: ChangeTold


class Difference(Told):
    """What a draft changes against its base, and what others changed there since.

    current: the revision in force. areas: those in which something changes. total: changes in all, also those that
    were not asked for.
    """

    base: int
    current: int
    areas: list[str]
    changes: list[ChangeTold]
    total: int
    conflicts: list[ConflictTold]


def _head(draft: Draft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "author": draft.author,
        "base": draft.base,
        "version": draft.version,
        "created": draft.created,
        "changed": draft.changed,
    }


def told(draft: Draft, who: Principal) -> DraftTold:
    return DraftTold(**_head(draft), data=visible(draft.data, who))


@router.get("/config/drafts", dependencies=READ)
async def list_drafts(services: Of) -> DraftList:
    """All drafts, those changed last first."""
    return DraftList(drafts=[DraftHead(**_head(each)) for each in await services.config.drafts()])


@router.post("/config/drafts", dependencies=WRITE, status_code=201)
async def create(who: Who, services: Of, given: NewDraft) -> DraftTold:
    """Begins a draft."""
    draft = await services.config.create_draft(who.actor, given.base, source=who.source)
    return told(draft, who)


@router.get("/config/drafts/{draft}", dependencies=READ)
async def show(who: Who, services: Of, draft: Id) -> DraftTold:
    """A draft with its content."""
    return told(await services.config.draft(draft), who)


@router.delete("/config/drafts/{draft}", dependencies=WRITE, status_code=204)
async def discard(who: Who, services: Of, draft: Id) -> None:
    """Throws a draft away; one of somebody else only with the right to write maintenance."""
    found = await services.config.draft(draft)
    if found.author != who.actor:
        who.require("maintenance", "write")
    await services.config.discard(draft, author=who.actor, source=who.source)


@router.post("/config/drafts/{draft}/edits", dependencies=WRITE)
@takes(DOCUMENT_LIMIT)
async def edit(who: Who, services: Of, draft: Id, given: EditDraft) -> DraftTold:
    """Edits a draft; all edits or none."""
    edits = [parse_edit(each) for each in given.edits]
    who.require_all({area_of(parse_path(each.path)) for each in edits})
    return told(await services.config.edit(draft, given.version, edits), who)


@router.put("/config/drafts/{draft}", dependencies=WRITE)
@takes(DOCUMENT_LIMIT)
async def replace(who: Who, services: Of, draft: Id, given: ReplaceDraft) -> DraftTold:
    """Gives a draft another content."""
    before = await services.config.draft(draft)
    who.require_all(await asyncio.to_thread(lambda: areas(diff(mask(before.data), given.data))))
    return told(await services.config.replace(draft, given.version, given.data), who)


@router.get("/config/drafts/{draft}/validate", dependencies=READ)
async def validate(who: Who, services: Of, draft: Id) -> Judged:
    """Everything that is wrong or odd about a draft."""
    checked = await services.config.validate(draft)
    findings = [FindingTold(**each) for each in visible_findings(checked.findings, who)]
    return Judged(valid=checked.configuration is not None, findings=findings)


@router.get("/config/drafts/{draft}/diff", dependencies=READ)
async def difference(
    who: Who,
    services: Of,
    draft: Id,
    skip: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
) -> Difference:
    """What a draft changes.

    In the order of the tree; all of it unless `limit` is given.
    """
    found = await services.config.draft(draft)
    changes = await services.config.draft_changes(draft)
    conflicts = await services.config.conflicts(draft)
    shown = visible_changes(changes, who)
    end = None if limit is None else skip + limit
    return Difference(
        base=found.base,
        current=services.config.number,
        areas=sorted(areas(changes)),
        changes=[ChangeTold(**each.as_dict()) for each in shown[skip:end]],
        total=len(shown),
        conflicts=[ConflictTold(**each) for each in visible_conflicts(conflicts, who)],
    )


@router.post("/config/drafts/{draft}/rebase", dependencies=WRITE)
async def rebase(who: Who, services: Of, draft: Id, given: Rebase) -> DraftTold:
    """Makes a draft's changes to the revision in force instead of an older one."""
    return told(await services.config.rebase(draft, given.version, given.prefer), who)


@router.post("/config/drafts/{draft}/commit", dependencies=WRITE)
async def commit(who: Who, services: Of, draft: Id, given: CommitDraft) -> Committed:
    """Makes a draft the configuration in force."""
    revision = await services.config.commit(
        draft, given.version, who.actor, given.reason, source=who.source, permit=who.require_all
    )
    return committed(revision, who)
