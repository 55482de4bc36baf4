"""The configuration that a server starts with, printed as JSON.

    python -m lockgate.server.config.current --dir D

Run by the first stage of `lockgate server run` with the rights of the owner of D: the stage itself, which may be
root, opens no database. D/config.toml becomes revision 1 when there is none. Until the server starts for the first
time the file counts whenever it was changed; later it is not read any more, and the log says so once at each start.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.revision import committed, first_revision
from lockgate.server.config.sealing import new_guid
from lockgate.server.config.seed.convert import convert
from lockgate.server.config.seed.load import parse_configuration, read_file
from lockgate.server.config.seed.takeover import take_over
from lockgate.server.config.service import SEED_DIGEST
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.logs import configure_logs
from lockgate.server.store import open_store
from lockgate.server.store.interface import AuditEntry, Store
from lockgate.server.store.records import RevisionRecord

log = structlog.get_logger("config")

AUTHOR = "config.toml"
STARTED = "started"
"""Key in `meta`: set by the first start of the server."""


async def bring_up(
    store: Store,
    directory: DataDirectory,
    *,
    starting: bool = False,
    clock: Callable[[], float] = time.time,
) -> Configuration:
    """The tree of the newest revision, made of config.toml where the file still counts.

    starting: a server begins; from now on the file does not count. Raises ProblemError when there is no revision
    and config.toml cannot be used, or for a revision that this release cannot use.
    """
    record = await store.revisions.current()
    if record is None:
        content = read_file(directory.config)
        seed = parse_configuration(content, directory.config)
        tree = convert(seed, new_guid)
        record = first_revision(tree, AUTHOR, "first start", clock())
        await _add(store, record, 0, content)
    else:
        tree = committed(record).tree
        changed = _changed_file(directory, await store.meta.get(SEED_DIGEST))
        if changed is not None:
            tree = await _follow(store, directory, record, tree, changed, clock())
    if starting and await store.meta.get(STARTED) is None:
        await store.meta.set(STARTED, str(int(clock())))
    return tree


async def _follow(
    store: Store,
    directory: DataDirectory,
    record: RevisionRecord,
    tree: Configuration,
    content: bytes,
    now: float,
) -> Configuration:
    """What a changed config.toml means: another revision before the first start, a warning later."""
    if record.author != AUTHOR or await store.meta.get(STARTED) is not None:
        log.warning(
            "config-toml-not-read",
            file=str(directory.config),
            why="the configuration is kept in the store since the first start",
            fix=f"lockgate config import --dir {directory.path} {directory.config}",
        )
        return tree
    new = take_over(parse_configuration(content, directory.config), tree)
    if new == tree:
        return tree
    following = first_revision(new, AUTHOR, "changed before the first start", now, number=record.number + 1)
    await _add(store, following, record.number, content)
    return new


async def _add(store: Store, record: RevisionRecord, before: int, content: bytes) -> None:
    note = AuditEntry(
        time=record.time,
        event="config-committed",
        outcome="ok",
        reason="",
        user=AUTHOR,
        source="local",
        session=None,
        text=record.reason,
        log="admin",
        revision=record.number,
    )
    if not await store.revisions.add(record, before, note=note):
        raise ProblemError(
            Problem(
                code="conflict",
                summary="Another process committed a configuration at the same moment.",
                fix="Try again.",
            )
        )
    await store.meta.set(SEED_DIGEST, digest(content))


def digest(content: bytes) -> str:
    """What `meta` keeps of a config.toml that was taken over."""
    return hashlib.sha256(content).hexdigest()


def _changed_file(directory: DataDirectory, known: str | None) -> bytes | None:
    """The content of config.toml when it differs from what was taken over last."""
    try:
        content = read_file(directory.config)
    except ProblemError:
        return None  # nobody needs the file any more
    return None if digest(content) == known else content


async def _print(directory: DataDirectory) -> None:
    store = await open_store(directory, upgrade=True)
    try:
        tree = await bring_up(store, directory, starting=True)
    finally:
        await store.close()
    sys.stdout.write(tree.model_dump_json() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="lockgate.server.config.current")
    parser.add_argument("--dir", required=True)
    arguments = parser.parse_args()
    configure_logs()
    try:
        asyncio.run(_print(DataDirectory(Path(arguments.dir))))
    except ProblemError as error:
        sys.stdout.write(json.dumps({"error": error.problem.as_dict()}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
