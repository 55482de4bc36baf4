"""What the help desk finds a decision by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("decisions", sa.Column("code", sa.String(16)))
    op.create_index("ix_decisions_code", "decisions", ["code"])
