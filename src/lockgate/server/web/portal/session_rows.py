"""The list of a user's sessions, tunnels and browsers, as people read it."""

from __future__ import annotations

from dataclasses import dataclass

from lockgate.model.session import Session
from lockgate.server.store.interface import WebSessionRecord


@dataclass(frozen=True, slots=True)
class Row:
    """One session in the list. `end` is how its End button names it, empty for this browser's own. `extend`: the
    same of its Extend button, empty where there is none. `ends_soon`: its roles want its user reminded by now."""

    device: str
    kind: str
    address: str
    started: float
    expires: float
    inner: str = ""
    end: str = ""
    extend: str = ""
    ends_soon: bool = False


def tunnel_row(session: Session, *, extend: bool) -> Row:
    """extend: whether its user may extend it."""
    addresses = [str(each) for each in (session.address4, session.address6) if each is not None]
    client = session.client
    return Row(
        device=client.host_name or client.user_agent or "Unnamed device",
        kind="VPN",
        address=client.source,
        started=session.started,
        expires=session.expires,
        inner=", ".join(addresses),
        end=f"tunnel:{session.id}",
        extend=f"tunnel:{session.id}" if extend else "",
    )


def browser_row(record: WebSessionRecord, *, own: bool, extend: bool) -> Row:
    """own: whether it is the one that looks. extend: whether its user may extend it."""
    return Row(
        device=_browser(record.user_agent),
        kind="Browser",
        address=record.source,
        started=record.started,
        expires=record.expires,
        end="" if own else f"web:{record.id}",
        extend=f"web:{record.id}" if extend else "",
    )


def _browser(agent: str) -> str:
    """A user agent in two words; browsers name others in theirs, so the order counts."""
    names = (
        ("Edg", "Edge"),
        ("OPR", "Opera"),
        ("Firefox", "Firefox"),
        ("Chrom", "Chromium"),
        ("Safari", "Safari"),
    )
    systems = (
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("Windows", "Windows"),
        ("Mac", "macOS"),
        ("Linux", "Linux"),
    )
    name = next((shown for word, shown in names if word in agent), "Browser")
    system = next((shown for word, shown in systems if word in agent), "")
    return f"{name} on {system}" if system else name
