"""Where in a PostgreSQL database a restored gateway's tables go, and where old ones are removed."""

from __future__ import annotations

import re
import secrets
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.postgresql import connection_parameters, shown
from lockgate.server.store.tables import metadata

MARK = "alembic_version"
_OWN = re.compile(r"lockgate_[0-9a-f]{12}")


def own_schema(conninfo: str) -> str:
    """How the database is reached so that there are no tables of a gateway: as given where it has none,
    else with a new schema of their own."""
    connection = _connect(conninfo)
    try:
        taken = connection.execute("SELECT to_regclass(%s)", [MARK]).fetchone()
        assert taken is not None
        if taken[0] is None:
            return conninfo
        name = f"lockgate_{secrets.token_hex(6)}"
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise _failed(conninfo, error) from None
    finally:
        connection.close()
    options = str(conninfo_to_dict(conninfo).get("options") or "")
    kept = re.sub(r"-c\s*search_path=\S+", "", options).strip()
    return make_conninfo(conninfo, options=f"{kept} -csearch_path={name}".strip())


def drop_tables(conninfo: str) -> None:
    """Removes a gateway's tables, and the schema where it is one of ours."""
    connection = _connect(conninfo)
    try:
        where = connection.execute("SELECT current_schema()").fetchone()
        name = where[0] if where else None
        if isinstance(name, str) and _OWN.fullmatch(name):
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        else:
            tables = [*(table.name for table in reversed(metadata.sorted_tables)), MARK]
            names = sql.SQL(", ").join(sql.Identifier(table) for table in tables)
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(names))
    except psycopg.Error as error:
        raise _failed(conninfo, error) from None
    finally:
        connection.close()


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(**connection_parameters(conninfo), autocommit=True)
    except psycopg.Error as error:
        raise _failed(conninfo, error) from None


def _failed(conninfo: str, error: psycopg.Error) -> ProblemError:
    return ProblemError(
        Problem(
            code="database-failed",
            summary=f"The database {shown(conninfo)} cannot be used: {' '.join(str(error).split())}.",
            fix="Look at whether PostgreSQL runs, and at the rights of its user: it must be able to create schemas.",
        )
    )
