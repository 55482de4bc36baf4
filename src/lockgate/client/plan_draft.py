"""A plan's routes and sentences while it is being made."""

from __future__ import annotations

from dataclasses import dataclass, field

from lockgate.client.network_plan import Route, Way
from lockgate.client.segments import Network
from lockgate.model.problem import Problem


@dataclass(slots=True)
class Draft:
    """carried: the IP versions that the tunnel carries. Of two claims to one network the later one stays."""

    carried: frozenset[int]
    routes: dict[Network, Route] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        if sentence not in self.decisions:
            self.decisions.append(sentence)

    def warn(self, code: str, summary: str) -> None:
        self.warnings.append(Problem(code, summary, "Tell the administrator of the gateway."))

    def enclose(self, network: Network, reason: str) -> None:
        """Into the tunnel, or nowhere when the tunnel does not carry this IP version."""
        way = Way.TUNNEL if network.version in self.carried else Way.NOWHERE
        self.routes[network] = Route(network, way, reason)
        where = (
            "goes through the tunnel" if way is Way.TUNNEL else "is blocked: the tunnel has no such address"
        )
        self.say(f"{network} {where} ({reason}).")

    def leave_out(self, network: Network, reason: str, interfaces: tuple[str, ...] = ()) -> None:
        known = self.routes.get(network)
        if known is not None and known.way is Way.OUTSIDE:
            if not known.interfaces:
                return
            interfaces = tuple(dict.fromkeys((*known.interfaces, *interfaces)))
        self.routes[network] = Route(network, Way.OUTSIDE, reason, interfaces)
        by = f" by {', '.join(interfaces)}" if interfaces else ""
        self.say(f"{network} stays outside the tunnel{by} ({reason}).")
