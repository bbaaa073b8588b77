"""Three nodes with skewed labels, as clients of a task: handwritten digits, each with the node that owns it."""

from pathlib import Path

import numpy as np

from fededge.documents import Population
from fededge.learning.data import folders
from fededge.learning.data.sources import open_source
from fededge.task import DigitsData, FederatedTask, parse

NODES = ("node-1", "node-2", "node-3")
RARE = (7, 8, 9)
"""Digits that node-3 holds most of; it holds few of the others, and fewer examples than either other node."""
SHARES = {False: (0.53, 0.46, 0.01), True: (0.15, 0.1, 0.75)}
"""Of a digit's examples for each node, by whether the digit is rare."""


def prepare(
    mnist: Path | None, learning: dict[str, object], folder: Path
) -> tuple[FederatedTask, Population]:
    """Write the nodes' folders into `folder`/data and the held-out examples into `folder`/test.

    Args:
        mnist: file with the arrays of Keras's mnist.npz; None takes scikit-learn's digits.
        learning: the task's section.
        folder: that exists.

    Returns:
        The task, and its population.
    """
    arrays = dict(np.load(mnist)) if mnist else _digits()
    np.savez(
        folder / "examples.npz",
        x_train=arrays["x_train"],
        y_train=arrays["y_train"],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
        node=owners(arrays["y_train"]),
    )
    text = (
        "name: serverless-edge\nseed: 7\n"
        f"data: {{source: npz, path: {folder / 'examples.npz'}, key: node}}\n"
        "partition: {kind: natural}\n"
    )
    task = FederatedTask.model_validate(parse(text).model_dump() | {"learning": learning})
    population = folders.prepare(task.local_data, task.partition, task.seed, folder / "data", folder / "test")
    return task, population


def owners(labels: np.ndarray) -> np.ndarray:
    """The node of each training example, str [n]: of each digit the nodes get SHARES of its examples, at random."""
    generator = np.random.default_rng(7)
    found = np.empty(len(labels), object)
    for digit in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == digit))
        bounds = (np.cumsum(SHARES[int(digit) in RARE])[:-1] * len(places)).round().astype(int)
        for node, part in zip(NODES, np.split(places, bounds), strict=True):
            found[part] = node
    return found.astype(str)


def _digits() -> dict[str, np.ndarray]:
    batches = list(open_source(DigitsData(source="digits"), 7).batches())
    x, y = (np.concatenate([getattr(batch, name) for batch in batches]) for name in "xy")
    order = np.random.default_rng(7).permutation(len(x))
    test, train = np.split(order, [len(x) // 5])
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
