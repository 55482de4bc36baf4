"""The records of the store: plain values, one class per kind.

Times are seconds since 1970. Names of users are canonical (`server.auth.names`). Texts from outside are
printable and bounded already (`model.text`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal

from lockgate.model.facts import SignInFacts
from lockgate.model.flow import Flow
from lockgate.model.identity import Identity
from lockgate.model.session import ClientFacts, Session
from lockgate.model.user_record import Version
from lockgate.protocol.edge_link import Suite

LOCAL_SERVER = "System Local"
"""The auth server of every gateway's own users, and of those that an earlier release made."""
ADMIN_SERVER = "Administrators"
"""The auth server of every gateway's own administrators."""

Log = Literal["events", "user", "admin", "flows"]
LOGS: tuple[Log, ...] = ("events", "user", "admin", "flows")

_NO_ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user of a local auth server. `serial` changes with every change that ends the user's sessions."""

    name: str
    password_hash: str  # argon2id in its own text form
    enabled: bool
    serial: int
    created: float
    changed: float  # when password or state were last changed
    server: str = LOCAL_SERVER
    full_name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_ATTRIBUTES)
    must_change: bool = False  # the next sign-in asks for a new password


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit, as somebody has it written."""

    time: float
    event: str  # what was tried or happened: "sign-in", "session-open" …
    outcome: str  # "ok" or "failed"
    reason: str  # code that never changes, empty when there is nothing to say
    user: str  # whom it is about, as typed
    source: str  # address, or "local" for a command on the gateway
    session: int | None
    text: str
    log: Log = "events"
    actor: str = ""  # who did it, where that is not `user`
    revision: int | None = None  # of the configuration, where it decided or was changed


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry in its place in the chain, or a line made of a flow, which its record has in the chain.

    number: 1, 2, 3 … without gaps; of a flow, see `store.flows`.
    flow, roles: of a flow; it has neither position nor MAC of its own.
    """

    number: int
    entry: AuditEntry
    position: int  # bytes that it and all before it count for
    mac: bytes  # over the record before it and this one, 32 bytes
    flow: Flow | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; empty fields want everything. Texts match without regard to case of
    ASCII letters, `text` anywhere in user, actor, source, reason, event or text."""

    log: Log | None = None
    text: str = ""
    user: str = ""  # exactly, as user or actor
    source: str = ""  # exactly
    event: str = ""  # exactly
    outcome: str = ""  # exactly
    since: float | None = None  # at this time or later
    until: float | None = None  # before this time
    before: int | None = None  # numbers below
    after: int | None = None  # numbers above
    code: str = ""  # of a support code as it is written; anywhere in `text`
    session: int | None = None
    remote: str = ""  # of flows: address of the other end in its usual form
    port: int | None = None  # of flows: of the other end


@dataclass(frozen=True, slots=True)
class SessionDraft:
    """A session to be opened; the store adds addresses.

    User, server, realm, roles, chosen roles, facts and revision are the identity's.
    parent: web session that started it; it ends with that.
    """

    id: int
    cookie_hash: bytes  # SHA-256, 32 bytes
    identity: Identity
    client: ClientFacts
    now: float
    expires: float
    idle_seconds: int
    public_key: bytes = b""
    suite: Suite | None = None
    heartbeat_seconds: int = 0
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a later decision gives a session: everything that may have changed with roles and policies.

    counted_from: what `expires` was counted from; a session that was extended meanwhile ends as much later.
                  None for an end that was counted from nothing.
    """

    roles: tuple[str, ...]
    revision: int
    expires: float
    idle_seconds: int
    heartbeat_seconds: int = 0
    facts: SignInFacts | None = None  # None keeps those it has
    counted_from: float | None = None


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
    REALM_FULL = "realm-full"
    NO_ADDRESS = "no-address-left"
    USER_CHANGED = "user-changed"  # disabled, deleted or given a new password since the sign-in
    PARENT_OVER = "portal-session-over"  # the web session that asked for it


SessionSort = Literal["started", "user", "realm", "source", "last_seen", "expires"]


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which live sessions are wanted; empty fields want everything."""

    text: str = ""  # in user, host name or source, or an inner address exactly
    user: str = ""
    server: str = ""
    realm: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some of the live sessions that a filter wants."""

    sessions: tuple[Session, ...]
    total: int  # on all pages
    following: str | None  # where the next page begins; None on the last


WebAudience = Literal["portal", "console"]


@dataclass(frozen=True, slots=True)
class WebSessionRecord:
    """Somebody signed in with a browser.

    cookie_hash: SHA-256 of the cookie. csrf: key of its anti-forgery tokens, 32 bytes.
    serial:      state of the account at sign-in.
    extended:    when it was extended last; None if it never was.
    """

    id: str
    cookie_hash: bytes
    csrf: bytes
    audience: WebAudience
    user: str
    server: str
    realm: str
    roles: tuple[str, ...]
    serial: int
    facts: SignInFacts | None
    source: str
    user_agent: str
    started: float
    expires: float
    idle_seconds: int
    last_seen: float
    ended: float | None = None
    cause: str | None = None
    extended: float | None = None

    @property
    def counted_from(self) -> float:
        """What its length is counted from."""
        return self.started if self.extended is None else self.extended


@dataclass(frozen=True, slots=True)
class HandleRecord:
    """A launch handle that has just been used up."""

    web_session: str
    server_url: str
    expires: float


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token for the REST interface; only its hash is kept."""

    id: str
    name: str
    hash: bytes  # SHA-256
    owner: str  # administrator whose rights it has at most
    scopes: tuple[str, ...]
    created: float
    expires: float
    last_used: float | None = None
    revoked: float | None = None
    server: str = ADMIN_SERVER  # auth server of the owner


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A committed configuration. `tree` is "" where only the head was asked for."""

    number: int  # 1, 2, 3 …
    time: float
    author: str
    reason: str
    base: int | None  # revision it was made from
    tree: str  # JSON
    digest: str  # SHA-256 of `tree` in hexadecimal digits


@dataclass(frozen=True, slots=True)
class DraftRecord:
    """A configuration that somebody is working on."""

    id: str
    author: str
    base: int
    version: int  # 1, and one more with every edit
    created: float
    changed: float
    tree: str  # JSON


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision with what it was made from, for what-if and for the help desk."""

    time: float
    kind: str  # of `model.decision`: "sign-in", "resume", "re-evaluation" …
    session: int | None
    user: str
    server: str
    realm: str
    revision: int
    allow: bool
    facts: Mapping[str, Any]
    roles: tuple[str, ...]
    reasons: tuple[Any, ...]  # JSON values
    id: int = 0  # given by the store
    code: str | None = None  # support code, where a person was refused


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of one moment, or of one span of it where they were rolled up."""

    time: float  # beginning of the span
    period: int  # seconds
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A client's log; the content is read in pieces."""

    id: str
    user: str
    server: str
    host_name: str
    session: int | None
    time: float
    size: int  # bytes
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """A version of an item of somebody's record, as gateways tell one another.

    logical: the logical auth server that the user belongs to.
    """

    logical: str
    user: str
    item: str
    version: Version


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order in which they came to be. following: number to ask for what comes later by."""

    changes: tuple[Change, ...]
    following: int


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of changes: how many were new, and how many were refused, by reason."""

    taken: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """How far records are exchanged with another gateway.

    origin:    what it is called in versions; "" before the first answer.
    names:     logical auth servers that both have.
    sent:      number of our changes that it has got; fetched: number of its changes that we have.
    refused:   changes of ours that it did not take since the names were the same.
    succeeded: when all was exchanged last, seconds since 1970; error: what is wrong since then, or "".
    """

    name: str
    origin: str = ""
    names: frozenset[str] = frozenset()
    sent: int = 0
    fetched: int = 0
    refused: int = 0
    succeeded: float | None = None
    error: str = ""
