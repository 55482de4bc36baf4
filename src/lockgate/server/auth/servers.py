"""Auth servers: who checks a password and who knows groups and attributes.

One driver per entry of the tree's `auth_servers`, all behind one Protocol. A driver decides nothing about
realms, roles or guessing: it says whether a password is right and what its server knows about a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from lockgate.protocol.secret import Secret
from lockgate.server.auth.passwords import Hasher, unfit
from lockgate.server.config.tree.authentication import AuthServer, LocalServer
from lockgate.server.store.interface import UserRecord, Users


@dataclass(frozen=True, slots=True)
class Account:
    """What an auth server says about somebody.

    serial: changes whenever sessions opened before are to end.
    """

    name: str  # canonical
    enabled: bool
    must_change: bool  # the password, before anything else
    serial: int
    groups: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Wrong:
    """The password was not accepted; `reason` is for the audit alone."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotChanged:
    """The new password was not taken; `text` is for the person who chose it."""

    text: str


class AuthServerDriver(Protocol):
    """One auth server. Names are canonical (`auth.names`), None for what cannot be one."""

    @property
    def name(self) -> str: ...

    def slot(self) -> AbstractAsyncContextManager[None]:
        """The right to one `verify`. Raises `passwords.Busy` at once when too many wait."""

    async def pretend(self) -> None:
        """Takes as long as `verify`, without its work."""

    async def verify(self, name: str | None, password: Secret) -> Account | Wrong:
        """Takes the same time for every wrong answer. Call it inside `slot`."""

    async def lookup(self, name: str) -> Account | None:
        """The account as it is now; None when there is none."""

    @property
    def may_change(self) -> bool:
        """Whether users may change their passwords of their own accord."""

    async def change_password(
        self, name: str, new: Secret, *, keep: str | None = None
    ) -> list[int] | NotChanged:
        """The old password has been checked. Returns the sessions of the user that this ended.

        keep: web session that does not end. Raises `passwords.Busy`.
        """


class LocalDriver:
    """`AuthServerDriver` over the users that this gateway keeps."""

    def __init__(
        self,
        server: LocalServer,
        users: Users,
        hasher: Hasher,
        quarantine: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """quarantine: seconds until an address that becomes free is used again."""
        self._server, self._users, self._hasher = server, users, hasher
        self._quarantine, self._clock = quarantine, clock

    @property
    def name(self) -> str:
        return self._server.name

    def slot(self) -> AbstractAsyncContextManager[None]:
        return self._hasher.slot()

    async def pretend(self) -> None:
        await self._hasher.pretend()

    async def verify(self, name: str | None, password: Secret) -> Account | Wrong:
        user = await self._users.find(self.name, name or "")
        if not await self._hasher.verify(user.password_hash if user else None, password):
            return Wrong(_reason(name, user, password))
        assert user is not None
        if user.enabled:
            renewed = await self._hasher.renewed(user.password_hash, password)
            if renewed is not None:
                await self._users.renew_hash(self.name, user.name, user.password_hash, renewed)
        return account_of(user)

    async def lookup(self, name: str) -> Account | None:
        user = await self._users.find(self.name, name)
        return None if user is None else account_of(user)

    @property
    def may_change(self) -> bool:
        return self._server.allow_password_change

    async def change_password(
        self, name: str, new: Secret, *, keep: str | None = None
    ) -> list[int] | NotChanged:
        problem = unfit(new, self._server.minimum_length)
        if problem is not None:
            return NotChanged(f"{problem.summary} {problem.fix}")
        async with self._hasher.slot():
            hashed = await self._hasher.hash(new)
        now = self._clock()
        ended = await self._users.set_password(
            self.name, name, hashed, now, now + self._quarantine(), keep=keep
        )
        return NotChanged("The account is gone.") if ended is None else ended


class UnknownServer:
    """`AuthServerDriver` in the place of one that the configuration no longer has: knows nobody."""

    def __init__(self, name: str, hasher: Hasher) -> None:
        self._name, self._hasher = name, hasher

    @property
    def name(self) -> str:
        return self._name

    @property
    def may_change(self) -> bool:
        return False

    def slot(self) -> AbstractAsyncContextManager[None]:
        return self._hasher.slot()

    async def pretend(self) -> None:
        await self._hasher.pretend()

    async def verify(self, name: str | None, password: Secret) -> Account | Wrong:
        await self._hasher.verify(None, password)
        return Wrong("no-auth-server")

    async def lookup(self, name: str) -> Account | None:
        return None

    async def change_password(
        self, name: str, new: Secret, *, keep: str | None = None
    ) -> list[int] | NotChanged:
        return NotChanged("The account is gone.")


def drivers(
    servers: Iterable[AuthServer],
    users: Users,
    hasher: Hasher,
    quarantine: Callable[[], int],
    clock: Callable[[], float] = time.time,
) -> dict[str, AuthServerDriver]:
    """The driver of every server, by its name."""
    return {server.name: LocalDriver(server, users, hasher, quarantine, clock) for server in servers}


def _reason(name: str | None, user: UserRecord | None, password: Secret) -> str:
    if name is None:
        return "bad-name"
    if user is None:
        return "unknown-user"
    return "wrong-password" if password else "empty-password"


def account_of(user: UserRecord) -> Account:
    """What a user record of ours says."""
    return Account(
        name=user.name,
        enabled=user.enabled,
        must_change=user.must_change,
        serial=user.serial,
        groups=tuple(user.groups),
        attributes=user.attributes,
    )
