"""How long it takes until what a cause takes away is gone where packets are judged.

Whatever cuts sessions off sends its orders and then says so here. A barrier behind them comes back from the thread
that judges packets, which applies orders one after the other: from then on no packet is judged by what was there
before. One record of the audit for each cause says how many sessions it was about, and the milliseconds from the
cause to the barrier's answer. Where the edge was away, its hello and the barrier after it settle the matter;
where no edge comes, sessions have run out in it after a time that it keeps by itself.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate

from lockgate.protocol import edge_link
from lockgate.server import tracing
from lockgate.server.audit import Audit
from lockgate.server.store.interface import AuditEntry

EVENT = "access-enforced"

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
"""Upper bounds of the histogram, in seconds; one second is what is promised."""
MAX_WAITING = 1000  # causes that wait for an edge; of more the oldest are recorded as not confirmed


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something was taken away.

    name:     a code: that of an end of sessions, or why they were looked at.
    since:    when it happened, in seconds since 1970.
    sessions: how many the edge was told about; None where nobody knows what the edge has.
    trace:    ends when it is known what became of it.
    """

    name: str
    since: float
    revision: int
    sessions: int | None
    edge_was_away: bool = False
    trace: tracing.Span = field(default=tracing.NOTHING, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Seconds to enforcement. counts: of each of BUCKETS, and of what is above all of them."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    total: float = 0.0

    def plus(self, seconds: float) -> Histogram:
        at = bisect_left(BUCKETS, seconds)
        counts = tuple(count + (position == at) for position, count in enumerate(self.counts))
        return Histogram(counts, self.total + seconds)

    def cumulative(self) -> list[tuple[str, float]]:
        """As metrics are written: upper bound → how many up to there."""
        bounds = [*map(str, BUCKETS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Enforcement:
    """One per gateway."""

    def __init__(
        self,
        audit: Audit,
        send: Callable[[edge_link.ToEdge], None],
        write: Callable[[AuditEntry], None],
        clock: Callable[[], float],
    ) -> None:
        """send: to the edge, in order. write: puts a record into the audit, later."""
        self._audit, self._send, self._write, self._clock = audit, send, write, clock
        self._is_here = False  # an edge whose sessions are adopted
        # Numbers go on from anywhere: an answer to a control plane of before may still come, and means nothing.
        self._number = secrets.randbits(62)
        self._barriers: dict[int, tuple[float, list[Cause]]] = {}  # when it was sent, the oldest first
        self._traced: dict[int, tracing.Span] = {}  # by barrier; of nothing that was taken away
        self._waiting: list[Cause] = []  # for an edge
        self._by_edge: dict[
            str, tuple[Cause, float]
        ] = {}  # ends that were its own, and seconds of the slowest
        self.histograms: dict[str, Histogram] = {}
        """By cause."""

    @property
    def edge_is_here(self) -> bool:
        return self._is_here

    def ordered(self, name: str, sessions: int, since: float, revision: int) -> None:
        """Everything that a cause takes away has been sent. sessions: of the edge; while it is away, those that it
        may have, or 0 where nobody knows."""
        if self._is_here:
            if sessions:
                self._ask([Cause(name, since, revision, sessions, trace=_span(name, sessions))])
            return
        trace = _span(name, sessions)
        self._waiting.append(Cause(name, since, revision, sessions or None, edge_was_away=True, trace=trace))
        while len(self._waiting) > MAX_WAITING:
            self._give_up(self._waiting.pop(0))

    def applied(self, trace: tracing.Span) -> None:
        """Ends the span of orders that were sent just now, once the edge has applied them."""
        if not trace.is_recorded:
            return
        if not self._is_here:
            _end(trace, "edge-away")
            return
        self._ask([])
        self._traced[self._number] = trace

    def ended_by_edge(self, name: str, since: float, revision: int) -> None:
        """The edge says that it has ended a session: no packet passes already."""
        took = max(0.0, self._clock() - since)
        self._seen(name, took)
        cause, slowest = self._by_edge.get(name, (Cause(name, since, revision, 0), 0.0))
        self._by_edge[name] = replace(cause, sessions=(cause.sessions or 0) + 1), max(took, slowest)

    def passed(self, number: int) -> None:
        """A barrier came back."""
        now = self._clock()
        _, causes = self._barriers.pop(number, (now, []))
        _end(self._traced.pop(number, tracing.NOTHING))
        for cause in causes:
            took = max(0.0, now - cause.since)
            self._seen(cause.name, took)
            _end(cause.trace)
            self._record(
                cause, took, "the edge was away, and confirmed it when it came back" * cause.edge_was_away
            )

    def lost(self) -> None:
        """The link is gone: nobody knows what of the orders has arrived."""
        self._is_here = False
        for _, causes in self._barriers.values():
            self._waiting += [replace(cause, edge_was_away=True) for cause in causes]
        self._barriers.clear()
        for trace in self._traced.values():
            _end(trace, "edge-away")
        self._traced.clear()

    def back(self, sessions: int) -> None:
        """An edge is there; it has been told about all that it had, so many sessions."""
        self._is_here = True
        if self._waiting:
            causes, self._waiting = self._waiting, []
            self._ask([replace(each, sessions=each.sessions or sessions) for each in causes])

    def tidy(self) -> None:
        """Now and then: what waits in vain for an edge or for its answer, and what the edge did by itself."""
        now = self._clock()
        by_edge, self._by_edge = self._by_edge, {}
        for cause, took in by_edge.values():
            self._record(cause, took, "the edge ended them by itself")
        waiting, self._waiting = self._waiting, []
        for cause in waiting:
            if now - cause.since > edge_link.ORPHAN_SECONDS:
                self._give_up(cause)
            else:
                self._waiting.append(cause)
        # Of an edge that is there and applies nothing.
        silent = [
            number for number, (sent, _) in self._barriers.items() if now - sent > edge_link.ORPHAN_SECONDS
        ]
        for number in silent:
            for cause in self._barriers.pop(number)[1]:
                self._give_up(cause)
            _end(self._traced.pop(number, tracing.NOTHING), "edge-silent")

    def _ask(self, causes: list[Cause]) -> None:
        self._number += 1
        self._barriers[self._number] = self._clock(), causes
        self._send(edge_link.Barrier(self._number))

    def _give_up(self, cause: Cause) -> None:
        _end(cause.trace, "edge-silent")
        # An edge that nobody talks to ends its sessions after that time.
        self._record(cause, None, f"no edge has confirmed it within {edge_link.ORPHAN_SECONDS} seconds")

    def _seen(self, name: str, seconds: float) -> None:
        self.histograms[name] = self.histograms.get(name, Histogram()).plus(seconds)

    def _record(self, cause: Cause, took: float | None, more: str = "") -> None:
        """took: seconds, None where nobody knows."""
        number = cause.sessions
        about = [
            "" if number is None else f"{number} session{'' if number == 1 else 's'}",
            "" if took is None else f"the last after {round(took * 1000)} ms",
            more,
        ]
        self._write(
            self._audit.entry(
                EVENT,
                ok=took is not None,
                reason=cause.name,
                text="; ".join(filter(None, about)),
                log="events",
                revision=cause.revision,
            )
        )


def _span(name: str, sessions: int) -> tracing.Span:
    """Inside whatever gave the orders."""
    return tracing.part("enforcement", {"lockgate.cause": name, "lockgate.sessions": sessions})


def _end(trace: tracing.Span, failure: str = "") -> None:
    if failure:
        trace.fail(failure)
    trace.end()
