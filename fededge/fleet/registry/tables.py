"""The tables of the registry.

A key begins with the tenant, so that no query reaches another's rows by accident, and goes on with names or random ids:
in a database that is spread over machines by key, writes spread too. The exceptions are looked up before the tenant is
known: tokens by random id or digest, sessions and connections by random id. Times are in seconds since the epoch; JSON is
text.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    text,
)

from fededge.fleet.registry.columns import Json, Words

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_key",
        "fk": "%(table_name)s_of_%(referred_table_name)s",
        "uq": "%(table_name)s_%(column_0_name)s",
    }
)


def _tenant() -> Column[str]:
    return Column("tenant", Words, ForeignKey("tenants.name"), primary_key=True)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0)


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


def _words(name: str) -> Column[str]:
    return Column(name, Words, nullable=False)


def _json(name: str) -> Column[object]:
    return Column(name, Json, nullable=False)


def _index_where(condition: str, name: str, *columns: str) -> Index:
    """An index of some rows alone."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


tenants = Table(
    "tenants",
    metadata,
    Column("name", Words, primary_key=True),
    # quotas; NULL is no limit
    Column("clients", BigInteger),
    Column("open_rounds", BigInteger),
    Column("bytes", BigInteger),
    # what counts against them
    _count("enrolled"),
    _count("stored_bytes"),
)

operators = Table(
    "operators",
    metadata,
    Column("id", Words, primary_key=True),
    Column("tenant", Words, ForeignKey("tenants.name"), nullable=False),
    _words("name"),
    _words("scope"),
    _words("digest"),
    _time("created"),
    Column("expires", Double),
    Column("last_used", Double),
    _flag("revoked"),
    Index("operators_of_tenant", "tenant", "id"),
)

enrollments = Table(
    "enrollments",
    metadata,
    Column("digest", Words, primary_key=True),
    Column("tenant", Words, ForeignKey("tenants.name"), nullable=False),
    _words("client"),
    _words("kind"),
    Column("device_class", Words),
    Column("region", Words),
    _json("attributes"),
    _time("created"),
    _time("expires"),
    # the key that used it up
    Column("public_key", Words),
    Index("enrollments_expires", "expires"),
)

clients = Table(
    "clients",
    metadata,
    _tenant(),
    Column("client", Words, primary_key=True),
    Column("random_key", BigInteger, nullable=False),
    _words("kind"),
    _words("state"),
    # 32 bytes in hexadecimal
    Column("public_key", Words, nullable=False, unique=True),
    Column("device_class", Words),
    Column("region", Words),
    _json("attributes"),
    _json("capabilities"),
    _json("conditions"),
    _words("software"),
    _time("enrolled"),
    # the session that it has, or had last; the gateway is set while it is open
    Column("session", Words),
    Column("gateway", Words),
    Column("last_seen", Double),
    _count("rounds"),
    Column("last_round", Double),
    Column("speed", Double),
    # it holds all that selection asks beside the datasets, in their order
    Index("clients_drawn", "tenant", "random_key", "client", "region", "speed"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("client", Words, primary_key=True),
    Column("dataset", Words, primary_key=True),
    Column("random_key", BigInteger, nullable=False),
    _count("train"),
    _count("test"),
    _words("schema_digest"),
    # of the client: names between spaces
    _words("frameworks"),
    # on which the client is connected: selection reads this table's index alone
    Column("gateway", Words),
    ForeignKeyConstraint(["tenant", "client"], ["clients.tenant", "clients.client"]),
    Index("datasets_by_name", "tenant", "dataset", "client"),
    # it holds all that selection asks: a window is read in one go, without the rows
    _index_where(
        "gateway IS NOT NULL",
        "datasets_connected",
        "tenant",
        "dataset",
        "random_key",
        "client",
        "train",
        "schema_digest",
        "frameworks",
        "gateway",
    ),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Words, primary_key=True),
    _words("url"),
    # from when on its lease was renewed in time
    _time("since"),
    _time("expires"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Words, primary_key=True),
    _words("tenant"),
    _words("client"),
    _words("gateway"),
    _time("opened"),
    _time("last_seen"),
    Column("heartbeat_seconds", Double, nullable=False),
    _time("expires"),
    # ended here, and its gateway is to end the connection
    _flag("ended"),
    ForeignKeyConstraint(["tenant", "client"], ["clients.tenant", "clients.client"]),
    Index("sessions_of_client", "tenant", "client"),
    Index("sessions_of_gateway", "gateway", "expires"),
    Index("sessions_ended", "gateway", "ended"),
)

# WebSockets that no process holds: a platform keeps them, and calls functions with what is said over them
connections = Table(
    "connections",
    metadata,
    Column("id", Words, primary_key=True),
    _words("gateway"),
    # base64, of its challenge; NULL once a hello answered it
    Column("nonce", Words),
    _time("opened"),
    # once its client is welcome
    Column("session", Words),
    Column("tenant", Words),
    Column("client", Words),
    # messages that were refused since a time
    _count("refused"),
    _time("refused_since"),
    Index("connections_of_session", "session"),
    Index("connections_opened", "gateway", "opened"),
)

rounds = Table(
    "rounds",
    metadata,
    _tenant(),
    Column("round", Words, primary_key=True),
    _words("task"),
    _words("kind"),
    _count("number"),
    _words("dataset"),
    _words("envelope"),
    # that the request to open it was part of (W3C Trace Context)
    Column("trace", Words),
    _words("plan"),
    _count("plan_bytes"),
    _words("weights"),
    _count("weights_bytes"),
    Column("update_bytes", BigInteger),
    _count("goal"),
    _time("opened"),
    _time("deadline"),
    _words("state"),
    Column("closed", Double),
    Column("outcome", Words),
    _words("reason"),
    # of the last report
    _count("ordinal"),
    _count("reported"),
    _count("failed"),
    _count("waiting"),
    _count("bytes_down"),
    _count("bytes_up"),
    Column("client_seconds", Double, nullable=False, default=0.0),
    Index("rounds_open", "state", "deadline"),
    Index("rounds_of_task", "tenant", "task", "round"),
)

work = Table(
    "work",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("round", Words, primary_key=True),
    Column("client", Words, primary_key=True),
    _words("assignment"),
    _words("state"),
    # on which the client is connected
    Column("gateway", Words),
    Column("attempts", Integer, nullable=False, default=0),
    # when the gateway has something to tell the client: the assignment, or that it is canceled
    Column("next_try", Double),
    Column("share", Double, nullable=False),
    Column("ordinal", BigInteger),
    Column("update_digest", Words),
    Column("counts", Json),
    Column("ranges", Json),
    _words("message"),
    Column("seconds", Double, nullable=False, default=0.0),
    ForeignKeyConstraint(["tenant", "round"], ["rounds.tenant", "rounds.round"]),
    ForeignKeyConstraint(["tenant", "client"], ["clients.tenant", "clients.client"]),
    Index("work_assignment", "tenant", "assignment", unique=True),
    Index("work_ordinal", "tenant", "round", "ordinal"),
    _index_where("next_try IS NOT NULL", "work_due", "gateway", "next_try"),
    Index("work_of_client", "tenant", "client", "state"),
)

participation = Table(
    "participation",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("task", Words, primary_key=True),
    Column("client", Words, primary_key=True),
    Column("random_key", BigInteger, nullable=False),
    # number of the last round of training that it was asked in
    _count("asked"),
    # its mean loss in the last one that counted
    Column("loss", Double),
    ForeignKeyConstraint(["tenant", "client"], ["clients.tenant", "clients.client"]),
    # as clients_drawn
    Index("participation_drawn", "tenant", "task", "random_key", "client", "asked", "loss"),
)

blobs = Table(
    "blobs",
    metadata,
    _tenant(),
    Column("digest", Words, primary_key=True),
    # the client that sent it; empty: a pipeline did
    Column("owner", Words, primary_key=True),
    _count("bytes"),
    _time("stored"),
    Index("blobs_stored", "tenant", "stored"),
)

releases = Table(
    "releases",
    metadata,
    _tenant(),
    Column("task", Words, primary_key=True),
    _words("manifest"),
    _count("manifest_bytes"),
    _time("issued"),
    # digest and bytes by device class
    _json("models"),
    _time("published"),
)

release_blobs = Table(
    "release_blobs",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("digest", Words, primary_key=True),
    Column("task", Words, primary_key=True),
    ForeignKeyConstraint(["tenant", "task"], ["releases.tenant", "releases.task"]),
    Index("release_blobs_of_task", "tenant", "task"),
)

running = Table(
    "running",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("client", Words, primary_key=True),
    Column("task", Words, primary_key=True),
    # Running
    _json("report"),
    _time("at"),
    ForeignKeyConstraint(["tenant", "client"], ["clients.tenant", "clients.client"]),
)

triggers = Table(
    "triggers",
    metadata,
    _tenant(),
    Column("name", Words, primary_key=True),
    # TriggerRequest
    _json("request"),
    _words("state"),
    # of the start that is claimed or running
    Column("start", Words),
    Column("run", Words),
    Column("last_start", Double),
    # of a schedule
    Column("next_start", Double),
    # when somebody has to look whether it is to start; NULL: not before it changes
    Column("next_look", Double),
    # what was counted or measured at the last start
    Column("baseline", Double),
    _words("message"),
    _index_where("next_look IS NOT NULL", "triggers_due", "next_look"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _tenant(),
    Column("task", Words, primary_key=True),
    Column("metric", Words, primary_key=True),
    Column("value", Double, nullable=False),
    _time("at"),
)

chains = Table(
    "chains",
    metadata,
    Column("tenant", Words, primary_key=True),
    _count("number"),
    _words("digest"),
)

audit = Table(
    "audit",
    metadata,
    # empty: no tenant's
    Column("tenant", Words, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _time("at"),
    _words("actor"),
    _words("action"),
    _words("subject"),
    _json("details"),
    _words("digest"),
)
