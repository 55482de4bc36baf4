"""The schema. `migrations/versions` builds it; a test holds the two together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
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


def _partial_index(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> None:
    """An index of the rows alone for which `where` holds."""
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


# Users of local auth servers, administrators among them.
accounts = Table(
    "accounts",
    metadata,
    Column("server", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("password_hash", String(256), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("full_name", String(256), nullable=False),
    Column("email", String(320), nullable=False),
    Column("groups", Text, nullable=False),  # JSON list
    Column("attributes", Text, nullable=False),  # JSON object of lists
    Column("must_change", Boolean, nullable=False),
    PrimaryKeyConstraint("server", "name"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("cookie_hash", LargeBinary(32), nullable=False, unique=True),  # of the cookie used last
    Column("user", String(128), nullable=False),
    Column("realm", String(128), nullable=False),
    Column("roles", Text, nullable=False, server_default="[]"),  # JSON list
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
    # Defaults are what sessions of an earlier release had.
    Column("server", String(64), nullable=False, server_default="System Local"),
    Column("facts", Text),  # JSON object
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("parent", String(64)),
    Column("heartbeat_seconds", Integer, nullable=False, server_default="0"),
    Column("chosen", Text),  # JSON list
    Column("extended", Float),
    CheckConstraint("(ended IS NULL) = (cause IS NULL)", name="ended_has_cause"),
)

# Ended sessions stay for a while and outnumber the live ones.
_partial_index("ix_sessions_live_user", sessions.c.user, where=sessions.c.ended.is_(None))
_partial_index("ix_sessions_live_realm", sessions.c.realm, where=sessions.c.ended.is_(None))
_partial_index(
    "ix_sessions_live_started", sessions.c.started, sessions.c.id, where=sessions.c.ended.is_(None)
)
_partial_index("ix_sessions_live_parent", sessions.c.parent, where=sessions.c.ended.is_(None))
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
_partial_index("ix_leases_free", leases.c.family, leases.c.address, where=leases.c.session.is_(None))

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("cookie_hash", LargeBinary(32), nullable=False, unique=True),
    Column("csrf", LargeBinary(32), nullable=False),
    Column("audience", String(16), nullable=False),
    Column("user", String(128), nullable=False),
    Column("server", String(64), nullable=False),
    Column("realm", String(128), nullable=False),
    Column("roles", Text, nullable=False),  # JSON list
    Column("serial", BigInteger, nullable=False),
    Column("facts", Text),  # JSON object
    Column("source", String(64), nullable=False),
    Column("user_agent", String(256), nullable=False),
    Column("started", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("ended", Float),
    Column("cause", String(32)),
    Column("extended", Float),
    CheckConstraint("(ended IS NULL) = (cause IS NULL)", name="ended_has_cause"),
)

_partial_index("ix_web_sessions_live_user", web_sessions.c.user, where=web_sessions.c.ended.is_(None))
Index("ix_web_sessions_ended", web_sessions.c.ended)

handles = Table(
    "handles",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("web_session", String(64), ForeignKey("web_sessions.id", ondelete="CASCADE"), nullable=False),
    Column("server_url", String(2048), nullable=False),
    Column("expires", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("owner", String(128), nullable=False),
    Column("server", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # JSON list
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("last_used", Float),
    Column("revoked", Float),
    UniqueConstraint("owner", "server", "name"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("author", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("base", BigInteger),
    Column("tree", Text, nullable=False),  # JSON
    Column("digest", String(64), nullable=False),
)

drafts = Table(
    "drafts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("author", String(128), nullable=False),
    Column("base", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("tree", Text, nullable=False),  # JSON
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("session", BigInteger),
    Column("user", String(128), nullable=False),
    Column("server", String(64), nullable=False),
    Column("realm", String(128), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("allow", Boolean, nullable=False),
    Column("facts", Text, nullable=False),  # JSON object
    Column("roles", Text, nullable=False),  # JSON list
    Column("reasons", Text, nullable=False),  # JSON list
    Column("code", String(16)),
)

Index("ix_decisions_time", decisions.c.time)
Index("ix_decisions_code", decisions.c.code)

samples = Table(
    "samples",
    metadata,
    Column("period", Integer, nullable=False),  # seconds
    Column("time", Float, nullable=False),
    Column("values", Text, nullable=False),  # JSON object
    PrimaryKeyConstraint("period", "time"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(128), nullable=False),
    Column("server", String(64), nullable=False),
    Column("host_name", String(256), nullable=False),
    Column("session", BigInteger),
    Column("time", Float, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes; -1 while it comes in
    Column("name", String(256), nullable=False),
)

upload_pieces = Table(
    "upload_pieces",
    metadata,
    Column("upload", String(64), ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),  # 0, 1, 2 …
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("upload", "number"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 in hexadecimal digits
    Column("content", LargeBinary, nullable=False),
    Column("stored", Float, nullable=False),  # last
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)

# What users keep in the portal (`model.user_record`). `space`: whose users they are (`user_records.space_of`).
# `number`: grows with every change of the table, so that others can ask for what came later.
record_items = Table(
    "record_items",
    metadata,
    Column("space", String(80), nullable=False),
    Column("user", String(128), nullable=False),
    Column("item", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),  # milliseconds since 1970
    Column("origin", String(32), nullable=False),
    Column("text", Text),  # JSON; null for a deleted item
    Column("number", BigInteger, nullable=False),
    PrimaryKeyConstraint("space", "user", "item"),
)

Index("ix_record_items_number", record_items.c.number)
Index("ix_record_items_time", record_items.c.time)

# Auth servers whose records are those of a logical one; as the revision in force says.
logical_servers = Table(
    "logical_servers",
    metadata,
    Column("server", String(64), primary_key=True),
    Column("logical", String(64), nullable=False),
)

# How far records are exchanged with another gateway.
record_peers = Table(
    "record_peers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("origin", String(32), nullable=False),
    Column("names", Text, nullable=False),  # JSON list
    Column("sent", BigInteger, nullable=False),
    Column("fetched", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("succeeded", Float),
    Column("error", String(1024), nullable=False),
)

# Records in a chain (`chain`). `position`: bytes that this record and all before it count for.
audit = Table(
    "audit_records",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("log", String(8), nullable=False),
    Column("event", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("user", String(256), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("source", String(64), nullable=False),
    Column("session", BigInteger),
    Column("revision", BigInteger),
    Column("text", String(1024), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)

Index("ix_audit_records_time", audit.c.time)
Index("ix_audit_records_log", audit.c.log, audit.c.number)
Index("ix_audit_records_user", audit.c.user, audit.c.number)
_partial_index("ix_audit_records_actor", audit.c.actor, audit.c.number, where=audit.c.actor != "")

# Flows of records with that number (`flows`). `place`: of its first flow in the record; `position`: bytes that this
# piece and all before it count for.
flow_pieces = Table(
    "flow_pieces",
    metadata,
    Column("record", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("session", BigInteger),
    Column("user", String(256), nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("flows", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("record", "place"),
)

Index("ix_flow_pieces_user", flow_pieces.c.user, flow_pieces.c.record)
Index("ix_flow_pieces_session", flow_pieces.c.session, flow_pieces.c.record)
Index("ix_flow_pieces_until", flow_pieces.c.until)
Index("ix_flow_pieces_position", flow_pieces.c.position)

# Where the chain ends ("head") and, once records were removed, where it begins ("anchor") and up to which record
# flows were ("flows").
audit_ends = Table(
    "audit_ends",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("record_mac", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)
