"""Training without federation, for comparison: on all clients' examples in one place, or at one client alone.

The same client work as in federated rounds, pass after pass on one folder of examples. An optimizer begins anew with
each pass, as a client's does with each round.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Alone, ClientScore, Evaluation, Pass, Population
from fededge.errors import DataError
from fededge.learning.evaluation import evaluate
from fededge.learning.frameworks import open_client
from fededge.learning.interfaces import ModelSpec
from fededge.learning.seeds import seed_for
from fededge.storage import digest
from fededge.task import Learning
from fededge.weights import Weights

NAME = "centralized"


def train(
    model: ModelSpec,
    learning: Learning,
    seed: int,
    population: Population,
    clients: Path,
    test: Path,
    on_pass: Callable[[Evaluation], None],
    names: Sequence[str] | None = None,
    named: Sequence[str] = (),
    code: str | None = None,
) -> Evaluation:
    """Train on clients' examples together, pass by pass, and evaluate on held-out ones.

    A pass takes as many samples as a federated round with an average cohort; `on_pass` gets the evaluation
    after it.

    Args:
        model: what is trained.
        learning: the algorithm that it is compared with.
        seed: of the task.
        population: must be simulated.
        clients: folder with one folder for each client.
        test: folder with held-out examples.
        on_pass: told of each pass.
        names: the clients whose examples are taken, all of each pass; None takes all clients', in shares.
        named: metrics beyond the usual ones; see `fededge.learning.evaluation.evaluate`, also of `code`.
        code: folder with the modules of the user's own metrics.

    Returns:
        The last evaluation, with all passes.

    Raises:
        DataError: the population is not simulated: its examples must stay where they are.
    """
    if not population.simulated:
        raise DataError(
            "clients' examples may be pooled only where the population is simulated: remove compare"
        )
    everybody = [client.id for client in population.clients]
    share = 1.0 if names else min(learning.cohort.size, len(everybody)) / len(everybody)
    test_x, test_y = examples.read(test, population.example)
    passes: list[Pass] = []
    weights, samples = model.initial_weights(), 0.0
    with tempfile.TemporaryDirectory(prefix="fededge-pooled-") as folder:
        plan = Path(folder) / "plan"
        model.export_plan(learning.client, digest(NAME.encode()), plan)
        pool = _Pool([clients / name / "train" for name in names or everybody], Path(folder), population)
        for number in range(1, learning.rounds + 1):
            client = open_client(plan, pool.draw(share, [seed, 4, number]))
            update = client.train(weights, seed_for(seed, number, NAME))
            weights = _moved(weights, update.delta)
            samples += update.examples
            outputs = model.predict(weights, test_x)
            result = evaluate(
                outputs,
                test_x,
                test_y,
                population.example,
                round=number,
                samples=samples,
                named=named,
                code=code,
            )
            passes.append(Pass(round=number, score=result.score, loss=result.loss))
            on_pass(result)
    return result.model_copy(update={"passes": passes})


def train_each(
    model: ModelSpec,
    learning: Learning,
    seed: int,
    population: Population,
    clients: Path,
    test: Path,
    on_client: Callable[[ClientScore], None],
) -> Alone:
    """Train at each client on its own examples alone, and score each model on held-out ones; arguments as for `train`.

    Raises:
        DataError: the population is not simulated.
    """
    found: list[ClientScore] = []
    for client in population.clients:
        result = train(model, learning, seed, population, clients, test, lambda _: None, names=[client.id])
        found.append(
            ClientScore(id=client.id, score=result.score, loss=result.loss, examples=result.examples)
        )
        on_client(found[-1])
    return Alone(metric=result.metric, clients=found)


class _Pool:
    """The examples of several folders in one: `folder`/<data>/train is a client's folder."""

    def __init__(self, sources: Sequence[Path], folder: Path, population: Population) -> None:
        self._folder = folder
        self._schema = population.example
        self._pairs = [examples.read(source, self._schema) for source in sources]
        self._order = np.empty((0, 2), np.int64)
        self._places = np.concatenate(
            [
                np.stack([np.full(len(x), index), np.arange(len(x))], axis=1)
                for index, (x, _) in enumerate(self._pairs)
            ]
        )

    def draw(self, share: float, seed: list[int]) -> Path:
        """A client's folder with the next `share` of the examples, each taken before one is taken twice."""
        if share == 1.0 and (self._folder / "train").exists():
            return self._folder
        wanted = max(1, round(share * len(self._places)))
        if len(self._order) < wanted:
            mixed = np.random.default_rng(seed).permutation(self._places)
            self._order = np.concatenate([self._order, mixed])
        chosen, self._order = np.split(self._order, [wanted])
        chosen = chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]
        examples.copy(self._folder / "train", self._pairs, chosen, self._schema)
        return self._folder


def _moved(weights: Weights, delta: Weights) -> Weights:
    return {name: value - delta[name] for name, value in weights.items()}
