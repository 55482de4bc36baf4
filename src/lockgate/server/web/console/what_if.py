"""What-if: recorded decisions made again under a draft or a revision; who would gain and lose what."""

from __future__ import annotations

from starlette.responses import Response

from lockgate.model.problem import ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.rest import rest
from lockgate.server.web.problems import status_of

DAYS = (1, 7, 30)


async def show(ask: Ask) -> Response:
    """GET: the question, and its answer once a draft or revision is named."""
    drafts = (await rest(ask, "GET", "config/drafts"))["drafts"]
    revisions = [each.as_dict() for each in await ask.services.config.log(20)]
    chosen = ask.query("of")
    days = ask.number("days", 1, 365, 7)
    found, problem, status = None, None, 200
    kind, _, which = chosen.partition(":")
    if which:
        body: dict[str, object] = {"seconds": days * 86400}
        if kind == "revision" and which.isdecimal() and len(which) < 10:
            body["revision"] = int(which)
        else:
            body["draft"] = which
        try:
            found = await rest(ask, "POST", "what-if", body=body)
        except ProblemError as error:
            problem, status = error.problem, status_of(error.problem.code)
    elif drafts:
        mine = [each for each in drafts if each["author"] == ask.principal.actor]
        chosen = f"draft:{(mine or drafts)[0]['id']}"
    return await ask.page(
        "what_if.html",
        "what-if",
        drafts=drafts,
        revisions=revisions,
        current=ask.services.config.number,
        chosen=chosen,
        days=days,
        choices=DAYS,
        found=found,
        problem=problem,
        status=status,
    )
