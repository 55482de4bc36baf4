"""Bookmarks and preferences of users, and how far other gateways know them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "record_items",
        sa.Column("space", sa.String(80), nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.String(32), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("space", "user", "item", name="pk_record_items"),
    )
    op.create_index("ix_record_items_number", "record_items", ["number"])
    op.create_index("ix_record_items_time", "record_items", ["time"])
    op.create_table(
        "logical_servers",
        sa.Column("server", sa.String(64), nullable=False),
        sa.Column("logical", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("server", name="pk_logical_servers"),
    )
    op.create_table(
        "record_peers",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(32), nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("fetched", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("succeeded", sa.Float),
        sa.Column("error", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_record_peers"),
    )
