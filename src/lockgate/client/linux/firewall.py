"""The nftables table that stands behind the routes: what belongs in the tunnel leaves through it or not at all.

A route that somebody adds can divert a packet; a packet that leaves by the wrong interface is dropped here.
The way to the gateway is open for our own mark, to its address and port, by its protocol, all four together.

Outgoing packets are judged where they leave (hook postrouting), our own and forwarded ones alike, so that
containers are under the same law. In a full tunnel everything else is dropped, but for what a machine needs to
stay on its link (DHCP, neighbour discovery, multicast membership). Names are asked inside: ports 53 and 853, and
the LLMNR and NetBIOS names that would go to everybody around, are dropped outside, also towards local networks
that are open otherwise. Multicast DNS stays, with local networks open: it is how printers are found, and only
names under .local are asked for.

Incoming packets (hook prerouting): answers from the gateway get our mark, which a strict reverse-path filter, of
the kernel or of firewalld, must see, or it would look for their way back in the tunnel. What is addressed to an
inner address must come out of the TUN (CVE-2019-14899), and nothing else may come out of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

from lockgate.client.network_plan import MARK, NetworkPlan, Peer
from lockgate.client.segments import Segment
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.protocol.errors import UsageError

TABLE = "inet lockgate"
PATIENCE = 30.0  # seconds for nft; it takes milliseconds unless another program holds the rules

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
"""Interface names that mean themselves in nftables' language; the kernel also allows quotes and asterisks."""

# What keeps a machine on its link. Neighbour discovery with hop limit 255 never crosses a router (RFC 4861).
_LINK_NEEDS = (
    "meta nfproto ipv4 udp sport 68 udp dport 67 accept",
    "ip6 daddr { fe80::/10, ff02::/16 } udp sport 546 udp dport 547 accept",
    "ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
    "ip6 daddr ff02::/16 icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept",
    "ip daddr 224.0.0.0/4 ip protocol igmp accept",
)
_NO_NAMES = "meta l4proto { tcp, udp } th dport { 53, 137, 853, 5355 } counter drop"
_LINK_MULTICAST = (
    "ip daddr { 224.0.0.0/24, 239.255.255.250, 255.255.255.255 }",  # the second finds devices (SSDP)
    "ip6 daddr ff02::/16",
)


def rules(plan: NetworkPlan) -> str:
    """The table as `nft -f -` reads it: replaces a former one in one transaction."""
    leave, arrive = "\n".join(_leave(plan)), "\n".join(_arrive(plan))
    return (
        f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n"
        f"chain leave {{\ntype filter hook postrouting priority 0; policy accept;\n{leave}\n}}\n"
        f"chain arrive {{\ntype filter hook prerouting priority -300; policy accept;\n{arrive}\n}}\n}}\n"
    )


def apply(plan: NetworkPlan) -> None:
    """Put the table in place, or replace it; between old and new there is no moment without. Blocks.

    raises: ProblemError firewall-missing (no nft), firewall-refused.
    """
    _nft(["-f", "-"], rules(plan))


def remove() -> bool:
    """Blocks. returns: whether there was one. raises: as `apply`."""
    return _unless_absent(["delete", "table", *TABLE.split()]) is not None


def require() -> None:
    """raises: ProblemError firewall-missing."""
    _program()


def intact(plan: NetworkPlan) -> bool:
    """Whether the table is what `apply` made of this plan, with nothing added or taken away. Blocks.

    raises: as `apply`.
    """
    kept = _listed()
    # The comment says which plan the rules were made from, the number that all are there and no other.
    return (
        kept is not None
        and any(rule.get("comment") == _stamp(plan) for rule in kept)
        and len(kept) == len(_leave(plan)) + len(_arrive(plan))
    )


def _leave(plan: NetworkPlan) -> list[str]:
    wish = plan.firewall
    lines = [
        f'oifname "lo" accept comment "{_stamp(plan)}"',
        f'oifname "{_plain(plan.tun_name)}" accept',
        *(f"meta mark {MARK:#x} {_match(peer, 'daddr', 'dport')} accept" for peer in plan.peers),
    ]
    if not wish.full:
        return lines + [f"{match} counter drop" for match in _destinations(wish.enclosed)]
    lines += [*_LINK_NEEDS, _NO_NAMES]
    by_interfaces: dict[tuple[str, ...], list[Segment]] = {}
    for segment, interfaces in wish.outside:
        by_interfaces.setdefault(interfaces, []).append(segment)
    for interfaces, segments in by_interfaces.items():
        via = f"oifname {_names(interfaces)} " if interfaces else ""
        lines += [f"{via}{match} accept" for match in _destinations(segments)]
    if wish.local:
        lines += [f"oifname {_names(wish.local)} {match} accept" for match in _LINK_MULTICAST]
    return [*lines, "counter drop"]


def _arrive(plan: NetworkPlan) -> list[str]:
    tun = _plain(plan.tun_name)
    lines = [
        f'iifname != "{tun}" {_match(peer, "saddr", "sport")} meta mark set {MARK:#x}' for peer in plan.peers
    ]
    for address in plan.firewall.guarded:
        family = "ip" if address.version == 4 else "ip6"
        lines.append(f'iifname != {{ "lo", "{tun}" }} {family} daddr {address} counter drop')
    inner = {address.version: address.ip for address in plan.addresses}
    for version, family in ((4, "ip"), (6, "ip6")):
        other = f"{family} daddr != {inner[version]}" if version in inner else f"meta nfproto ipv{version}"
        lines.append(f'iifname "{tun}" {other} counter drop')
    return lines


def _match(peer: Peer, address: str, port: str) -> str:
    family = "ip" if peer.address.version == 4 else "ip6"
    return f"{family} {address} {peer.address} {peer.protocol} {port} {peer.port}"


def _destinations(segments: Iterable[Segment]) -> list[str]:
    """At most one match a version."""
    texts: dict[int, list[str]] = {4: [], 6: []}
    for segment in segments:
        texts[segment.version].append(segment.text())
    return [
        f"{family} daddr {{ {', '.join(texts[version])} }}"
        for version, family in ((4, "ip"), (6, "ip6"))
        if texts[version]
    ]


def _names(interfaces: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{_plain(name)}"' for name in interfaces) + " }"


def _plain(name: str) -> str:
    if not PLAIN_NAME.fullmatch(name):
        raise UsageError("facts.read_facts leaves out interfaces whose names mean something to nftables")
    return name


def _stamp(plan: NetworkPlan) -> str:
    source = repr((plan.tun_name, plan.addresses, plan.peers, plan.firewall))
    return hashlib.sha256(source.encode()).hexdigest()[:32]


def _listed() -> list[dict[str, Any]] | None:
    """The rules of our table; None without one."""
    output = _unless_absent(["-j", "list", "table", *TABLE.split()])
    if output is None:
        return None
    return [entry["rule"] for entry in json.loads(output)["nftables"] if "rule" in entry]


def _unless_absent(arguments: list[str]) -> str | None:
    """What nft said; None when it found no table of ours."""
    try:
        return _nft(arguments)
    except ProblemError as error:
        if any("No such file or directory" in detail for detail in error.problem.details):
            return None
        raise


def _program() -> str:
    # A service's PATH need not have the directories of administrators' programs.
    program = shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        raise ProblemError(
            Problem(
                "firewall-missing",
                "The program nft is missing: without it nothing would keep packets in the tunnel.",
                "Install the package nftables.",
            )
        )
    return program


def _nft(arguments: list[str], input: str = "") -> str:
    program = _program()
    try:
        done = subprocess.run(
            [program, *arguments],
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
            env={"LC_ALL": "C", "PATH": os.defpath},
        )
        said = done.stderr if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        raise ProblemError(
            Problem(
                "firewall-refused",
                "The kernel or nft refused our firewall table.",
                "Does the kernel have nftables? The details say what nft said.",
                tuple(printable(line, 200) for line in said.splitlines()[:8]),
            )
        )
    return done.stdout
