"""Who is signed in: tunnels and browsers, by the page, and the end of their sessions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import Path, Query
from pydantic import Field, model_validator

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause, Session
from lockgate.model.text import printable
from lockgate.server.auth.names import canonical
from lockgate.server.gateway.live_session import LiveSession
from lockgate.server.sessions import OVER, By, session_number
from lockgate.server.store.records import SessionFilter, SessionSort, WebAudience, WebSessionRecord
from lockgate.server.web.api.models import Ended, Given, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.extend import extend_tunnel
from lockgate.server.web.principal import Principal, needs
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import DISCONNECTED

router = make_router("sessions")

READ, WRITE = [rights(needs("sessions"))], [rights(needs("sessions", "write"))]
Text = Annotated[str, Query(max_length=256)]
Id = Annotated[str, Path(pattern=r"^[0-9]{1,19}$")]
WebId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
MAX_ENDED = 10_000
MAX_SHOWN = 10  # numbers in one sentence


class SessionTold(Told):
    """A tunnel's session. Times are seconds since 1970, durations seconds, traffic bytes.

    transport: "esp", "tls", or "none" for a client that is away. remaining: until its length is used up.
    """

    id: str
    user: str
    server: str
    realm: str
    roles: list[str]
    addresses: list[str]
    transport: str
    suite: str | None
    bound: bool
    since: float
    source: str
    peer: str
    client: str
    host_name: str
    revision: int
    remaining: int
    idle: int
    bytes_in: int
    bytes_out: int
    dropped: int


class SessionPageTold(Told):
    """total: on all pages. following: where the next page begins (`after`); null on the last."""

    sessions: list[SessionTold]
    total: int
    following: str | None


class WebSessionTold(Told):
    """A browser that is signed in."""

    id: str
    audience: WebAudience
    user: str
    server: str
    realm: str
    roles: list[str]
    source: str
    client: str
    since: float
    expires: float
    last_seen: float


class WebSessionList(Told):
    sessions: list[WebSessionTold]


class End(Given):
    """Which sessions to end, one of the three: numbers, all of a user of whatever auth server, or everybody's."""

    sessions: (
        Annotated[
            list[Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]], Field(min_length=1, max_length=MAX_ENDED)
        ]
        | None
    ) = None
    user: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(each is not None for each in (self.sessions, self.user, self.all)) != 1:
            raise ValueError("give exactly one of sessions, user and all")
        return self


def session_told(live: LiveSession, now: float) -> SessionTold:
    return SessionTold(**live.as_dict(now))


def web_session_told(record: WebSessionRecord) -> WebSessionTold:
    return WebSessionTold(
        id=record.id,
        audience=record.audience,
        user=record.user,
        server=record.server,
        realm=record.realm,
        roles=list(record.roles),
        source=record.source,
        client=record.user_agent,
        since=record.started,
        expires=record.expires,
        last_seen=record.last_seen,
    )


async def _page(
    services: Services, wanted: SessionFilter, sort: SessionSort, limit: int, after: str | None, down: bool
) -> SessionPageTold:
    page = await services.store.sessions.live_page(wanted, sort, limit, after, descending=down)
    now = services.clock()
    live = services.running().with_traffic(page.sessions)
    return SessionPageTold(
        sessions=[session_told(each, now) for each in live], total=page.total, following=page.following
    )


@router.get("/sessions", dependencies=READ)
async def list_sessions(
    services: Of,
    text: Text = "",
    user: Text = "",
    server: Text = "",
    realm: Text = "",
    role: Text = "",
    sort: SessionSort = "started",
    order: Literal["ascending", "descending"] = "ascending",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=512)] = None,
    fresh: bool = False,
) -> SessionPageTold:
    """Live sessions. text: anywhere in user, host name or source, or an inner address exactly. fresh: the edge is
    asked for the traffic of this moment, which takes up to a second."""
    if fresh:
        await services.running().refresh()
    wanted = SessionFilter(text=text, user=user, server=server, realm=realm, role=role)
    return await _page(services, wanted, sort, limit, after, order == "descending")


@router.get("/sessions/{session}", dependencies=READ)
async def show(services: Of, session: Id) -> SessionTold:
    """One live session."""
    found = await _find(services, session)
    return session_told(services.running().with_traffic([found])[0], services.clock())


@router.delete("/sessions/{session}", dependencies=WRITE)
async def end_one(who: Who, services: Of, session: Id) -> Ended:
    """Ends a session; its packets stop at once."""
    found = await _find(services, session)
    return await _end(who, services, [found.id])


@router.post("/sessions/{session}/extend", dependencies=WRITE)
async def extend(who: Who, services: Of, session: Id) -> SessionTold:
    """Gives a session the length of its roles anew, from now on, whether its user may or not."""
    found = await _find(services, session)
    result = await extend_tunnel(services, found.id, source=who.source, actor=who.actor)
    if isinstance(result, Refused):
        if result == OVER:
            raise _no_session(session)
        raise ProblemError(
            Problem(
                result.code,
                f"Session {session} is not extended: its user may not use VPN tunnelling now.",
                "Look at the user's roles with policy tracing or `lockgate explain`.",
            )
        )
    return session_told(services.running().with_traffic([result])[0], services.clock())


@router.post("/sessions/end", dependencies=WRITE)
async def end_many(who: Who, services: Of, given: End) -> Ended:
    """Ends several sessions in one step: those with these numbers, all of a user, or all. A number of no session
    ends nothing."""
    services.running()
    if given.sessions is not None:
        found = await _among(services, given.sessions)
    elif given.user is not None:
        found = await _of_user(services, given.user)
    else:
        found = await services.store.sessions.live_numbers()
    return await _end(who, services, found)


async def _find(services: Services, number: str) -> Session:
    wanted = session_number(number)
    found = None if wanted is None else await services.store.sessions.find(wanted)
    if found is None or found.ended is not None:
        raise _no_session(number)
    return found


async def _among(services: Services, typed: list[str]) -> list[int]:
    """The numbers of those sessions. Raises ProblemError when there is one that no session has."""
    wanted = {each: session_number(each) for each in typed}
    live = await services.store.sessions.live_among(each for each in wanted.values() if each is not None)
    missing = [each for each, number in wanted.items() if number not in live]
    if missing:
        raise _no_session(*missing)
    return list(live)


async def _of_user(services: Services, typed: str) -> list[int]:
    """The sessions of that name. Raises ProblemError when nobody is known by it."""
    name = canonical(typed)
    if name is not None:
        found = await services.store.sessions.live_numbers(name)
        if found:
            return found
        for server in services.in_force.tree.auth_servers:
            if await services.store.users.find(server.name, name) is not None:
                return []
    raise ProblemError(
        Problem(
            "no-such-user",
            f"There is no user {printable(typed, 64)}.",
            "The list of sessions says who is connected.",
        )
    )


def _no_session(*numbers: str) -> ProblemError:
    shown = ", ".join(numbers[:MAX_SHOWN]) + (" and others" if len(numbers) > MAX_SHOWN else "")
    return ProblemError(
        Problem("no-such-session", f"There is no session {shown}.", "List the sessions again.")
    )


async def _end(who: Principal, services: Services, numbers: list[int]) -> Ended:
    by = By(who.actor, who.source)
    ended = await services.running().end_many(numbers, EndCause.DISCONNECTED, by)
    return Ended(ended=[str(each.id) for each in ended])


@router.get("/web-sessions", dependencies=READ)
async def list_web_sessions(
    who: Who,
    services: Of,
    audience: WebAudience | None = None,
    user: Text = "",
) -> WebSessionList:
    """Browsers that are signed in; those of the console need the right to read administrators."""
    found = await services.store.web_sessions.live(audience, user or None)
    seen = [each for each in found if each.audience == "portal" or who.may("administrators", "read")]
    return WebSessionList(sessions=[web_session_told(each) for each in seen])


@router.delete("/web-sessions/{session}", dependencies=WRITE)
async def end_web_session(who: Who, services: Of, session: WebId) -> Ended:
    """Signs a browser out, with the tunnels it started."""
    found = await services.store.web_sessions.find(session)
    if found is None or found.ended is not None:
        raise ProblemError(
            Problem("no-such-session", "There is no such session.", "List the sessions again.")
        )
    if found.audience == "console":
        who.require("administrators", "write")
    await services.web_sessions.end(session, DISCONNECTED)
    await services.audit.record(
        "session-disconnect",
        ok=True,
        user=found.user,
        actor=who.actor,
        source=who.source,
        text=f"browser, {found.audience}",
        log="admin",
    )
    return Ended(ended=[session])
