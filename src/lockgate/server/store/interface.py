"""What the store keeps and what can be asked of it.

Times are seconds since 1970. Names of users are canonical (`server.auth.names`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from lockgate.model.access_rule import Network
from lockgate.model.identity import Identity
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol.edge_link import Suite


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A local user. `serial` changes with every change that ends the user's sessions."""

    name: str
    password_hash: str  # argon2id in its own text form
    enabled: bool
    serial: int
    created: float
    changed: float  # when password or state were last changed


@dataclass(frozen=True, slots=True)
class AdministratorRecord:
    """Somebody who may use console and interface."""

    name: str
    password_hash: str
    created: float


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit. Texts are printable and bounded already (`model.text`)."""

    time: float
    event: str  # what was tried or happened: "sign-in", "session-opened" …
    outcome: str  # "ok" or "failed"
    reason: str  # code that never changes, empty when there is nothing to say
    user: str  # as typed
    source: str  # address, or "local" for a command on the gateway
    session: int | None
    text: str


@dataclass(frozen=True, slots=True)
class SessionDraft:
    """A session to be opened; the store adds addresses."""

    id: int
    cookie_hash: bytes  # SHA-256, 32 bytes
    identity: Identity
    client: ClientFacts
    now: float
    expires: float
    idle_seconds: int
    public_key: bytes = b""
    suite: Suite | None = None


@dataclass(frozen=True, slots=True)
class Resumption:
    """A client that comes back with a cookie.

    next_hash:  of the cookie it gets for the next time, if the session is bound to a key.
    connected:  when its connection was opened: a cookie that lost its worth later is late, not stolen.
    suite:      of the new generation.
    """

    cookie_hash: bytes
    next_hash: bytes
    client: ClientFacts
    connected: float
    suite: Suite | None
    now: float


class NotOpened(Enum):
    """Why a session was not opened."""

    TOO_MANY = "too-many-sessions"
    NO_ADDRESS = "no-address-left"
    USER_CHANGED = "user-changed"  # disabled, deleted or given a new password since the sign-in


# Judges a session inside the transaction that will use the verdict.
Judge = Callable[[Session], RefusalReason | None]


# The line about what has just been done to a session, for the audit: written in the same transaction, so
# that neither is there without the other.
Note = Callable[[Session], AuditEntry]


class Users(Protocol):
    """Local users. What changes an account ends its sessions in the same transaction: `free_at` is
    when their addresses may be used again, the result lists their numbers."""

    async def find(self, name: str) -> UserRecord | None: ...
    async def all(self) -> list[UserRecord]: ...
    async def add(self, user: UserRecord) -> bool:
        """False when the name is taken."""

    async def renew_hash(self, name: str, old: str, new: str) -> None:
        """The same password under other parameters; nothing happens unless `old` is still stored."""

    async def set_password(
        self, name: str, password_hash: str, now: float, free_at: float
    ) -> list[int] | None:
        """None when there is no such user."""

    async def set_enabled(self, name: str, enabled: bool, now: float, free_at: float) -> list[int] | None: ...
    async def delete(self, name: str, now: float, free_at: float) -> list[int] | None: ...


class Administrators(Protocol):
    async def find(self, name: str) -> AdministratorRecord | None: ...
    async def add(self, administrator: AdministratorRecord) -> bool: ...


class Sessions(Protocol):
    """Sessions and the addresses leased to them."""

    async def open(
        self, draft: SessionDraft, pools: Sequence[Network], max_per_user: int, note: Note
    ) -> Session | NotOpened:
        """One address of every IP version that `pools` have, from the first pool with room."""

    async def find(self, session: int) -> Session | None: ...
    async def by_cookie(self, cookie_hash: bytes) -> Session | None:
        """The session of a cookie that is not spent."""

    async def resume(self, resumption: Resumption, judge: Judge, note: Note) -> Session | Refusal:
        """The next generation of an acceptable session. A cookie that is spent is refused, and changes
        nothing."""

    async def end(self, session: int, cause: EndCause, now: float, free_at: float) -> Session | None:
        """None when there is no such session or it had ended already."""

    async def touch(self, seen: Mapping[int, float]) -> None:
        """Moves `last_seen` forward, never back."""

    async def live(self, user: str | None = None) -> list[Session]:
        """All that have not ended, oldest first."""

    async def count(self, user: str, now: float) -> int:
        """Sessions of `user` that count for the limit: not ended, length not used up."""

    async def due(self, now: float) -> list[Session]:
        """Those that have not ended but whose length or idle time is over."""

    async def ended_among(self, sessions: Iterable[int]) -> list[Session]:
        """Those of `sessions` that have ended; unknown numbers are left out."""

    async def known_sources(self, since: float, limit: int) -> list[tuple[str, str]]:
        """User and source address of sessions since then, newest first."""

    async def prune(self, before: float) -> None:
        """Forgets sessions that ended before that time."""


class Audit(Protocol):
    async def add(self, entry: AuditEntry) -> None: ...
    async def newest(self, limit: int) -> list[AuditEntry]: ...


class Store(Protocol):
    """All of it, over one database."""

    @property
    def users(self) -> Users: ...
    @property
    def administrators(self) -> Administrators: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def audit(self) -> Audit: ...

    async def changed_elsewhere(self) -> bool:
        """Whether another process has written since the last call; the first call says True. Cheap."""

    async def close(self) -> None: ...


def packed(address: IPv4Address | IPv6Address | None) -> bytes | None:
    """An address as the store keeps it: 4 or 16 bytes."""
    return None if address is None else address.packed
