"""Sessions bound to a key, their cookies, and the ESP suite of a session."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("public_key", sa.LargeBinary(32)))
    op.add_column("sessions", sa.Column("suite", sa.String(32)))
    op.create_table(
        "cookies",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("session", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("spent", sa.Float),
        sa.PrimaryKeyConstraint("hash", name="pk_cookies"),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name="fk_cookies_session", ondelete="CASCADE"),
    )
    op.create_index("ix_cookies_session", "cookies", ["session"])
