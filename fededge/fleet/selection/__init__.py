"""Which clients take part in a round: a policy a file, asked when the round begins.

Selection is a pure function of the seed, the round number, the pool and who is there, so that any cohort
can be computed again, in any environment, from what the run recorded.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from fededge.documents import ClientCounts, Population, Selection
from fededge.errors import DataError, TaskError
from fededge.fleet.selection.uniform import Uniform
from fededge.task import Cohort


class Policy(Protocol):
    """Chooses the clients of one round."""

    def choose(self, pool: Sequence[ClientCounts], size: int, seed: int, round_number: int) -> list[str]:
        """Ids of `size` different clients of `pool`, or of all where it has fewer.

        Must depend on the arguments alone, and not on the order of `pool`.
        """


POLICIES: Mapping[str, Policy] = {
    "uniform": Uniform(),
}


def select(cohort: Cohort, seed: int, population: Population) -> Selection:
    """From whom and how the cohorts of the coming rounds are selected.

    Args:
        cohort: the task's section.
        seed: of the task.
        population: the clients.

    Raises:
        DataError: no clients at all, or two with one id.
        TaskError: the cohort is larger than the population.
    """
    clients = population.clients
    ids = {client.id for client in clients}
    if not ids:
        raise DataError("the population has no clients. Prepare data for at least one")
    if len(ids) < len(clients):
        raise DataError(f"the population names a client twice ({len(clients)} entries, {len(ids)} ids)")
    if cohort.size > len(ids):
        raise TaskError(
            f"learning.cohort.size is {cohort.size} but the population has only {len(ids)} clients: "
            "lower it or add clients"
        )
    return Selection(policy=cohort.policy, size=cohort.size, seed=seed, pool=clients)


class Selector:
    """Chooses the cohort of a round as a Selection says; see `fededge.learning.interfaces.Selector`.

    Raises:
        TaskError: the selection names a policy that is not known here.
    """

    def __init__(self, selection: Selection) -> None:
        if selection.policy not in POLICIES:
            raise TaskError(
                f"unknown selection policy {selection.policy!r}: use one of {', '.join(sorted(POLICIES))}"
            )
        self._selection = selection

    def select(self, round_number: int, available: Sequence[str]) -> list[str]:
        """Sorted ids of the clients of round `round_number`, out of those that are `available`."""
        there = set(available)
        pool = [client for client in self._selection.pool if client.id in there]
        policy = POLICIES[self._selection.policy]
        return sorted(policy.choose(pool, self._selection.size, self._selection.seed, round_number))
