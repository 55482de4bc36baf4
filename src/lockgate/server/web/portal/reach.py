"""The page "May I reach …?" for somebody who is signed in, answered in words for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lockgate.model.problem import ProblemError
from lockgate.server.own_questions import MAX_TYPED, PROTOCOLS, Answer, OwnQuestions
from lockgate.server.store.interface import WebSessionRecord
from lockgate.server.web.portal.pages import Pages, headers
from lockgate.server.web.portal.requests import client_of, read_form
from lockgate.server.web.problems import status_of
from lockgate.server.web.sessions import LiveWebSession

Shell = Callable[[WebSessionRecord, str], Awaitable[dict[str, Any]]]


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
        return await self._form(live, home, _Asked())

    async def ask(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """The answer, above the form."""
        form, record = await read_form(request), live.record
        if form is None or record.facts is None:
            return JSONResponse({"code": "form-not-ours"}, 400, headers=headers())
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
        try:
            answer = await self._questions.ask(known, live.roles, asked.target, asked.port, asked.protocol)
        except ProblemError as error:
            problem = error.problem
            status = 422 if problem.code == "bad-question" else status_of(problem.code)
            return await self._form(
                live, home, asked, error=f"{problem.summary} {problem.fix}", status=status
            )
        return await self._form(live, home, asked, answer=answer)

    async def _form(
        self,
        live: LiveWebSession,
        home: str,
        asked: _Asked,
        *,
        answer: Answer | None = None,
        error: str = "",
        status: int = 200,
    ) -> Response:
        return self._pages.page(
            "reach",
            status=status,
            **await self._shell(live.record, home),
            title="May I reach …?",
            asked=asked,
            answer=answer,
            error=error,
            protocols=[(each, each.upper()) for each in PROTOCOLS],
        )
