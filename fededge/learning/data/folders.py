"""A simulated population on disk: a folder for each client, and the held-out examples.

    <client>/train/{x,y}.npy   what the client learns from
    <client>/test/{x,y}.npy    what it evaluates on

`fededge.examples` describes the files.
"""

from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import ClientCounts, Feature, Label, Population, Schema
from fededge.learning.data import partition, sources
from fededge.task import Data, Partition


def prepare(data: Data, how: Partition, seed: int, clients: Path, test: Path) -> Population:
    """Load and spread a task's examples: client folders under `clients`, held-out examples under `test`.

    Args:
        data: where examples come from.
        how: how they are spread over clients.
        seed: of the task.
        clients: folder that gets a folder for each client.
        test: folder that gets the held-out examples.

    Returns:
        The simulated population, without digests.

    Raises:
        DataError: the examples are missing or malformed, or cannot be spread as asked.
        StorageError: a folder cannot be written.
    """
    loaded = sources.load(data, seed)
    held: list[ClientCounts] = []
    for name, indices in partition.assign(how, seed, loaded.y, loaded.owners).items():
        order = np.random.default_rng([seed, 3, len(held)]).permutation(indices)
        kept = partition.held_out(len(order), how.local_holdout)
        train, local_test = np.sort(order[kept:]), np.sort(order[:kept])
        examples.write(clients / name / "train", loaded.x[train], loaded.y[train])
        examples.write(clients / name / "test", loaded.x[local_test], loaded.y[local_test])
        labels = np.bincount(loaded.y[train], minlength=loaded.classes).tolist()
        held.append(ClientCounts(id=name, train=len(train), test=len(local_test), labels=labels))
    examples.write(test, loaded.test_x, loaded.test_y)
    feature = Feature(name="x", dtype="float32", shape=list(loaded.x.shape[1:]))
    return Population(
        clients=held,
        example=Schema(features=[feature], label=Label(classes=loaded.classes)),
        examples=len(loaded.x),
        simulated=True,
    )
