"""When a session was extended: its length counts from then."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("extended", sa.Float))
    op.add_column("web_sessions", sa.Column("extended", sa.Float))
