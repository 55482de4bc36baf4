"""Who one is, how the gateway is, and its figures over time."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from lockgate import __version__
from lockgate.server.sampling import RANGES, Range
from lockgate.server.web.api.certificates import device_chain
from lockgate.server.web.api.models import Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.monitoring import store_answers
from lockgate.server.web.principal import AREAS, needs, needs_any

router = make_router("status")


class Me(Told):
    """Who asks, and with which rights: area → "none", "read" or "write"."""

    name: str
    server: str
    kind: Literal["console", "token", "local"]
    roles: list[str]
    rights: dict[str, str]


class Status(Told):
    """The gateway at this moment. counters: packets that the edge dropped since it started, by reason.

    connected: sessions whose client is there now. transports: how many use which. remaining of the certificate in
    seconds, null where this process cannot see it.
    """

    version: str
    revision: int
    started: float
    uptime: int
    edge: Literal["up", "down", "none"]
    store: Literal["up", "down"]
    sessions: int
    connected: int
    transports: dict[str, int]
    portal_sessions: int
    console_sessions: int
    counters: dict[str, int]
    certificate_remaining: int | None


class SampleTold(Told):
    """Figures of one span. time: its beginning."""

    time: float
    values: dict[str, float]


class Samples(Told):
    """period: length of a span in seconds; a span without a sample is left out."""

    range: Range
    period: int
    since: float
    until: float
    samples: list[SampleTold]


@router.get("/me", dependencies=[rights(needs_any())])
async def me(who: Who) -> Me:
    """Who asks."""
    return Me(
        name=who.name,
        server=who.server,
        kind=who.kind,
        roles=list(who.roles),
        rights={area: who.right(area) for area in AREAS},
    )


@router.get("/status", dependencies=[rights(needs("system"))])
async def status(services: Of) -> Status:
    """How the gateway is."""
    gateway, now = services.gateway, services.clock()
    transports = gateway.transports() if gateway is not None else {}
    web = await services.store.web_sessions.live_counts()
    chain = device_chain(services.directory)
    return Status(
        version=__version__,
        revision=services.config.number,
        started=services.started,
        uptime=max(0, int(now - services.started)) if services.started else 0,
        edge="none" if gateway is None else "up" if gateway.edge_is_up else "down",
        store="up" if await store_answers(services) else "down",
        sessions=await services.store.sessions.live_count(),
        connected=sum(count for name, count in transports.items() if name != "none"),
        transports=transports,
        portal_sessions=web["portal"],
        console_sessions=web["console"],
        counters=dict(gateway.counters) if gateway is not None else {},
        certificate_remaining=int(min(each.not_valid_after_utc.timestamp() for each in chain) - now)
        if chain
        else None,
    )


@router.get("/samples", dependencies=[rights(needs("system"))])
async def samples(services: Of, span: Annotated[Range, Query(alias="range")] = "hour") -> Samples:
    """Users, connections, traffic, processor and memory over the last hour, day, week, month or year."""
    chosen, until = RANGES[span], services.clock()
    since = until - chosen.seconds
    found = await services.store.samples.range(chosen.period, since, until)
    return Samples(
        range=span,
        period=chosen.period,
        since=since,
        until=until,
        samples=[SampleTold(time=each.time, values=dict(each.values)) for each in found],
    )
