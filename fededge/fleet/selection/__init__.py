"""Which clients take part in a round: a policy a file, asked when the round begins.

Selection is a pure function of the seed, the round number, and what is known of those who are there, so that a cohort can
be computed again, in any environment, from what the run recorded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from fededge.documents import ClientCounts, Population, RoundRecord, Selection
from fededge.errors import DataError, TaskError, shown
from fededge.fleet.selection.data_size import DataSize
from fededge.fleet.selection.fair import Fair
from fededge.fleet.selection.geo import Geo
from fededge.fleet.selection.oort import Oort
from fededge.fleet.selection.own import Own
from fededge.fleet.selection.poisson import Poisson
from fededge.fleet.selection.policy import Candidate, Policy
from fededge.fleet.selection.uniform import Uniform
from fededge.fleet.selection.weighted import Weighted
from fededge.task import Cohort

POLICIES: Mapping[str, Policy] = {
    "data_size": DataSize(),
    "fair": Fair(),
    "geo": Geo(),
    "oort": Oort(),
    "poisson": Poisson(),
    "uniform": Uniform(),
}


def policy_of(name: str, weights: Mapping[str, float]) -> Policy:
    """The policy `name`; `weighted` combines those that `weights` names.

    Raises:
        TaskError: a policy is not known here.
    """
    if unknown := sorted({name, *weights} - POLICIES.keys() - {"weighted"}):
        raise TaskError(
            f"unknown selection policy {shown(unknown[0])!r}: use one of {', '.join(sorted(POLICIES))}, or weighted"
        )
    if name != "weighted":
        return POLICIES[name]
    return Weighted({part: (POLICIES[part], weight) for part, weight in weights.items()})


def select(cohort: Cohort, seed: int, population: Population) -> Selection:
    """From whom and how the cohorts of the coming rounds are selected.

    Args:
        cohort: the task's section.
        seed: of the task.
        population: the clients; those of a fleet are known to its gateway, which selects.

    Raises:
        DataError: no clients at all, or two with one id.
        TaskError: the cohort is larger than the population, or its policy is not known here.
    """
    clients = population.clients
    ids = {client.id for client in clients}
    if not ids:
        raise DataError("the population has no clients. Prepare data for at least one")
    if len(ids) < len(clients):
        raise DataError(f"the population names a client twice ({len(clients)} entries, {len(ids)} ids)")
    if population.simulated and cohort.size > len(ids):
        raise TaskError(
            f"learning.cohort.size is {cohort.size} but the population has only {len(ids)} clients: "
            "lower it or add clients"
        )
    if ":" not in cohort.policy:
        policy_of(cohort.policy, cohort.weights)
    return Selection(
        policy=cohort.policy,
        code=cohort.code,
        weights=cohort.weights,
        size=cohort.asked,
        seed=seed,
        pool=clients if population.simulated else [],
    )


def drawn(
    clients: Sequence[ClientCounts], most: int | None, seed: int, round_number: int
) -> list[ClientCounts]:
    """At most `most` of `clients` at random, in their order; None: all of them."""
    if most is None or most >= len(clients):
        return list(clients)
    facts = [Candidate(client.id, client.train) for client in clients]
    chosen = set(POLICIES["uniform"].choose(facts, most, seed, round_number))
    return [client for client in clients if client.id in chosen]


class Selector:
    """Chooses the cohort of a round as a Selection says; see `fededge.learning.interfaces.Selector`.

    Args:
        selection: pool, policy and seed.
        available: gives the ids of the clients that are there.
        own: the class of the user's own policy that the selection names, if it does.

    Raises:
        TaskError: the selection names a policy that is not known here.
    """

    def __init__(
        self,
        selection: Selection,
        available: Callable[[], Iterable[str]],
        own: Callable[[], Policy] | None = None,
    ) -> None:
        self._policy: Policy = (
            Own(selection.policy, own) if own else policy_of(selection.policy, selection.weights)
        )
        self._selection = selection
        self._available = available

    def select(self, round_number: int, history: Sequence[RoundRecord]) -> list[ClientCounts]:
        """See `fededge.learning.interfaces.Selector`.

        Raises:
            TaskError: a policy of the user's own fails.
        """
        there = set(self._available())
        pool = {client.id: client for client in self._selection.pool if client.id in there}
        facts = candidates(pool.values(), round_number, history)
        chosen = self._policy.choose(facts, self._selection.size, self._selection.seed, round_number)
        return [pool[client] for client in sorted(chosen)]


def candidates(
    pool: Iterable[ClientCounts], round_number: int, history: Sequence[RoundRecord]
) -> list[Candidate]:
    """What is known of each client of `pool` when round `round_number` begins, out of the rounds before it."""
    asked: dict[str, int] = {}
    losses: dict[str, float] = {}
    for record in history:
        asked |= dict.fromkeys(record.cohort, record.round)
        losses |= record.losses
    return [
        Candidate(
            id=client.id,
            train=client.train,
            waited=round_number - asked.get(client.id, 0),
            loss=losses.get(client.id),
        )
        for client in pool
    ]
