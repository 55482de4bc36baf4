"""How long a large audit takes: adding, asking, verifying, pruning. `python -m tests.bench.audit [--records N]`

Both stores, PostgreSQL with its disk in earnest. Prints a table, with --json one object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from lockgate.server.datadir import DataDirectory
from lockgate.server.store import create_store
from lockgate.server.store.chain import HEAD, Chain, End
from lockgate.server.store.choice import choose_postgresql
from lockgate.server.store.interface import AuditEntry, AuditFilter
from lockgate.server.store.open import SqlStore
from lockgate.server.store.tables import audit
from lockgate.server.store.verify import verify
from lockgate.server.vault import open_vault
from tests.lab.postgresql import PostgreSQL

BATCH = 10_000
USERS, SOURCES = 5_000, 20_000
START = 1_700_000_000.0  # seconds since 1970; a record every ten seconds from then on
STEP = 10.0

QUERIES = {
    "newest 100": AuditFilter(),
    "100 in the middle": AuditFilter(),  # before is set to the middle
    "one log": AuditFilter(log="admin"),
    "one user": AuditFilter(user="user4711"),
    "one user, failed": AuditFilter(user="user4711", outcome="failed"),
    "a day": AuditFilter(since=START + 30 * 86400, until=START + 31 * 86400),
    "an event that is rare": AuditFilter(event="config-commit"),
    "one source (no index)": AuditFilter(source="198.51.100.77"),
    "a text (no index)": AuditFilter(text="such text is nowhere"),
}


def entries(count: int) -> Iterator[AuditEntry]:
    """Sign-ins and sessions of many users, and now and then an administrator."""
    chance = random.Random(4711)
    for number in range(count):
        user, source = (
            f"user{chance.randrange(USERS)}",
            f"10.{chance.randrange(SOURCES) // 256}.3.{number % 256}",
        )
        entry = AuditEntry(START + STEP * number, "sign-in", "ok", "", user, source, None, "", "user", "", 7)
        kind = chance.random()
        if kind < 0.1:
            yield replace(entry, outcome="failed", reason="wrong-password")
        elif kind < 0.6:
            yield replace(
                entry, event="session-open", session=chance.getrandbits(62), text="10.88.1.2 fd88::2"
            )
        elif kind < 0.601:
            yield replace(entry, event="config-commit", log="admin", user="admin", text="a rule was added")
        else:
            yield entry


async def fill(store: SqlStore, chain: Chain, count: int) -> None:
    """Adds records in large steps; what `Audit.add` would make of them, without a commit for each."""
    end = await store.database.read(chain.head)
    waiting: list[AuditEntry] = []

    async def flush() -> None:
        nonlocal end

        def work(connection: Any) -> End:
            at, rows = end, []
            for entry in waiting:
                at, row = chain.follow(at, entry)
                rows.append(row)
            connection.execute(insert(audit), rows)
            chain.move(connection, HEAD, at)
            return at

        end = await store.database.write(work, sync=False)
        waiting.clear()

    for entry in entries(count):
        waiting.append(entry)
        if len(waiting) == BATCH:
            await flush()
    if waiting:
        await flush()


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = await work()
    return time.perf_counter() - start, result


async def measure(directory: DataDirectory, records: int) -> dict[str, float]:
    """Seconds, except where the name says otherwise."""
    store = await create_store(directory)
    chain = Chain(open_vault(directory))
    found: dict[str, float] = {}
    try:
        entry = next(entries(1))
        took, _ = await timed(lambda: _add(store, entry, 2000))
        found["one at a time, per s"] = 2000 / took
        took, _ = await timed(lambda: fill(store, chain, records - 2000))
        found["filled, per s"] = (records - 2000) / took
        await store.database.write(lambda connection: connection.execute(text("ANALYZE")))
        for name, wanted in QUERIES.items():
            asked = replace(wanted, before=records // 2) if name == "100 in the middle" else wanted
            times = [(await timed(lambda asked=asked: store.audit.page(asked, 100)))[0] for _ in range(5)]  # type: ignore[misc]
            found[f"query: {name}, ms"] = sorted(times)[2] * 1e3
        took, report = await timed(lambda: verify(store.audit))
        assert report.ok, report.finding
        assert report.checked == records
        found["verify, s"] = took
        cut = START + STEP * records / 2
        took, removed = await timed(
            lambda: store.audit.prune(cut, None, lambda count: replace(entry, text=str(count)))
        )
        found[f"prune {removed} records, s"] = took
    finally:
        await store.close()
    return found


async def _add(store: SqlStore, entry: AuditEntry, count: int) -> None:
    for _ in range(count):
        await store.audit.add(entry)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.audit", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = {}
    with tempfile.TemporaryDirectory() as folder, PostgreSQL(durable=True) as cluster:
        for kind in ("sqlite", "postgresql"):
            directory = DataDirectory(Path(folder) / kind)
            directory.database.parent.mkdir(parents=True)
            if kind == "postgresql":
                choose_postgresql(directory, cluster.database())
            results[kind] = asyncio.run(measure(directory, options.records))
    if options.json:
        print(json.dumps({"records": options.records, **results}, indent=2))
        return 0
    print(f"{options.records} records")
    for name in results["sqlite"]:
        print(f"{name:<36}", *(f"{found[name]:>12.1f}" for found in results.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
