"""`lockgate explain` and `lockgate whatif`: why somebody may reach something, and who a draft would affect."""

from __future__ import annotations

import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, show_problem
from lockgate.cli.plain import plain
from lockgate.cli.rest import Rest, part
from lockgate.model.decision import KINDS
from lockgate.model.problem import ProblemError

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]{1,4})([mhdw])", re.ASCII)
_MARKS = {"loses": "-", "gains": "+", "differs": "~"}


class _Target(click.ParamType):
    """NAME, ADDRESS, NAME:PORT, [IPV6]:PORT; an IPv6 address without brackets has no port."""

    name = "target"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        text = str(value)
        host, port = text, ""
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            if rest and not rest.startswith(":"):
                self.fail(f"{text!r}: only a port follows the brackets", param, ctx)
            port = rest[1:]
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        if not host:
            self.fail(f"{text!r} names no target", param, ctx)
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            self.fail(f"{port!r} is no port", param, ctx)
        return host, int(port) if port else None


class _Span(click.ParamType):
    """A time such as 90m, 12h, 7d, 4w; in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _SPAN.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a time such as 90m, 12h, 7d or 4w", param, ctx)
        return int(found.group(1)) * _UNITS[found.group(2)]


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate explain --dir D --user alice --to 10.77.0.80:443",
        "lockgate explain --dir D --user alice --from 198.51.100.7 --to wiki.example.com:443 --json",
        "lockgate explain --dir D --user alice",
        "lockgate explain --dir D --code K7QD-2XMR",
    ),
)
@dir_option
@click.option("--user", help="Name of the user.")
@click.option(
    "--code", help="Support code that somebody was refused with: shows the decision as it was recorded."
)
@click.option("--server", help="Auth server of the user, where several know the name.")
@click.option("--device", help="Host name or user agent of one of the user's clients.")
@click.option("--from", "source", metavar="ADDRESS", help="Judge a sign-in from there.")
@click.option(
    "--to",
    "target",
    type=_Target(),
    metavar="TARGET[:PORT]",
    help="Address, DNS name or bookmark; without it the sign-in alone is judged.",
)
@click.option("--protocol", default="tcp", show_default=True, help="tcp, udp, icmp or a protocol number.")
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    path: Path,
    user: str | None,
    code: str | None,
    server: str | None,
    device: str | None,
    source: str | None,
    target: tuple[str, int | None] | None,
    protocol: str,
    as_json: bool,
) -> None:
    """Say whether a user may sign in and reach something, and what decided: realm, rules, roles, policy.

    Judged are the roles of the user's newest session; without one, or with --from, those of a sign-in at
    this moment. With --code nothing is judged: the decision is shown that was made then. Exit status 0 is
    allowed, 1 denied, 2 a question that cannot be answered.
    """
    if code is not None:
        if any(each is not None for each in (user, server, device, source, target)):
            raise click.UsageError("--code names one decision by itself; leave the other options out.")
        _show_recorded(ctx, path, code, as_json)
    if user is None:
        raise click.UsageError("Give --user, or the support code of a refusal with --code.")
    query = {
        "user": user,
        "server": server,
        "device": device,
        "source": source,
        "target": None if target is None else target[0],
        "port": None if target is None else target[1],
        "protocol": protocol,
    }
    try:
        answer = Rest(path).get("/explain", query)
    except ProblemError as error:
        show_problem(error.problem, as_json=as_json)
        ctx.exit(2)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{answer['question']}, revision {answer['revision']}")
        _show_reasons(answer["reasons"])
    ctx.exit(0 if answer["allow"] else 1)


def _show_reasons(reasons: list[dict[str, Any]]) -> None:
    for reason in reasons:
        mark = {True: "yes", False: "no", None: ""}[reason["ok"]]
        where = f"  [{reason['path']}]" if reason["path"] else ""
        click.echo(plain(f"{mark:<4}{reason['text']}{where}"))


def _show_recorded(ctx: click.Context, path: Path, code: str, as_json: bool) -> NoReturn:
    """The decision with that support code."""
    try:
        found = Rest(path).get(f"/decisions/{part(code)}")
    except ProblemError as error:
        show_problem(error.problem, as_json=as_json)
        ctx.exit(2)
    if as_json:
        print_json(found)
        ctx.exit(0 if found["allow"] else 1)
    when = f"{datetime.fromtimestamp(found['time'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    verdict = "allowed" if found["allow"] else "denied"
    click.echo(f"{found['code']}: {KINDS.get(found['kind'], found['kind'])}, {verdict} at {when}")
    user = found["user"] or "nobody"
    if found["kind"] == "attempt":
        user += " (claimed; not signed in)"
    rows = {
        "User": user,
        "From": found["source"],
        "Device": ", ".join(filter(None, (found["device"], found["user_agent"]))),
        "Realm": found["realm"],
        "Roles": ", ".join(found["roles"]),
        "Session": found["session"],
        "Revision": found["revision"],
    }
    for name, value in rows.items():
        if value not in (None, ""):
            click.echo(plain(f"{name + ':':<10}{value}"))
    _show_reasons(found["reasons"])
    if found["again"]:
        asked = found["again"]
        names = {"user": "--user", "server": "--server", "source": "--from", "device": "--device"}
        words = [word for key, option in names.items() if key in asked for word in (option, asked[key])]
        if "target" in asked:
            host = f"[{asked['target']}]" if ":" in asked["target"] else asked["target"]
            words += ["--to", f"{host}:{asked['port']}" if "port" in asked else asked["target"]]
            words += ["--protocol", asked["protocol"]]
        command = shlex.join(["lockgate", "explain", "--dir", str(path), *words])
        click.echo(plain(f"Ask the same of now: {command}"))
    ctx.exit(0 if found["allow"] else 1)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate whatif DRAFT --dir D --since 7d",
        "lockgate whatif --revision 12 --dir D --json",
    ),
)
@click.argument("draft", required=False)
@dir_option
@click.option("--revision", type=click.IntRange(1), help="Judge a revision instead of a draft.")
@click.option(
    "--since", type=_Span(), default="7d", show_default=True, help="How far back decisions are made again."
)
@json_option
def whatif(path: Path, draft: str | None, revision: int | None, since: int, as_json: bool) -> None:
    """Make recorded decisions again under a DRAFT, and list who would gain and lose what."""
    if (draft is None) == (revision is None):
        raise click.UsageError("Name a draft (see `lockgate config drafts`), or give --revision.")
    body: dict[str, Any] = {"seconds": since}
    body |= {"draft": draft} if draft is not None else {"revision": revision}
    report = Rest(path).post("/what-if", body)
    if as_json:
        print_json(report)
        return
    click.echo(
        f"{report['replayed']} decisions about {report['people']} people, {len(report['affected'])} affected"
    )
    for kind, count in sorted(report["counts"].items()):
        click.echo(f"  {kind}: {count}")
    for person in report["affected"]:
        click.echo(f"{person['user']} ({person['server']}), {person['decisions']} decisions")
        for kind, mark in _MARKS.items():
            for change in person[kind]:
                click.echo(f"  {mark} {change['text']}")
    if not report["complete"]:
        sys.stderr.write("warning: some rule sets differ in too many places; there may be more\n")
