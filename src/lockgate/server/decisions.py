"""Decisions about people, recorded with what they were made from; found again by their support codes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from lockgate.model.decision import ATTEMPT, QUESTION, Reason
from lockgate.model.facts import SignInFacts
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import parse_support_code
from lockgate.server.in_force import InForce
from lockgate.server.store import Store
from lockgate.server.store.interface import DecisionRecord
from lockgate.server.support_codes import Strangers, new_support_code

log = structlog.get_logger("decisions")

# Decisions that wait to be written; the oldest are dropped beyond that, as the audit has all of them.
MAX_WAITING = 20_000
BATCH = 500  # written in one step; those who sign in wait for it
DAY = 86400.0
MAX_REASONS = 60  # of one recorded decision; the last ones decided
# Of the kinds that anybody can cause as often as they like, so many are kept; 150 MB when somebody tries.
UNBOUNDED = (ATTEMPT, QUESTION)
MAX_KEPT = 100_000

BAD_CODE = Problem(
    "bad-code", "This is no support code.", "It has eight letters and digits, such as K7QD-2XMR."
)


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asked about reaching something. protocol: "tcp", "udp" or "icmp"."""

    target: str
    port: int | None
    protocol: str

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"target": self.target, "port": self.port, "protocol": self.protocol}


class Decisions:
    """One per control plane. What is noted is written within a second or so, many at a time."""

    def __init__(
        self,
        store: Store,
        in_force: InForce,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._in_force, self._clock = store.decisions, in_force, clock
        self._waiting: deque[DecisionRecord] = deque(maxlen=MAX_WAITING)
        self._writing = asyncio.Lock()
        self._strangers = Strangers()

    def note(
        self,
        kind: str,
        facts: SignInFacts,
        roles: tuple[str, ...],
        allow: bool,
        revision: int,
        reasons: Sequence[Reason],
        session: int | None = None,
        code: str | None = None,
        question: Question | None = None,
    ) -> None:
        """kind: of `model.decision`. code: the support code that somebody was told."""
        about = {} if question is None else {"question": question.as_dict()}
        self._waiting.append(
            DecisionRecord(
                time=self._clock(),
                kind=kind,
                session=session,
                user=facts.user,
                server=facts.server,
                realm=facts.realm,
                revision=revision,
                allow=allow,
                facts=facts.as_dict() | about,
                roles=roles,
                reasons=tuple(reason.as_dict() for reason in reasons[-MAX_REASONS:]),
                code=code,
            )
        )

    def refuse(
        self,
        kind: str,
        facts: SignInFacts,
        roles: tuple[str, ...],
        revision: int,
        reasons: Sequence[Reason],
        session: int | None = None,
    ) -> str:
        """Notes a no to somebody who is known; its support code."""
        code = new_support_code()
        self.note(kind, facts, roles, False, revision, reasons, session, code)
        return code

    def turn_away(
        self, facts: SignInFacts, revision: int, reasons: Sequence[Reason], session: int | None = None
    ) -> str:
        """The support code of a no to a stranger, who may be guessing: not each one is noted.

        facts: as claimed; `user` is printable and bounded.
        """
        code = new_support_code()
        if self._strangers.worth_a_record(facts.source, self._clock()):
            self.note(ATTEMPT, facts, (), False, revision, reasons, session, code)
        return code

    async def flush(self) -> None:
        """Writes down what waits; what cannot be written waits on."""
        # One writer at a time, or two would write down the same ones.
        async with self._writing:
            while batch := [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]:
                try:
                    await self._records.add_many(batch)
                except BaseException:
                    room = MAX_WAITING - len(self._waiting)
                    self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))
                    raise

    async def prune(self) -> None:
        """Forgets decisions that are too old for what-if, and what somebody may have filled the store with."""
        await self._records.prune(self.since())
        await self._records.thin(UNBOUNDED, MAX_KEPT)

    def since(self) -> float:
        """Decisions are kept from then on: seconds since 1970."""
        return self._clock() - self._in_force.tree.log.decisions_days * DAY

    async def find(self, typed: str) -> DecisionRecord:
        """The decision with that support code, however it is typed.

        Raises ProblemError: "bad-code", "no-such-code".
        """
        code = parse_support_code(typed)
        if code is None:
            raise ProblemError(BAD_CODE)
        await self.flush()
        found = await self._records.by_code(code, self.since())
        if found is None:
            days = self._in_force.tree.log.decisions_days
            raise ProblemError(
                Problem(
                    "no-such-code",
                    f"No decision with the support code {code} is recorded.",
                    f"Codes are kept for {days} days, and not each of very many tries in a row; "
                    f"the logs can be searched for {code} as well.",
                )
            )
        return found

    def again(self, record: DecisionRecord) -> dict[str, str] | None:
        """The fields of `explain` that ask the same of now; None for administrators, and where nobody is named."""
        if record.realm not in self._in_force.policy.realms or not record.user:
            return None
        facts = record.facts
        question = facts.get("question") or {}
        device = facts.get("host_name") if record.kind != ATTEMPT else ""
        fields = {
            "user": record.user,
            "server": record.server,
            "source": facts.get("source"),
            "device": device,
            **question,
        }
        return {key: str(value) for key, value in fields.items() if value not in (None, "")}
