"""Tokens for the REST interface: `lgt_` and 32 random bytes, of which only the hash is stored.

A token has the rights that its scopes let through of those its owner has *now*: an owner who was disabled
or lost a role takes the tokens along at once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from lockgate.model.facts import SignInFacts
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.in_force import InForce, admit
from lockgate.server.store.records import TokenRecord
from lockgate.server.web.principal import (
    NotAllowedError,
    Principal,
    expanded,
    is_scope,
    rights_of_roles,
    rights_of_scopes,
    smaller,
    unauthenticated,
)

if TYPE_CHECKING:
    from lockgate.server.auth.servers import Account
    from lockgate.server.store.interface import Store
    from lockgate.server.store.interface import Tokens as Records

PREFIX = "lgt_"
TOKEN_BYTES = 32
MAX_SCOPES = 32
MAX_PER_OWNER = 100  # that are good, and records of tokens altogether
DAY = 86400
LONGEST = 3 * 365 * DAY  # seconds
TOUCH = 60.0  # seconds between two notes of a token's last use

TOO_MANY = Problem(
    "too-many-attempts", "Too many failures from this address.", "Wait a minute and try again."
)

Directory = Callable[[str, str], Awaitable["Account | None"]]
"""What an auth server knows about a user: (server, canonical name)."""


class Gate(Protocol):
    """The part of sign-in that limits guessing, shared with it."""

    def address_open(self, source: str) -> bool:
        """Whether anybody may try from there now."""

    def address_failed(self, source: str) -> None:
        """Somebody there showed something wrong."""


class Tokens:
    """One per application."""

    def __init__(
        self,
        store: Store,
        in_force: InForce,
        audit: Audit,
        directory: Directory,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens, self._in_force, self._audit = store.tokens, in_force, audit
        self._directory, self._gate, self._clock = directory, gate, clock

    # -- use ---------------------------------------------------------------------------------------

    async def principal(self, token: Secret, source: str, user_agent: str) -> Principal:
        """Who comes with a token. Raises NotAllowedError."""
        if self._gate is not None and not self._gate.address_open(source):
            raise NotAllowedError(429, TOO_MANY)
        record = await self._tokens.by_hash(hash_of(token)) if _plausible(token) else None
        now = self._clock()
        if record is None or record.revoked is not None or now >= record.expires:
            if self._gate is not None:
                self._gate.address_failed(source)
            reason = "unknown" if record is None else "revoked" if record.revoked is not None else "expired"
            await self._audit.record(
                "token-refused",
                ok=False,
                reason=reason,
                user="" if record is None else record.owner,
                source=source,
                text="" if record is None else record.name,
            )
            raise unauthenticated()
        roles, rights = await self.owner_rights(record.server, record.owner, source, user_agent)
        if not roles:
            await self._audit.record(
                "token-refused",
                ok=False,
                reason="owner-not-admitted",
                user=record.owner,
                source=source,
                text=record.name,
            )
            raise unauthenticated()
        if record.last_used is None or now - record.last_used > TOUCH:
            await self._tokens.touch(record.id, now)
        return Principal(
            name=record.owner,
            kind="token",
            rights=smaller(rights, rights_of_scopes(record.scopes)),
            source=source,
            server=record.server,
            roles=roles,
            session=record.id,
            token_name=record.name,
        )

    async def owner_rights(
        self, server: str, name: str, source: str, user_agent: str
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Delegated roles and rights that a sign-in of this administrator would give now, in any of the
        realms of that server; none for somebody who could not sign in."""
        account = await self._directory(server, name)
        if account is None or not account.enabled:
            return (), {}
        policy, now = self._in_force.policy, self._clock()
        roles: dict[str, None] = {}
        for realm in policy.admin_realms.values():
            if realm.server != server:
                continue
            known = account if realm.directory == server else await self._directory(realm.directory, name)
            facts = SignInFacts(
                user=name,
                server=server,
                realm=realm.name,
                source=source,
                user_agent=printable(user_agent, 256),
                host_name="",
                time=now,
                groups=() if known is None else known.groups,
                attributes={} if known is None else known.attributes,
            )
            _, decision = admit(policy, "administrators", facts, now)
            if decision is not None:
                roles.update(dict.fromkeys(decision.roles))
        return tuple(roles), expanded(rights_of_roles(self._in_force.tree.admin_roles, roles))


async def create_token(
    tokens: Records, owner: str, server: str, name: str, scopes: tuple[str, ...], seconds: float, now: float
) -> tuple[TokenRecord, Secret]:
    """A new token of that administrator; this is the only time that anybody sees it.

    seconds: how long it is good, 1 .. LONGEST. Raises ProblemError "bad-scope", "token-exists",
    "too-many-tokens".
    """
    wrong = [scope for scope in scopes if not is_scope(scope)]
    if wrong or not 1 <= len(scopes) <= MAX_SCOPES:
        shown = printable(", ".join(wrong), 200) or "nothing"
        raise ProblemError(
            Problem(
                "bad-scope",
                f"These are no scopes: {shown}.",
                'Name areas such as "logs:read" or "config:write", or "*" for everything.',
            )
        )
    mine = [each for each in await tokens.all(owner) if each.server == server]
    over = [each for each in mine if each.revoked is not None or now >= each.expires]
    if len(mine) - len(over) >= MAX_PER_OWNER:
        raise ProblemError(
            Problem(
                "too-many-tokens",
                f"{owner} has {MAX_PER_OWNER} tokens already.",
                "Revoke those that are not used.",
            )
        )
    # What is over stays to be looked at while there is room, the one made last longest; its name is free at once.
    over.sort(key=lambda each: (each.name != name, each.created))
    for position, each in enumerate(over):
        if each.name == name or len(mine) - position >= MAX_PER_OWNER:
            await tokens.delete(each.id)
    digits = base64.b32encode(secrets.token_bytes(TOKEN_BYTES)).decode().rstrip("=").lower()
    token = Secret.of_text(PREFIX + digits)
    record = TokenRecord(
        id=secrets.token_hex(8),
        name=name,
        hash=hash_of(token),
        owner=owner,
        scopes=tuple(dict.fromkeys(scopes)),
        created=now,
        expires=now + seconds,
        server=server,
    )
    if not await tokens.add(record):
        raise ProblemError(
            Problem("token-exists", f"{owner} has a token {name!r} already.", "Choose another name.")
        )
    return record, token


def hash_of(token: Secret) -> bytes:
    """What the store looks up; 256 random bits need no slow hash."""
    return hashlib.sha256(token.reveal()).digest()


def _plausible(token: Secret) -> bool:
    return token.reveal().startswith(PREFIX.encode()) and len(token.reveal()) <= 100
