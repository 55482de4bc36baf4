"""`lockgate server init`"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, warn
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.config.seed.checks import check
from lockgate.server.config.seed.load import dotted
from lockgate.server.config.seed.tree import Network, Seed
from lockgate.server.config.tree.system import Gateway
from lockgate.server.config.values import (
    Address,
    Endpoint,
    parse_address,
    parse_endpoint,
    parse_host_name,
    parse_network,
)
from lockgate.server.config.values import Network as Cidr
from lockgate.server.setup import Created, GivenCertificate, create

DEFAULT_POOL = "10.88.0.0/16"
# A certificate chain is a few kilobytes.
MAX_PEM = 1 << 20


class _Parsed(click.ParamType[Any]):
    """A value parsed by one of `config.values`."""

    def __init__(self, name: str, parse: Callable[[object], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server init --dir /var/lib/lockgate --hostname vpn.example.org",
        "lockgate server init --dir D --hostname vpn.example.org \\",
        "    --listen 192.0.2.1:443 --listen [2001:db8::1]:443 \\",
        "    --pool 10.88.0.0/16 --pool fd12:3456:789a::/64 \\",
        "    --dns 10.77.0.53 --split-include 10.77.0.0/16",
    ),
)
@dir_option
@click.option(
    "--hostname",
    type=_Parsed("NAME", parse_host_name),
    required=True,
    help="Name under which clients reach it.",
)
@click.option(
    "--listen",
    type=_Parsed("ADDR:PORT", parse_endpoint),
    multiple=True,
    help="Where clients connect, once for each address; the addresses need not exist yet.  "
    "[default: 0.0.0.0:443 and [::]:443]",
)
@click.option(
    "--admin-listen",
    type=_Parsed("ADDR:PORT", parse_endpoint),
    default="127.0.0.1:8443",
    show_default=True,
    help="Where the administrators' console listens.",
)
@click.option(
    "--pool",
    "pools",
    type=_Parsed("CIDR", parse_network),
    multiple=True,
    help="Network for client addresses, once for each.  "
    f"[default: {DEFAULT_POOL} and a random IPv6 /64 of fd00::/8]",
)
@click.option("--dns", type=_Parsed("ADDR", parse_address), multiple=True, help="Name server for clients.")
@click.option(
    "--split-include",
    type=_Parsed("CIDR", parse_network),
    multiple=True,
    help="Network that goes through the tunnel, and that users may reach; without any, everything does.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Server certificate with its intermediates (PEM) instead of one from an own CA.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its private key (PEM, not encrypted).",
)
@click.option(
    "--store",
    metavar="URL",
    help="Keep users, sessions, configuration and audit in PostgreSQL: postgresql://USER@HOST/DATABASE, or what "
    "libpq takes.  [default: a file in D]",
)
@json_option
def init(
    path: Path,
    hostname: str,
    listen: tuple[Endpoint, ...],
    admin_listen: Endpoint,
    pools: tuple[Cidr, ...],
    dns: tuple[Address, ...],
    split_include: tuple[Cidr, ...],
    certificate: Path | None,
    key: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Make the data directory of a new gateway.

    It gets a CA of its own with a server certificate (or the given one), a database, a commented
    configuration for its first start, and the administrator "admin", whose password is shown here and
    nowhere else.
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together.")
    gateway = Gateway(hostname=hostname, admin_listen=admin_listen, listen=listen or _default_listen())
    network = Network(pools=pools or _default_pools(), dns=dns, split_include=split_include)
    configuration = Seed(gateway=gateway, network=network)
    warnings = _check(configuration)
    given = None
    if certificate is not None and key is not None:
        given = GivenCertificate(_read(certificate), Secret(_read(key)))
    created = create(path, configuration, given, postgresql=store)
    warnings += created.warnings
    if as_json:
        print_json(_document(created, configuration, warnings))
    else:
        _show(created, configuration, warnings)


def _default_listen() -> tuple[Endpoint, ...]:
    # A kernel without IPv6 could not open [::].
    texts = ["0.0.0.0:443", "[::]:443"] if Path("/proc/net/if_inet6").exists() else ["0.0.0.0:443"]
    return tuple(parse_endpoint(text) for text in texts)


def _default_pools() -> tuple[Cidr, ...]:
    # RFC 4193, section 3.2: fd, 40 random bits, subnet 0.
    unique = (0xFD << 40 | secrets.randbits(40)) << 80
    return parse_network(DEFAULT_POOL), IPv6Network((unique, 64))


def _check(configuration: Seed) -> list[str]:
    """Warnings about the options. Raises ProblemError for errors."""
    findings = check(configuration)
    errors = [
        f"{dotted(each.path)}: {each.wrong}; allowed: {each.allowed}" for each in findings if not each.warning
    ]
    if errors:
        raise ProblemError(
            Problem(
                code="config-invalid",
                summary="No gateway can be made with these options.",
                fix="Correct them; nothing has been written.",
                details=tuple(errors),
            )
        )
    return [f"{dotted(each.path)}: {each.wrong}" for each in findings]


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_PEM + 1)
    except OSError as error:
        raise ProblemError(
            Problem(
                "file-unreadable", f"{file} cannot be read: {error.strerror}.", "Name a file of this user."
            )
        ) from None
    if len(content) > MAX_PEM:
        raise ProblemError(Problem("file-too-large", f"{file} is no PEM file.", "Name a certificate or key."))
    return content


def _document(created: Created, configuration: Seed, warnings: list[str]) -> dict[str, object]:
    directory = created.directory
    return {
        "dir": str(directory.path),
        "owner": created.owner,
        "hostname": configuration.gateway.hostname,
        "listen": [str(endpoint) for endpoint in configuration.gateway.listen],
        "admin_listen": str(configuration.gateway.admin_listen),
        "pools": [str(pool) for pool in configuration.network.pools],
        "config": str(directory.config),
        "ca": str(directory.ca_certificate) if created.has_ca else None,
        "administrator": {"name": created.administrator, "password": created.password.reveal_text()},
        "warnings": warnings,
    }


def _show(created: Created, configuration: Seed, warnings: list[str]) -> None:
    directory = created.directory
    for warning in warnings:
        warn(warning)
    rows = [
        ("Data directory", f"{directory.path} (owner {created.owner})"),
        ("Configuration", str(directory.config)),
        (
            "Clients connect to",
            f"{configuration.gateway.hostname}, on " + _join(configuration.gateway.listen),
        ),
        ("Client addresses", _join(configuration.network.pools)),
    ]
    if created.has_ca:
        rows.append(("CA for clients", str(directory.ca_certificate)))
    rows += [
        ("Administrator", created.administrator),
        ("Password", f"{created.password.reveal_text()}   (shown only now)"),
    ]
    for name, value in rows:
        click.echo(f"{name + ':':<20} {value}")
    click.echo("\nNext:")
    click.echo(f"  lockgate user add NAME --dir {directory.path}")
    click.echo(f"  lockgate server run --dir {directory.path}")


def _join(values: tuple[object, ...]) -> str:
    return ", ".join(str(value) for value in values)
