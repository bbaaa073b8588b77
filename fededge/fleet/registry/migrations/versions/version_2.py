"""Releases, and what clients run of them."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "releases",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("manifest_bytes", sa.BigInteger(), nullable=False),
        sa.Column("issued", sa.Double(), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("published", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("releases_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "task", name=op.f("releases_key")),
    )
    op.create_table(
        "release_blobs",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "task"], ["releases.tenant", "releases.task"], name=op.f("release_blobs_of_releases")
        ),
        sa.PrimaryKeyConstraint("tenant", "digest", "task", name=op.f("release_blobs_key")),
    )
    op.create_index("release_blobs_of_task", "release_blobs", ["tenant", "task"], unique=False)
    op.create_table(
        "running",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "client"], ["clients.tenant", "clients.client"], name=op.f("running_of_clients")
        ),
        sa.PrimaryKeyConstraint("tenant", "client", "task", name=op.f("running_key")),
    )
