"""What tests of the store share: stores that are closed, ready-made values."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

from lockgate.model.facts import SignInFacts
from lockgate.model.identity import Identity, seal_identity
from lockgate.model.session import ClientFacts
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import create_store, open_store
from lockgate.server.store.interface import LOCAL_SERVER, UserRecord
from lockgate.server.store.open import SqlStore

T = TypeVar("T")

CLIENT = ClientFacts(source="192.0.2.9", user_agent="test client", host_name="laptop")


def run(work: Awaitable[T]) -> T:
    """Runs a coroutine to its end, or fails after a minute."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


def place_of(folder: Path | DataDirectory) -> DataDirectory:
    """`folder` as a data directory; made where it is none yet."""
    if isinstance(folder, DataDirectory):
        return folder
    directory = DataDirectory(folder)
    directory.database.parent.mkdir(mode=0o700, exist_ok=True)
    return directory


@contextlib.asynccontextmanager
async def new_store(folder: Path | DataDirectory) -> AsyncIterator[SqlStore]:
    """A new store of the data directory `folder`."""
    store = await create_store(place_of(folder))
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def same_store(folder: Path | DataDirectory) -> AsyncIterator[SqlStore]:
    """The same store opened once more, as another process would."""
    store = await open_store(place_of(folder))
    try:
        yield store
    finally:
        await store.close()


def user(
    name: str = "alice",
    *,
    password_hash: str = "hash",
    enabled: bool = True,
    serial: int = 7,
    server: str = LOCAL_SERVER,
) -> UserRecord:
    return UserRecord(name, password_hash, enabled, serial, created=1.0, changed=1.0, server=server)


def facts(
    name: str = "alice", *, source: str = "192.0.2.9", server: str = LOCAL_SERVER, realm: str = "Users"
) -> SignInFacts:
    """What is known about a sign-in from CLIENT."""
    return SignInFacts(name, server, realm, source, CLIENT.user_agent, CLIENT.host_name, 1_000_000.0)


def identity(
    name: str = "alice",
    *,
    serial: int = 7,
    source: str = "192.0.2.9",
    server: str = LOCAL_SERVER,
    realm: str = "Users",
) -> Identity:
    """What a sign-in would make."""
    return seal_identity(
        audience="users",
        roles=("Users",),
        chosen=(),
        method="password",
        serial=serial,
        revision=1,
        facts=facts(name, source=source, server=server, realm=realm),
    )
