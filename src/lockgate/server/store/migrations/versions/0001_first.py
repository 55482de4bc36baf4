"""Users, administrators, sessions, leases, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    op.create_table(
        "administrators",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_administrators"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("cookie_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("realm", sa.String(128), nullable=False),
        sa.Column("roles", sa.String(4096), nullable=False),
        sa.Column("address4", sa.LargeBinary(4)),
        sa.Column("address6", sa.LargeBinary(16)),
        sa.Column("user_agent", sa.String(256), nullable=False),
        sa.Column("host_name", sa.String(256), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("idle_seconds", sa.Integer, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("cause", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("cookie_hash", name="uq_sessions_cookie_hash"),
        sa.CheckConstraint("(ended IS NULL) = (cause IS NULL)", name="ck_sessions_ended_has_cause"),
    )
    op.create_index(
        "ix_sessions_live_user",
        "sessions",
        ["user"],
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )
    op.create_index("ix_sessions_ended", "sessions", ["ended"])
    op.create_index("ix_sessions_started", "sessions", ["started"])
    op.create_table(
        "leases",
        sa.Column("address", sa.LargeBinary(16), nullable=False),
        sa.Column("family", sa.Integer, nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("free_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_leases"),
        sa.ForeignKeyConstraint(
            ["session"], ["sessions.id"], name="fk_leases_session", deferrable=True, initially="DEFERRED"
        ),
    )
    op.create_index("ix_leases_session", "leases", ["session"])
    op.create_index(
        "ix_leases_free",
        "leases",
        ["family", "address"],
        sqlite_where=sa.text("session IS NULL"),
        postgresql_where=sa.text("session IS NULL"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("text", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_time", "audit", ["time"])
