"""What the server's tests share as fixtures: data directories over both kinds of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockgate.server.datadir import DataDirectory
from lockgate.server.store.choice import choose_postgresql
from tests.lab.postgresql import PostgreSQL

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One cluster for the whole run; every test makes places of its own in it."""
    with PostgreSQL() as cluster:
        yield cluster


@pytest.fixture
def new_place(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., DataDirectory]:
    """Makes a data directory without a store, under tmp_path, for a kind of database.

    alone: with a whole database of PostgreSQL to itself, not only a schema.
    """

    def make(kind: str, name: str = "D", *, alone: bool = False) -> DataDirectory:
        directory = DataDirectory(tmp_path / name)
        directory.database.parent.mkdir(parents=True, mode=0o700)
        if kind == "postgresql":
            cluster: PostgreSQL = request.getfixturevalue("postgresql")
            choose_postgresql(directory, cluster.database() if alone else cluster.schema())
        return directory

    return make


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, new_place: Callable[..., DataDirectory]) -> DataDirectory:
    """A data directory without a store, once for each kind of database."""
    return new_place(request.param)
