"""The first version of the registry."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number", name=op.f("audit_key")),
    )
    op.create_table(
        "chains",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("chains_key")),
    )
    op.create_table(
        "gateways",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("gateways_key")),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("clients", sa.BigInteger(), nullable=True),
        sa.Column("open_rounds", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("enrolled", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("tenants_key")),
    )
    op.create_table(
        "blobs",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("blobs_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "digest", "owner", name=op.f("blobs_key")),
    )
    op.create_index("blobs_stored", "blobs", ["tenant", "stored"], unique=False)
    op.create_table(
        "clients",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("random_key", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("enrolled", sa.Double(), nullable=False),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("last_seen", sa.Double(), nullable=True),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("last_round", sa.Double(), nullable=True),
        sa.Column("speed", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("clients_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "client", name=op.f("clients_key")),
        sa.UniqueConstraint("public_key", name=op.f("clients_public_key")),
    )
    op.create_table(
        "enrollments",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("enrollments_of_tenants")),
        sa.PrimaryKeyConstraint("digest", name=op.f("enrollments_key")),
    )
    op.create_table(
        "evaluations",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("evaluations_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "task", "metric", name=op.f("evaluations_key")),
    )
    op.create_table(
        "operators",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("last_used", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("operators_of_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("operators_key")),
    )
    op.create_index("operators_of_tenant", "operators", ["tenant", "id"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("round", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("plan_bytes", sa.BigInteger(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("weights_bytes", sa.BigInteger(), nullable=False),
        sa.Column("update_bytes", sa.BigInteger(), nullable=True),
        sa.Column("goal", sa.BigInteger(), nullable=False),
        sa.Column("opened", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("closed", sa.Double(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("reported", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.Column("bytes_down", sa.BigInteger(), nullable=False),
        sa.Column("bytes_up", sa.BigInteger(), nullable=False),
        sa.Column("client_seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("rounds_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "round", name=op.f("rounds_key")),
    )
    op.create_index("rounds_of_task", "rounds", ["tenant", "task", "round"], unique=False)
    op.create_index("rounds_open", "rounds", ["state", "deadline"], unique=False)
    op.create_table(
        "triggers",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("last_start", sa.Double(), nullable=True),
        sa.Column("next_start", sa.Double(), nullable=True),
        sa.Column("next_look", sa.Double(), nullable=True),
        sa.Column("baseline", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("triggers_of_tenants")),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("triggers_key")),
    )
    op.create_index(
        "triggers_due",
        "triggers",
        ["next_look"],
        unique=False,
        sqlite_where=sa.text("next_look IS NOT NULL"),
        postgresql_where=sa.text("next_look IS NOT NULL"),
    )
    op.create_table(
        "datasets",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("random_key", sa.BigInteger(), nullable=False),
        sa.Column("train", sa.BigInteger(), nullable=False),
        sa.Column("test", sa.BigInteger(), nullable=False),
        sa.Column("schema_digest", sa.Text(), nullable=False),
        sa.Column("frameworks", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant", "client"], ["clients.tenant", "clients.client"], name=op.f("datasets_of_clients")
        ),
        sa.PrimaryKeyConstraint("tenant", "client", "dataset", name=op.f("datasets_key")),
    )
    op.create_index("datasets_by_name", "datasets", ["tenant", "dataset", "client"], unique=False)
    op.create_index(
        "datasets_connected",
        "datasets",
        ["tenant", "dataset", "random_key", "client", "train", "schema_digest", "frameworks", "gateway"],
        unique=False,
        sqlite_where=sa.text("gateway IS NOT NULL"),
        postgresql_where=sa.text("gateway IS NOT NULL"),
    )
    op.create_table(
        "participation",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant", "client"], ["clients.tenant", "clients.client"], name=op.f("participation_of_clients")
        ),
        sa.PrimaryKeyConstraint("tenant", "task", "client", name=op.f("participation_key")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("opened", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("heartbeat_seconds", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "client"], ["clients.tenant", "clients.client"], name=op.f("sessions_of_clients")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_key")),
    )
    op.create_index("sessions_ended", "sessions", ["gateway", "ended"], unique=False)
    op.create_index("sessions_of_client", "sessions", ["tenant", "client"], unique=False)
    op.create_index("sessions_of_gateway", "sessions", ["gateway", "expires"], unique=False)
    op.create_table(
        "work",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("round", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("assignment", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try", sa.Double(), nullable=True),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=True),
        sa.Column("update_digest", sa.Text(), nullable=True),
        sa.Column("counts", sa.Text(), nullable=True),
        sa.Column("ranges", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "client"], ["clients.tenant", "clients.client"], name=op.f("work_of_clients")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "round"], ["rounds.tenant", "rounds.round"], name=op.f("work_of_rounds")
        ),
        sa.PrimaryKeyConstraint("tenant", "round", "client", name=op.f("work_key")),
    )
    op.create_index("work_assignment", "work", ["tenant", "assignment"], unique=True)
    op.create_index(
        "work_due",
        "work",
        ["gateway", "next_try"],
        unique=False,
        sqlite_where=sa.text("next_try IS NOT NULL"),
        postgresql_where=sa.text("next_try IS NOT NULL"),
    )
    op.create_index("work_of_client", "work", ["tenant", "client", "state"], unique=False)
    op.create_index("work_ordinal", "work", ["tenant", "round", "ordinal"], unique=False)
