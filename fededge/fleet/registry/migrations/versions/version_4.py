"""What selection asks of clients lies in the order of their random keys; tokens of enrollment in that of their end."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Make its indexes, and note the random keys of those who took part."""
    op.create_index("clients_drawn", "clients", ["tenant", "random_key", "client", "region", "speed"])
    op.add_column("participation", sa.Column("random_key", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE participation SET random_key = (SELECT random_key FROM clients "
        "WHERE clients.tenant = participation.tenant AND clients.client = participation.client)"
    )
    with op.batch_alter_table("participation") as table:
        table.alter_column("random_key", existing_type=sa.BigInteger(), nullable=False)
    columns = ["tenant", "task", "random_key", "client", "asked", "loss"]
    op.create_index("participation_drawn", "participation", columns)
    op.create_index("enrollments_expires", "enrollments", ["expires"])
