"""Who holds the examples of a task whose data lie at clients."""

from collections.abc import Callable, Iterator
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
    for client, is_alike in holders(gateway, dataset, schema.form_digest):
        if not is_alike:
            others += 1
            if others <= NAMED:
                say(f"{client.client} is left out: what it holds as {dataset} is no {_told(schema)}")
            continue
        held = counts_of(client, dataset)
        count += 1
        examples += held.train + held.test
        if len(listed) < LISTED:
            listed.append(held)
    if others > NAMED:
        say(f"and {others - NAMED:,} more are left out")
    if not count:
        raise nobody(gateway, dataset, others)
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


def holders(gateway: GatewayClient, dataset: str, form: str | None) -> Iterator[tuple[ClientInfo, bool]]:
    """The clients that hold something as `dataset`, each with whether its examples have the `form` (None: any)."""
    for client in gateway.clients(dataset=dataset, state="active"):
        held = _held(client, dataset)
        if held is not None:
            yield client, form in (None, held.schema_digest)


def nobody(gateway: GatewayClient, dataset: str, others: int) -> DataError:
    """That no client holds examples like the held-out ones."""
    return DataError(
        f"no client of {gateway.url} holds examples of the dataset {dataset} like the held-out ones ({others:,} hold "
        "others): enroll sites that do, or correct data.dataset or data.held_out"
    )


def counts_of(client: ClientInfo, dataset: str) -> ClientCounts:
    """How many examples `client` says it holds under the name `dataset`."""
    held = _held(client, dataset)
    return ClientCounts(id=client.client, train=held.train if held else 0, test=held.test if held else 0)


def _held(client: ClientInfo, name: str) -> Dataset | None:
    return next((held for held in client.datasets if held.name == name), None)


def _told(schema: Schema) -> str:
    """The form of examples in a few words."""
    return f"{schema.dtype} {list(schema.shape)} with a label of kind {schema.label.kind} like the held-out examples"
