"""The page "May I reach …?" for somebody who is signed in, answered in words for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lockgate.model.problem import ProblemError
from lockgate.policy.access import PROTOCOLS
from lockgate.server.own_questions import MAX_TYPED, Answer, OwnQuestions
from lockgate.server.web.portal.pages import Pages, Shell, denied
from lockgate.server.web.portal.requests import client_of, read_form
from lockgate.server.web.problems import status_of
from lockgate.server.web.sessions import LiveWebSession


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the form holds."""

    target: str = ""
    port: str = ""
    protocol: str = "tcp"


class ReachPages:
    """As `HomePages`: each method gets the live session of the request."""

    def __init__(self, pages: Pages, shell: Shell, questions: OwnQuestions) -> None:
        self._pages, self._shell, self._questions = pages, shell, questions

    async def show(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """The form."""
        return self._form(await self._shell(live.record, home), _Asked())

    async def ask(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """The answer, above the form."""
        form, record = await read_form(request), live.record
        if form is None or record.facts is None:
            return denied(400, "form-not-ours")
        asked = _Asked(
            form.get("target", "")[: MAX_TYPED + 1],
            form.get("port", "")[:6],
            form.get("protocol", "")[:8],
        )
        client = client_of(request)
        # A server may have got another name since the sign-in; the record followed it.
        known = replace(
            record.facts, server=record.server, source=client.source, user_agent=client.user_agent
        )
        shell = await self._shell(record, home)
        own = [bookmark for _, bookmark in shell["own_bookmarks"]]
        try:
            answer = await self._questions.ask(
                known, live.roles, asked.target, asked.port, asked.protocol, own
            )
        except ProblemError as error:
            problem = error.problem
            status = 422 if problem.code == "bad-question" else status_of(problem.code)
            return self._form(shell, asked, error=f"{problem.summary} {problem.fix}", status=status)
        return self._form(shell, asked, answer=answer)

    def _form(
        self,
        shell: Mapping[str, Any],
        asked: _Asked,
        *,
        answer: Answer | None = None,
        error: str = "",
        status: int = 200,
    ) -> Response:
        return self._pages.page(
            "reach",
            status=status,
            **shell,
            title="May I reach …?",
            asked=asked,
            answer=answer,
            error=error,
            protocols=[(each, each.upper()) for each in PROTOCOLS],
        )
