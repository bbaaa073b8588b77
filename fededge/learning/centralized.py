"""Training without federation, for comparison: on all clients' examples in one place, or at one client alone.

The same client work as in federated rounds, pass after pass on one folder of examples. An optimizer begins anew with
each pass, as a client's does with each round.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Alone, ClientScore, Evaluation, Pass, Population
from fededge.errors import DataError
from fededge.learning.evaluation import evaluate, scorer
from fededge.learning.frameworks import open_client
from fededge.learning.interfaces import ModelSpec
from fededge.metrics import METRIC
from fededge.seeds import seed_for
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
        named: metrics beyond the usual ones; see `fededge.learning.evaluation.evaluate`, also of `code`.
        code: folder with the modules of the user's own metrics.

    Returns:
        The last evaluation, with all passes.

    Raises:
        DataError: the population is not simulated: its examples must stay where they are.
    """
    _refuse_real(population)
    everybody = [client.id for client in population.clients]
    share = min(learning.cohort.size, len(everybody)) / len(everybody)
    test_x, test_y = examples.read(test, population.example)
    passes: list[Pass] = []
    with tempfile.TemporaryDirectory(prefix="fededge-pooled-") as folder:
        plan = _exported(model, learning, Path(folder))
        pool = _Pool([clients / name / "train" for name in everybody], Path(folder), population)
        for number, (weights, samples) in enumerate(_passes(model, learning, seed, plan, pool, share), 1):
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
    _refuse_real(population)
    scored = scorer(model, population.example, *examples.read(test, population.example))
    found: list[ClientScore] = []
    with tempfile.TemporaryDirectory(prefix="fededge-alone-") as folder:
        plan = _exported(model, learning, Path(folder))
        for client in population.clients:
            pool = _Pool([clients / client.id / "train"], Path(folder) / client.id, population)
            *_, (weights, _) = _passes(model, learning, seed, plan, pool, 1.0)
            score = scored(weights)
            found.append(
                ClientScore(id=client.id, score=score.score, loss=score.loss, examples=score.examples)
            )
            on_client(found[-1])
    return Alone(metric=METRIC[population.example.label.kind], clients=found)


def _refuse_real(population: Population) -> None:
    if not population.simulated:
        raise DataError(
            "clients' examples may be pooled only where the population is simulated: remove compare"
        )


def _exported(model: ModelSpec, learning: Learning, folder: Path) -> Path:
    plan = folder / "plan"
    model.export_plan(learning.client, digest(NAME.encode()), plan)
    return plan


def _passes(
    model: ModelSpec, learning: Learning, seed: int, plan: Path, pool: "_Pool", share: float
) -> Iterator[tuple[Weights, float]]:
    """The weights after each pass, and the sample passes until then."""
    weights, samples = model.initial_weights(), 0.0
    for number in range(1, learning.rounds + 1):
        client = open_client(plan, pool.draw(share, [seed, 4, number]))
        update = client.train(weights, seed_for(seed, number, NAME))
        weights = {name: value - update.delta[name] for name, value in weights.items()}
        samples += update.examples
        yield weights, samples


class _Pool:
    """The examples of several folders in one: `folder` is a client's folder, with train/."""

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
