"""Routes, rules and addresses of this machine as values, and back, over netlink. All calls block."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lockgate.client.network_plan import TABLE, Interface, Rule
from lockgate.client.segments import Network
from lockgate.model.problem import Problem, ProblemError

P = ParamSpec("P")
R = TypeVar("R")

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
SYSCTL = Path("/proc/sys/net")

# linux/rtnetlink.h, linux/fib_rules.h
UNICAST, LOCAL, UNREACHABLE, THROW = 1, 2, 7, 9
INVERT = 0x2
TO_TABLE = 1
LOCAL_TABLE = 255
NO_SUPPRESSION = 0xFFFFFFFF
_SELECTORS = (
    *("FRA_DST", "FRA_SRC", "FRA_IIFNAME", "FRA_OIFNAME", "FRA_TUN_ID", "FRA_L3MDEV", "FRA_UID_RANGE"),
    *("FRA_IP_PROTO", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE", "FRA_SUPPRESS_IFGROUP"),
)
_GONE = {errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL}


@dataclass(frozen=True, slots=True)
class Entry:
    """One route of a table, as the kernel tells it back. oif and source: for routes into a device, else None."""

    network: Network
    kind: int
    metric: int
    oif: int | None = None
    source: str | None = None


def has_ipv6() -> bool:
    return (SYSCTL / "ipv6").is_dir()


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """In a thread of its own if the caller's runs an event loop, which pyroute2 does not bear. It still blocks."""

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return function(*arguments, **named)
        with ThreadPoolExecutor(1, "netlink") as pool:
            return pool.submit(function, *arguments, **named).result()

    return call


@contextmanager
def kernel() -> Iterator[IPRoute]:
    """A netlink socket; what the kernel refuses becomes a ProblemError tun-gone or network-refused."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            raise ProblemError(TUN_GONE) from None
        raise ProblemError(refused(str(error.args[-1]))) from None
    except OSError as error:
        raise ProblemError(refused(error.strerror or str(error))) from None


TUN_GONE = Problem(
    "tun-gone",
    "The tunnel's network device has disappeared: another program removed it.",
    "Connect again.",
)


def refused(reason: str) -> Problem:
    return Problem(
        "network-refused",
        f"The kernel refused a change of addresses, routes or rules: {reason}.",
        "The client service needs to run as root (CAP_NET_ADMIN), on a kernel with policy routing.",
    )


def entries(ip: IPRoute, table: int = TABLE) -> list[tuple[Entry, Any]]:
    """Everything in a table, with the kernel's message."""
    found = []
    for version in _versions():
        for message in ip.get_routes(family=FAMILY[version], table=table):
            found.append((entry_of(message, version), message))
    return found


def entry_of(message: Any, version: int) -> Entry:
    address = message.get_attr("RTA_DST") or ("0.0.0.0" if version == 4 else "::")
    kind, direct = message["type"], message["type"] == UNICAST
    return Entry(
        ip_network((address, message["dst_len"])),
        kind,
        message.get_attr("RTA_PRIORITY") or 0,
        message.get_attr("RTA_OIF") if direct else None,
        message.get_attr("RTA_PREFSRC") if direct else None,
    )


def rules(ip: IPRoute) -> list[tuple[Rule | None, Any]]:
    """All routing rules of the machine, with the kernel's message; None for one that is of no kind of ours."""
    found = []
    for version in _versions():
        for message in ip.get_rules(family=FAMILY[version]):
            found.append((_parse_rule(message, version), message))
    return found


def _parse_rule(message: Any, version: int) -> Rule | None:
    narrowed = message["tos"] or any(message.get_attr(name) is not None for name in _SELECTORS)
    suppressing = message.get_attr("FRA_SUPPRESS_PREFIXLEN", NO_SUPPRESSION) != NO_SUPPRESSION
    mask = message.get_attr("FRA_FWMASK", NO_SUPPRESSION)
    if narrowed or suppressing or message["action"] != TO_TABLE or mask != 0xFFFFFFFF:
        return None
    return Rule(
        version,
        message.get_attr("FRA_PRIORITY") or 0,
        message.get_attr("FRA_TABLE") or message["table"],
        message.get_attr("FRA_FWMARK") or 0,
        bool(message["flags"] & INVERT),
    )


def take_away(call: Callable[..., Any], given: dict[str, Any]) -> None:
    """`call("del", …)`; no harm if somebody was faster."""
    try:
        call("del", **given)
    except NetlinkError as error:
        if error.code not in _GONE:
            raise


def rule_of(message: Any) -> dict[str, Any]:
    """What names this one rule to the kernel."""
    given: dict[str, Any] = {
        "family": message["family"],
        "flags": message["flags"] & INVERT,
        "action": message["action"],
        "priority": message.get_attr("FRA_PRIORITY") or 0,
        "table": message.get_attr("FRA_TABLE") or message["table"],
    }
    for name in ("fwmark", "fwmask", "iifname", "oifname", "protocol"):
        value = message.get_attr(f"FRA_{name.upper()}")
        if value is not None:
            given[name] = value
    for name in ("src", "dst"):
        if message.get_attr(f"FRA_{name.upper()}") is not None:
            given[name] = message.get_attr(f"FRA_{name.upper()}")
            given[f"{name}_len"] = message[f"{name}_len"]
    return given


def route_of(message: Any) -> dict[str, Any]:
    """What names this one route to the kernel."""
    version = 4 if message["family"] == socket.AF_INET else 6
    given: dict[str, Any] = {
        "family": message["family"],
        "dst": str(entry_of(message, version).network),
        "table": TABLE,
        "type": message["type"],
        "scope": message["scope"],
    }
    for name, attribute in (("priority", "PRIORITY"), ("oif", "OIF"), ("gateway", "GATEWAY")):
        value = message.get_attr(f"RTA_{attribute}")
        if value is not None and (attribute == "PRIORITY" or message["type"] == UNICAST):
            given[name] = value
    return given


def addresses(ip: IPRoute, index: int) -> Iterator[tuple[Interface, Any]]:
    """Of one device, each with its prefix length and the kernel's message."""
    for message in ip.get_addr(index=index):
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        yield ip_interface((text, message["prefixlen"])), message


def device_names(ip: IPRoute) -> list[str]:
    return [link.get_attr("IFLA_IFNAME") for link in ip.get_links()]


def _versions() -> tuple[int, ...]:
    return (4, 6) if has_ipv6() else (4,)
