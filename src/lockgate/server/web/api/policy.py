"""Why somebody may do something, and what a draft would change for whom."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.checks import Checked
from lockgate.server.config.tree import Configuration
from lockgate.server.web.api.configuration import Number
from lockgate.server.web.api.models import Given, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.api.visible import require_whole_tree
from lockgate.server.web.principal import needs
from lockgate.server.web.services import Services

router = make_router("policy")

DAY = 86400
Text = Annotated[str, Query(max_length=256)]


class ReasonTold(Told):
    """One step of an explanation. path: where in the configuration; ok: whether it spoke for the person."""

    text: str
    path: str
    ok: bool | None


class Explained(Told):
    question: str
    allow: bool
    revision: int
    reasons: list[ReasonTold]


class Recorded(Told):
    """A decision as it was made. kind: "sign-in", "resume", "re-evaluation", "attempt" (nobody had shown who
    they are: user and device are what somebody claimed), "refusal", "end" of a session or "question".

    allow, revision, reasons: then. device: host name and user agent. kept_until: seconds since 1970.
    again: query of GET /explain that asks the same of now; null where nothing can be asked.
    """

    code: str
    time: float
    kind: str
    user: str
    server: str
    realm: str
    source: str
    device: str
    user_agent: str
    session: str | None
    revision: int
    allow: bool
    roles: list[str]
    reasons: list[ReasonTold]
    kept_until: float
    again: dict[str, str] | None


class WhatIf(Given):
    """Either a draft or a revision; seconds: how far back decisions are made again."""

    draft: Annotated[str, Field(max_length=64)] | None = None
    revision: Number | None = None
    seconds: Annotated[int, Field(ge=60, le=3650 * DAY)] = 7 * DAY


@router.get("/explain", dependencies=[rights(needs("logs"))])
async def explain(
    services: Of,
    user: Annotated[str, Query(min_length=1, max_length=256)],
    server: Text = "",
    source: Text = "",
    device: Text = "",
    target: Text = "",
    port: Annotated[int | None, Query(ge=0, le=65535)] = None,
    protocol: Annotated[str, Query(max_length=16)] = "tcp",
) -> Explained:
    """Whether a user may sign in and reach a target, and why: realm, rules, roles, policy, verdict.

    target: address, DNS name or name of a bookmark; without one it is about signing in alone.
    """
    found = await services.explanations.explain(
        user,
        server=server or None,
        source=source or None,
        device=device or None,
        target=target or None,
        port=port,
        protocol=protocol,
    )
    return Explained(
        question=found.question,
        allow=found.allow,
        revision=found.revision,
        reasons=[ReasonTold(**each.as_dict()) for each in found.reasons],
    )


@router.get("/decisions/{code}", dependencies=[rights(needs("logs"))])
async def decision(services: Of, code: Annotated[str, Path(max_length=64)]) -> Recorded:
    """The recorded decision that a person got this support code with: who, from where, why, under which revision.

    Case, hyphens and letters that look alike do not matter.
    """
    found = await services.decisions.find(code)
    tree = services.in_force.tree
    return Recorded(
        code=found.code or "",
        time=found.time,
        kind=found.kind,
        user=found.user,
        server=found.server,
        realm=found.realm,
        source=str(found.facts.get("source", "")),
        device=str(found.facts.get("host_name", "")),
        user_agent=str(found.facts.get("user_agent", "")),
        session=None if found.session is None else str(found.session),
        revision=found.revision,
        allow=found.allow,
        roles=list(found.roles),
        reasons=[ReasonTold(**each) for each in found.reasons],
        kept_until=found.time + tree.log.decisions_days * DAY,
        again=services.decisions.again(found),
    )


@router.post("/what-if", dependencies=[rights(needs("logs"))])
async def what_if(who: Who, services: Of, given: WhatIf) -> dict[str, Any]:
    """Makes recorded decisions again under a draft or a revision: who would gain and lose what."""
    require_whole_tree(who, "read")
    tree = await tree_of(services, given.draft, given.revision)
    report = await services.explanations.what_if(tree, services.clock() - given.seconds)
    return report.as_dict()


async def tree_of(services: Services, draft: str | None, revision: int | None) -> Configuration:
    """The tree of one of the two. Raises ProblemError for both, neither, or a draft that is not valid."""
    if (draft is None) == (revision is None):
        raise ProblemError(
            Problem("bad-request", "This is about a draft or about a revision.", "Name one of them.")
        )
    if draft is not None:
        checked: Checked = await services.config.validate(draft)
        return checked.require()
    assert revision is not None
    return (await services.config.revision(revision)).tree
