"""WebSockets that a platform holds."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "connections",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("opened", sa.Double(), nullable=False),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("refused_since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("connections_key")),
    )
    op.create_index("connections_of_session", "connections", ["session"], unique=False)
    op.create_index("connections_opened", "connections", ["gateway", "opened"], unique=False)
