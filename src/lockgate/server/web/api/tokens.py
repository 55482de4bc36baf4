"""Tokens for this interface. A token is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.auth.names import canonical
from lockgate.server.store.records import ADMIN_SERVER, TokenRecord
from lockgate.server.web.api.models import Given, NonEmptyLine, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.principal import Principal, forbidden, needs_any
from lockgate.server.web.tokens import DAY, LONGEST, MAX_SCOPES, create_token

router = make_router("tokens")

ANY = [rights(needs_any())]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$")]


class TokenTold(Told):
    """A token without its value. Times are seconds since 1970."""

    id: str
    name: str
    owner: str
    server: str
    scopes: list[str]
    created: float
    expires: float
    last_used: float | None
    revoked: float | None


class TokenList(Told):
    tokens: list[TokenTold]


class NewToken(Given):
    """scopes: "AREA:read", "AREA:write", "config:read|write", "*:read" or "*". seconds: how long it is good.

    owner, server: an administrator, for commands on the gateway only; else it is whoever asks.
    """

    name: Annotated[NonEmptyLine, Field(max_length=64)]
    scopes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MAX_SCOPES)]
    seconds: Annotated[int, Field(ge=1, le=LONGEST)] = 90 * DAY
    owner: Annotated[str, Field(max_length=256)] | None = None
    server: Annotated[str, Field(max_length=64)] = ADMIN_SERVER


class TokenMade(Told):
    """The only answer that ever holds a token."""

    token: str
    about: TokenTold


def token_told(record: TokenRecord) -> TokenTold:
    return TokenTold(
        id=record.id,
        name=record.name,
        owner=record.owner,
        server=record.server,
        scopes=list(record.scopes),
        created=record.created,
        expires=record.expires,
        last_used=record.last_used,
        revoked=record.revoked,
    )


def _is_own(record: TokenRecord, who: Principal) -> bool:
    return (record.server, record.owner) == (who.server, who.name)


@router.get("/tokens", dependencies=ANY)
async def list_tokens(who: Who, services: Of) -> TokenList:
    """One's own tokens; everybody's with the right to read administrators."""
    found = await services.store.tokens.all()
    seen = [each for each in found if who.may("administrators") or _is_own(each, who)]
    return TokenList(tokens=[token_told(each) for each in seen])


@router.post("/tokens", dependencies=ANY, status_code=201)
async def create(who: Who, services: Of, given: NewToken) -> TokenMade:
    """Makes a token. A token cannot make others: it would outlive itself."""
    if who.kind == "token":
        raise forbidden("tokens by signing in, not by a token, and", "write")
    owner, server = who.name, who.server
    if who.kind == "local":
        owner, server = canonical(given.owner or "") or "", given.server
        if not owner or await services.store.users.find(server, owner) is None:
            raise ProblemError(
                Problem(
                    "no-such-user",
                    f"There is no administrator {printable(given.owner or '', 64)!r}.",
                    "Name the administrator whose rights the token gets.",
                )
            )
    elif given.owner not in (None, who.name):
        raise forbidden("tokens of others and", "write")
    record, token = await create_token(
        services.store.tokens, owner, server, given.name, tuple(given.scopes), given.seconds, services.clock()
    )
    await services.audit.record(
        "token-create",
        ok=True,
        user=owner,
        actor=who.actor,
        source=who.source,
        text=f"{record.name}: {', '.join(record.scopes)}",
        log="admin",
    )
    return TokenMade(token=token.reveal_text(), about=token_told(record))


@router.delete("/tokens/{token}", dependencies=ANY, status_code=204)
async def revoke(who: Who, services: Of, token: Id) -> None:
    """Ends a token; one of somebody else with the right to write administrators."""
    record = await services.store.tokens.find(token)
    if record is None or not (who.may("administrators") or _is_own(record, who)):
        raise ProblemError(Problem("no-such-token", "There is no such token.", "List the tokens again."))
    if not _is_own(record, who):
        who.require("administrators", "write")
    if record.revoked is None:
        await services.store.tokens.revoke(token, services.clock())
        await services.audit.record(
            "token-revoke",
            ok=True,
            user=record.owner,
            actor=who.actor,
            source=who.source,
            text=record.name,
            log="admin",
        )
