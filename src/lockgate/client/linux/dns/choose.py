"""Which driver this machine needs, and undoing any of them with nothing running."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address
from pathlib import Path

from lockgate.client.linux.dns import plain_file, resolv_conf, resolvconf, resolved, trusted_file
from lockgate.client.linux.dns.driver import Driver, Saved
from lockgate.client.linux.dns.plain_file import RESOLV_CONF, PlainFile
from lockgate.client.linux.dns.resolved import Resolved

_NSSWITCH = Path("/etc/nsswitch.conf")
_STUBS = frozenset(map(ip_address, ("127.0.0.53", "127.0.0.54")))
"""Where systemd-resolved listens: resolved.conf(5), DNSStubListener."""


async def choose_driver(previous: Saved | None = None) -> Driver:
    """systemd-resolved if the machine's look-ups go there, else resolvconf if it writes the file, else the file.

    previous: the journal's state when a tunnel outlived the service that made it.
    """
    if resolv_conf.is_ours(trusted_file.read_anybodys(RESOLV_CONF)):
        # What wrote it has to take it back, whatever else has come to run here since.
        return PlainFile(previous=previous)
    if await resolved.running() and _asks_resolved():
        return Resolved(previous)
    return await resolvconf.find() or PlainFile(previous=previous)


def restore(saved: Saved) -> list[str]:
    """Undo what a driver did, from its saved state alone. Says what was done, a line for each thing.

    Blocks for up to some seconds. raises: ProblemError.
    """
    match saved.get("driver"):
        case "file":
            return plain_file.restore(saved)
        case "systemd-resolved" | "openresolv" | "resolvconf":
            return _apart(saved)
        case _:
            return ["DNS: the journal names no driver, nothing to undo"]


def _asks_resolved() -> bool:
    """Whether programs here come to systemd-resolved, by its stub or by the C library's module.

    A link to its list of upstream servers is neither: programs that read it ask these servers themselves.
    """
    servers = resolv_conf.parse(trusted_file.read_anybodys(RESOLV_CONF)).servers
    return (bool(servers) and _STUBS.issuperset(servers)) or uses_resolve_module(
        trusted_file.read_anybodys(_NSSWITCH).decode(errors="replace")
    )


def uses_resolve_module(nsswitch: str) -> bool:
    """Whether nsswitch.conf's line for hosts names systemd-resolved's module."""
    for line in nsswitch.splitlines():
        database, _, modules = line.partition("#")[0].partition(":")
        if database.strip() == "hosts" and "resolve" in modules.split():
            return True
    return False


def _apart(saved: Saved) -> list[str]:
    """Run the asynchronous ones in a thread of their own: the caller may or may not be in an event loop."""
    undo = resolved.restore if saved["driver"] == "systemd-resolved" else resolvconf.restore
    result: list[str] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            result.extend(asyncio.run(undo(saved)))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="dns-restore")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result
