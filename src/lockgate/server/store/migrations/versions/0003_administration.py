"""Configuration revisions, auth servers of users, browser sessions, tokens, decisions, a chained audit.

Users become accounts of the server "System Local", administrators of the server "Administrators". The
lines of the audit are numbered anew without gaps; `store.chain` gives them their place in the chain.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _accounts()
    _sessions()
    _browsers()
    _configuration()
    _records()
    _audit()


def _accounts() -> None:
    accounts = op.create_table(
        "accounts",
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
        sa.Column("full_name", sa.String(256), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("must_change", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("server", "name", name="pk_accounts"),
    )
    bind = op.get_bind()
    new = {"full_name": "", "email": "", "groups": "[]", "attributes": "{}", "must_change": False}
    rows = [
        {**row._mapping, **new, "server": "System Local", "enabled": bool(row.enabled)}
        for row in bind.execute(sa.text("SELECT * FROM users"))
    ]
    for row in bind.execute(sa.text("SELECT * FROM administrators")):
        state = {"enabled": True, "serial": secrets.randbits(62) + 1, "changed": row.created}
        rows.append({**row._mapping, **new, **state, "server": "Administrators"})
    if rows:
        op.bulk_insert(accounts, rows)
    op.drop_table("users")
    op.drop_table("administrators")


def _sessions() -> None:
    # SQLite changes a column's type only by rebuilding its table, and dropping the old table would take
    # the cookies along.
    op.add_column("sessions", sa.Column("roles_now", sa.Text, nullable=False, server_default="[]"))
    op.execute("UPDATE sessions SET roles_now = roles")
    op.drop_column("sessions", "roles")
    op.execute("ALTER TABLE sessions RENAME COLUMN roles_now TO roles")
    op.add_column(
        "sessions", sa.Column("server", sa.String(64), nullable=False, server_default="System Local")
    )
    op.add_column("sessions", sa.Column("facts", sa.Text))
    op.add_column("sessions", sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("parent", sa.String(64)))
    op.add_column("sessions", sa.Column("heartbeat_seconds", sa.Integer, nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("chosen", sa.Text))
    _live_index("ix_sessions_live_realm", "sessions", "realm")
    _live_index("ix_sessions_live_started", "sessions", "started", "id")
    _live_index("ix_sessions_live_parent", "sessions", "parent")


def _browsers() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("cookie_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("csrf", sa.LargeBinary(32), nullable=False),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("realm", sa.String(128), nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("facts", sa.Text),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.String(256), nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("idle_seconds", sa.Integer, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("cause", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_web_sessions"),
        sa.UniqueConstraint("cookie_hash", name="uq_web_sessions_cookie_hash"),
        sa.CheckConstraint("(ended IS NULL) = (cause IS NULL)", name="ck_web_sessions_ended_has_cause"),
    )
    _live_index("ix_web_sessions_live_user", "web_sessions", "user")
    op.create_index("ix_web_sessions_ended", "web_sessions", ["ended"])
    op.create_table(
        "handles",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("web_session", sa.String(64), nullable=False),
        sa.Column("server_url", sa.String(2048), nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_handles"),
        sa.ForeignKeyConstraint(
            ["web_session"], ["web_sessions.id"], name="fk_handles_web_session", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("last_used", sa.Float),
        sa.Column("revoked", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
        sa.UniqueConstraint("owner", "server", "name", name="uq_tokens_owner"),
    )


def _configuration() -> None:
    op.create_table(
        "revisions",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("base", sa.BigInteger),
        sa.Column("tree", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_revisions"),
    )
    op.create_table(
        "drafts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("base", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
        sa.Column("tree", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drafts"),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("stored", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )


def _records() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("realm", sa.String(128), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("allow", sa.Boolean, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_time", "decisions", ["time"])
    op.create_table(
        "samples",
        sa.Column("period", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("values", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("period", "time", name="pk_samples"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("host_name", sa.String(256), nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_table(
        "upload_pieces",
        sa.Column("upload", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("upload", "number", name="pk_upload_pieces"),
        sa.ForeignKeyConstraint(
            ["upload"], ["uploads.id"], name="fk_upload_pieces_upload", ondelete="CASCADE"
        ),
    )


def _audit() -> None:
    op.create_table(
        "audit_records",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("log", sa.String(8), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("revision", sa.BigInteger),
        sa.Column("text", sa.String(1024), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("mac", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_records"),
    )
    op.create_table(
        "audit_ends",
        sa.Column("name", sa.String(8), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("record_mac", sa.LargeBinary(32), nullable=False),
        sa.Column("mac", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_ends"),
    )
    new = sa.table("audit_records", *(sa.column(name) for name in (*_AUDIT, *_AUDIT_NEW)))
    old = sa.table("audit", sa.column("id"), *(sa.column(name) for name in _AUDIT))
    number = sa.func.row_number().over(order_by=old.c.id)
    about_users = old.c.event.like("sign-in%") | old.c.event.like("session-%")
    about_users |= old.c.event == "cookie-replayed"
    log = sa.case((old.c.event.like("user-%"), "admin"), (about_users, "user"), else_="events")
    given = [*(old.c[name] for name in _AUDIT), number, log, sa.literal(""), sa.literal(0)]
    given.append(sa.literal(b"", sa.LargeBinary))
    op.execute(new.insert().from_select([*_AUDIT, *_AUDIT_NEW], sa.select(*given)))
    op.drop_table("audit")
    op.create_index("ix_audit_records_time", "audit_records", ["time"])
    op.create_index("ix_audit_records_log", "audit_records", ["log", "number"])
    op.create_index("ix_audit_records_user", "audit_records", ["user", "number"])
    named = sa.text("actor != ''")
    op.create_index(
        "ix_audit_records_actor",
        "audit_records",
        ["actor", "number"],
        sqlite_where=named,
        postgresql_where=named,
    )


_AUDIT = ("time", "event", "outcome", "reason", "user", "source", "session", "text")
_AUDIT_NEW = ("number", "log", "actor", "position", "mac")


def _live_index(name: str, table: str, *columns: str) -> None:
    live = sa.text("ended IS NULL")
    op.create_index(name, table, [*columns], sqlite_where=live, postgresql_where=live)
