"""Addresses, routes and forwarding of the gateway's TUN device."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lockgate.model.problem import Problem, ProblemError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

IFA_F_NODAD = 0x02  # nobody else can have an address of our own pool
SYSCTL = Path("/proc/sys/net")


def configure_tun(name: str, mtu: int, pools: Sequence[Network]) -> None:
    """Brings the device up with the first host of every pool; the pool's route comes with it.

    Raises ProblemError when the kernel refuses, naming what.
    """
    with IPRoute() as ip:
        found = ip.link_lookup(ifname=name)
        index = found[0]
        ip.link("set", index=index, mtu=mtu, state="up")
        for pool in pools:
            try:
                flags = {"flags": IFA_F_NODAD} if pool.version == 6 else {}
                ip.addr(
                    "add",
                    index=index,
                    address=str(pool.network_address + 1),
                    prefixlen=pool.prefixlen,
                    **flags,
                )
            except NetlinkError as error:
                if error.code == errno.EEXIST:
                    continue
                raise ProblemError(
                    Problem(
                        code="pool-route-failed",
                        summary=f"Cannot route the address pool {pool} to {name}: {error.args[-1]}.",
                        fix="Choose a pool that this machine does not use already.",
                    )
                ) from None


def enable_forwarding(pools: Sequence[Network]) -> list[str]:
    """Lets this machine forward packets of the pools' IP versions; returns what was changed, for the log.

    A setting that is on already stays untouched. Interfaces that take their address from router
    advertisements keep doing so (a forwarding host ignores them unless accept_ra is 2).
    """
    changed: list[str] = []
    versions = {pool.version for pool in pools}
    if 4 in versions:
        _switch_on(SYSCTL / "ipv4" / "ip_forward", "1", changed)
    if 6 in versions:
        forwarding = SYSCTL / "ipv6" / "conf" / "all" / "forwarding"
        if _read(forwarding) == "0":
            for accept_ra in sorted((SYSCTL / "ipv6" / "conf").glob("*/accept_ra")):
                if _read(accept_ra) == "1":
                    _switch_on(accept_ra, "2", changed)
        _switch_on(forwarding, "1", changed)
    return changed


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _switch_on(path: Path, value: str, changed: list[str]) -> None:
    if _read(path) == value:
        return
    setting = ".".join(path.relative_to(SYSCTL.parent).parts)
    try:
        path.write_text(value)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="forwarding-off",
                summary=f"Packets are not forwarded, and {setting} cannot be set: {error.strerror}.",
                fix=f"Run `sysctl -w {setting}={value}` as root, then start again.",
            )
        ) from None
    changed.append(f"{setting}={value}")
