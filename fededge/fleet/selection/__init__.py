"""Which clients take part in a round.

Selection is a pure function of the task's seed, the round number and the population, so that any
cohort can be computed again, in any environment, from what the run recorded. Randomness therefore
comes from SHA-256 and not from a generator whose stream may change between releases.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge.errors import DataError, TaskError
from fededge.task import FederatedTask

POPULATION_LIMIT = 64 << 20


class Candidate(BaseModel):
    """What a policy may know about a client: never its data."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: str = Field(min_length=1, max_length=200)
    train: int = Field(ge=0, description="number of training examples")


class _Population(BaseModel):
    clients: list[Candidate]


@dataclass(frozen=True)
class Draw:
    """The random numbers of one round.

    Attributes:
        seed: the task's seed.
        round: number of the round, from 1.
    """

    seed: int
    round: int

    def uniform(self, client: str) -> float:
        """A number in [0, 1) for `client`, independent between clients and rounds."""
        key = f"fededge cohort\0{self.seed}\0{self.round}\0{client}".encode()
        return (int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 11) / 2**53


class CohortPolicy(Protocol):
    """Chooses the clients of one round."""

    def select(self, population: Sequence[Candidate], size: int, draw: Draw) -> list[str]:
        """Ids of `size` different clients of `population` (which has at least that many).

        Must depend on the arguments alone, and not on the order of `population`.
        """


class Uniform:
    """Every cohort of the size is equally likely: those with the smallest random numbers are in."""

    def select(self, population: Sequence[Candidate], size: int, draw: Draw) -> list[str]:
        """See CohortPolicy."""
        return sorted((client.id for client in population), key=lambda id: (draw.uniform(id), id))[:size]


POLICIES: dict[str, CohortPolicy] = {"uniform": Uniform()}


def cohort(task: FederatedTask, round: int, population: Sequence[Candidate]) -> list[str]:
    """Sorted ids of the clients that the task's policy selects for round number `round` (from 1).

    Raises:
        DataError: no clients at all, or two with one id.
        TaskError: the task's cohort is larger than the population.
    """
    size = task.learning.cohort.size
    ids = {client.id for client in population}
    if not ids:
        raise DataError("the population has no clients. Prepare data for at least one")
    if len(ids) < len(population):
        raise DataError(f"the population names a client twice ({len(population)} entries, {len(ids)} ids)")
    if size > len(ids):
        raise TaskError(
            f"learning.cohort.size is {size} but the population has only {len(ids)} clients: "
            "lower it or add clients"
        )
    return sorted(POLICIES[task.learning.cohort.policy].select(population, size, Draw(task.seed, round)))


def schedule(
    task: FederatedTask, done: int, rounds: int, population: Sequence[Candidate]
) -> dict[str, list[str]]:
    """Cohorts of the `rounds` rounds after round `done`, by round number; none beyond the task's last."""
    last = min(done + rounds, task.learning.rounds)
    return {str(number): cohort(task, number, population) for number in range(done + 1, last + 1)}


def read_population(folder: str | Path) -> list[Candidate]:
    """The clients in the population.json of the data artifact `folder`.

    Raises:
        DataError: the file is missing or malformed.
    """
    path = Path(folder) / "population.json"
    try:
        with path.open("rb") as file:
            return _Population.model_validate_json(file.read(POPULATION_LIMIT)).clients
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise DataError(f"cannot read the population in {path}: {reason}. Run prepare_data again") from error
