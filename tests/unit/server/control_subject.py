"""A control plane over a real store and without an edge: its deciding half (`Rig`), or all of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from lockgate.model.access_rule import Address
from lockgate.server.audit import Audit
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.service import SignIns
from lockgate.server.config.defaults import default_configuration
from lockgate.server.config.revision import first_revision
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import Gateway
from lockgate.server.datadir import DataDirectory
from lockgate.server.decisions import Decisions
from lockgate.server.explanations import Explanations
from lockgate.server.in_force import InForce
from lockgate.server.parts import Parts
from lockgate.server.sessions import Sessions
from lockgate.server.store.interface import Store
from tests.unit.server.support import CHEAP, CLIENT, Clock

HOST = "gw.example.org"
POOLS = ("10.88.0.0/24", "fd00:88::/64")
OPEN = {"name": "open", "action": "allow", "to": ["0.0.0.0/0", "::/0"]}


def tree(**parts: Any) -> Configuration:
    """The tree of a new gateway with cheap passwords. parts: sections and collections to merge in or replace.

    A section (a dict) is merged key by key, a collection (a list) is replaced.
    """
    guids = iter(f"{number:032x}" for number in range(1, 1000))
    data = default_configuration(Gateway(hostname=HOST), lambda: next(guids)).model_dump(mode="json")
    data["network"]["pools"] = list(POOLS)
    data["sign_in"]["argon2"] = CHEAP.model_dump(mode="json")
    for key, part in parts.items():
        data[key] = {**data[key], **part} if isinstance(part, dict) else part
    return Configuration.model_validate(data)


def realm(name: str = "Users", *, roles: Sequence[str] = ("Users",), **rest: Any) -> dict[str, Any]:
    """A realm of the gateway's own users in which everybody gets these roles."""
    everybody = {"name": "Everybody", "condition": {"kind": "user", "values": ["*"]}, "roles": list(roles)}
    return {"name": name, "server": "System Local", "rules": [everybody], **rest}


def rule(name: str, *roles: str, **condition: Any) -> dict[str, Any]:
    """A role mapping rule."""
    return {"name": name, "condition": condition, "roles": list(roles)}


def limits(sessions: int, users: int = 0) -> dict[str, Any]:
    """The policy of a realm with these session limits."""
    return {"limits": {"max_sessions_per_user": sessions, "max_users": users}}


class Rig:
    """Everything between store and gateway. `end_session` and `cut_off` may be replaced."""

    def __init__(self, store: Any, configuration: Configuration | None = None, clock: Clock | None = None):
        self.store, self.clock = store, clock or Clock()
        configuration = configuration or tree()
        self.audit = Audit(store.audit, self.clock)
        self.in_force = InForce(configuration, configuration, 1)
        self.names: dict[str, tuple[Address, ...]] = {}
        self.decisions = Decisions(store, self.in_force, self.clock)
        self.explanations = Explanations(
            store, self.in_force, self.decisions, self._directory, self._resolve, self.clock
        )
        self.sessions = self._sessions()
        self.sign_ins = SignIns(
            store=store,
            in_force=self.in_force,
            sessions=self.sessions,
            decisions=self.decisions,
            audit=self.audit,
            end_session=lambda session, cause: self.end_session(session, cause),
            cut_off=lambda: self.cut_off(),
            clock=self.clock,
        )

    def _sessions(self) -> Sessions:
        return Sessions(self.store, self.in_force, self.audit, self.decisions, self.clock)

    async def end_session(self, session: int, cause: Any) -> object:
        return await self.sessions.end_many([session], cause)

    async def cut_off(self) -> object:
        return None

    async def _directory(self, server: str, name: str) -> Any:
        return await self.sign_ins.lookup(server, name)

    async def _resolve(self, name: str) -> tuple[Address, ...]:
        return self.names.get(name, ())

    async def adopt(self, configuration: Configuration) -> None:
        """The next revision."""
        await self.in_force.adopt(configuration, self.in_force.revision + 1)
        self.sign_ins.follow()


@contextlib.asynccontextmanager
async def control_plane(
    directory: DataDirectory, store: Store, configuration: Configuration, clock: Callable[[], float]
) -> AsyncIterator[Parts]:
    """All parts of a server over a new store, with this configuration as its first revision; no edge runs."""
    await store.revisions.add(first_revision(configuration, "config.toml", "first start", clock()), 0)
    parts = await Parts.make(directory, store, configuration, clock(), clock)
    try:
        yield parts
    finally:
        parts.sign_ins.close()


def request(client: Any = CLIENT, **rest: Any) -> SignInRequest:
    """A tunnel's sign-in at the gateway's own URL."""
    values = {"audience": "users", "host": HOST, "path": "/", "certificate": None, "kind": "tunnel"}
    return SignInRequest(client=client, **{**values, **rest})
