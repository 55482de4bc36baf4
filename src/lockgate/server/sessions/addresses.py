"""Addresses of sessions: which ones a profile gives, and whether a client that comes back is in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lockgate.model.access_rule import AddressRange as AddressRange
from lockgate.model.access_rule import Network
from lockgate.model.place import same_network
from lockgate.model.policy import SessionOptions

Pool = Network | AddressRange


def pools_of(wanted: Sequence[Pool], networks: Iterable[Network]) -> tuple[Pool, ...]:
    """Where a session's addresses come from: what its profile says, as far as the client networks have it."""
    all_networks = tuple(networks)
    if not wanted:
        return all_networks
    return tuple(pool for pool in wanted if any(_inside(pool, network) for network in all_networks))


def _inside(pool: Pool, network: Network) -> bool:
    if isinstance(pool, AddressRange):
        return pool.first in network and pool.last in network
    return pool.network_address in network and pool.broadcast_address in network


def same_place(options: SessionOptions, before: str, now: str) -> bool:
    """Whether roaming lets a session go on at `now` that was at `before`; both are addresses as text."""
    if options.roaming == "enabled":
        return True
    if options.roaming == "disabled":
        return same_network(before, now, 32, 128)
    return same_network(before, now, options.roaming_prefix4, options.roaming_prefix6)
