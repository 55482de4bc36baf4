"""Which address a new session gets: the lowest free one.

Addresses are given out from the bottom of a pool, so below the highest row every address has a row:
the lowest free one is the lowest released row, or the one after the highest. Both are index
look-ups, however many sessions there are. A pool that was moved may have gaps below its highest
row; they are searched when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert

from lockgate.model.access_rule import Network
from lockgate.server.store.tables import leases

Address = IPv4Address | IPv6Address

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
_COUNT = select(func.count()).select_from(leases).where(*_IN_POOL)
_IN_ORDER = select(leases.c.address).where(*_IN_POOL).order_by(leases.c.address)
_INSERT = insert(leases)
_TAKE = _INSERT.on_conflict_do_update(
    index_elements=[leases.c.address], set_={"session": _INSERT.excluded.session, "free_at": 0.0}
)


def usable(pool: Network) -> tuple[int, int]:
    """First and last address for clients, as numbers.

    Left out: the network's own address (IPv6: the routers' anycast address, RFC 4291 section
    2.6.1), the first host, which is the gateway's, and the IPv4 broadcast address.
    """
    first = int(pool.network_address) + 2
    last = int(pool.broadcast_address) - (1 if isinstance(pool, IPv4Network) else 0)
    return first, last


def lowest_free(connection: Connection, pools: Sequence[Network], now: float) -> Address | None:
    """The address to give out next, from the first of `pools` (one IP version) with room."""
    for pool in pools:
        address = _in_pool(connection, pool, now)
        if address is not None:
            return address
    return None


def take(connection: Connection, address: Address, session: int) -> None:
    """Leases `address`, which `lowest_free` found in this transaction."""
    connection.execute(
        _TAKE, {"address": address.packed, "family": address.version, "session": session, "free_at": 0.0}
    )


def _in_pool(connection: Connection, pool: Network, now: float) -> Address | None:
    first, last = usable(pool)
    size = pool.max_prefixlen // 8
    bounds = {
        "pool_family": pool.version,
        "first": first.to_bytes(size),
        "last": last.to_bytes(size),
    }
    released = connection.execute(_RELEASED, {**bounds, "now": now}).scalar()
    if released is not None:
        return ip_address(bytes(released))
    highest = connection.execute(_HIGHEST, bounds).scalar()
    following = first if highest is None else int.from_bytes(highest) + 1
    if following > last:
        gap = _gap(connection, bounds, first, last)
        if gap is None:
            return None
        following = gap
    return ip_address(following.to_bytes(size))


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
