"""What local auth servers know about users, for a process that signs nobody in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lockgate.server.auth.servers import Account, account_of
from lockgate.server.in_force import InForce
from lockgate.server.store.interface import Users


def local_directory(users: Users, in_force: InForce) -> Callable[[str, str], Awaitable[Account | None]]:
    """A look-up by auth server and canonical name; None for other kinds of servers, too."""

    async def lookup(server: str, name: str) -> Account | None:
        local = any(each.name == server and each.kind == "local" for each in in_force.tree.auth_servers)
        found = await users.find(server, name) if local else None
        return None if found is None else account_of(found)

    return lookup
