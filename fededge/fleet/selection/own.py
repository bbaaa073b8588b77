"""A policy of the user's own, held to what a policy promises."""

from collections.abc import Callable, Sequence

from fededge.errors import TaskError, shown
from fededge.fleet.selection.policy import Candidate, Policy


class Own:
    """The policy that `make`, a class of the user's own, makes; see Policy.

    Args:
        name: as the task has it.
        make: called with nothing.
    """

    def __init__(self, name: str, make: Callable[[], Policy]) -> None:
        self._name = name
        self._make = make

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy.

        Raises:
            TaskError: the user's code raises an error, or gives something else than different ids of `pool`.
        """
        try:
            chosen = [str(client) for client in self._make().choose(pool, size, seed, round_number)]
        except Exception as error:  # the user's code may raise anything
            raise TaskError(
                f"learning.cohort.policy {self._name} failed in round {round_number}: "
                f"{shown(f'{type(error).__name__}: {error}', 300)}. Correct it"
            ) from error
        if len(set(chosen)) < len(chosen) or not {client.id for client in pool} >= set(chosen):
            raise TaskError(
                f"learning.cohort.policy {self._name} chose {shown(str(chosen))}, which are not different ids of its "
                "pool: correct it"
            )
        return chosen
