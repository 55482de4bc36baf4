"""Whether somebody may sign in and reach something, and why; and recorded decisions made again under another tree."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from lockgate.model.access_rule import Address
from lockgate.model.decision import POLICY_KINDS, RecordedDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import Session
from lockgate.model.text import printable
from lockgate.policy import access, what_if, why
from lockgate.policy.changes import Report
from lockgate.server.auth.names import canonical
from lockgate.server.auth.servers import Account
from lockgate.server.config.compile import compile_policy
from lockgate.server.config.tree import Configuration
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce, as_running, local_time
from lockgate.server.store import Store
from lockgate.server.store.interface import DecisionRecord

# Decisions that one what-if replays, newest first.
MAX_REPLAYED = 100_000
PAGE = 10_000
RECENT = 1000  # decisions about one user that are searched for a device

Directory = Callable[[str, str], Awaitable[Account | None]]
"""What an auth server knows about a user: (server, canonical name)."""
Resolve = Callable[[str], Awaitable[Sequence[Address]]]
"""The addresses of a DNS name, none when nobody knows any."""


class Explanations:
    """One per control plane. They take account of everything that was decided before they are asked for."""

    def __init__(
        self,
        store: Store,
        in_force: InForce,
        decisions: Decisions,
        directory: Directory,
        resolve: Resolve,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._sessions = store.decisions, store.sessions
        self._in_force, self._decisions = in_force, decisions
        self._directory, self._resolve = directory, resolve
        self._clock = clock

    async def explain(
        self,
        user: str,
        *,
        server: str | None = None,
        source: str | None = None,
        device: str | None = None,
        target: str | None = None,
        port: int | None = None,
        protocol: str | int = "tcp",
    ) -> why.Explanation:
        """Whether a user may sign in and reach something, and why.

        Judged are the roles of the user's newest live session; without one, or for another source, those
        of a sign-in at this moment.
        source: address. device: host name or user agent of one of the user's clients.
        target: address, DNS name or name of a bookmark; None asks about signing in alone.
        Raises ProblemError: "no-such-user", "bad-question".
        """
        await self._decisions.flush()
        number = _protocol(protocol)
        if source is not None:
            _checked_address(source)
        facts, roles = await self._person(_canonical(user), server, source, device)
        policy = self._in_force.policy
        if target is not None:
            target, port = self._bookmark(target, port)
        if number not in access.WITH_PORTS:
            port = None
        resolved = dict(self._in_force.resolved)
        if target is not None and (name := _as_name(target)) is not None and name not in resolved:
            resolved[name] = tuple(await self._resolve(name))
        return why.explain(policy, facts, roles, target, number, port, resolved, local_time(self._clock()))

    async def _person(
        self, name: str, server: str | None, source: str | None, device: str | None
    ) -> tuple[SignInFacts, tuple[str, ...] | None]:
        """What is known about somebody, and the roles of a live session."""
        sessions = [each for each in await self._sessions.live(name, server) if _is_device(each, device)]
        if sessions and sessions[-1].facts is not None:
            newest = sessions[-1]
            facts = newest.facts
            assert facts is not None
            if source in (None, facts.source):
                return facts, newest.roles
            return await self._fresh(replace(facts, source=source or "")), None
        known = await self._recorded(name, server, device)
        if known is None:
            known = await self._stranger(name, server)
        if source is not None:
            known = replace(known, source=source)
        if device is not None and not known.host_name:
            known = replace(known, host_name=printable(device, 200))
        return await self._fresh(known), None

    async def _recorded(self, name: str, server: str | None, device: str | None) -> SignInFacts | None:
        """From the newest decision about the user."""
        # What strangers claimed about themselves counts for nothing.
        for record in await self._records.since(
            self._decisions.since(), name, RECENT, kinds=POLICY_KINDS, newest_first=True
        ):
            facts = SignInFacts.from_dict(record.facts)
            fits = device is None or device in (facts.host_name, facts.user_agent)
            if fits and server in (None, facts.server) and facts.realm in self._in_force.policy.realms:
                return facts
        return None

    async def _stranger(self, name: str, server: str | None) -> SignInFacts:
        """Somebody who has never been here, in the first realm of an auth server that knows the name."""
        policy = self._in_force.policy
        offered = [
            realm
            for entry in policy.sign_in_policies
            if entry.enabled and entry.audience == "users"
            for realm in entry.realms
        ]
        for realm_name in dict.fromkeys((*offered, *policy.realms)):
            realm = policy.realms.get(realm_name)
            if realm is None or server not in (None, realm.server):
                continue
            if await self._directory(realm.server, name) is not None:
                return SignInFacts(
                    user=name,
                    server=realm.server,
                    realm=realm.name,
                    source="",
                    user_agent="",
                    host_name="",
                    time=self._clock(),
                )
        raise ProblemError(
            Problem(
                "no-such-user",
                f"No auth server of a user realm knows {printable(name, 64)}.",
                "`lockgate user list` shows the users that this gateway keeps.",
            )
        )

    async def _fresh(self, facts: SignInFacts) -> SignInFacts:
        """With groups and attributes as they are now."""
        realm = self._in_force.policy.realms.get(facts.realm)
        account = None if realm is None else await self._directory(realm.directory, facts.user)
        if account is None:
            return facts
        return replace(facts, groups=account.groups, attributes=account.attributes)

    def _bookmark(self, target: str, port: int | None) -> tuple[str, int | None]:
        """Host and port of a bookmark of that name; else the target as it is."""
        for role in self._in_force.policy.roles.values():
            for bookmark in role.bookmarks:
                if bookmark.name == target:
                    scheme, _, rest = bookmark.url.partition("://")
                    host = rest.partition("/")[0].rpartition("@")[2]
                    name, written = _host_port(host)
                    return name, port or written or (443 if scheme == "https" else 80)
        return target, port

    async def what_if(self, tree: Configuration, since: float) -> Report:
        """Who would lose and gain what under another tree, by the decisions made since then."""
        await self._decisions.flush()
        records = await self._all_since(since)
        old, resolved = self._in_force.policy, dict(self._in_force.resolved)

        def work() -> Report:
            new = compile_policy(as_running(tree, self._in_force.tree), old.revision)
            recorded = [_recorded(record) for record in records]
            return what_if.replay(old, new, recorded, resolved, local_time)

        missing = {name for entry in tree.access_control for name in entry.to if isinstance(name, str)}
        for name in sorted(missing - set(resolved)):
            resolved[name] = tuple(await self._resolve(name))
        # Thousands of decisions take seconds; the event loop has packets' keys and clients to serve.
        return await asyncio.to_thread(work)

    async def _all_since(self, since: float) -> list[DecisionRecord]:
        found: deque[DecisionRecord] = deque(maxlen=MAX_REPLAYED)
        after = 0
        while page := await self._records.since(since, None, PAGE, after, kinds=POLICY_KINDS):
            found.extend(page)
            after = page[-1].id
            if len(page) < PAGE:
                break
        return list(found)


def _recorded(record: DecisionRecord) -> RecordedDecision:
    return RecordedDecision(
        time=record.time,
        kind=record.kind,
        facts=SignInFacts.from_dict(record.facts),
        roles=record.roles,
        allow=record.allow,
        revision=record.revision,
    )


def _is_device(session: Session, device: str | None) -> bool:
    return device is None or device in (session.client.host_name, session.client.user_agent)


def _canonical(user: str) -> str:
    name = canonical(user)
    if name is None:
        raise ProblemError(
            Problem("no-such-user", f"{printable(user, 64)} cannot be a user name.", "Check the spelling.")
        )
    return name


def _protocol(value: str | int) -> int:
    number: Any = access.PROTOCOLS.get(value) if isinstance(value, str) else value
    if number is None and isinstance(value, str) and value.isascii() and value.isdigit():
        number = int(value[:4])
    if not isinstance(number, int) or not 0 <= number <= 255:
        raise _bad(f"{printable(str(value), 40)} is no protocol.", "Use tcp, udp, icmp or a protocol number.")
    return number


def _checked_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise _bad(f"{printable(text, 64)} is no IP address.", "Write for example 192.0.2.9.") from None


def _as_name(target: str) -> str | None:
    """The target as a DNS name; None for an address."""
    try:
        ip_address(target.strip("[]"))
    except ValueError:
        return target.lower().removesuffix(".")
    return None


def _host_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    return host, int(port) if port.isascii() and port.isdigit() else None


def _bad(summary: str, fix: str) -> ProblemError:
    return ProblemError(Problem("bad-question", summary, fix))
