"""A connection as a person reads it: the state in a line, the details in a block."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lockgate.cli.output import duration
from lockgate.cli.plain import plain, size

TRANSPORTS = {"esp": "ESP", "tls": "TLS"}
MAX_NETWORKS = 12  # shown of a list; `--json` has all


def state_line(state: Mapping[str, Any]) -> str:
    """What a state event or a status says: "reconnecting (attempt 3): no route to the gateway"."""
    text = plain(state.get("state", "?"), 40)
    transport = TRANSPORTS.get(state.get("transport") or "")
    if text == "connected" and transport:
        text += f" over {transport}"
    if text == "reconnecting" and (attempt := state.get("attempt")):
        text += f" (attempt {plain(attempt, 20)})"
    note = plain(state.get("note") or "")
    problem = state.get("problem")
    if not note and isinstance(problem, dict):
        note = plain(problem.get("summary", ""))
    return f"{text}: {note}" if note else text


def details_lines(details: Mapping[str, Any], now: float) -> list[str]:
    """The block of `details`. now: seconds since 1970."""
    get = details.get
    rows: list[tuple[str, object]] = [
        ("Connection", _joined(get("connection"), get("name") if get("name") != get("server") else None)),
        ("Gateway", _joined(get("server"), f"({get('peer')})" if get("peer") else None)),
        ("User", _joined(get("user"), f"in realm {get('realm')}" if get("realm") else None)),
        ("State", state_line(details)),
    ]
    if since := get("since"):
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        rows.append(("Connected", f"{duration(now - since)}, since {started}"))
    left, length = get("session_remaining"), get("session_duration")
    if left is not None or length:
        ends = f", {duration(left)} left" if left is not None else ""
        rows.append(("Session", f"for {duration(length or 0)}{ends}"))
    suite = get("esp_suite")  # agreed on, also while packets go over TLS
    if idle := get("idle_limit"):
        rows.append(("Idle limit", duration(idle)))
    rows += [
        ("Addresses", _joined(get("ipv4"), get("ipv6"))),
        ("VPN type", _joined(get("vpn_type"), f"({suite})" if suite and get("transport") == "esp" else None)),
        ("TLS", _joined(*((get("tls") or {}).get(key) for key in ("version", "cipher", "group")))),
        ("Web proxy", get("via_proxy")),
        ("Interface", _joined(get("interface"), f"MTU {get('mtu')}" if get("mtu") else None)),
        ("DNS", _list(get("dns"))),
        ("DNS, silent", _list(get("dns_silent"))),
        ("Search", _list(get("search_domains"))),
        ("Through tunnel", "everything" if get("full_tunnel") else _list(get("split_include"))),
        ("Not through it", _list(get("split_exclude"))),
        ("Received", _traffic(get("bytes_in"), get("packets_in"))),
        ("Sent", _traffic(get("bytes_out"), get("packets_out"))),
        ("Reconnects", get("reconnects") or None),
    ]
    return [f"{name:<15} {plain(value)}" for name, value in rows if value not in (None, "")]


def _joined(*parts: object) -> str:
    return "  ".join(str(part) for part in parts if part)


def _list(values: object) -> str:
    if not isinstance(values, list):
        return ""
    more = f" and {len(values) - MAX_NETWORKS} more" if len(values) > MAX_NETWORKS else ""
    return " ".join(map(str, values[:MAX_NETWORKS])) + more


def _traffic(count: object, packets: object) -> str:
    if not isinstance(count, int) or not isinstance(packets, int):
        return ""
    return f"{size(count)} in {packets} packets"
