"""The audit: events, user access, admin access and flows, with filters and export; and whether it is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query
from starlette.responses import Response, StreamingResponse

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import parse_support_code
from lockgate.server.audit_export import MEDIA_TYPES, Format, flow_dict, lines
from lockgate.server.decisions import BAD_CODE
from lockgate.server.store.audit import SqlAudit
from lockgate.server.store.records import AuditFilter, AuditRecord, Log
from lockgate.server.store.verify import verify
from lockgate.server.web.api.models import Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.downloads import attachment
from lockgate.server.web.principal import needs

router = make_router("logs")

READ = [rights(needs("logs"))]
NAMES: dict[str, Log] = {
    "events": "events",
    "user-access": "user",
    "admin-access": "admin",
    "flows": "flows",
}
Name = Annotated[Literal["events", "user-access", "admin-access", "flows"], Path()]
Text = Annotated[str, Query(max_length=256)]
Time = Annotated[float | None, Query(ge=0, lt=1e12, allow_inf_nan=False)]
BAD_ADDRESS = Problem("bad-address", "That is no IP address.", "Write it like 10.77.0.80 or fd00::80.")
Number = Annotated[int | None, Query(ge=0, lt=1 << 62)]
ENDINGS: dict[Format, str] = {"jsonl": "jsonl", "csv": "csv", "syslog": "log"}
BATCH = 64 << 10  # characters that go out together


class FlowTold(Told):
    """A flow: packets between a client and one remote end, or denied to it. "in" is from the client; began: who sent
    the first packet; remote is empty for several ends that were not told apart; rule: the access rule that decided."""

    protocol: int
    device: str
    remote: str
    port: int | None
    allowed: bool
    began: Literal["client", "network"]
    first: float
    last: float
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    rule: str
    cause: str
    roles: list[str]


class EntryTold(Told):
    """A line of a log. user: whom it is about; actor: who did it, where that is somebody else; flow: of the flows
    log."""

    number: int
    time: float
    event: str
    outcome: str
    reason: str
    user: str
    actor: str
    source: str
    session: str | None
    revision: int | None
    text: str
    flow: FlowTold | None = None


class LogPage(Told):
    """Newest first. following: `before` of the next page; null on the last."""

    entries: list[EntryTold]
    following: int | None


class Verified(Told):
    """finding: the first thing that is wrong. head: the end of the chain, to be kept elsewhere."""

    ok: bool
    checked: int
    first: int
    last: int
    skipped: int
    head: dict[str, Any] | None
    finding: dict[str, Any] | None


def entry_told(record: AuditRecord) -> EntryTold:
    entry, flow = record.entry, flow_dict(record)
    return EntryTold(
        number=record.number,
        time=entry.time,
        event=entry.event,
        outcome=entry.outcome,
        reason=entry.reason,
        user=entry.user,
        actor=entry.actor,
        source=entry.source,
        session=None if entry.session is None else str(entry.session),
        revision=entry.revision,
        text=entry.text,
        flow=None if flow is None else FlowTold(**flow),
    )


def read_code(typed: str) -> str:
    """A support code as it is written; "" for none. Raises ProblemError."""
    code = parse_support_code(typed) if typed else ""
    if code is None:
        raise ProblemError(BAD_CODE)
    return code


def read_address(typed: str) -> str:
    """An IP address in its usual form; "" for none. Raises ProblemError."""
    try:
        return str(ip_address(typed)) if typed else ""
    except ValueError:
        raise ProblemError(BAD_ADDRESS) from None


async def _filter(
    name: Name,
    text: Text = "",
    user: Text = "",
    source: Text = "",
    event: Text = "",
    outcome: Literal["", "ok", "failed"] = "",
    since: Time = None,
    until: Time = None,
    before: Number = None,
    after: Number = None,
    code: Annotated[str, Query(max_length=64)] = "",
    session: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
    remote: Annotated[str, Query(max_length=64)] = "",
    port: Annotated[int | None, Query(ge=0, le=65535)] = None,
) -> AuditFilter:
    return AuditFilter(
        session=session,
        remote=read_address(remote),
        port=port,
        code=read_code(code),
        log=NAMES[name],
        text=text,
        user=user,
        source=source,
        event=event,
        outcome=outcome,
        since=since,
        until=until,
        before=before,
        after=after,
    )


Wanted = Annotated[AuditFilter, Depends(_filter)]


@router.get("/logs/{name}", dependencies=READ)
async def page(services: Of, wanted: Wanted, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> LogPage:
    """Lines of a log. text: anywhere in a line; code: a support code; the other texts exactly. remote, port: of the
    other end of flows."""
    found = await services.store.audit.page(wanted, limit + 1)
    more = len(found) > limit
    entries = [entry_told(each) for each in found[:limit]]
    return LogPage(entries=entries, following=entries[-1].number if more else None)


@router.get("/logs/{name}/export", dependencies=READ, response_class=StreamingResponse)
async def export(
    who: Who,
    services: Of,
    name: Name,
    wanted: Wanted,
    format: Annotated[Format, Query()] = "jsonl",
) -> Response:
    """All lines that the filter wants, oldest first, as a file."""
    await services.audit.record(
        "audit-exported", ok=True, user=who.actor, source=who.source, text=f"{name} as {format}", log="admin"
    )

    tree = services.in_force.tree
    host = tree.cluster.node_name or tree.gateway.hostname

    async def content() -> AsyncIterator[bytes]:
        waiting: list[str] = []
        size = 0
        stream = services.store.audit.stream(wanted)
        async for line in lines(stream, format, host_name=host, flows=name == "flows"):
            waiting.append(line)
            size += len(line)
            if size >= BATCH:
                yield "".join(waiting).encode()
                waiting, size = [], 0
        yield "".join(waiting).encode()

    headers = {"Content-Disposition": attachment(f"lockgate-{name}.{ENDINGS[format]}")}
    return StreamingResponse(content(), media_type=MEDIA_TYPES[format], headers=headers)


@router.post("/audit/verify", dependencies=READ)
async def verify_audit(who: Who, services: Of) -> Verified:
    """Looks whether any line was changed, removed, added or moved; some seconds for a million."""
    records = services.store.audit
    assert isinstance(records, SqlAudit)
    report = await verify(records)
    await services.audit.record(
        "audit-verified",
        ok=report.ok,
        reason="" if report.finding is None else report.finding.damage,
        user=who.actor,
        source=who.source,
        text=f"{report.checked} records",
        log="admin",
    )
    return Verified(**report.as_dict())
