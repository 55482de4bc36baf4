"""What can be asked of the store. The records are in `records`, and can be imported from here too."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from lockgate.model.access_rule import Network
from lockgate.model.facts import SignInFacts
from lockgate.model.session import EndCause, Refusal, RefusalReason, Session
from lockgate.server.config.values import AddressRange
from lockgate.server.store.flows import Piece
from lockgate.server.store.records import (
    ADMIN_SERVER,
    LOCAL_SERVER,
    LOGS,
    AuditEntry,
    AuditFilter,
    AuditRecord,
    Change,
    ChangePage,
    DecisionRecord,
    DraftRecord,
    Grant,
    HandleRecord,
    Log,
    Merged,
    NotOpened,
    PeerRecord,
    Resumption,
    RevisionRecord,
    Sample,
    SessionDraft,
    SessionFilter,
    SessionPage,
    SessionSort,
    TokenRecord,
    UploadRecord,
    UserRecord,
    WebAudience,
    WebSessionRecord,
)

__all__ = [
    "ADMIN_SERVER",
    "LOCAL_SERVER",
    "LOGS",
    "AddressRange",
    "Audit",
    "AuditEntry",
    "AuditFilter",
    "AuditRecord",
    "Blobs",
    "Change",
    "ChangePage",
    "DecisionRecord",
    "Decisions",
    "DraftRecord",
    "Drafts",
    "Grant",
    "HandleRecord",
    "Handles",
    "Judge",
    "Log",
    "Merged",
    "Meta",
    "NotOpened",
    "Note",
    "PeerRecord",
    "Resumption",
    "RevisionRecord",
    "Revisions",
    "Sample",
    "Samples",
    "SessionDraft",
    "SessionFilter",
    "SessionPage",
    "SessionSort",
    "Sessions",
    "Store",
    "TokenRecord",
    "Tokens",
    "UploadRecord",
    "Uploads",
    "UserRecord",
    "UserRecords",
    "Users",
    "WebAudience",
    "WebSessionRecord",
    "WebSessions",
    "packed",
]

# Judges a session inside the transaction that will use the verdict: a reason against it, what it gets
# from now on, or None for what it has.
Judge = Callable[[Session], RefusalReason | Grant | None]


# The line about what has just been done to a session, for the audit: written in the same transaction, so
# that neither is there without the other.
Note = Callable[[Session], AuditEntry]


class Users(Protocol):
    """Users of local auth servers, by server and name. What changes an account ends its sessions in the
    same transaction, tunnels and browsers: `free_at` is when the tunnels' addresses may be used again, the
    result lists the tunnels' numbers, None is for no such user. `keep`: web session that does not end."""

    async def find(self, server: str, name: str) -> UserRecord | None: ...
    async def all(self, server: str | None = None) -> list[UserRecord]:
        """Ordered by server and name."""

    async def page(
        self,
        server: str | None,
        text: str,
        after: tuple[str, str] | None,
        limit: int,
        *,
        without: Collection[str] = (),
    ) -> list[UserRecord]:
        """At most `limit` users after that server and name whose name, full name or address has `text`; none of
        the servers `without`."""

    async def count(self, server: str | None = None, *, without: Collection[str] = ()) -> int: ...
    async def add(self, user: UserRecord) -> bool:
        """False when the name is taken."""

    async def update(
        self,
        server: str,
        name: str,
        *,
        full_name: str | None = None,
        email: str | None = None,
        groups: Sequence[str] | None = None,
        attributes: Mapping[str, Sequence[str]] | None = None,
        must_change: bool | None = None,
    ) -> UserRecord | None:
        """Changes what is not None and ends nothing; the user as it is now."""

    async def renew_hash(self, server: str, name: str, old: str, new: str) -> None:
        """The same password under other parameters; nothing happens unless `old` is still stored."""

    async def set_password(
        self,
        server: str,
        name: str,
        password_hash: str,
        now: float,
        free_at: float,
        *,
        must_change: bool = False,
        keep: str | None = None,
    ) -> list[int] | None: ...

    async def set_enabled(
        self, server: str, name: str, enabled: bool, now: float, free_at: float
    ) -> list[int] | None: ...

    async def delete(self, server: str, name: str, now: float, free_at: float) -> list[int] | None: ...


class Sessions(Protocol):
    """Sessions and the addresses leased to them."""

    async def open(
        self,
        draft: SessionDraft,
        pools: Sequence[Network | AddressRange],
        max_per_user: int,
        note: Note,
        *,
        max_in_realm: int | None = None,
        before: Sequence[AuditEntry] = (),
    ) -> Session | NotOpened:
        """One address of every IP version that `pools` have, from the first pool with room.

        max_per_user: sessions of the same user of the same server; max_in_realm: of everybody in the realm.
        A parent must be a live portal session of that user, so that whoever ends it sees this one too.
        before: for the audit in front of `note`, whatever the answer.
        """

    async def find(self, session: int) -> Session | None: ...
    async def by_cookie(self, cookie_hash: bytes) -> Session | None:
        """The session of a cookie that is not spent."""

    async def resume(self, resumption: Resumption, judge: Judge, note: Note) -> Session | Refusal:
        """The next generation of an acceptable session. A cookie that is spent is refused, and changes
        nothing."""

    async def end(
        self,
        session: int,
        cause: EndCause,
        now: float,
        free_at: float,
        note: Note | None = None,
        *,
        generation: int | None = None,
    ) -> Session | None:
        """None when there is no such session or it had ended already.

        generation: only while it is that one's.
        """

    async def end_many(
        self, sessions: Iterable[int], cause: EndCause, now: float, free_at: float, *notes: Note
    ) -> list[Session]:
        """Those that this has ended, in one step. notes: the lines about each."""

    async def touch(self, seen: Mapping[int, float]) -> None:
        """Moves `last_seen` forward, never back."""

    async def extend(
        self, session: int, now: float, since: float, until: float, note: Note
    ) -> Session | None:
        """Counts the length of a session from `since` on: it ends at `until`, or later if it did before. None
        when there is no such session, it has ended or its length is used up."""

    async def name_host(self, session: int, generation: int, host_name: str) -> None:
        """What its client calls its machine; nothing when the session has ended or gone on since."""

    async def update_many(self, grants: Mapping[int, Grant], note: Note | None = None) -> list[Session]:
        """Live sessions with what a later decision gives them, in one step; those that are live."""

    async def live(self, user: str | None = None, server: str | None = None) -> list[Session]:
        """All that have not ended, oldest first."""

    async def live_numbers(self, user: str | None = None) -> list[int]:
        """`live`, the numbers alone."""

    async def live_among(self, sessions: Iterable[int]) -> set[int]:
        """Those of `sessions` that have not ended."""

    async def live_page(
        self,
        wanted: SessionFilter,
        sort: SessionSort = "started",
        limit: int = 100,
        after: str | None = None,
        *,
        descending: bool = False,
    ) -> SessionPage:
        """Live sessions in order of `sort`. after: `following` of the page before; a ProblemError if not."""

    async def live_count(self) -> int: ...
    async def of_parent(self, web_session: str) -> list[Session]:
        """Live sessions that this web session started."""

    async def count(self, server: str, user: str, now: float) -> int:
        """Sessions that count for the user's limit: not ended, length not used up."""

    async def count_in_realm(self, realm: str, now: float) -> int:
        """The same for the realm's limit."""

    async def due(self, now: float) -> list[Session]:
        """Those that have not ended but whose length or idle time is over."""

    async def orphans(self) -> list[int]:
        """Live sessions whose web session is over."""

    async def ended_among(self, sessions: Iterable[int]) -> list[Session]:
        """Those of `sessions` that have ended; unknown numbers are left out."""

    async def known_sources(self, since: float, limit: int) -> list[tuple[str, str, str]]:
        """Auth server, user and source address of sessions since then, newest first."""

    async def prune(self, before: float) -> None:
        """Forgets sessions that ended before that time."""


class WebSessions(Protocol):
    """Sessions of browsers."""

    async def add(self, record: WebSessionRecord, max_per_user: int | None = None) -> bool:
        """False, and nothing added, when the account is not as it was at the sign-in, or the user has
        `max_per_user` sessions of that audience."""

    async def by_cookie(self, cookie_hash: bytes) -> WebSessionRecord | None:
        """Also one that has ended."""

    async def find(self, web_session: str) -> WebSessionRecord | None: ...
    async def touch(self, seen: Mapping[str, float]) -> None: ...
    async def update_roles(self, web_session: str, roles: Sequence[str]) -> bool: ...
    async def update_facts(self, web_session: str, facts: SignInFacts) -> bool:
        """False when it has ended."""

    async def extend(
        self,
        web_session: str,
        now: float,
        since: float,
        until: float,
        note: Callable[[WebSessionRecord], AuditEntry],
    ) -> WebSessionRecord | None:
        """As `Sessions.extend`."""

    async def end(self, web_session: str, cause: str, now: float) -> bool:
        """False when it had ended already or was never there."""

    async def end_of_user(
        self, server: str, user: str, cause: str, now: float, keep: str | None = None
    ) -> list[str]: ...
    async def live(
        self, audience: WebAudience | None = None, user: str | None = None, server: str | None = None
    ) -> list[WebSessionRecord]:
        """Those that have not ended, oldest first; the length of some may be over."""

    async def live_counts(self) -> dict[WebAudience, int]:
        """How many `live` would list, by audience."""

    async def due(self, now: float) -> list[WebSessionRecord]: ...
    async def prune(self, before: float) -> None:
        """Forgets those that ended before that time."""


class Handles(Protocol):
    """Launch handles: used once."""

    async def add(self, handle_hash: bytes, web_session: str, server_url: str, expires: float) -> None: ...
    async def take(self, handle_hash: bytes, now: float) -> HandleRecord | None:
        """Uses it up; None for one that is unknown, used or over. Of two takers one gets it."""

    async def prune(self, now: float) -> None: ...


class Tokens(Protocol):
    async def add(self, token: TokenRecord) -> bool:
        """False when the owner has a token of that name."""

    async def by_hash(self, token_hash: bytes) -> TokenRecord | None:
        """Also one that is revoked or over."""

    async def find(self, token: str) -> TokenRecord | None: ...
    async def all(self, owner: str | None = None) -> list[TokenRecord]: ...
    async def touch(self, token: str, when: float) -> None: ...
    async def revoke(self, token: str, now: float) -> bool: ...
    async def delete(self, token: str) -> bool: ...


class Revisions(Protocol):
    """Committed configurations; numbers without gaps."""

    async def current_number(self) -> int:
        """0 when there is none."""

    async def add(
        self,
        record: RevisionRecord,
        expected_current: int,
        *,
        draft: str | None = None,
        draft_version: int | None = None,
        note: AuditEntry | None = None,
        renamed_servers: Mapping[str, str] | None = None,
        logical_servers: Mapping[str, str] | None = None,
    ) -> bool:
        """Makes `record` (number expected_current + 1) the current one, in one step with all the rest.

        False, and nothing changed, when another revision came first, or the draft is not there in that
        version any more. draft: deleted. note: written to the audit. renamed_servers: users, sessions, tokens
        and records of users follow the new names of their auth servers. logical_servers: auth server → logical
        one, of all whose records are synchronised from now on; None leaves that as it is.
        """

    async def get(self, number: int) -> RevisionRecord | None: ...
    async def current(self) -> RevisionRecord | None: ...
    async def holding(self, text: str) -> RevisionRecord | None:
        """The newest one in whose tree that text stands; looks through all of them."""

    async def log(self, limit: int, before: int | None = None) -> list[RevisionRecord]:
        """Newest first, without trees."""


class Drafts(Protocol):
    async def add(self, draft: DraftRecord, most: int = 1000) -> bool:
        """False when there are `most` already."""

    async def get(self, draft: str) -> DraftRecord | None: ...
    async def head(self, draft: str) -> DraftRecord | None:
        """Without its tree."""

    async def all(self) -> list[DraftRecord]:
        """Newest first, without trees."""

    async def edit(self, draft: str, version: int, tree: str, now: float, base: int | None = None) -> bool:
        """The next version; False when `version` is not the present one. base: of a rebased draft."""

    async def delete(self, draft: str) -> bool: ...


class Decisions(Protocol):
    async def add(self, decision: DecisionRecord) -> None: ...
    async def add_many(self, decisions: Sequence[DecisionRecord]) -> None: ...
    async def since(
        self,
        time: float,
        user: str | None = None,
        limit: int = 10_000,
        after: int = 0,
        *,
        kinds: Sequence[str] = (),
        newest_first: bool = False,
    ) -> list[DecisionRecord]:
        """With ids above `after`; oldest first, unless said otherwise. kinds: only these, where any are named."""

    async def by_code(self, code: str, since: float) -> DecisionRecord | None:
        """The newest with that support code, if it was made since then."""

    async def prune(self, before: float) -> None: ...
    async def thin(self, kinds: Sequence[str], most: int) -> None:
        """Forgets the oldest of these kinds beyond the newest `most`."""


class Samples(Protocol):
    async def add(self, sample: Sample) -> None:
        """Replaces one of the same time and period."""

    async def rollup(
        self,
        period: int,
        into: int,
        until: float,
        combine: Callable[[Sequence[Mapping[str, float]]], Mapping[str, float]],
    ) -> int:
        """Makes the missing samples of `into` seconds from whole spans of those of `period` that end by
        `until`; how many."""

    async def range(self, period: int, since: float, until: float) -> list[Sample]: ...
    async def prune(self, period: int, before: float) -> None: ...


class Uploads(Protocol):
    """Logs of clients."""

    async def add(self, record: UploadRecord, content: bytes | AsyncIterable[bytes]) -> UploadRecord:
        """Kept in pieces; there as a whole or not at all. The record with its true size."""

    async def get(self, upload: str) -> UploadRecord | None: ...
    def content(self, upload: str) -> AsyncIterator[bytes]: ...
    async def all(self) -> list[UploadRecord]:
        """Newest first."""

    async def delete(self, upload: str) -> bool: ...
    async def prune(self, before: float, max_bytes: int) -> list[str]:
        """Removes those older than `before`, and the oldest until the rest has at most `max_bytes`."""


class UserRecords(Protocol):
    """What users keep in the portal, and how far other gateways know it. now: milliseconds since 1970."""

    async def get(self, server: str, user: str) -> dict[str, str]:
        """Item → text of its value, of a user of that auth server."""

    async def change(
        self, server: str, user: str, edit: Callable[[Mapping[str, str]], Mapping[str, str | None]], now: int
    ) -> dict[str, str]:
        """Changes what `edit` says of the items that it gets, in one step; None deletes. All items as they are then."""

    async def clear(self, server: str, user: str, now: int) -> int:
        """Deletes all of it; how many items."""

    async def origin(self) -> str:
        """What this gateway is called in versions."""

    async def logical_names(self) -> set[str]:
        """Logical auth servers of the revision in force."""

    async def changes(self, after: int, limit: int) -> ChangePage:
        """Changes of logical servers' records with a higher number."""

    async def waiting(self, after: int) -> int:
        """How many there are."""

    async def merge(self, changes: Sequence[Change], now: int) -> Merged:
        """Takes over what is later than what is here, of logical servers that are ours."""

    async def set_back(self, now: int) -> int:
        """Our own changes that a wrong clock put into the future are of now; how many. Nobody took them yet."""

    async def prune(self, now: int) -> None:
        """Forgets old deletions."""

    async def peers(self) -> dict[str, PeerRecord]: ...
    async def keep_peer(self, peer: PeerRecord) -> None: ...
    async def forget_peers(self, but: Iterable[str]) -> None:
        """All but those."""


class Blobs(Protocol):
    """Contents that the configuration names by their SHA-256 in hexadecimal digits."""

    async def put(self, content: bytes, now: float | None = None) -> str:
        """The digest. now: seconds since 1970, the system's clock where not given."""

    async def get(self, digest: str) -> bytes | None: ...
    async def all(self) -> dict[str, int]:
        """Digest → size in bytes."""

    async def delete_unused(self, before: float) -> list[str]:
        """Removes those stored before that time which no revision and no draft names."""


class Meta(Protocol):
    """Single texts by key."""

    async def get(self, key: str) -> str | None: ...
    async def set(self, key: str, value: str) -> None: ...
    async def delete(self, key: str) -> bool: ...


class Audit(Protocol):
    async def add(self, entry: AuditEntry) -> AuditRecord: ...
    async def add_flows(
        self, pieces: Sequence[Piece], entry: Callable[[str], AuditEntry], heard: str
    ) -> AuditRecord | None:
        """Writes flows and their record in one step, at most `flows.PLACES` of them. entry: the record, from its
        text. heard: how much of the edge's has been written then (`flows.HEARD`); None where it was before."""

    async def flows_heard(self) -> str | None:
        """What the last `add_flows` was told, "" where there was none; None where somebody else changed it."""

    async def flows_of(self, record: int) -> list[AuditRecord]:
        """The lines of the flows of a record."""

    async def newest(self, limit: int) -> list[AuditEntry]:
        """The last `limit` entries, oldest first."""

    async def page(self, wanted: AuditFilter, limit: int, *, oldest_first: bool = False) -> list[AuditRecord]:
        """Newest first, unless said otherwise. Of the log "flows" the flows themselves; of all logs together
        their records."""

    def stream(self, wanted: AuditFilter) -> AsyncIterator[AuditRecord]:
        """All that are there when it begins, oldest first, a few at a time."""

    async def prune(
        self, before: float | None, max_bytes: int | None, entry: Callable[[int], AuditEntry]
    ) -> int:
        """Removes the oldest records: older than `before`, or beyond `max_bytes`; how many. What is left
        verifies. entry: the line about it, from their number."""

    async def prune_flows(
        self, before: float | None, max_bytes: int | None, entry: Callable[[int], AuditEntry]
    ) -> int:
        """The same for flows; their records stay."""


class Store(Protocol):
    """All of it, over one database."""

    @property
    def users(self) -> Users: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def web_sessions(self) -> WebSessions: ...
    @property
    def handles(self) -> Handles: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def revisions(self) -> Revisions: ...
    @property
    def drafts(self) -> Drafts: ...
    @property
    def decisions(self) -> Decisions: ...
    @property
    def samples(self) -> Samples: ...
    @property
    def uploads(self) -> Uploads: ...
    @property
    def user_records(self) -> UserRecords: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def meta(self) -> Meta: ...

    async def changed_elsewhere(self) -> bool:
        """Whether another process has written since the last call; the first call says True. Cheap."""

    async def ping(self) -> None:
        """Returns when the database answers; ProblemError when it does not."""

    async def close(self) -> None: ...


def packed(address: IPv4Address | IPv6Address | None) -> bytes | None:
    """An address as the store keeps it: 4 or 16 bytes."""
    return None if address is None else address.packed
