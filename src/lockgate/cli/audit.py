"""`lockgate audit …`: the audit, with the server running or stopped."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import click

from lockgate.cli.gateway_option import dir_option, enter
from lockgate.cli.output import Command, examples, json_option, print_json, print_table, warn
from lockgate.cli.plain import plain
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import parse_support_code
from lockgate.server.audit import Audit
from lockgate.server.audit_export import FORMATS, Format, as_dict, lines
from lockgate.server.store import open_store
from lockgate.server.store.interface import LOGS, AuditFilter, Log
from lockgate.server.store.open import SqlStore
from lockgate.server.store.verify import Report
from lockgate.server.store.verify import verify as verify_chain

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_SPANS = {"m": "minutes", "h": "hours", "d": "days"}


def filters(command: F) -> F:
    """The options that choose records; the command gets them as `wanted`."""
    options = [
        click.option("--log", "log", type=click.Choice(LOGS), help="Only this log."),
        click.option("--user", default="", help="Only about or by this user."),
        click.option("--source", default="", help="Only from this address."),
        click.option("--event", default="", help="Only this event, for example sign-in."),
        click.option("--failed", is_flag=True, help="Only what failed."),
        click.option("--text", default="", help="Only records with this text."),
        click.option("--code", default="", help="Only records with this support code."),
        click.option("--session", type=click.IntRange(0, (1 << 63) - 1), help="Only of this session."),
        click.option("--remote", default="", metavar="ADDRESS", help="Only flows with this remote address."),
        click.option("--port", type=click.IntRange(0, 65535), help="Only flows with this remote port."),
        click.option(
            "--since", default="", metavar="TIME", help="From then on: 2026-02-28, 2026-02-28T13:00, 7d, 2h."
        ),
        click.option("--until", default="", metavar="TIME", help="Before then."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate audit verify --dir /var/lib/lockgate",
        "lockgate audit verify --dir D --known 41200:6f1b… --json",
    ),
)
@dir_option
@click.option(
    "--known",
    metavar="NUMBER:MAC",
    help="The newest record of an earlier check: shows that the audit was not replaced by an older copy.",
)
@json_option
@click.pass_context
def verify(ctx: click.Context, path: Path, known: str | None, as_json: bool) -> None:
    """Check the whole audit: no record changed, missing, moved, added or cut off.

    Exit status 0 when it is what was written, 1 when it is not; then the first fault is named.
    """
    number, mac = _parse_known(known)

    async def work(store: SqlStore) -> tuple[Report, bool]:
        report = await verify_chain(store.audit)
        if number is None:
            return report, True
        (record,) = await store.audit.page(AuditFilter(after=number - 1, before=number + 1), 1) or (None,)
        gone = number < report.first
        return report, gone or (record is not None and record.mac == mac)

    report, same = _with_store(path, work)
    if as_json:
        print_json({**report.as_dict(), **({} if number is None else {"known": same})})
    else:
        _print_report(report, number, same)
    ctx.exit(0 if report.ok and same else 1)


@click.command(
    "list",
    cls=Command,
    epilog=examples(
        "lockgate audit list --dir D --failed --since 24h",
        "lockgate audit list --dir D --log flows --user alice --remote 10.77.0.80 --port 443",
    ),
)
@dir_option
@filters
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Most records.")
@json_option
def list_records(path: Path, limit: int, as_json: bool, **wanted: Any) -> None:
    """Show records of the audit, the newest last.

    With --log flows the flows themselves; of all logs together, their records.
    """
    chosen = _filter(**wanted)
    records = _with_store(path, lambda store: store.audit.page(chosen, limit))
    records.reverse()
    if as_json:
        print_json([as_dict(record) for record in records])
        return
    rows = [("NUMBER", "TIME (UTC)", "LOG", "EVENT", "OUTCOME", "USER", "FROM", "TEXT")]
    for record in records:
        entry = record.entry
        when = datetime.fromtimestamp(entry.time, UTC)
        who = f"{entry.user} (by {entry.actor})" if entry.actor else entry.user
        outcome = f"{entry.outcome}: {entry.reason}" if entry.reason else entry.outcome
        cells = (
            str(record.number),
            f"{when:%Y-%m-%d %H:%M:%S}",
            entry.log,
            entry.event,
            outcome,
            who,
            entry.source,
        )
        rows.append((*map(plain, cells), plain(entry.text)))  # type: ignore[arg-type]
    print_table(rows)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate audit export --dir D --format csv --since 30d > audit.csv",
    ),
)
@dir_option
@filters
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="Form of the lines.",
)
def export(path: Path, form: Format, **wanted: Any) -> None:
    """Write records to standard output, the oldest first. That somebody did is written down."""
    chosen = _filter(**wanted)
    actor = f"uid {os.getuid()}"

    async def work(store: SqlStore) -> None:
        audit = Audit(store.audit)
        await audit.record("audit-export", ok=True, source="local", log="admin", actor=actor, text=form)
        records, host = store.audit.stream(chosen), socket.gethostname()
        async for line in lines(records, form, host_name=host, flows=chosen.log == "flows"):
            sys.stdout.write(line)
        sys.stdout.flush()

    _with_store(path, work)


@click.command(
    cls=Command,
    epilog=examples('lockgate audit accept --dir D --reason "disk failure on Monday, logs kept on loghost"'),
)
@dir_option
@click.option("--reason", required=True, help="What happened; it becomes part of the audit.")
@json_option
def accept(path: Path, reason: str, as_json: bool) -> None:
    """Go on after damage: the chain begins anew, and a record says who wanted that and why.

    Older records stay to be read, but are not verified any more. Does nothing when nothing is wrong.
    """
    actor = f"uid {os.getuid()}"

    async def work(store: SqlStore) -> tuple[Report, int | None]:
        report = await verify_chain(store.audit)
        if report.finding is None:
            return report, None
        text = f"{report.finding.text} {reason}"
        entry = Audit(store.audit).entry(
            "audit-accept", ok=True, source="local", log="admin", actor=actor, text=text
        )
        return report, (await store.audit.accept(entry)).number

    report, number = _with_store(path, work)
    if as_json:
        print_json({"accepted": number is not None, "record": number, "finding": report.as_dict()["finding"]})
    elif report.finding is None:
        click.echo("Nothing is wrong with the audit.")
    else:
        click.echo(f"{report.finding.text} Accepted by record {number}.")


def _print_report(report: Report, known: int | None, same: bool) -> None:
    if report.skipped:
        warn(f"damage in the first {report.skipped} records was accepted; they are not verified")
    if report.finding is not None:
        click.echo(f"WRONG: {report.finding.text}")
        click.echo(f"The {report.checked} records before it are right.")
    elif report.checked:
        click.echo(f"{report.checked} records are right: {report.first} to {report.last}.")
    else:
        click.echo("There are no records.")
    if not same:
        click.echo(f"WRONG: record {known} is not the one that was known.")
    if report.ok and report.head is not None:
        click.echo(f"newest: {report.head.number}:{report.head.mac.hex()}")


def _with_store(path: Path, work: Callable[[SqlStore], Awaitable[T]]) -> T:
    directory = enter(path)

    async def body() -> T:
        store = await open_store(directory)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(body())


def _filter(
    *,
    log: Log | None,
    user: str,
    source: str,
    event: str,
    failed: bool,
    text: str,
    code: str,
    session: int | None,
    remote: str,
    port: int | None,
    since: str,
    until: str,
) -> AuditFilter:
    read = parse_support_code(code) if code else ""
    if read is None:
        raise click.UsageError(f"{plain(code, 40)!r} is no support code such as K7QD-2XMR.")
    try:
        address = str(ip_address(remote)) if remote else ""
    except ValueError:
        raise click.UsageError(f"{plain(remote, 40)!r} is no IP address.") from None
    if (address or port is not None) and log is None:
        log = "flows"  # nothing else has these
    return AuditFilter(
        code=read,
        log=log,
        session=session,
        remote=address,
        port=port,
        user=user,
        source=source,
        event=event,
        outcome="failed" if failed else "",
        text=text,
        since=_time(since),
        until=_time(until),
    )


def _time(text: str) -> float | None:
    """A date, a date and a time (UTC unless it says otherwise), or how long ago."""
    if not text:
        return None
    try:
        if text[-1] in _SPANS and text[:-1].isdecimal():
            ago = timedelta(**{_SPANS[text[-1]]: int(text[:-1])})
            return (datetime.now(UTC) - ago).timestamp()
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is neither a date, a time, nor a span such as 7d.") from None


def _parse_known(known: str | None) -> tuple[int | None, bytes]:
    if known is None:
        return None, b""
    number, _, mac = known.partition(":")
    try:
        if number.isascii() and number.isdecimal() and len(bytes.fromhex(mac)) == 32:
            return int(number), bytes.fromhex(mac)
    except ValueError:
        pass
    raise ProblemError(
        Problem("bad-known", f"{known!r} is not NUMBER:MAC.", "Copy what `lockgate audit verify` printed.")
    )
