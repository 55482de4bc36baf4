"""Users of local auth servers.

A server that a realm of administrators uses holds administrators: changing those needs the right to write
administrators, whatever the right about users. Nobody shuts out their own account.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field, SecretStr

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server.auth.names import canonical
from lockgate.server.auth.passwords import hash_password, unfit
from lockgate.server.config.tree.authentication import LocalServer
from lockgate.server.store.interface import UserRecord
from lockgate.server.store.users import new_serial
from lockgate.server.web.api.models import Given, Line, Password, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.principal import Principal, needs
from lockgate.server.web.services import Services

router = make_router("users")

READ, WRITE = [rights(needs("users"))], [rights(needs("users", "write"))]
Server = Annotated[str, Path(min_length=1, max_length=64)]
Name = Annotated[str, Path(min_length=1, max_length=256)]
Groups = Annotated[list[Line], Field(max_length=1000)]
Values = Annotated[list[Line], Field(max_length=100)]
Attributes = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Values], Field(max_length=100)
]

# Argon2 takes tens of megabytes; administrators wait for one another.
_hashing = asyncio.Semaphore(2)


class UserTold(Told):
    """A user. There is no way to read a password."""

    server: str
    name: str
    full_name: str
    email: str
    groups: list[str]
    attributes: dict[str, list[str]]
    enabled: bool
    must_change: bool
    created: float
    changed: float


class UserPage(Told):
    """following: `after` of the next page; null on the last."""

    users: list[UserTold]
    total: int
    following: str | None


class NewUser(Given):
    server: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    password: Password
    full_name: Line = ""
    email: Line = ""
    groups: Groups = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=dict)
    enabled: bool = True
    must_change: bool = False


class ChangeUser(Given):
    """What is not given stays as it is."""

    full_name: Line | None = None
    email: Line | None = None
    groups: Groups | None = None
    attributes: Attributes | None = None
    must_change: bool | None = None
    enabled: bool | None = None


class NewPassword(Given):
    """must_change: the user has to choose another one at the next sign-in."""

    password: Password
    must_change: bool = False


class UserChanged(Told):
    """ended: numbers of the tunnels' sessions that ended with the change."""

    user: UserTold
    ended: list[str]


class UserDeleted(Told):
    ended: list[str]


def user_told(user: UserRecord) -> UserTold:
    return UserTold(
        server=user.server,
        name=user.name,
        full_name=user.full_name,
        email=user.email,
        groups=list(user.groups),
        attributes={key: list(values) for key, values in user.attributes.items()},
        enabled=user.enabled,
        must_change=user.must_change,
        created=user.created,
        changed=user.changed,
    )


def administrators_servers(services: Services) -> set[str]:
    """Auth servers whose users may be administrators."""
    realms = services.in_force.tree.admin_realms
    return {realm.server for realm in realms} | {realm.directory for realm in realms if realm.directory}


def require_server(who: Principal, services: Services, server: str, right: str) -> None:
    """Raises NotAllowedError for a server with administrators without the right about those."""
    if server in administrators_servers(services):
        who.require("administrators", right)


def local_server(services: Services, name: str) -> LocalServer:
    """Raises ProblemError for no such server."""
    for each in services.in_force.tree.auth_servers:
        if each.name == name and each.kind == "local":
            return each
    raise ProblemError(
        Problem(
            "no-such-server",
            f"There is no local auth server {printable(name, 64)!r}.",
            "Choose one of the configuration's auth servers.",
        )
    )


def user_name(typed: str) -> str:
    """In its canonical form. Raises ProblemError for what cannot be one."""
    name = canonical(typed)
    if name is None:
        raise ProblemError(
            Problem(
                "bad-user-name",
                f"{printable(typed, 64)!r} is no user name.",
                "Use 1 to 64 characters that print.",
            )
        )
    return name


def no_such_user(name: str) -> ProblemError:
    return ProblemError(
        Problem("no-such-user", f"There is no user {printable(name, 64)}.", "List the users again.")
    )


async def hashed(services: Services, server: LocalServer, password: SecretStr) -> str:
    """The hash to store. Raises ProblemError for a password that nobody can have there."""
    secret = Secret.of_text(password.get_secret_value())
    problem = unfit(secret, server.minimum_length)
    if problem is not None:
        raise ProblemError(problem)
    async with _hashing:
        return await asyncio.to_thread(hash_password, services.in_force.tree.sign_in.argon2, secret)


async def _note(services: Services, who: Principal, event: str, server: str, name: str) -> None:
    await services.audit.record(
        event, ok=True, user=name, actor=who.actor, source=who.source, text=server, log="admin"
    )


async def _cut_off(services: Services, server: str, name: str) -> None:
    """Sessions that ended with the account stop now; those that stay follow its groups."""
    if services.user_changed is not None:
        await services.user_changed(server, name)


def _free_at(services: Services, now: float) -> float:
    return now + services.in_force.tree.network.address_quarantine_seconds


@router.get("/users", dependencies=READ)
async def list_users(
    who: Who,
    services: Of,
    server: Annotated[str, Query(max_length=64)] = "",
    text: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=512)] = None,
) -> UserPage:
    """Users by server and name. text: anywhere in name, full name or address."""
    hidden = set() if who.may("administrators") else administrators_servers(services)
    users = await services.store.users.page(server or None, text, _place(after), limit + 1, without=hidden)
    following = None
    if len(users) > limit:
        users = users[:limit]
        following = json.dumps([users[-1].server, users[-1].name])
    total = await services.store.users.count(server or None, without=hidden)
    return UserPage(users=[user_told(user) for user in users], total=total, following=following)


def _place(after: str | None) -> tuple[str, str] | None:
    if after is None:
        return None
    try:
        server, name = json.loads(after)
        if isinstance(server, str) and isinstance(name, str):
            return server, name
    except (ValueError, TypeError, RecursionError):
        pass
    raise ProblemError(
        Problem(
            "bad-page", "The page does not begin where an earlier one ended.", "Begin with the first page."
        )
    )


@router.post("/users", dependencies=WRITE, status_code=201)
async def add(who: Who, services: Of, given: NewUser) -> UserTold:
    """Adds a user."""
    require_server(who, services, given.server, "write")
    server, name = local_server(services, given.server), user_name(given.name)
    password_hash = await hashed(services, server, given.password)
    now = services.clock()
    user = UserRecord(
        name=name,
        password_hash=password_hash,
        enabled=given.enabled,
        serial=new_serial(),
        created=now,
        changed=now,
        server=server.name,
        full_name=given.full_name,
        email=given.email,
        groups=tuple(given.groups),
        attributes={key: tuple(values) for key, values in given.attributes.items()},
        must_change=given.must_change,
    )
    if not await services.store.users.add(user):
        raise ProblemError(
            Problem(
                "user-exists",
                f"There is a user {name} of {server.name} already.",
                "Choose another name, or give that user a new password.",
            )
        )
    await _note(services, who, "user-add", server.name, name)
    return user_told(user)


@router.get("/users/{server}/{name}", dependencies=READ)
async def show(who: Who, services: Of, server: Server, name: Name) -> UserTold:
    """One user."""
    require_server(who, services, server, "read")
    found = await services.store.users.find(server, user_name(name))
    if found is None:
        raise no_such_user(name)
    return user_told(found)


@router.patch("/users/{server}/{name}", dependencies=WRITE)
async def change(who: Who, services: Of, server: Server, name: Name, given: ChangeUser) -> UserChanged:
    """Changes a user; disabling one ends its sessions."""
    require_server(who, services, server, "write")
    user, now = user_name(name), services.clock()
    if given.enabled is False:
        _not_oneself(who, server, user)
    found = await services.store.users.update(
        server,
        user,
        full_name=given.full_name,
        email=given.email,
        groups=given.groups,
        attributes=given.attributes,
        must_change=given.must_change,
    )
    if found is None:
        raise no_such_user(name)
    ended: list[int] = []
    if given.enabled is not None and given.enabled != found.enabled:
        ended = (
            await services.store.users.set_enabled(server, user, given.enabled, now, _free_at(services, now))
            or []
        )
        await _note(services, who, "user-enable" if given.enabled else "user-disable", server, user)
    fields = given.model_fields_set - {"enabled"}
    if fields:
        await _note(services, who, "user-change", server, user)
    await _cut_off(services, server, user)
    changed = await services.store.users.find(server, user)
    if changed is None:
        raise no_such_user(name)
    return UserChanged(user=user_told(changed), ended=[str(each) for each in ended])


@router.put("/users/{server}/{name}/password", dependencies=WRITE)
async def set_password(who: Who, services: Of, server: Server, name: Name, given: NewPassword) -> UserChanged:
    """Gives a user a new password and ends the user's sessions."""
    require_server(who, services, server, "write")
    user = user_name(name)
    if await services.store.users.find(server, user) is None:
        raise no_such_user(name)
    password_hash = await hashed(services, local_server(services, server), given.password)
    now = services.clock()
    keep = who.session if (who.kind, who.server, who.name) == ("console", server, user) else None
    ended = await services.store.users.set_password(
        server,
        user,
        password_hash,
        now,
        _free_at(services, now),
        must_change=given.must_change,
        keep=keep,
    )
    found = await services.store.users.find(server, user)
    if ended is None or found is None:
        raise no_such_user(name)
    await _note(services, who, "user-passwd", server, user)
    await _cut_off(services, server, user)
    return UserChanged(user=user_told(found), ended=[str(each) for each in ended])


@router.delete("/users/{server}/{name}", dependencies=WRITE)
async def delete(who: Who, services: Of, server: Server, name: Name) -> UserDeleted:
    """Deletes a user, with sessions, tokens and record."""
    require_server(who, services, server, "write")
    user, now = user_name(name), services.clock()
    _not_oneself(who, server, user)
    ended = await services.store.users.delete(server, user, now, _free_at(services, now))
    if ended is None:
        raise no_such_user(name)
    await _note(services, who, "user-delete", server, user)
    await _cut_off(services, server, user)
    return UserDeleted(ended=[str(each) for each in ended])


def _not_oneself(who: Principal, server: str, name: str) -> None:
    if (who.server, who.name) == (server, name):
        raise ProblemError(
            Problem(
                "own-account-in-use",
                "This is the account that you are signed in with.",
                "Ask another administrator, or use `lockgate user` on the gateway.",
            )
        )
