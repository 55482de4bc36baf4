"""What users keep in the portal: bookmarks of their own, and how its pages look."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lockgate.model.problem import ProblemError
from lockgate.model.user_record import MAX_BOOKMARKS, MAX_NAME, MAX_URL, find, parse_name, parse_url
from lockgate.server.in_force import InForce
from lockgate.server.store.interface import WebSessionRecord
from lockgate.server.user_records import UserRecords
from lockgate.server.web.portal.pages import Pages, Shell, denied, headers
from lockgate.server.web.portal.requests import read_form
from lockgate.server.web.sessions import LiveWebSession

BOOKMARKS = "/portal/bookmarks"
EMPTY = {"id": "", "name": "", "url": "", "new_window": "yes"}

# The choices, as people read them.
_CHOICES = (
    (
        "colours",
        "Colours",
        (
            ("auto", "As on this device", ""),
            ("light", "Light", ""),
            ("dark", "Dark", ""),
        ),
    ),
    (
        "density",
        "Density",
        (
            ("comfortable", "Comfortable", "Room between the lines."),
            ("compact", "Compact", "More on one screen."),
        ),
    ),
)


class OwnPages:
    """As `HomePages`: each method gets the live session of the request."""

    def __init__(self, pages: Pages, shell: Shell, in_force: InForce, records: UserRecords) -> None:
        self._pages, self._shell, self._in_force, self._records = pages, shell, in_force, records

    # -- bookmarks ---------------------------------------------------------------------------------

    async def bookmarks(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """The list, with the form for one more, or for the one named by `edit`."""
        if not self._may(live):
            return denied(403, "bookmarks-off")
        typed, wanted = EMPTY, request.query_params.get("edit", "")
        if wanted:
            record = await self._records.get(live.record.server, live.record.user)
            try:
                bookmark = find(record, wanted)
            except ProblemError as error:
                return await self._list(live, home, EMPTY, error.problem.summary, 404)
            window = "yes" if bookmark.new_window else ""
            typed = {"id": wanted, "name": bookmark.name, "url": bookmark.url, "new_window": window}
        return await self._list(live, home, typed)

    async def change_bookmarks(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Adds, changes, moves or deletes one."""
        form = await read_form(request)
        if form is None:
            return denied(400, "form-not-ours")
        if not self._may(live):
            return denied(403, "bookmarks-off")
        try:
            await self._act(live.record, form)
        except (ValueError, ProblemError) as error:
            why = error.problem.text() if isinstance(error, ProblemError) else str(error)
            typed = {name: form.get(name, "")[:MAX_URL] for name in EMPTY} if _saves(form) else EMPTY
            return await self._list(live, home, typed, why, 422)
        return RedirectResponse(BOOKMARKS, 303, headers=headers())

    async def _act(self, record: WebSessionRecord, form: Mapping[str, str]) -> None:
        whose, chosen = (record.server, record.user), form.get("id", "")
        match form.get("action"):
            case "delete":
                await self._records.delete(*whose, chosen)
            case "up" | "down" as way:
                await self._records.move(*whose, chosen, way == "up")
            case _:
                name, url = parse_name(form.get("name")), parse_url(form.get("url"))
                window = form.get("new_window") == "yes"
                if chosen:
                    await self._records.change(*whose, chosen, name, url, window)
                else:
                    await self._records.add(*whose, name, url, window)

    async def _list(
        self,
        live: LiveWebSession,
        home: str,
        typed: Mapping[str, str],
        error: str = "",
        status: int = 200,
    ) -> Response:
        shell = await self._shell(live.record, home)
        return self._pages.page(
            "bookmarks",
            status=status,
            **shell,
            title="Your bookmarks",
            typed=typed,
            error=error,
            room=len(shell["own_bookmarks"]) < MAX_BOOKMARKS,
            most=MAX_BOOKMARKS,
            longest_name=MAX_NAME,
            longest_url=MAX_URL,
        )

    def _may(self, live: LiveWebSession) -> bool:
        return self._in_force.rights(live.roles).effective.own_bookmarks

    # -- preferences -------------------------------------------------------------------------------

    async def preferences(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """How the pages look."""
        return self._pages.page(
            "preferences",
            **await self._shell(live.record, home),
            title="Preferences",
            choices=_CHOICES,
        )

    async def change_preferences(self, request: Request, live: LiveWebSession, home: str) -> Response:
        """Saves what was chosen."""
        form = await read_form(request)
        if form is None:
            return denied(400, "form-not-ours")
        chosen = {name: form[name] for name, _, _ in _CHOICES if name in form}
        try:
            await self._records.choose(live.record.server, live.record.user, chosen)
        except ValueError:
            return denied(400, "form-not-ours")
        return RedirectResponse(f"{home}?done=preferences", 303, headers=headers())


def _saves(form: Mapping[str, str]) -> bool:
    return form.get("action") not in ("delete", "up", "down")
