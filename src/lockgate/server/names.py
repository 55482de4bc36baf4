"""What the DNS names in access rules and split-tunnelling networks resolve to, followed while it changes.

IPv4 and IPv6 addresses of a name are two questions, each asked again when its answer runs out, within
LOWEST_TTL .. HIGHEST_TTL. An answer that cannot be renewed stays good for KEEP, so that a name server's trouble
does not cut anybody off; after that the question has no answer, and rules for the name cover nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
import structlog

from lockgate.policy.access import MAX_ADDRESSES

log = structlog.get_logger("names")

Address = IPv4Address | IPv6Address

LOWEST_TTL, HIGHEST_TTL = 5.0, 3600.0  # seconds between two questions
NOTHING_TTL = 30.0  # seconds that "no address" is good for where the name server does not say (RFC 2308)
KEEP = 3600.0  # seconds that an old answer outlives a failure
UNANSWERED = 30.0  # seconds of failures after which a name that never had an answer counts as having none
PATIENCE = 4.0  # seconds for one question with all its attempts
PARALLEL = 32  # questions under way at the same time
TOGETHER = 0.5  # seconds whose answers are told at once
VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses of one IP version; none where the name has none.

    ttl: seconds it is good for, as the name server says.
    """

    addresses: tuple[Address, ...]
    ttl: float


class Lookup(Protocol):
    """Asks for the addresses of a name."""

    async def __call__(self, name: str, version: int) -> Answer:
        """version: 4 or 6. Raises OSError when nobody could answer."""


@dataclass(slots=True)
class _Question:
    addresses: tuple[Address, ...] = ()
    answered: float | None = None  # when the addresses came
    next: float = 0.0  # when to ask again
    failing: bool = False
    failed: float | None = None  # when the first question failed
    settled: bool = False  # it was answered, or has failed for long


class Names:
    """Resolves a set of names and tells when an address came or went. Times are of a monotonic clock."""

    def __init__(
        self,
        changed: Callable[[Mapping[str, tuple[Address, ...]]], Awaitable[None]],
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """changed: called with all addresses after any of them has changed, or more names were `answered`."""
        self._changed, self._lookup, self._clock = changed, lookup or system_lookup, clock
        self._questions: dict[tuple[str, int], _Question] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(PARALLEL)

    @property
    def resolved(self) -> dict[str, tuple[Address, ...]]:
        """Every name that has an address, and its addresses, IPv4 first."""
        found: dict[str, tuple[Address, ...]] = {}
        for (name, _), question in sorted(self._questions.items()):
            if question.addresses:
                found[name] = (*found.get(name, ()), *question.addresses)
        return found

    @property
    def answered(self) -> frozenset[str]:
        """The names of which is known what they are, be it that nobody knows an address."""
        waiting = {name for (name, _), question in self._questions.items() if not question.settled}
        return frozenset(name for name, _ in self._questions) - waiting

    def want(self, names: Iterable[str]) -> None:
        """From now on these names count, and no others."""
        wanted = {(name, version) for name in names for version in VERSIONS}
        for key in set(self._questions) - wanted:
            del self._questions[key]
        for key in wanted - set(self._questions):
            self._questions[key] = _Question()
            self._wake.set()

    async def ask(self, name: str) -> tuple[Address, ...]:
        """Addresses of any name, for somebody who looks; none when nobody knows any.

        A name that is followed is asked for too, although what is known of it counts: the time that it takes
        tells nobody which names those are.
        """
        answers = await asyncio.gather(*(self._answer(name, version) for version in VERSIONS))
        found = tuple(
            address for answer in answers if isinstance(answer, Answer) for address in answer.addresses
        )
        return self.resolved.get(name, found[:MAX_ADDRESSES])

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.refresh()
            except Exception:
                # Whoever follows has its own troubles; names are asked on, and the next change is told again.
                log.exception("internal-error")
            due = min((each.next for each in self._questions.values()), default=float("inf"))
            pause = max(0.1, min(due - self._clock(), HIGHEST_TTL))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Asks every question whose time has come, and tells what has changed."""
        now = self._clock()
        due = [key for key, question in self._questions.items() if question.next <= now]
        if not due:
            return
        told = (self.resolved, self.answered)
        async with asyncio.TaskGroup() as group:
            waiting = {group.create_task(self._renew(*key), name=f"look-up of {key[0]}") for key in due}
            while waiting:
                # Nobody waits for the slowest: an address that is gone must not be reached any longer.
                _, waiting = await asyncio.wait(waiting, timeout=TOGETHER)
                if (known := (self.resolved, self.answered)) != told:
                    told = known
                    await self._changed(known[0])

    async def _answer(self, name: str, version: int) -> Answer | OSError:
        async with self._slots:
            try:
                return await self._lookup(name, version)
            except OSError as error:
                return error

    async def _renew(self, name: str, version: int) -> None:
        answer = await self._answer(name, version)
        question, now = self._questions.get((name, version)), self._clock()
        if question is None:  # nobody wants it any more
            return
        if isinstance(answer, OSError):
            self._failed(question, name, version, now, answer)
            return
        ordered = tuple(sorted(set(answer.addresses), key=int))
        if len(ordered) > MAX_ADDRESSES:
            log.warning("name-with-too-many-addresses", name=name, addresses=len(ordered))
        addresses = ordered[:MAX_ADDRESSES]
        if addresses != question.addresses:
            log.info("name-resolved", name=name, version=version, addresses=[str(each) for each in addresses])
        question.addresses, question.answered, question.failing = addresses, now, False
        question.settled = True
        question.next = now + min(max(answer.ttl, LOWEST_TTL), HIGHEST_TTL)

    @staticmethod
    def _failed(question: _Question, name: str, version: int, now: float, error: OSError) -> None:
        question.next = now + LOWEST_TTL
        if not question.failing:
            log.warning(
                "name-not-resolved",
                name=name,
                version=version,
                reason=str(error),
                kept=len(question.addresses),
            )
        question.failing = True
        question.failed = now if question.failed is None else question.failed
        question.settled = question.settled or now >= question.failed + UNANSWERED
        if question.addresses and (question.answered is None or now >= question.answered + KEEP):
            log.warning("name-given-up", name=name, version=version)
            question.addresses = ()


async def system_lookup(name: str, version: int) -> Answer:
    """Asks the name servers of this machine (/etc/resolv.conf), read anew for every question."""
    kind = dns.rdatatype.A if version == 4 else dns.rdatatype.AAAA
    try:
        resolver = dns.asyncresolver.Resolver()
        resolver.lifetime = PATIENCE
        answer = await resolver.resolve(name, kind, search=False)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return Answer((), NOTHING_TTL)
    except (dns.exception.DNSException, OSError) as error:
        raise OSError(str(error) or type(error).__name__) from None
    assert answer.rrset is not None
    # Of the whole chain: an alias may be good for seconds whose target is good for an hour.
    ttl = float(answer.chaining_result.minimum_ttl)
    return Answer(tuple(ip_address(record.address) for record in answer.rrset), ttl)
