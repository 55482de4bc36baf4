"""Which address a new session gets: the lowest free one.

Addresses are given out from the bottom of a pool, so below the highest row every address has a row:
the lowest free one is the lowest released row, or the one after the highest. Both are index
look-ups, however many sessions there are. A pool that was moved may have gaps below its highest
row; they are searched when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from sqlalchemy import Connection, bindparam, func, insert, select, update

from lockgate.model.access_rule import Network
from lockgate.server.config.values import AddressRange
from lockgate.server.store.tables import leases

Address = IPv4Address | IPv6Address
Pool = Network | AddressRange

_IN_POOL = (
    leases.c.family == bindparam("pool_family"),
    leases.c.address.between(bindparam("first"), bindparam("last")),
)
_RELEASED = (
    select(leases.c.address)
    .where(*_IN_POOL, leases.c.session.is_(None), leases.c.free_at <= bindparam("now"))
    .order_by(leases.c.address)
    .limit(1)
)
_HIGHEST = select(leases.c.address).where(*_IN_POOL).order_by(leases.c.address.desc()).limit(1)
_CANDIDATES = select(_RELEASED.scalar_subquery(), _HIGHEST.scalar_subquery())
_COUNT = select(func.count()).select_from(leases).where(*_IN_POOL)
_IN_ORDER = select(leases.c.address).where(*_IN_POOL).order_by(leases.c.address)
_TAKE_AGAIN = (
    update(leases)
    .where(leases.c.address == bindparam("which"))
    .values(session=bindparam("owner"), free_at=0.0)
)
_TAKE_FIRST = insert(leases).inline()


@dataclass(frozen=True, slots=True)
class Free:
    """An address to give out. again: it was given out before."""

    address: Address
    again: bool


def version(pool: Pool) -> int:
    """4 or 6."""
    return pool.first.version if isinstance(pool, AddressRange) else pool.version


def usable(pool: Pool) -> tuple[int, int]:
    """First and last address for clients, as numbers.

    Left out of a network: its own address (IPv6: the routers' anycast address, RFC 4291 section
    2.6.1), the first host, which is the gateway's, and the IPv4 broadcast address. A range is meant
    as it is written; so is a network of one address.
    """
    if isinstance(pool, AddressRange):
        return int(pool.first), int(pool.last)
    if pool.num_addresses == 1:
        return int(pool.network_address), int(pool.network_address)
    first = int(pool.network_address) + 2
    last = int(pool.broadcast_address) - (1 if isinstance(pool, IPv4Network) else 0)
    return first, last


def lowest_free(connection: Connection, pools: Sequence[Pool], now: float) -> Free | None:
    """The address to give out next, from the first of `pools` (one IP version) with room."""
    for pool in pools:
        free = _in_pool(connection, pool, now)
        if free is not None:
            return free
    return None


def take(connection: Connection, free: Free, session: int) -> None:
    """Leases what `lowest_free` found in this transaction."""
    address = free.address
    if free.again:
        connection.execute(_TAKE_AGAIN, {"which": address.packed, "owner": session})
    else:
        row = {"address": address.packed, "family": address.version, "session": session, "free_at": 0.0}
        connection.execute(_TAKE_FIRST, row)


def _in_pool(connection: Connection, pool: Pool, now: float) -> Free | None:
    first, last = usable(pool)
    size = 4 if version(pool) == 4 else 16
    bounds = {
        "pool_family": version(pool),
        "first": first.to_bytes(size),
        "last": last.to_bytes(size),
    }
    released, highest = connection.execute(_CANDIDATES, {**bounds, "now": now}).one()
    if released is not None:
        return Free(ip_address(bytes(released)), again=True)
    following = first if highest is None else int.from_bytes(highest) + 1
    if following > last:
        gap = _gap(connection, bounds, first, last)
        if gap is None:
            return None
        following = gap
    return Free(ip_address(following.to_bytes(size)), again=False)


def _gap(connection: Connection, bounds: Mapping[str, object], first: int, last: int) -> int | None:
    if connection.execute(_COUNT, bounds).scalar_one() > last - first:
        return None
    expected = first
    with connection.execute(_IN_ORDER, bounds) as rows:
        for (address,) in rows:
            if int.from_bytes(address) != expected:
                break
            expected += 1
    return expected
