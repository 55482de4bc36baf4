"""Flows, beside the records of the audit that prove them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "flow_pieces",
        sa.Column("record", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("session", sa.BigInteger),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("flows", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("record", "place", name="pk_flow_pieces"),
    )
    op.create_index("ix_flow_pieces_user", "flow_pieces", ["user", "record"])
    op.create_index("ix_flow_pieces_session", "flow_pieces", ["session", "record"])
    op.create_index("ix_flow_pieces_until", "flow_pieces", ["until"])
    op.create_index("ix_flow_pieces_position", "flow_pieces", ["position"])
