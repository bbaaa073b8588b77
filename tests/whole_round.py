"""A round of two clients, from selection to outcome, and a trigger: through a gateway, and what it leaves behind."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from fededge import storage
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from tests.gateway_client import SCHEMA, Client, Operator
from tests.gateway_process import Gateway, token

UPDATE = b"update"
VOLATILE = re.compile(
    r"^(attempts|opened|deadline|closed|created|enrolled|last_\w+|next_\w+|stored|session|gateway|random_key|public_key|key_id|"
    r"seconds_left|start|speed|trace|upload|url)$"
)
"""What differs from one run of the same sequence to another: times, and what is drawn at random."""


def selection_request() -> dict[str, Any]:
    return {
        "task": "digits",
        "dataset": "digits",
        "framework": "keras",
        "schema_digest": SCHEMA,
        "size": 10,
        "seed": 3,
        "number": 1,
    }


def round_request(cohort: list[str], plan: str, weights: str, **changes: Any) -> dict[str, Any]:
    return {
        "task": "digits",
        "kind": "train",
        "number": 1,
        "dataset": "digits",
        "order": "an order",
        "plan": plan,
        "weights": weights,
        "cohort": cohort,
        "seconds": 600.0,
        "update_bytes": len(UPDATE),
        **changes,
    }


TRIGGER = {"when": "interval", "every_seconds": 3600.0, "task": '{"name":"digits"}'}


Between = Callable[[Path, str], AbstractContextManager[tuple[str, str]]]
"""The folder and URL of a gateway to where clients connect, and to where operators go."""


def _directly(folder: Path, url: str) -> AbstractContextManager[tuple[str, str]]:
    return nullcontext((url, url))


def through_the_gateway(folder: Path, between: Between = _directly) -> list[Any]:
    """What a sequence of calls is answered with by a gateway, and by what clients and operators go to instead."""
    with Gateway.start(folder) as gateway, between(folder, gateway.url) as (where, api):
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        operator = Operator(api, token(registry))
        registry.close()
        told: list[Any] = []
        clients = [operator.enroll(name) for name in ("a", "b")]
        for client in clients:
            client.url = where
            client.join()
        told.append(operator("POST", "/v1/selections", selection_request()))
        plan, weights = operator.store(b"plan"), operator.store(b"weights")
        cohort = told[-1]["cohort"]
        told.append(operator("PUT", "/v1/rounds/r1", round_request(cohort, plan, weights)))
        for client in clients:
            assignment = client.hear()
            told.append(assignment.to_content())
            told.append(_answer(client, {"type": "accept", "assignment": assignment.id}).to_content())
            of = {"assignment": assignment.id, "digest": storage.digest(UPDATE), "bytes": len(UPDATE)}
            place = _answer(client, {"type": "upload", **of})
            assert operator.http.put(place.url, content=UPDATE).status_code == 201
            told.append(_answer(client, {"type": "upload", **of}).to_content())
            report = {"assignment": assignment.id, "update": of["digest"], "seconds": 2.0}
            told.append(_answer(client, {"type": "report", **report}).to_content())
        told.append(operator("GET", "/v1/rounds/r1/reports", params={"after": 0, "wait": 5}))
        closing = {"outcome": "committed", "losses": {"a": 0.5, "b": 0.25}}
        told.append(operator("POST", "/v1/rounds/r1/close", closing))
        told.append(operator("PUT", "/v1/triggers/often", TRIGGER))
        told.append(operator("POST", "/v1/triggers/often/fire"))
        told.append(operator("GET", "/v1/clients"))
        for client in clients:
            client.close()
        operator.close()
    return told


def _answer(client: Client, message: dict[str, Any]) -> Any:
    """What a client is answered; an assignment that is sent again before it is accepted is none."""
    client.say(message)
    while (heard := client.hear()).type == "assignment":
        continue
    return heard


def settled(told: Any) -> Any:
    """`told` without what differs from run to run."""
    if isinstance(told, dict):
        return {name: settled(each) for name, each in told.items() if not VOLATILE.match(name)}
    if isinstance(told, list):
        return [settled(each) for each in told]
    return told


def state(folder: Path) -> dict[str, Any]:
    """The registry in `folder`, without what differs from run to run."""
    kept = (
        "tenants",
        "clients",
        "datasets",
        "rounds",
        "work",
        "blobs",
        "triggers",
        "participation",
        "evaluations",
    )
    registry = Registry.open(f"sqlite:///{folder}/registry.db")

    def rows(connection: Connection) -> dict[str, Any]:
        found = {}
        for name in kept:
            table = metadata.tables[name]
            query = select(table).order_by(*table.primary_key.columns)
            found[name] = [settled(dict(row._mapping)) for row in connection.execute(query)]
        return found

    try:
        return registry.read(rows)
    finally:
        registry.close()
