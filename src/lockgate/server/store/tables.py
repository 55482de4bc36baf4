"""The schema. `migrations/versions` builds it; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

# Names for what alembic must be able to drop later.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column of exactly this type.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

users = Table(
    "users",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("password_hash", String(256), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
)

administrators = Table(
    "administrators",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("password_hash", String(256), nullable=False),
    Column("created", Float, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("cookie_hash", LargeBinary(32), nullable=False, unique=True),  # of the cookie used last
    Column("user", String(128), nullable=False),
    Column("realm", String(128), nullable=False),
    Column("roles", String(4096), nullable=False),  # JSON list
    Column("address4", LargeBinary(4)),
    Column("address6", LargeBinary(16)),
    Column("user_agent", String(256), nullable=False),
    Column("host_name", String(256), nullable=False),
    Column("source", String(64), nullable=False),
    Column("started", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("ended", Float),
    Column("cause", String(32)),
    Column("public_key", LargeBinary(32)),
    Column("suite", String(32)),
    CheckConstraint("(ended IS NULL) = (cause IS NULL)", name="ended_has_cause"),
)

# Ended sessions stay for a while and outnumber the live ones.
Index(
    "ix_sessions_live_user",
    sessions.c.user,
    sqlite_where=sessions.c.ended.is_(None),
    postgresql_where=sessions.c.ended.is_(None),
)
Index("ix_sessions_ended", sessions.c.ended)
Index("ix_sessions_started", sessions.c.started)

# Cookies beside the one used last, of sessions that replace theirs: handed out and not used yet, or
# with the time since when they are worth nothing.
cookies = Table(
    "cookies",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("session", BigInteger, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("spent", Float),
)

Index("ix_cookies_session", cookies.c.session)

# One row per address that was ever given out: leased while `session` is set, else free from `free_at` on.
leases = Table(
    "leases",
    metadata,
    Column("address", LargeBinary(16), primary_key=True),
    Column("family", Integer, nullable=False),  # 4 or 6
    Column("session", BigInteger, ForeignKey("sessions.id", deferrable=True, initially="DEFERRED")),
    Column("free_at", Float, nullable=False),
)

Index("ix_leases_session", leases.c.session)
Index(
    "ix_leases_free",
    leases.c.family,
    leases.c.address,
    sqlite_where=leases.c.session.is_(None),
    postgresql_where=leases.c.session.is_(None),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("time", Float, nullable=False),
    Column("event", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("user", String(256), nullable=False),
    Column("source", String(64), nullable=False),
    Column("session", BigInteger),
    Column("text", String(1024), nullable=False),
)

Index("ix_audit_time", audit.c.time)
