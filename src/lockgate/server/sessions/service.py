"""Sessions: limits, deadlines, what a cookie is worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lockgate.model.decision import REFUSAL, Reason, said
from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.identity import Identity
from lockgate.model.policy import Realm
from lockgate.model.prompt import Refused, SessionOption
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol.edge_link import Suite
from lockgate.protocol.secret import Secret
from lockgate.server import launch_handles
from lockgate.server.audit import Audit, with_code
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce
from lockgate.server.sessions import proof as proofs
from lockgate.server.sessions.addresses import pools_of
from lockgate.server.sessions.cookie import new_cookie, new_session_id, stored_form
from lockgate.server.sessions.endings import Endings
from lockgate.server.sessions.extension import counted_anew
from lockgate.server.sessions.proof import Proof
from lockgate.server.sessions.readmission import Readmission, about_vpn, facts_of, readmit, roles_of
from lockgate.server.store import Store
from lockgate.server.store.interface import AuditEntry, Grant, NotOpened, Resumption, SessionDraft
from lockgate.server.store.leases import version

# Activity comes in every few seconds and is written down this often; a crash forgets that much.
FLUSH_INTERVAL = 30.0
# An ended session's cookie is answered with the reason of its end this long; then it is unknown.
KEEP_ENDED = 30 * 86400.0
PRUNE_INTERVAL = 3600.0
# Sessions that are changed or ended in one transaction: a tenth of a second or two that others wait.
STEP = 250

_REFUSALS = {
    NotOpened.TOO_MANY: "You have too many sessions. End one of them and sign in again.",
    NotOpened.REALM_FULL: "As many people as are allowed are signed in. Try again later.",
    NotOpened.NO_ADDRESS: "The gateway has no client address left. Try again later.",
    NotOpened.USER_CHANGED: "The account has just been changed. Sign in again.",
    NotOpened.PARENT_OVER: launch_handles.REFUSED.text,
}
# The same for who reads the decision.
_NOT_OPENED = {
    NotOpened.TOO_MANY: Reason("the user has as many sessions as the realm allows", "", False),
    NotOpened.REALM_FULL: Reason("the realm has as many users as it allows", "", False),
    NotOpened.NO_ADDRESS: Reason("no pool of the connection profile has an address left", "", False),
    NotOpened.USER_CHANGED: Reason("the account was changed while its user signed in", "", False),
    NotOpened.PARENT_OVER: Reason("the portal session that started it is over", "", False),
}
NO_IPV4 = Refused(
    "no-ipv4-address",
    "Your account gives IPv6 addresses only, which Network Connect cannot use. Connect with another program, "
    "or ask your administrator.",
)
_ONLY_IPV6 = Reason("no pool of the connection profile has IPv4 addresses", "", False)
OVER = Refused("session-over", "The session has ended.")
NOT_EXTENDABLE = Refused("not-extendable", "The session may not be extended.")
OUTDATED = Refused("policy-changed", "The configuration has just been changed. Sign in again.")

_NOT_RESUMED = {
    RefusalReason.NOT_ALLOWED: "Your account gives no VPN access from here any more.",
    RefusalReason.ROAMING: "The session may not go on from another address.",
    RefusalReason.EXPIRED: "The session has reached its maximum length.",
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


@dataclass(frozen=True, slots=True)
class By:
    """An administrator who does something to sessions, and from where."""

    actor: str
    source: str


class Sessions:
    """One per control plane. Times are wall-clock seconds: sessions outlive this process."""

    def __init__(
        self,
        store: Store,
        in_force: InForce,
        audit: Audit,
        decisions: Decisions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._records = store, store.sessions
        self._in_force, self._decisions = in_force, decisions
        self._audit, self._clock = audit, clock
        self._endings = Endings(decisions, in_force)
        self._seen: dict[int, float] = {}  # activity that is not written down yet
        self._next_flush = clock() + FLUSH_INTERVAL
        self._next_prune = clock()
        self._look = True  # another process has written and nobody has looked yet

    async def open(
        self,
        identity: Identity,
        client: ClientFacts,
        *,
        public_key: bytes = b"",
        suite: Suite | None = None,
        parent: str | None = None,
        before: Sequence[AuditEntry] = (),
        only4: bool = False,
    ) -> Opened | Refused:
        """A session with an address of every IP version of its profile; committed when this returns.

        public_key: with one, the session is resumed only with proof of that key.
        parent: web session that asks for it and ends it.
        only4: its client's protocol has no IPv6, so that it gets an IPv4 address or nothing.
        before: lines that lead to this one, for the audit whatever the answer is.
        """
        now, cookie = self._clock(), new_cookie()
        cookie_hash = stored_form(cookie)
        assert cookie_hash is not None
        policy, rights = self._in_force.policy, self._in_force.rights(identity.roles)
        realm, options = policy.realms.get(identity.realm), rights.effective.session
        if realm is None:
            for entry in before:
                await self._audit.write(entry)
            gone = Reason(f"there is no realm {identity.realm} any more", "realms", False)
            return await self._not_opened(OUTDATED, identity, client, gone)
        pools = pools_of(rights.effective.profile.addresses, policy.pools)
        if only4:
            pools = tuple(pool for pool in pools if version(pool) == 4)
            if not pools:
                for entry in before:
                    await self._audit.write(entry)
                return await self._not_opened(NO_IPV4, identity, client, _ONLY_IPV6)
        draft = SessionDraft(
            id=new_session_id(),
            cookie_hash=cookie_hash,
            identity=identity,
            client=client,
            now=now,
            expires=now + options.length_seconds,
            idle_seconds=options.idle_seconds,
            heartbeat_seconds=options.heartbeat_timeout_seconds,
            public_key=public_key,
            suite=suite,
            parent=parent,
        )

        def note(session: Session) -> AuditEntry:
            return self._about("session-open", session, text=" ".join(session.addresses))

        result = await self._records.open(
            draft,
            pools,
            realm.max_sessions_per_user,
            note,
            max_in_realm=realm.max_users or None,
            before=before,
        )
        for entry in before:
            self._audit.log(entry)
        if isinstance(result, NotOpened):
            refused = Refused(result.value, _REFUSALS[result])
            return await self._not_opened(refused, identity, client, _NOT_OPENED[result])
        self._audit.log(note(result))
        return Opened(result, cookie)

    async def _not_opened(
        self, refused: Refused, identity: Identity, client: ClientFacts, reason: Reason
    ) -> Refused:
        code = self._decisions.refuse(
            REFUSAL, identity.facts, identity.roles, self._in_force.revision, [reason]
        )
        await self._audit.record(
            "session-open",
            ok=False,
            reason=refused.code,
            user=identity.user,
            source=client.source,
            text=with_code("", code),
            log="user",
        )
        return replace(refused, support=code)

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
        certificate: CertificateFacts | None = None,
        only4: bool = False,
    ) -> Opened | Refusal:
        """The next generation of the session a cookie names; checked, made and committed in one step.

        Its roles are those that its user would have now, from there; without any the session stays where it is.
        A session that is bound to a key gets a new cookie each time. It lies in the store before anybody
        hears of it, and the one shown stays good until the new one is: an answer may be lost. Neither
        waits for the disk, so a power failure of the gateway may bring back the state before.
        connected: when the client's connection was opened.
        only4: its client's protocol has no IPv6.
        A refusal for COOKIE_REPLAYED is for the caller to act on, and is not written down yet: end the
        session everywhere, then `note_replay`.
        """
        cookie_hash, fresh = stored_form(cookie), new_cookie()
        next_hash = stored_form(fresh)
        assert next_hash is not None
        decided: list[Readmission] = []

        def judge(session: Session) -> RefusalReason | Grant | None:
            reason = self._judge(session) or proofs.judge(session, cookie, proof)
            if reason is None and only4 and session.address4 is None:
                reason = RefusalReason.NO_IPV4
            if reason is not None:
                return reason
            readmission = readmit(self._in_force, session, client, certificate, self._clock())
            decided.append(readmission)
            return readmission.refusal or readmission.grant

        def note(session: Session) -> AuditEntry:
            return self._about("session-resume", session)

        if cookie_hash is None:
            result: Session | Refusal = Refusal(RefusalReason.UNKNOWN)
        else:
            resumption = Resumption(cookie_hash, next_hash, client, connected, suite, self._clock())
            result = await self._records.resume(resumption, judge, note)
        if isinstance(result, Session):
            for each in decided:
                self._decisions.note(
                    "resume",
                    each.facts,
                    each.roles,
                    True,
                    each.revision,
                    each.reasons,
                    session=result.id,
                )
            self._audit.log(note(result))
            return Opened(result, fresh if result.bound else cookie)
        if result.reason is not RefusalReason.COOKIE_REPLAYED:
            result = self._explained(result, client, decided[-1] if decided else None)
            await self._note_refusal("session-resume", result, client)
        return result

    def _explained(self, refusal: Refusal, client: ClientFacts, decided: Readmission | None) -> Refusal:
        """With a support code, and with what its client may hear once it has proven whose session it is.

        decided: with what it may go on or not; None where it did not come to that.
        """
        session, reason = refusal.session, refusal.reason
        if session is None:
            return refusal
        if decided is None:
            facts = client.seen_in(facts_of(session), None)
            over = Reason(f"the cookie is not good: {reason.value}", "", False)
            code = self._decisions.turn_away(facts, session.revision, [over], session.id)
            return replace(refusal, support=code)
        code = self._decisions.refuse(
            "resume", decided.facts, decided.roles, decided.revision, decided.reasons, session.id
        )
        text = _NOT_RESUMED.get(reason, OVER.text)
        told = Refused(reason.value, text, code, said(decided.reasons, False))
        return replace(refusal, support=code, told=told)

    def remap(self, session: Session, facts: SignInFacts) -> tuple[str, ...]:
        """The roles that its user has now, with these facts. The decision is recorded if it changes them."""
        roles, _ = roles_of(self._in_force, session, facts, self._clock(), explain=False)
        if roles != session.roles:
            roles, reasons = roles_of(self._in_force, session, facts, self._clock())
            options = self._in_force.rights(roles).effective
            if roles and not options.vpn:
                reasons = (*reasons, *about_vpn(options))
            over = not roles or not options.vpn  # whoever asked ends the session
            self._decisions.note(
                "re-evaluation",
                facts,
                roles,
                bool(roles),
                self._in_force.revision,
                reasons,
                session=session.id,
                code=self._endings.expect(session.id, reasons) if over else None,
            )
        return roles

    async def regrant(self, grants: Mapping[int, Grant], reason: str) -> list[Session]:
        """Gives sessions other roles, limits and facts; those that are still live, as they are now."""
        if not grants:
            return []

        def note(session: Session) -> AuditEntry:
            return self._about("session-change", session, reason=reason, text=", ".join(session.roles))

        changed: list[Session] = []
        listed = list(grants.items())
        for start in range(0, len(listed), STEP):
            done = await self._records.update_many(dict(listed[start : start + STEP]), note)
            await self._log_all(done, note)
            changed += done
        return changed

    def may_extend(self, session: Session) -> bool:
        """Whether its user may extend the session now."""
        return not isinstance(self._extension(session, self._clock(), by_user=True), Refused)

    async def extend(self, session_id: int, *, source: str, actor: str = "") -> Session | Refused:
        """Counts the length of a session from now on, by the roles that its user has now.

        source: where the request comes from. actor: the administrator who asks, whatever the roles say about
        extending; without one it is the session's user.
        """
        session = await self._records.find(session_id)
        if session is None:
            return OVER
        now, revision = self._clock(), self._in_force.revision
        answer = self._extension(session, now, by_user=not actor)

        def note(session: Session, refused: Refused | None = None) -> AuditEntry:
            return self._audit.entry(
                "session-extend",
                ok=refused is None,
                reason="" if refused is None else refused.code,
                user=session.user,
                source=source,
                session=session.id,
                text="" if refused else f"ends in {session.remaining(now)} seconds",
                log="user",
                actor=actor,
                revision=revision,
            )

        if not isinstance(answer, Refused):
            extended = await self._records.extend(session_id, now, *answer, note)
            if extended is not None:
                self._audit.log(note(extended))
                return extended
            answer = OVER  # meanwhile
        await self._audit.write(note(session, answer))
        return answer

    def _extension(self, session: Session, now: float, *, by_user: bool) -> tuple[float, float] | Refused:
        """What the length of a session that is extended at that moment is counted from, and its end."""
        if self._judge(session) is not None:
            return OVER
        roles, _ = roles_of(self._in_force, session, facts_of(session), now, explain=False)
        rights = self._in_force.rights(roles).effective
        if not roles or not rights.vpn:
            return NOT_EXTENDABLE
        options = rights.session
        anew = counted_anew(options, session.started, session.counted_from, now, by_user=by_user)
        return NOT_EXTENDABLE if anew is None else (anew, anew + options.length_seconds)

    async def name_host(self, session: Session, host_name: str) -> None:
        """What the client of a session calls its machine, where it says so only after the session goes on; for
        people to see. host_name: printable and bounded."""
        await self._records.name_host(session.id, session.generation, host_name)

    async def note_replay(self, refusal: Refusal, client: ClientFacts) -> None:
        """Raises the alarm: two parties follow one session, and one of them is not its user."""
        await self._note_refusal("cookie-replayed", refusal, client)

    async def end_generation(self, session_id: int, generation: int, cause: EndCause) -> Session | None:
        """Ends a session unless it has gone on to another generation; None when there is nothing to end."""
        now = self._clock()
        self._endings.code(session_id, cause)  # made before a thread of the store asks for it
        note = self._end_note(cause)
        ended = await self._records.end(
            session_id, cause, now, self._free_at(now), note, generation=generation
        )
        if ended is not None:
            self._seen.pop(session_id, None)
            self._audit.log(note(ended))
            self._endings.record(ended, cause, facts_of(ended))
        return ended

    def end_code(self, session_id: int, cause: EndCause) -> str:
        """The support code that the user of a session hears at its end; empty where nothing is said."""
        return self._endings.code(session_id, cause)

    async def end_many(
        self, session_ids: Iterable[int], cause: EndCause, by: By | None = None
    ) -> list[Session]:
        """Ends sessions and puts their addresses into quarantine; those that had not ended before.

        by: the administrator whose act that is, for the log of those.
        """
        now, wanted = self._clock(), list(session_ids)
        notes, free_at = [self._end_note(cause)], self._free_at(now)
        if by is not None:
            notes.append(self._act_note(by))
        ended: list[Session] = []
        for start in range(0, len(wanted), STEP):
            numbers = wanted[start : start + STEP]
            for number in numbers:
                self._endings.code(number, cause)
            done = await self._records.end_many(numbers, cause, now, free_at, *notes)
            for number in numbers:
                self._seen.pop(number, None)
            for session in done:
                self._endings.record(session, cause, facts_of(session))
            await self._log_all(done, *notes)
            ended += done
        return ended

    def _free_at(self, now: float) -> float:
        """When the addresses of what ends now may be used again."""
        return now + self._in_force.tree.network.address_quarantine_seconds

    def _end_note(self, cause: EndCause) -> Callable[[Session], AuditEntry]:
        def note(session: Session) -> AuditEntry:
            text = with_code("", self._endings.code(session.id, cause))
            return self._about(
                "session-end", session, reason=cause.value, text=text, revision=self._in_force.revision
            )

        return note

    def _act_note(self, by: By) -> Callable[[Session], AuditEntry]:
        def note(session: Session) -> AuditEntry:
            return self._audit.entry(
                "session-disconnect",
                ok=True,
                user=session.user,
                source=by.source,
                session=session.id,
                log="admin",
                actor=by.actor,
            )

        return note

    async def _log_all(self, sessions: Sequence[Session], *notes: Callable[[Session], AuditEntry]) -> None:
        for position, session in enumerate(sessions, 1):
            for note in notes:
                self._audit.log(note(session))
            if position % 50 == 0:  # a line takes a twentieth of a millisecond
                await asyncio.sleep(0)

    async def at_limit(self, server: str, user: str, realm: Realm) -> tuple[SessionOption, ...]:
        """The user's own sessions, oldest first, when no further one is allowed; else nothing."""
        now = self._clock()
        if await self._records.count(server, user, now) < realm.max_sessions_per_user:
            return ()
        live = [each for each in await self._records.live(user, server) if each.expires > now]
        return tuple(SessionOption(str(each.id), each.client.source, each.started) for each in live)

    async def find(self, session_id: int) -> Session | None:
        """A session by its number, also an ended one."""
        return await self._records.find(session_id)

    async def live(self, user: str | None = None, server: str | None = None) -> list[Session]:
        """All that have not ended, or those of one user, oldest first."""
        return await self._records.live(user, server)

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

    async def orphans(self) -> list[int]:
        """Those whose web session is over. Whoever ends that one ends them too, unless the store failed or the
        process died in between."""
        return await self._records.orphans()

    async def ended_elsewhere(self, known: Iterable[int], *, look: bool = False) -> list[Session]:
        """Those of `known` that have ended without `end_many`. One number is read when no other process wrote.

        look: this process has written, for example an account.
        """
        self._look = await self._store.changed_elsewhere() or self._look or look
        if not self._look:
            return []
        ended = await self._records.ended_among(known)
        self._look = False  # not earlier: a failure must not lose the news
        return ended

    async def note_ended_elsewhere(self, sessions: Iterable[Session]) -> None:
        """Writes down the ends of sessions that ended with something else, such as an account."""
        for session in sessions:
            cause = session.cause or EndCause.DISCONNECTED
            if self._endings.record(session, cause, facts_of(session)):
                await self._audit.write(self._end_note(cause)(session))

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
            text=with_code("", refusal.support),
            log="user",
        )

    def _about(
        self, event: str, session: Session, *, reason: str = "", text: str = "", revision: int | None = None
    ) -> AuditEntry:
        return self._audit.entry(
            event,
            ok=True,
            reason=reason,
            user=session.user,
            source=session.client.source,
            session=session.id,
            text=text,
            log="user",
            revision=session.revision if revision is None else revision,
        )
