"""What users keep in the portal: looked at and deleted by administrators, exchanged with other gateways.

Other gateways come with a token whose only scope is user_records:write. It reaches the two routes of changes and
nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.record_peers import PAGE, BadChangeError, change_of, told
from lockgate.server.store.interface import PeerRecord
from lockgate.server.user_records import UserRecords
from lockgate.server.web.api.models import Given, Line, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.api.users import local_server, require_server, user_name
from lockgate.server.web.principal import needs
from lockgate.server.web.services import Services

router = make_router("user records")

Server = Annotated[str, Path(min_length=1, max_length=64)]
Name = Annotated[str, Path(min_length=1, max_length=256)]


class OwnBookmarkTold(Told):
    name: str
    url: str
    new_window: bool


class RecordTold(Told):
    """What a user keeps. logical_server: whose users' record it is where it is synchronised, else null."""

    server: str
    name: str
    logical_server: str | None
    bookmarks: list[OwnBookmarkTold]
    preferences: dict[str, str]


class RecordDeleted(Told):
    """items: how many bookmarks and preferences were deleted."""

    items: int


class ChangesTold(Told):
    """origin: what this gateway is called in changes. names: logical auth servers that it synchronises. following:
    `after` of the next request."""

    origin: str
    names: list[str]
    changes: list[dict[str, Any]]
    following: int


class ChangesGiven(Given):
    """changes: logical_server, user, item, time, origin, value; null is a deleted item."""

    changes: Annotated[list[dict[str, Any]], Field(max_length=PAGE)]


class Taken(Told):
    """taken: how many changes were new here. refused: how many were not taken over, by reason."""

    taken: int
    refused: dict[str, int]


class PeerTold(Told):
    """succeeded: when all was exchanged last, seconds since 1970. waiting: changes that it has not got. refused:
    changes that it did not take. error: what is wrong since then, or empty."""

    name: str
    url: str
    names: list[str]
    succeeded: float | None
    waiting: int
    refused: int
    error: str


class Peers(Told):
    peers: list[PeerTold]


def _user(services: Services, server: str, typed: str) -> tuple[str, str | None]:
    """Canonical name and logical server. Raises ProblemError for no such server, and what cannot be a name."""
    found, name = local_server(services, server), user_name(typed)
    return name, found.logical_auth_server_name if found.user_record_synchronization else None


@router.get("/users/{server}/{name}/record", dependencies=[rights(needs("users"))])
async def show(who: Who, services: Of, server: Server, name: Name) -> RecordTold:
    """Bookmarks and preferences of a user."""
    require_server(who, services, server, "read")
    user, logical = _user(services, server, name)
    record = await UserRecords(services.store.user_records, services.clock).get(server, user)
    return RecordTold(
        server=server,
        name=user,
        logical_server=logical,
        bookmarks=[
            OwnBookmarkTold(name=each.name, url=each.url, new_window=each.new_window)
            for _, each in record.bookmarks
        ],
        preferences=dict(record.preferences),
    )


@router.delete("/users/{server}/{name}/record", dependencies=[rights(needs("users", "write"))])
async def delete(who: Who, services: Of, server: Server, name: Name) -> RecordDeleted:
    """Deletes bookmarks and preferences of a user, at all gateways that have them."""
    require_server(who, services, server, "write")
    user, _ = _user(services, server, name)
    items = await UserRecords(services.store.user_records, services.clock).clear(server, user)
    await services.audit.record(
        "user-record-delete",
        ok=True,
        user=user,
        actor=who.actor,
        source=who.source,
        text=f"{server}: {items} items",
        log="admin",
    )
    return RecordDeleted(items=items)


@router.get("/user-records/changes", dependencies=[rights(needs("user_records"))])
async def changes(
    services: Of,
    after: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
    origin: Annotated[Line, Query()] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> ChangesTold:
    """Changes of synchronised records after a number that an answer of the gateway called `origin` gave."""
    shelf = services.store.user_records
    own = await shelf.origin()
    page = await shelf.changes(after if origin == own else 0, limit)
    names = sorted(await shelf.logical_names())
    return ChangesTold(
        origin=own, names=names, changes=[told(each) for each in page.changes], following=page.following
    )


@router.post("/user-records/changes", dependencies=[rights(needs("user_records", "write"))])
async def take(services: Of, given: ChangesGiven) -> Taken:
    """Takes changes over that are later than what is here, of logical auth servers that are synchronised here."""
    try:
        found = [change_of(each) for each in given.changes]
    except BadChangeError:
        raise ProblemError(
            Problem(
                "bad-change",
                "One of these is no change of a user's record; nothing was taken over.",
                "Look at the release of the gateway that sends it.",
            )
        ) from None
    known = [each for each in found if each is not None]
    merged = await services.store.user_records.merge(known, int(services.clock() * 1000))
    strange = {"not-understood": len(found) - len(known)} if len(known) < len(found) else {}
    return Taken(taken=merged.taken, refused={**merged.refused, **strange})


@router.get("/user-records/peers", dependencies=[rights(needs("system"))])
async def peers(services: Of) -> Peers:
    """Other gateways that records are exchanged with, and how far that is."""
    shelf = services.store.user_records
    known = await shelf.peers()
    found = []
    for peer in services.in_force.tree.user_records.peers:
        record = known.get(peer.name, PeerRecord(peer.name))
        found.append(
            PeerTold(
                name=peer.name,
                url=peer.url,
                names=sorted(record.names),
                succeeded=record.succeeded,
                waiting=await shelf.waiting(record.sent),
                refused=record.refused,
                error=record.error,
            )
        )
    return Peers(peers=found)
