"""PostgreSQL: several gateways over one database.

Whoever writes takes one lock of the database first, so that writers follow each other as in SQLite:
what was checked in a transaction still holds when it commits. Every write also says so to those who
listen; that is how others learn of it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.database import BUSY_TIMEOUT, Database, Lane

WRITERS = 0x4C6F636B67617465
"""The advisory lock of all writers: "Lockgate" in ASCII."""
CHANNEL = "lockgate"

_LIMITS: dict[str, Any] = {
    "connect_timeout": 5,  # seconds
    # A host that is gone is noticed within half a minute, not after two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
    "application_name": "lockgate",
}
_READ = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
# READ COMMITTED: every statement after this one sees what was committed before it, so also what the
# former holder of the lock wrote.
_WRITE = text(
    f"SELECT set_config('synchronous_commit', :commit, true), pg_advisory_xact_lock({WRITERS}), "
    f"pg_notify('{CHANNEL}', '')"
)


class PostgresDatabase(Database):
    """One process's connections. Others see its writes as soon as they are committed."""

    system = "postgresql"

    def __init__(self, conninfo: str) -> None:
        """conninfo: libpq's "key=value …" or a postgresql:// address. ProblemError when it is neither."""
        parameters = connection_parameters(conninfo)
        self._news = True  # somebody else wrote, or may have while nobody listened
        super().__init__(
            self._make_engine(parameters, listen=True),
            self._make_engine(parameters, listen=False),
            shown(conninfo),
        )

    def _make_engine(self, parameters: dict[str, Any], *, listen: bool) -> Engine:
        def connect() -> psycopg.Connection[Any]:
            connection = psycopg.connect(**parameters)
            own = connection.info.backend_pid

            def notified(notify: psycopg.Notify) -> None:
                self._news = self._news or notify.pid != own

            # Only the connection that writes knows its own writes from those of others.
            if listen:
                connection.add_notify_handler(notified)
                connection.execute(f"LISTEN {CHANNEL}")
                self._news = True
            connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT}")
            connection.execute("SET idle_in_transaction_session_timeout = 60000")
            connection.commit()
            return connection

        return create_engine(
            "postgresql+psycopg://", creator=connect, poolclass=NullPool, hide_parameters=True
        )

    def _begin_read(self, connection: Connection) -> None:
        connection.execute(_READ)

    def _alone(self, connection: Connection, alone: bool) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.autocommit = alone  # said to nobody: it saves the statements that begin and end a transaction

    def _begin_write(self, connection: Connection, sync: bool) -> None:
        connection.execute(_WRITE, {"commit": "on" if sync else "off"})

    def _changed(self, lane: Lane) -> bool:
        connection = lane.connection()
        try:
            # Any answer of the server brings what it had to say.
            connection.exec_driver_sql("SELECT 1")
            connection.rollback()
        except DatabaseError as error:
            if not error.connection_invalidated:
                raise
            lane.disconnect()
            lane.connection()
        news, self._news = self._news, False
        return news

    @property
    def _advice(self) -> str:
        return "Look at whether PostgreSQL runs, at store.toml, and at the rights of its user."


def connection_parameters(conninfo: str) -> dict[str, Any]:
    """What psycopg is called with. ProblemError when `conninfo` is not understood.

    Another machine has to prove who it is by a certificate that the system trusts, unless `sslmode`
    says otherwise: what travels there are hashes of passwords and cookies.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise ProblemError(
            Problem(
                code="store-conninfo",
                summary=f"The address of the database is not understood: {' '.join(str(error).split())}.",
                fix='Write postgresql://USER@HOST/DATABASE or "host=… user=… dbname=…".',
            )
        ) from None
    host = str(given.get("host") or given.get("hostaddr") or "")
    local = not host or host.startswith(("/", "@")) or host in ("localhost", "127.0.0.1", "::1")
    safe = {} if local or "sslmode" in given else {"sslmode": "verify-full"}
    if safe and "sslrootcert" not in given:
        safe["sslrootcert"] = "system"
    return {**_LIMITS, **safe, **{key: value for key, value in given.items() if value is not None}}


def shown(conninfo: str) -> str:
    """The database in words, without password."""
    given = conninfo_to_dict(conninfo)
    host = given.get("host") or given.get("hostaddr") or "this machine"
    return f"{given.get('dbname') or given.get('user') or 'postgresql'} of PostgreSQL on {host}"
