"""Fair selection: who has waited longer is more likely, and nobody waits for ever."""

import math
from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.sampling import weighted

PATIENCE = 2
"""Turns after which a client goes before all that are drawn."""


class Fair:
    """A client's chance grows with the rounds since it was last asked; who is overdue is in before anybody is drawn.

    A turn is ceil(clients / size) rounds, in which everybody could be asked once. Who waited PATIENCE turns is overdue,
    and the longest waiting goes first. So of clients that are all there all the time, none waits for more than
    PATIENCE + 1 turns.
    """

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        turn = math.ceil(len(pool) / size)
        late = sorted(
            (client for client in pool if client.waited >= PATIENCE * turn),
            key=lambda client: (-client.waited, client.id),
        )
        overdue = [client.id for client in late[:size]]
        first = set(overdue)
        rest = {client.id: 1.0 + client.waited for client in pool if client.id not in first}
        return overdue + weighted(rest, size - len(overdue), seed, round_number)
