"""Who holds the examples of a task whose data lie at clients."""

from collections.abc import Callable
from pathlib import Path

from fededge.documents import ClientCounts, Elsewhere, HeldOut, Population, Schema
from fededge.errors import DataError
from fededge.fleet.gateway_client import GatewayClient
from fededge.protocol import ClientInfo, Dataset

LISTED = 10_000
"""Clients that a population document lists; of more it tells the number."""
NAMED = 20
"""Clients that are left out and named."""


def take(
    gateway: GatewayClient,
    dataset: str,
    schema: Schema,
    held_out: HeldOut,
    folder: Path,
    say: Callable[[str], None],
) -> Population:
    """The population of the clients that hold `dataset`, whose examples are like the held-out ones.

    Args:
        gateway: knows the clients.
        dataset: the name under which they hold their examples.
        schema: of the held-out examples; a client with others is left out.
        held_out: how many were held out.
        folder: gets the document that says where the examples are.
        say: told of each client that is left out, the first NAMED of them by name.

    Raises:
        GatewayError: the gateway cannot be asked.
        DataError: no client holds such examples.
        StorageError: the folder cannot be written.
    """
    listed: list[ClientCounts] = []
    count = examples = others = 0
    for client in gateway.clients(dataset=dataset, state="active"):
        held = dataset_of(client, dataset)
        if held is None or held.schema_digest != schema.form_digest:
            others += 1
            if others <= NAMED:
                say(f"{client.client} is left out: what it holds as {dataset} is no {_told(schema)}")
            continue
        count += 1
        examples += held.train + held.test
        if len(listed) < LISTED:
            listed.append(counts_of(client, dataset))
    if others > NAMED:
        say(f"and {others - NAMED:,} more are left out")
    if not count:
        raise DataError(
            f"no client of {gateway.url} holds examples of the dataset {dataset} like the held-out ones"
            f"{f' ({others:,} hold others)' if others else ''}: enroll sites that do, or correct data.dataset or "
            "data.held_out"
        )
    found = Elsewhere(gateway=gateway.url, dataset=dataset, clients=count, examples=examples)
    found.write(folder / "elsewhere.json")
    return Population(
        clients=sorted(listed, key=lambda client: client.id),
        count=count,
        example=schema,
        examples=examples,
        simulated=False,
        held_out=held_out,
    )


def dataset_of(client: ClientInfo, name: str) -> Dataset | None:
    """What `client` holds under `name`; None where it holds nothing."""
    return next((held for held in client.datasets if held.name == name), None)


def counts_of(client: ClientInfo, dataset: str) -> ClientCounts:
    """How many examples `client` says it holds under the name `dataset`."""
    held = dataset_of(client, dataset)
    return ClientCounts(id=client.client, train=held.train if held else 0, test=held.test if held else 0)


def _told(schema: Schema) -> str:
    """The form of examples in a few words."""
    return f"{schema.dtype} {list(schema.shape)} with a label of kind {schema.label.kind} like the held-out examples"
