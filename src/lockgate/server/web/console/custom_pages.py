"""Upload of custom sign-in pages: the archive is stored, the sign-in page that shows it becomes a draft."""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.edits import Edit, Insert, SetValue
from lockgate.server.config.paths import format_path
from lockgate.server.config.tree.authentication import SignInPage
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import rest
from lockgate.server.web.problems import status_of

ID = "upload-sign-in-pages"
COLLECTION = "sign_in_pages"

_UNNAMED = Problem("no-file", "No templates file was chosen.", "Choose a ZIP file with the templates.")
_NO_NAME = Problem("no-name", "The pages have no name.", "Type the name by which sign-in policies use them.")


async def show(ask: Ask, problem: Problem | None = None, status: int = 200, name: str = "") -> Response:
    """GET: the form, and what is in use."""
    return await ask.page(
        "custom_pages.html",
        ID,
        archives=(await rest(ask, "GET", "sign-in-page-archives"))["archives"],
        may_write=ask.principal.may("authentication", "write"),
        problem=problem,
        name=name,
        status=status,
    )


async def upload(ask: Ask) -> Response:
    """POST: checks and stores the archive; the page that shows it is one change of the draft."""
    content, name = await ask.file("archive"), (await ask.text("name")).strip()
    sent = await ask.form()
    await ask.request.close()  # the file was read
    if not name or not content:
        return await show(ask, _UNNAMED if name else _NO_NAME, 422, name)
    body = {
        "archive": base64.b64encode(content).decode(),
        "skip_validation": "skip_validation" in sent,
    }
    try:
        stored = await rest(ask, "POST", "sign-in-page-archives", body=body)
        await ask.console.working.edit(ask.principal, [await _edit(ask, name, stored["sha256"])])
    except ProblemError as error:
        return await show(ask, error.problem, status_of(error.problem.code), name)
    return ask.go(BASE + "changes", "saved")


async def _edit(ask: Ask, name: str, digest: str) -> Edit:
    data = await ask.console.working.data(ask.principal)
    before: dict[str, Any] | None = next((each for each in data[COLLECTION] if each["name"] == name), None)
    page = before or SignInPage.model_construct(name=name).model_dump(mode="json")
    page = page | {"kind": "custom", "templates": digest}
    path = format_path((COLLECTION, name))
    return Insert(path, page) if before is None else SetValue(path, page)
