"""resolv.conf as text: what one says, and ours, which carries within it what was there before.

Ours holds the former state twice over: the journal has it, and the file itself in comments, so that losing the
journal (a full disk, a removed state directory) costs nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from lockgate.client.linux.dns.wish import Address

MARKER = b"# lockgate: written by the client service; `lockgate client reset` restores the former content"
_OURS = b"# lockgate"
_SAVED = b"# lockgate-saved: "
_SAVED_WIDTH = 96  # musl reads lines into 256 bytes
DIRECT = "timeout:2 attempts:2"
"""Our patience with the tunnel's servers: silent ones cost a look-up 4 s each, instead of glibc's 10."""
FORWARDED = "timeout:5 attempts:1"
"""And with the forwarder, which always answers in time; asking it twice helps nothing."""
GLIBC_SERVERS = 3
"""resolv.h: MAXNS. Further lines are not read."""
_OWN_OPTIONS = ("timeout:", "attempts:", "trust-ad", "rotate", "debug")
"""Options of the former file that ours does not take over: patience is ours to set, and trust in the former
server's DNSSEC validation is not trust in ours."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolv.conf tells the resolver: at most three servers, as glibc reads it."""

    servers: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(content: bytes) -> ResolvConf:
    """Total for every input; a keyword counts only at the start of its line, the last search list wins."""
    servers: list[Address] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in content.decode("ascii", "replace").split("\n"):
        keyword, _, rest = line.replace("\t", " ").partition(" ")
        words = rest.split()
        if not words:
            continue
        if keyword == "nameserver":
            try:
                servers.append(ip_address(words[0]))
            except ValueError:
                continue
        elif keyword == "search":
            search = tuple(words)
        elif keyword == "domain":
            search = (words[0],)
        elif keyword == "options":
            options += words
    return ResolvConf(tuple(servers[:GLIBC_SERVERS]), search, tuple(options))


def render(
    servers: Iterable[Address],
    search: Iterable[str],
    options: Iterable[str],
    saved: Mapping[str, Any],
    *,
    patience: str,
) -> bytes:
    """Our file. options: the former file's. patience: ours, in resolv.conf's words. saved: see `embedded`."""
    kept = [option for option in options if not option.startswith(_OWN_OPTIONS)]
    search = " ".join(search)
    lines = [
        MARKER,
        *(f"nameserver {server}".encode() for server in list(servers)[:GLIBC_SERVERS]),
        *([f"search {search}".encode()] if search else []),
        " ".join(["options", *kept, patience]).encode(errors="replace"),
    ]
    text = base64.b64encode(json.dumps(saved, sort_keys=True).encode())
    lines += [_SAVED + text[at : at + _SAVED_WIDTH] for at in range(0, len(text), _SAVED_WIDTH)]
    # Once more at the end: a kill between writing and cutting off the rest leaves one or the other.
    return b"\n".join([*lines, MARKER, b""])


def is_ours(content: bytes) -> bool:
    """Whether any of it is our writing, also half overwritten."""
    return any(line.startswith(_OURS) for line in content.split(b"\n"))


def embedded(content: bytes) -> dict[str, Any] | None:
    """The former state that our file carries; None where it does not hold together."""
    text = b"".join(line.removeprefix(_SAVED) for line in content.split(b"\n") if line.startswith(_SAVED))
    try:
        value = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
