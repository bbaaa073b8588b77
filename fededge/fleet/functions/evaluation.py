"""How good a task's global model was at its clients when they last evaluated it: what drift is seen by."""

import math
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select, update

from fededge import metrics
from fededge.fleet.registry.database import add
from fededge.fleet.registry.tables import evaluations, work


def keep(connection: Connection, tenant: str, task: str, round: str, now: float) -> None:
    """Keep the metrics that follow from the counts that the clients of a round of evaluation reported."""
    reported = select(work.c.counts).where(
        work.c.tenant == tenant, work.c.round == round, work.c.state == "reported"
    )
    for metric, value in measured(connection.execute(reported).scalars()).items():
        key = {"tenant": tenant, "task": task, "metric": metric}
        mine = tuple(evaluations.c[name] == held for name, held in key.items())
        add(connection, evaluations, {**key, "value": value, "at": now})
        connection.execute(update(evaluations).where(*mine).values(value=value, at=now))


def measured(reports: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Loss and score over the examples of all clients, by metric; clients whose counts cannot be are left out.

    Args:
        reports: `fededge.counting.counts` of each client.
    """
    total: dict[str, float] = {}
    for counts in reports:
        if _can_be(counts):
            for name, value in counts.items():
                total[name] = total.get(name, 0.0) + value
    if not total:
        return {}
    kind = _kind(total)
    return {
        "loss": total["loss_sum"] / total["examples"],
        metrics.METRIC[kind]: metrics.score(kind, total["examples"], total),
    }


def _kind(counts: Mapping[str, float]) -> str:
    """A kind of label with these sums."""
    return "class" if "correct" in counts else "number"


def _can_be(counts: Mapping[str, float]) -> bool:
    wanted = {"examples", "loss_sum", *metrics.SUMS[_kind(counts)]}
    if not wanted <= counts.keys() or not all(map(math.isfinite, counts.values())):
        return False
    examples = counts["examples"]
    return (
        examples > 0 and counts["loss_sum"] >= 0 and metrics.mistake(_kind(counts), examples, counts) is None
    )
