"""Do these name servers answer? For `details` and `diagnose`: a person's "nothing works" often ends here."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import dns.flags
import dns.name
import dns.rdataclass
import dns.rdatatype

from lockgate.client.linux.dns import forwarding, upstream
from lockgate.client.linux.dns.wish import Address


class Health(Enum):
    ANSWERS = "answers"  # whatever it answers: somebody is there and speaks DNS
    SILENT = "silent"
    REFUSED = "refused"  # the machine is there, no name server on it
    UNREACHABLE = "unreachable"  # no route, or no such device


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """rcode, seconds: of the answer; None without one."""

    server: Address
    health: Health
    rcode: int | None = None
    seconds: float | None = None


async def probe(
    servers: Sequence[Address],
    timeout: float = 2.0,  # noqa: ASYNC109 - what callers call it
    *,
    interface: str = "",
    port: int = upstream.PORT,
) -> tuple[ServerHealth, ...]:
    """Ask all at once for the root's name servers; one result for each, in their order, within `timeout` s.

    interface: the tunnel's device for the tunnel's servers; empty for the machine's own.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_probe(server, timeout, interface, port), name=f"dns-probe-{server}")
            for server in servers
        ]
    return tuple(task.result() for task in tasks)


async def _probe(server: Address, patience: float, interface: str, port: int) -> ServerHealth:
    query = forwarding.Query(
        ident=b"\0\0",
        flags=int(dns.flags.RD),
        name=dns.name.root,
        kind=dns.rdatatype.NS,
        rdclass=dns.rdataclass.IN,
        edns=False,
        dnssec_ok=False,
        payload=0,
    )
    ident, loop = secrets.randbelow(1 << 16), asyncio.get_running_loop()
    begin = loop.time()
    try:
        async with asyncio.timeout(patience):
            answer = await upstream.over_udp(
                server,
                forwarding.ask(query, ident),
                lambda wire: forwarding.is_answer(wire, query, ident),
                interface=interface,
                port=port,
            )
    except TimeoutError:
        return ServerHealth(server, Health.SILENT)
    except OSError as error:
        refused = error.errno == errno.ECONNREFUSED
        return ServerHealth(server, Health.REFUSED if refused else Health.UNREACHABLE)
    return ServerHealth(server, Health.ANSWERS, forwarding.rcode(answer), loop.time() - begin)
