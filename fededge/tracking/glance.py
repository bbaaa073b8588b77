"""What MLflow knows of many runs at once; and runs that ended without telling it are ended there."""

from collections.abc import Mapping
from dataclasses import dataclass

from fededge.documents import Ending
from fededge.tracking.connection import connect, is_missing, translated
from fededge.tracking.run import ENDINGS, JOINED, RUN, TrackedRun
from fededge.tracking.step import held_out

MOST = 1000
"""How many of the latest tracked runs are looked at."""
ROUND = "train/loss"


@dataclass(frozen=True)
class Glance:
    """The last round of a tracked run, and the score on held-out examples, as far as it got."""

    round: int | None
    score: float | None


def reconcile(runs: Mapping[str, Ending | None]) -> dict[str, Glance]:
    """What MLflow tracks of these pipeline runs, by their ids, after it was told of those that have ended.

    Args:
        runs: how each ended, None while it goes on.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    if not runs or is_missing():
        return {}
    found = {}
    with translated("list the runs of"):
        client = connect()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        tracked = client.search_runs(
            experiments, f"tags.`{RUN}` LIKE '%'", max_results=MOST, order_by=["attributes.start_time DESC"]
        )
        for run in tracked:
            name = run.data.tags[RUN]
            if name not in runs:
                continue
            ending = runs[name]
            if ending and JOINED not in run.data.tags and run.info.status != ENDINGS[ending.state]:
                TrackedRun.find(name).end(ending)
            rounds = client.get_metric_history(run.info.run_id, ROUND) if ROUND in run.data.metrics else []
            last = max((point.step for point in rounds), default=None)
            found[name] = Glance(last, run.data.metrics.get(held_out(run.data.tags)))
    return found
