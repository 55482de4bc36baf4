"""What the server's tests share: a clock to turn, stores that are closed, ready-made values."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

from lockgate.model.identity import Identity, seal_identity
from lockgate.model.session import ClientFacts
from lockgate.protocol.secret import Secret
from lockgate.server.config.tree import Argon2
from lockgate.server.sessions import Proof
from lockgate.server.store import create_store, open_store
from lockgate.server.store.interface import UserRecord
from lockgate.server.store.open import SqlStore

T = TypeVar("T")

CHEAP = Argon2(memory_kib=64, time_cost=1)  # what a test's password costs: microseconds
CLIENT = ClientFacts(source="192.0.2.9", user_agent="test client", host_name="laptop")
NO_PROOF = Proof(exporter=Secret(b""), signature=b"")


class Clock:
    """Wall-clock seconds that move when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run(work: Awaitable[T]) -> T:
    """Runs a coroutine to its end, or fails after a minute."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


@contextlib.asynccontextmanager
async def new_store(folder: Path) -> AsyncIterator[SqlStore]:
    """A store in a new database in `folder`."""
    store = await create_store(folder / "lockgate.db")
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def same_store(folder: Path) -> AsyncIterator[SqlStore]:
    """The same database opened once more, as another process would."""
    store = await open_store(folder / "lockgate.db")
    try:
        yield store
    finally:
        await store.close()


def user(
    name: str = "alice", *, password_hash: str = "hash", enabled: bool = True, serial: int = 7
) -> UserRecord:
    return UserRecord(name, password_hash, enabled, serial, created=1.0, changed=1.0)


def identity(name: str = "alice", *, serial: int = 7, source: str = "192.0.2.9") -> Identity:
    """What a sign-in would make."""
    return seal_identity(
        user=name,
        realm="Users",
        roles=("Users",),
        method="password",
        source=source,
        serial=serial,
        now=1_000_000.0,
    )
