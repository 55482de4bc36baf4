"""Who is connected, who is signed in with a browser, and the end of that."""

from __future__ import annotations

from starlette.responses import Response

from lockgate.server.web.console.ask import Ask, with_query
from lockgate.server.web.console.menu import BASE, page_of_ours
from lockgate.server.web.console.rest import rest, segment

PAGE_SIZE = 100
URL = BASE + "sessions"
SORTS = (
    ("user", "User"),
    ("realm", "Realm"),
    ("source", "Address"),
    ("started", "Since"),
    ("last_seen", "Last seen"),
    ("expires", "Ends"),
)


async def show(ask: Ask) -> Response:
    """GET: tunnels, by the page."""
    sort = ask.query("sort", "started")
    sort = sort if sort in dict(SORTS) else "started"
    down = ask.query("order", "descending" if sort == "started" else "ascending") == "descending"
    wanted = {"text": ask.query("q")[:200], "realm": ask.query("realm"), "role": ask.query("role")}
    found = await rest(
        ask,
        "GET",
        "sessions",
        query={
            **wanted,
            "sort": sort,
            "order": "descending" if down else "ascending",
            "limit": PAGE_SIZE,
            "after": ask.query("after") or None,
        },
    )
    tree = ask.services.in_force.tree
    orders = {
        key: with_query(
            ask.request, sort=key, order="ascending" if key == sort and down else "descending", after=""
        )
        for key, _ in SORTS
    }
    return await ask.page(
        "sessions.html",
        "sessions",
        found=found,
        text=wanted["text"],
        realm=wanted["realm"],
        role=wanted["role"],
        realms=[each.name for each in tree.realms],
        roles=[each.name for each in tree.roles],
        sort=sort,
        down=down,
        orders=orders,
        following=with_query(ask.request, after=found["following"]) if found["following"] else "",
        first=with_query(ask.request, after="") if ask.query("after") else "",
        here_url=with_query(ask.request),
        hostname=tree.gateway.hostname,
        may_end=ask.principal.may("sessions", "write"),
    )


async def show_one(ask: Ask) -> Response:
    """GET: everything about one tunnel."""
    found = await rest(ask, "GET", f"sessions/{segment(str(ask.request.path_params['session']))}")
    return await ask.page(
        "session.html",
        "sessions",
        title=found["user"],
        trail=[(found["user"], "")],
        session=found,
        may_end=ask.principal.may("sessions", "write"),
        may_explain=ask.principal.may("logs"),
    )


async def end(ask: Ask) -> Response:
    """POST: ends the sessions that are ticked, or one."""
    sent = await ask.form()
    ids = sent.get("session", [])
    if ids:
        await rest(ask, "POST", "sessions/end", body={"sessions": ids})
    back = sent.get("back", [""])[-1]
    return ask.go(back if page_of_ours(back, URL) else URL, "ended" if ids else "")


async def extend(ask: Ask) -> Response:
    """POST: gives a session its length anew."""
    session = segment(await ask.text("session"))
    await rest(ask, "POST", f"sessions/{session}/extend", body={})
    return ask.go(f"{URL}/{session}", "extended")


async def show_browsers(ask: Ask) -> Response:
    """GET: browsers that are signed in."""
    found = await rest(ask, "GET", "web-sessions")
    return await ask.page(
        "browsers.html",
        "browsers",
        sessions=sorted(found["sessions"], key=lambda each: -each["last_seen"]),
        own=ask.principal.session,
        may_end=ask.principal.may("sessions", "write"),
    )


async def end_browser(ask: Ask) -> Response:
    """POST: signs a browser out."""
    await rest(ask, "DELETE", f"web-sessions/{segment(await ask.text('session'))}")
    return ask.go(BASE + "browsers", "ended")
