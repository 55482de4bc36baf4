"""From the edge's records of flows to the audit: who it was, which rule decided, and what is missing.

The edge numbers its records. How far they have been written is stored with them, in the same step: whatever got lost
on the way, in the edge, on the link or with a control plane that died, is a gap in the numbers and becomes a line that
says how many records are missing. Whoever hears a message never waits for the store.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import structlog

from lockgate.model.flow import UNKNOWN_RULE, Flow, FlowGroup, FlowLoss
from lockgate.model.problem import ProblemError
from lockgate.model.session import Session
from lockgate.protocol import edge_link
from lockgate.server.audit import Audit
from lockgate.server.gateway.tunnel import Tunnel
from lockgate.server.in_force import RuleNames
from lockgate.server.store.flows import EVENT, packed
from lockgate.server.store.interface import Store

log = structlog.get_logger("flows")

GATHER = 0.5  # seconds in which messages gather: the edge sends several at once
RETRY_PAUSE = 1.0  # seconds before a store that failed is tried again
MAX_WAITING = 100_000  # flows that wait for the store, some 40 MB; ten seconds of what it can write
# Of one record: a sign-in may have to wait while it is written, some ten milliseconds. Messages are cut to PART flows,
# which may be of as many sessions.
BATCH_FLOWS, BATCH_SESSIONS, PART = 8192, 256, 256

NO_ROOM, EDGE_GONE = "no-room", "edge-gone"


@dataclass(frozen=True, slots=True)
class _Who:
    """Whose flows they are, as it was when they were told."""

    user: str
    source: str
    roles: tuple[str, ...]
    address4: str
    address6: str

    @classmethod
    def of(cls, session: Session, peer: str = "") -> _Who:
        source = peer.rpartition(":")[0].strip("[]") or session.client.source
        address4, address6 = session.address4, session.address6
        return cls(session.user, source, session.roles, str(address4 or ""), str(address6 or ""))


_NOBODY = _Who("", "", (), "", "")


@dataclass(slots=True)
class _Heard:
    """A message, or what is new in it. at: when it was made, seconds since 1970. who: of the sessions that are
    still there."""

    flows: tuple[edge_link.Flow, ...]
    at: float
    who: dict[int, _Who]
    following: str  # what has been heard with these, see `flows.HEARD`


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is written together. Stays as it is until it is written: the store may have it and not have said so."""

    heard: tuple[_Heard, ...]
    losses: tuple[FlowLoss, ...]
    following: str

    @property
    def flows(self) -> int:
        return sum(len(each.flows) for each in self.heard)


class FlowLog:
    """One per gateway."""

    def __init__(
        self,
        store: Store,
        audit: Audit,
        rule_names: Callable[[int], RuleNames | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """rule_names: what a number that the edge was given stands for (`InForce.rule_names`)."""
        self._store, self._audit, self._clock = store, audit, clock
        self._rule_names = rule_names
        self._edge: int | None = None
        self._next = 0  # number of the record that is to come
        self._waiting: deque[_Heard] = deque()
        self._waiting_flows = 0
        self._losses: list[FlowLoss] = []
        self._batch: _Batch | None = None
        self._wake = asyncio.Event()
        self.recorded = 0
        self.lost = 0
        """Records that were written, and those that are known to be missing, since this process began."""

    async def greet(self, edge: int) -> None:
        """An edge is there, the same or another one."""
        if self._edge is None:
            # Another process may have heard some of it.
            records = self._store.audit
            before = await records.flows_heard()
            known = re.fullmatch("([0-9]{1,20}):([0-9]{1,20})", before or "")
            if known is not None:
                self._edge, self._next = int(known[1]), int(known[2])
            elif before != "":
                # Somebody else changed it: whatever it says, nobody knows what had been heard.
                self._lose(None, EDGE_GONE)
        if edge == self._edge:
            return
        if self._next:
            self._lose(None, EDGE_GONE)
        self._edge, self._next = edge, 0

    def heard(self, message: edge_link.Flows, tunnel_of: Callable[[int], Tunnel | None]) -> None:
        """Takes what is new; never waits."""
        # Those of one session together are one row in the store. Told again after a broken link, they are in the same
        # order.
        ordered = sorted(message.flows, key=lambda flow: flow.session)
        flows = tuple(ordered[max(0, self._next - message.number) :])
        if message.number > self._next:
            self._lose(message.number - self._next, NO_ROOM)
        self._next = max(self._next, message.number + len(message.flows))
        if not flows:
            return
        if self._waiting_flows + len(flows) > MAX_WAITING:
            self._lose(len(flows), NO_ROOM)
            return
        who: dict[int, _Who] = {}
        for number in {flow.session for flow in flows}:
            if (tunnel := tunnel_of(number)) is not None:
                who[number] = _Who.of(tunnel.session, tunnel.peer)
        at = self._clock() - message.waited / 1000
        first = self._next - len(flows)
        for start in range(0, len(flows), PART):
            part = flows[start : start + PART]
            following = f"{self._edge or 0}:{first + start + len(part)}"
            self._waiting.append(_Heard(part, at, who, following))
        self._waiting_flows += len(flows)
        self._wake.set()

    @property
    def _following(self) -> str:
        return f"{self._edge or 0}:{self._next}"

    def _lose(self, count: int | None, reason: str) -> None:
        self.lost += count or 0
        log.warning("flows-lost", count=count, reason=reason)
        now, last = self._clock(), self._losses[-1] if self._losses else None
        if last is not None and last.reason == reason and last.count is not None and count is not None:
            self._losses[-1] = FlowLoss(now, last.count + count, reason)
        else:
            self._losses.append(FlowLoss(now, count, reason))
        self._wake.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER)
            try:
                await self.flush()
            except ProblemError as error:
                log.error("not-done", task="flows", **error.problem.as_dict())
                await asyncio.sleep(RETRY_PAUSE)
            except Exception:
                log.exception("internal-error", task="flows")
                await asyncio.sleep(RETRY_PAUSE)

    async def flush(self) -> None:
        """Writes everything that waits. Raises ProblemError when the store fails; then it waits on."""
        while self._batch or self._waiting or self._losses:
            await self._write_some()
        self._wake.clear()

    def _take(self) -> _Batch:
        """The next batch, out of what waits."""
        heard: list[_Heard] = []
        flows, sessions = 0, set[int]()
        while self._waiting:
            each = self._waiting[0]
            with_these = sessions.union(flow.session for flow in each.flows)
            if heard and (flows + len(each.flows) > BATCH_FLOWS or len(with_these) > BATCH_SESSIONS):
                break
            heard.append(self._waiting.popleft())
            flows, sessions = flows + len(each.flows), with_these
        losses, self._losses = tuple(self._losses), []
        return _Batch(tuple(heard), losses, heard[-1].following if self._waiting else self._following)

    async def _write_some(self) -> None:
        if self._batch is None:
            self._batch = self._take()
        batch = self._batch
        away = {flow.session for each in batch.heard for flow in each.flows if flow.session not in each.who}
        gone = {number: await self._look_up(number) for number in away}
        pieces = await asyncio.to_thread(lambda: packed(self._groups(batch, gone), batch.losses))
        await self._store.audit.add_flows(
            pieces,
            lambda text: self._audit.entry(EVENT, ok=not batch.losses, text=text, log="flows"),
            batch.following,
        )
        self._batch = None
        self._waiting_flows -= batch.flows
        self.recorded += batch.flows

    async def _look_up(self, number: int) -> _Who:
        """Somebody whose session is not in the edge any more."""
        session = await self._store.sessions.find(number)
        return _NOBODY if session is None else _Who.of(session)

    def _groups(self, batch: _Batch, gone: Mapping[int, _Who]) -> list[FlowGroup]:
        found: dict[tuple[int, tuple[str, ...]], tuple[_Who, list[Flow]]] = {}
        for heard in batch.heard:
            for told in heard.flows:
                who = heard.who.get(told.session) or gone.get(told.session, _NOBODY)
                names = self._rule_names(told.rule_set)
                # Those whose rules decided: the session may have had others by the time it was told.
                roles = who.roles if names is None else names.roles
                who, flows = found.setdefault((told.session, roles), (who, []))
                flows.append(_flow(told, names, who, heard.at))
        # Whoever reads has at least one of them in memory.
        return [
            FlowGroup(number, who.user, who.source, roles, tuple(flows[start : start + PART]))
            for (number, roles), (who, flows) in found.items()
            for start in range(0, len(flows), PART)
        ]


def _flow(told: edge_link.Flow, names: RuleNames | None, who: _Who, at: float) -> Flow:
    rule = "" if told.rule is None else UNKNOWN_RULE
    if names is not None and told.rule is not None and told.rule < len(names.names):
        rule = names.names[told.rule]
    return Flow(
        first=round(at - told.first / 1000, 3),
        last=round(at - told.last / 1000, 3),
        allowed=told.allowed,
        protocol=told.protocol,
        device=who.address6 if len(told.remote) == 16 else who.address4,
        remote=str(ip_address(told.remote)) if told.remote else "",
        port=told.port,
        outbound=told.outbound,
        packets_in=told.packets_in,
        bytes_in=told.bytes_in,
        packets_out=told.packets_out,
        bytes_out=told.bytes_out,
        rule=rule,
        revision=None if names is None else names.revision,
        cause=told.cause.value,
    )
