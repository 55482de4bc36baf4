"""Which database a data directory uses: D/store.toml.

    [postgresql]
    conninfo = "postgresql://lockgate@db.example.com/lockgate"

Without the file it is D/db/lockgate.db.
"""

from __future__ import annotations

import json
import tomllib

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory, write_private
from lockgate.server.store.database import Database
from lockgate.server.store.sqlite import SqliteDatabase


def conninfo_of(directory: DataDirectory) -> str | None:
    """How PostgreSQL is reached; None for SQLite. ProblemError for a file that says neither."""
    path = directory.store_choice
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(directory, str(error)) from None
    section = document.get("postgresql")
    if set(document) != {"postgresql"} or not isinstance(section, dict) or set(section) != {"conninfo"}:
        raise _wrong(directory, "it has something else than conninfo in [postgresql]")
    conninfo = section["conninfo"]
    if not isinstance(conninfo, str) or not conninfo.strip():
        raise _wrong(directory, "conninfo is not a text in quotes")
    return conninfo


def choose_postgresql(directory: DataDirectory, conninfo: str) -> None:
    """Writes D/store.toml, for the owner only. ProblemError when `conninfo` is not understood."""
    from lockgate.server.store.postgresql import connection_parameters

    connection_parameters(conninfo)
    write_private(directory.store_choice, text_for(conninfo).encode())


def text_for(conninfo: str) -> str:
    """What D/store.toml says for that database."""
    # A JSON text with its characters as they are is a TOML text.
    return f"# Where users, sessions, configuration and audit are kept.\n[postgresql]\nconninfo = {json.dumps(conninfo, ensure_ascii=False)}\n"


def open_database(directory: DataDirectory) -> Database:
    """Connects to nothing yet."""
    conninfo = conninfo_of(directory)
    if conninfo is None:
        return SqliteDatabase(directory.database)
    # The driver takes a tenth of a second to import; most gateways have no use for it.
    from lockgate.server.store.postgresql import PostgresDatabase

    return PostgresDatabase(conninfo)


def _wrong(directory: DataDirectory, why: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="store-choice",
            summary=f"{directory.store_choice} cannot be used: {why}.",
            fix='Write [postgresql] and conninfo = "postgresql://USER@HOST/DATABASE", or remove the file for SQLite.',
        )
    )
