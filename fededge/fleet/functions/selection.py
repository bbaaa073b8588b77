"""Selection: who of those that are there takes part in a round."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    func,
    tuple_,
    type_coerce,
)
from sqlalchemy import select as query

from fededge.eligibility import REGION, Conditions
from fededge.errors import GatewayError, TaskError
from fededge.fleet.functions.monitoring import live_gateways
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import clients, datasets, participation
from fededge.fleet.selection import policy_of
from fededge.fleet.selection.policy import Candidate, Policy, facts_of
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.window import start, width
from fededge.protocol import SelectionRequest, SelectionResult

WINDOWED = "uniform"
"""The policy that looks at no more than a window of clients; all others are given each that may take part."""
OF_TASK: Mapping[str, Column[Any]] = {"waited": participation.c.asked, "loss": participation.c.loss}
"""Where the facts of a client that are of one task come from."""
PART = 2000
"""Rows that are in memory as such at once."""

# Every round begins with these, so they are made once.
_CONNECTED = query(datasets.c.client, datasets.c.train, datasets.c.random_key).where(
    datasets.c.tenant == bindparam("tenant"),
    datasets.c.dataset == bindparam("dataset"),
    datasets.c.gateway.is_not(None),
    datasets.c.gateway.in_(bindparam("live", expanding=True)),
    datasets.c.schema_digest == bindparam("schema_digest"),
    # LIKE would not mind capitals in SQLite.
    func.replace(datasets.c.frameworks, bindparam("framework", type_=Text), "") != datasets.c.frameworks,
)
"""Id and training examples of those that are there, hold the examples and run the framework."""
_PAGE = _CONNECTED.order_by(datasets.c.random_key, datasets.c.client).limit(bindparam("most"))
_WINDOW = (
    _PAGE.where(datasets.c.random_key >= bindparam("begin")),
    _PAGE.where(datasets.c.random_key < bindparam("begin")),
)


def select(registry: Registry, tenant: str, request: SelectionRequest, now: float) -> SelectionResult:
    """The cohort of a round.

    `available` is how many clients the policy chose from: all that are there and may take part, or, of many, a window's.

    Raises:
        GatewayError: no such policy, or a combination without weights.
    """
    policy = _policy(request)

    def find(connection: Connection) -> Sequence[Candidate]:
        if request.policy == WINDOWED:
            return _window(connection, tenant, request, now)
        return _everyone(connection, tenant, request, now, facts_of(policy))

    pool = registry.read(find)
    cohort = policy.choose(pool, request.size, request.seed, request.number)
    return SelectionResult(cohort=sorted(cohort), available=len(pool))


def _policy(request: SelectionRequest) -> Policy:
    if request.policy == "weighted" and not (request.weights and min(request.weights.values()) > 0):
        raise GatewayError(
            "the policy weighted needs weights above 0: name policies with them", "NO_POLICY", 400
        )
    try:
        return policy_of(request.policy, request.weights)
    except TaskError as error:
        raise GatewayError(str(error), "NO_POLICY", 400) from error


def _asked(connection: Connection, tenant: str, request: SelectionRequest, now: float) -> dict[str, Any]:
    """The values for _CONNECTED."""
    return {
        "tenant": tenant,
        "dataset": request.dataset,
        "live": live_gateways(connection, now),
        "schema_digest": request.schema_digest,
        "framework": f" {request.framework} ",
    }


def _with_client(
    found: Select[Any], conditions: Conditions, columns: Iterable[Column[Any]] = ()
) -> Select[Any]:
    """With columns of the client and, under conditions, what they are over; less those that cannot meet them."""
    wanted = {column.name: column for column in columns}
    if conditions.stated:
        wanted |= {"region": clients.c.region, "conditions": clients.c.conditions}
    said = type_coerce(clients.c.conditions, Text)
    flags = [said.contains(f'"{name}":"{text}"', autoescape=True) for name, text in conditions.flags.items()]
    return found.add_columns(*wanted.values()).join(clients, _same_client(clients)).where(*flags)


def _same_client(table: Table) -> ColumnElement[bool]:
    """That a row of `table` is of the client of a row of datasets."""
    names = ("tenant", "random_key", "client")
    return and_(*(table.c[name] == datasets.c[name] for name in names))


def _meets(row: Row[Any], request: SelectionRequest, now: float) -> bool:
    """Whether a client meets the conditions by what it said last; its region is the registry's, unless it said one."""
    said = row.conditions if row.region is None else {REGION: row.region, **row.conditions}
    return request.conditions.unmet(said, now) is None


def _window(connection: Connection, tenant: str, request: SelectionRequest, now: float) -> list[Candidate]:
    """As `fededge.fleet.selection.window`, found by an index.

    With conditions the window goes on, a page after another, until it holds as many clients that meet them.
    """
    most = width(request.size)
    asked = _asked(connection, tenant, request, now)
    asked |= {"begin": start(request.seed, request.number), "most": most}
    found: list[Candidate] = []
    for part in _WINDOW:
        found += islice(_in_order(connection, part, asked, request, now), most - len(found))
    return found


def _in_order(
    connection: Connection, part: Select[Any], asked: Mapping[str, Any], request: SelectionRequest, now: float
) -> Iterator[Candidate]:
    """The clients of a part that meet the conditions, in the order of their random keys, read by pages."""
    stated = request.conditions.stated
    wanted = _with_client(part, request.conditions) if stated else part
    place = tuple_(datasets.c.random_key, datasets.c.client)
    page = wanted
    while rows := connection.execute(page, asked).all():
        for row in rows:
            if not stated or _meets(row, request, now):
                yield Candidate(id=row.client, train=row.train)
        if len(rows) < asked["most"]:
            return
        page = wanted.where(place > (rows[-1].random_key, rows[-1].client))


def _everyone(
    connection: Connection, tenant: str, request: SelectionRequest, now: float, facts: Collection[str]
) -> Pool:
    """All that may take part, with those of `facts` that are known of each.

    Tables are read side by side: an index of each has the order of the random keys, and all that is asked.
    """
    read = {"id": datasets.c.client, "train": datasets.c.train}
    of_client = {name: clients.c[name] for name in ("region", "speed") if name in facts}
    of_task = {name: column for name, column in OF_TASK.items() if name in facts}
    found: Select[Any] = _CONNECTED
    asked = _asked(connection, tenant, request, now)
    if of_client or request.conditions.stated:
        found = _with_client(found, request.conditions, of_client.values())
    if of_task:
        found = found.add_columns(*of_task.values()).outerjoin(
            participation, (participation.c.task == request.task) & _same_client(participation)
        )
    result = connection.execute(found.execution_options(yield_per=PART), asked)
    names = list(result.keys())
    places = {field: names.index(column.name) for field, column in (read | of_client | of_task).items()}

    def parts() -> Iterator[dict[str, list[Any]]]:
        for rows in result.partitions():
            there = rows
            if request.conditions.stated:
                there = [row for row in rows if _meets(row, request, now)]
            part = {field: [row[place] for row in there] for field, place in places.items()}
            if "waited" in part:
                part["waited"] = [max(0, request.number - (asked or 0)) for asked in part["waited"]]
            yield part

    return Pool.gathered(parts())
