"""Sessions: limits, deadlines, what a cookie is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lockgate.model.access_rule import Network
from lockgate.model.identity import Identity
from lockgate.model.prompt import Refused, SessionOption
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol.edge_link import Suite
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.config.tree import Sessions as Settings
from lockgate.server.sessions import proof as proofs
from lockgate.server.sessions.cookie import new_cookie, new_session_id, stored_form
from lockgate.server.sessions.proof import Proof
from lockgate.server.store import Store
from lockgate.server.store.interface import AuditEntry, NotOpened, Resumption, SessionDraft

# Activity comes in every few seconds and is written down this often; a crash forgets that much.
FLUSH_INTERVAL = 30.0
# An ended session's cookie is answered with the reason of its end this long; then it is unknown.
KEEP_ENDED = 30 * 86400.0
PRUNE_INTERVAL = 3600.0

_REFUSALS = {
    NotOpened.TOO_MANY: "You have too many sessions. End one of them and sign in again.",
    NotOpened.NO_ADDRESS: "The gateway has no client address left. Try again later.",
    NotOpened.USER_CHANGED: "The account has just been changed. Sign in again.",
}

_REASONS = {
    EndCause.IDLE: RefusalReason.IDLE,
    EndCause.EXPIRED: RefusalReason.EXPIRED,
    EndCause.USER_DISABLED: RefusalReason.USER_DISABLED,
    EndCause.USER_DELETED: RefusalReason.USER_DISABLED,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, new or resumed, and the only copy of the cookie its client is to use next."""

    session: Session
    cookie: Secret


class Sessions:
    """One per control plane. Times are wall-clock seconds: sessions outlive this process."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        pools: Sequence[Network],
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._records = store, store.sessions
        self._settings, self._pools = settings, tuple(pools)
        self._audit, self._clock = audit, clock
        self._seen: dict[int, float] = {}  # activity that is not written down yet
        self._next_flush = clock() + FLUSH_INTERVAL
        self._next_prune = clock()
        self._look = True  # another process has written and nobody has looked yet

    async def open(
        self, identity: Identity, client: ClientFacts, *, public_key: bytes = b"", suite: Suite | None = None
    ) -> Opened | Refused:
        """A session with an address of every IP version; committed when this returns.

        public_key: with one, the session is resumed only with proof of that key.
        """
        now, cookie = self._clock(), new_cookie()
        cookie_hash = stored_form(cookie)
        assert cookie_hash is not None
        draft = SessionDraft(
            id=new_session_id(),
            cookie_hash=cookie_hash,
            identity=identity,
            client=client,
            now=now,
            expires=now + self._settings.length_seconds,
            idle_seconds=self._settings.idle_seconds,
            public_key=public_key,
            suite=suite,
        )

        def note(session: Session) -> AuditEntry:
            return self._about("session-open", session, text=_addresses(session))

        result = await self._records.open(draft, self._pools, self._settings.max_per_user, note)
        if isinstance(result, NotOpened):
            await self._audit.record(
                "session-open", ok=False, reason=result.value, user=identity.user, source=client.source
            )
            return Refused(result.value, _REFUSALS[result])
        self._audit.log(note(result))
        return Opened(result, cookie)

    async def by_cookie(self, cookie: Secret) -> Session | Refusal:
        """The session a cookie names, if it may go on. Changes nothing."""
        cookie_hash = stored_form(cookie)
        session = None if cookie_hash is None else await self._records.by_cookie(cookie_hash)
        if session is None:
            return Refusal(RefusalReason.UNKNOWN)
        reason = self._judge(session)
        return session if reason is None else Refusal(reason, session)

    async def resume(
        self,
        cookie: Secret,
        client: ClientFacts,
        proof: Proof,
        *,
        connected: float,
        suite: Suite | None = None,
    ) -> Opened | Refusal:
        """The next generation of the session a cookie names; checked, made and committed in one step.

        A session that is bound to a key gets a new cookie each time. It lies in the store before anybody
        hears of it, and the one shown stays good until the new one is: an answer may be lost. Neither
        waits for the disk, so a power failure of the gateway may bring back the state before.
        connected: when the client's connection was opened.
        A refusal for COOKIE_REPLAYED is for the caller to act on, and is not written down yet: end the
        session everywhere, then `note_replay`.
        """
        cookie_hash, fresh = stored_form(cookie), new_cookie()
        next_hash = stored_form(fresh)
        assert next_hash is not None

        def judge(session: Session) -> RefusalReason | None:
            return self._judge(session) or proofs.judge(session, cookie, proof)

        def note(session: Session) -> AuditEntry:
            return self._about("session-resume", session)

        if cookie_hash is None:
            result: Session | Refusal = Refusal(RefusalReason.UNKNOWN)
        else:
            resumption = Resumption(cookie_hash, next_hash, client, connected, suite, self._clock())
            result = await self._records.resume(resumption, judge, note)
        if isinstance(result, Session):
            self._audit.log(note(result))
            return Opened(result, fresh if result.bound else cookie)
        if result.reason is not RefusalReason.COOKIE_REPLAYED:
            await self._note_refusal("session-resume", result, client)
        return result

    async def note_replay(self, refusal: Refusal, client: ClientFacts) -> None:
        """Raises the alarm: two parties follow one session, and one of them is not its user."""
        await self._note_refusal("cookie-replayed", refusal, client)

    async def end(self, session_id: int, cause: EndCause) -> Session | None:
        """Ends a session and puts its addresses into quarantine; None when that had happened before."""
        now = self._clock()
        free_at = now + self._settings.address_quarantine_seconds
        session = await self._records.end(session_id, cause, now, free_at)
        self._seen.pop(session_id, None)
        if session is not None:
            await self._audit.record(
                "session-end",
                ok=True,
                reason=cause.value,
                user=session.user,
                source=session.client.source,
                session=session.id,
            )
        return session

    async def at_limit(self, user: str) -> tuple[SessionOption, ...]:
        """The user's own sessions, oldest first, when no further one is allowed; else nothing."""
        now = self._clock()
        if await self._records.count(user, now) < self._settings.max_per_user:
            return ()
        live = [session for session in await self._records.live(user) if session.expires > now]
        return tuple(SessionOption(str(each.id), each.client.source, each.started) for each in live)

    async def find(self, session_id: int) -> Session | None:
        """A session by its number, also an ended one."""
        return await self._records.find(session_id)

    async def live(self) -> list[Session]:
        """All that have not ended, oldest first."""
        return await self._records.live()

    async def note_activity(self, seen: Mapping[int, float]) -> None:
        """When sessions were last used. Cheap: counts at once, and is written down now and then."""
        for session_id, when in seen.items():
            self._seen[session_id] = max(when, self._seen.get(session_id, 0.0))
        if self._clock() >= self._next_flush:
            await self.flush()

    async def flush(self) -> None:
        """Writes down all activity, for example before this process stops."""
        # Written before it is forgotten; what comes in meanwhile stays for the next time.
        self._next_flush = self._clock() + FLUSH_INTERVAL
        written = dict(self._seen)
        await self._records.touch(written)
        for session_id, when in written.items():
            if self._seen.get(session_id) == when:
                del self._seen[session_id]

    async def due(self) -> list[tuple[Session, EndCause]]:
        """Sessions whose length or idle time is over, with the cause to end them for.

        The store knows the activity of attached sessions only as `note_activity` told; whoever knows
        better does not end them.
        """
        now = self._clock()
        if now >= self._next_prune:
            self._next_prune = now + PRUNE_INTERVAL
            await self._records.prune(now - KEEP_ENDED)
        due = [(session, self._deadline_passed(session)) for session in await self._records.due(now)]
        return [(session, cause) for session, cause in due if cause is not None]

    async def ended_elsewhere(self, known: Iterable[int]) -> list[Session]:
        """Those of `known` that another process has ended. One number is read when nobody wrote."""
        self._look = await self._store.changed_elsewhere() or self._look
        if not self._look:
            return []
        ended = await self._records.ended_among(known)
        self._look = False  # not earlier: a failure must not lose the news
        return ended

    def _judge(self, session: Session) -> RefusalReason | None:
        if session.ended is not None:
            return _REASONS.get(session.cause, RefusalReason.ENDED) if session.cause else RefusalReason.ENDED
        cause = self._deadline_passed(session)
        return None if cause is None else _REASONS[cause]

    def _deadline_passed(self, session: Session) -> EndCause | None:
        now = self._clock()
        if now >= session.expires:
            return EndCause.EXPIRED
        seen = max(session.last_seen, self._seen.get(session.id, 0.0))
        if session.idle_seconds and now >= seen + session.idle_seconds:
            return EndCause.IDLE
        return None

    async def _note_refusal(self, event: str, refusal: Refusal, client: ClientFacts) -> None:
        session = refusal.session
        await self._audit.record(
            event,
            ok=False,
            reason=refusal.reason.value,
            user=session.user if session else "",
            source=client.source,
            session=session.id if session else None,
        )

    def _about(self, event: str, session: Session, text: str = "") -> AuditEntry:
        return self._audit.entry(
            event, ok=True, user=session.user, source=session.client.source, session=session.id, text=text
        )


def _addresses(session: Session) -> str:
    return " ".join(str(each) for each in (session.address4, session.address6) if each is not None)
