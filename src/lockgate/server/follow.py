"""Live sessions follow what is in force: roles mapped again, rules and limits sent, sessions without rights ended.

Every look compares what a tunnel was given with what its session is to have now, and acts on the difference
alone. Looks may overlap and repeat: each brings its tunnel to the present, and there is nothing to undo.
Sessions that no edge holds are looked at when their client comes back (`sessions.resume`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from lockgate.model.facts import SignInFacts
from lockgate.model.session import EndCause, Session
from lockgate.server.gateway.tunnel import Tunnel
from lockgate.server.gateway.tunnels import Tunnels
from lockgate.server.in_force import InForce, Rights
from lockgate.server.sessions import Sessions, facts_of, grant_of
from lockgate.server.store.interface import Grant

log = structlog.get_logger("follow")

# Seconds of work before others get their turn. A tunnel whose rights stayed takes about a microsecond, one
# whose realm has 2,000 rules to be mapped by takes milliseconds.
TURN = 0.02
# How often realms whose rules look at the clock are mapped again, in seconds.
CLOCK_INTERVAL = 30.0

POLICY, NAMES, USER, CLOCK = "policy-changed", "name-changed", "user-changed", "time-passed"


class Follow:
    """One per gateway."""

    def __init__(
        self,
        *,
        in_force: InForce,
        sessions: Sessions,
        tunnels: Tunnels,
        end_many: Callable[[Iterable[int], EndCause], Awaitable[list[Session]]],
        ordered: Callable[[str, int, float], None],
        pause: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """end_many: ends sessions everywhere. ordered: hears, for each reason, of how many sessions the edge was
        told what they have lost, and since when it was so (`gateway/enforcement.py`). pause: lets others have their
        turn, and the edge catch up."""
        self._pause, self._ordered = pause, ordered
        self._in_force, self._sessions, self._tunnels = in_force, sessions, tunnels
        self._end_many, self._clock = end_many, clock
        self._next_clock = 0.0

    async def catch_up(self, reason: str = POLICY, since: float | None = None) -> None:
        """Every tunnel, after another revision, other addresses of names, or another edge. since: when that
        happened, if not just now."""
        await self._look(list(self._tunnels), reason, since=since)

    async def look_at(self, session: int) -> None:
        """One tunnel that was decided about a moment ago."""
        tunnel = self._tunnels.get(session)
        if tunnel is not None:
            await self._look([tunnel], POLICY)

    async def user_changed(
        self, user: str, facts: Callable[[SignInFacts], SignInFacts], since: float | None = None
    ) -> None:
        """Somebody's groups or attributes are others. facts: puts them into what is known, where they are those
        of that person: another auth server may have the same name. since: as `catch_up` takes it."""
        chosen = [tunnel for tunnel in self._tunnels if tunnel.session.user == user]
        for tunnel in chosen:
            tunnel.mapping = None
        await self._look(chosen, USER, facts, since)
        await self._look_away(user, facts)

    async def _look_away(self, user: str, facts: Callable[[SignInFacts], SignInFacts]) -> None:
        """The same for sessions whose client is away: it comes back with what is known then."""
        grants: dict[int, Grant] = {}
        over: list[int] = []
        for session in await self._sessions.live(user):
            known = facts_of(session)
            if self._tunnels.get(session.id) is not None or (fresh := facts(known)) == known:
                continue
            roles = self._sessions.remap(session, fresh)
            if not roles or not self._in_force.rights(roles).effective.vpn:
                over.append(session.id)
            elif (grant := grant_of(self._in_force, session, roles, fresh)) is not None:
                grants[session.id] = grant
        if over:
            await self._end_many(over, EndCause.POLICY_CHANGED)
        await self._sessions.regrant(grants, USER)

    async def clock_moved(self) -> None:
        """Roles that depend on the time of day come and go."""
        now = self._clock()
        if now < self._next_clock:
            return
        self._next_clock = now + CLOCK_INTERVAL
        timed = {name for name, realm in self._in_force.policy.realms.items() if realm.uses_time}
        if not timed:
            return
        chosen = [tunnel for tunnel in self._tunnels if tunnel.session.realm in timed]
        for tunnel in chosen:
            tunnel.mapping = None
        await self._look(chosen, CLOCK)

    async def _look(
        self,
        tunnels: list[Tunnel],
        reason: str,
        facts: Callable[[SignInFacts], SignInFacts] | None = None,
        since: float | None = None,
    ) -> None:
        begun = self._clock()
        ruled = affected = 0
        grants: dict[int, Grant] = {}
        over: dict[EndCause, list[int]] = {}
        loop = asyncio.get_running_loop()
        turn = loop.time()
        for tunnel in tunnels:
            if loop.time() - turn > TURN:
                await self._pause()
                turn = loop.time()
            if self._tunnels.get(tunnel.session.id) is not tunnel:
                continue  # ended or replaced meanwhile; whoever did that knew the present
            mapping = self._in_force.mapping(tunnel.session.realm)
            if mapping is not None and mapping is tunnel.mapping:
                # The same roles. Their rights may be others.
                rights = self._in_force.rights(tunnel.session.roles)
                if rights is tunnel.rights:
                    continue
            before = tunnel.rights
            cause, grant, changed = self._bring_up(tunnel, facts)
            ruled += changed
            affected += _differs(before, tunnel.rights) or cause is not None or grant is not None
            if cause is not None:
                over.setdefault(cause, []).append(tunnel.session.id)
            elif grant is not None:
                grants[tunnel.session.id] = grant
        if affected or since is not None:
            self._ordered(reason, affected, begun if since is None else since)
        # Packets first: what is lost is cut before anything is written down.
        for cause, numbers in over.items():
            await self._end_many(numbers, cause)
        await self._sessions.regrant(grants, reason)
        if ruled or grants or over:
            log.info(
                "followed",
                reason=reason,
                revision=self._in_force.revision,
                tunnels=len(tunnels),
                rules_sent=ruled,
                changed=len(grants),
                ended=sum(map(len, over.values())),
            )

    def _bring_up(
        self, tunnel: Tunnel, facts: Callable[[SignInFacts], SignInFacts] | None
    ) -> tuple[EndCause | None, Grant | None, bool]:
        """Gives a tunnel what it is to have: why its session is over, what is to be written down about it,
        and whether other rules were sent."""
        session = tunnel.session
        mapping = self._in_force.mapping(session.realm)
        known = facts_of(session)
        if facts is not None:
            known = facts(known)
        roles = session.roles
        if mapping is None or mapping is not tunnel.mapping:
            roles = self._sessions.remap(session, known)
        rights = self._in_force.rights(roles)
        if not roles or not rights.effective.vpn:
            # Without a packet more, even while the store is busy with the end.
            self._tunnels.apply(tunnel, session, self._in_force.rights(()))
            return EndCause.POLICY_CHANGED, None, True
        grant = grant_of(self._in_force, session, roles, known)
        tunnel.mapping = mapping
        if grant is None:
            return None, None, self._tunnels.apply(tunnel, session, rights)
        if grant.expires <= self._clock():
            return EndCause.EXPIRED, None, self._tunnels.apply(tunnel, session, self._in_force.rights(()))
        updated = replace(
            session,
            roles=grant.roles,
            revision=grant.revision,
            expires=grant.expires,
            idle_seconds=grant.idle_seconds,
            heartbeat_seconds=grant.heartbeat_seconds,
            facts=grant.facts or session.facts,
        )
        return None, grant, self._tunnels.apply(tunnel, updated, rights)


def _differs(before: Rights | None, now: Rights | None) -> bool:
    """In what the edge enforces; which networks a client sends through its tunnel is not that."""
    if now is before:
        return False
    return before is None or now is None or not now.only_told_otherwise(before)
