"""What triggers wait for: a time, or that examples, reports or an evaluation are so much more or other than at the last
start.
"""

import json
from datetime import UTC, datetime

from croniter import croniter
from croniter.croniter import CroniterError
from sqlalchemy import Connection, func, select

from fededge.errors import GatewayError, shown
from fededge.fleet.registry.tables import datasets, evaluations, rounds
from fededge.protocol import TriggerRequest

LOOK_SECONDS = 10.0
"""How often examples, reports and evaluations are looked at."""
NEEDS = {
    "cron": ("cron",),
    "interval": ("every_seconds",),
    "examples": ("dataset", "count"),
    "blobs": ("count",),
    "drift": ("metric", "change"),
    "hand": (),
}
"""Fields that each kind of trigger needs."""


def check(request: TriggerRequest) -> None:
    """That a trigger can work.

    Raises:
        GatewayError: it lacks what its kind needs, its schedule never comes, or its task is no JSON object with a name.
    """
    missing = [name for name in NEEDS[request.when] if getattr(request, name) is None]
    if missing:
        raise GatewayError(f"a trigger of kind {request.when} needs {' and '.join(missing)}", "TRIGGER", 400)
    if request.when == "cron":
        cron = request.cron or ""
        try:
            if len(cron.split()) != 5:
                raise ValueError("not five fields")
            next_start(request, 0.0)
        except (CroniterError, ValueError) as error:
            raise GatewayError(
                f"cron {shown(cron)} is no schedule of five fields that ever comes: {error}", "TRIGGER", 400
            ) from error
    try:
        task = json.loads(request.task)
    except (ValueError, RecursionError) as error:
        raise GatewayError(f"the trigger's task is not JSON: {error}", "TRIGGER", 400) from error
    if not isinstance(task, dict) or not isinstance(task.get("name"), str):
        raise GatewayError("the trigger's task is no JSON object with a name", "TRIGGER", 400)


def next_start(request: TriggerRequest, now: float) -> float | None:
    """When a schedule comes next; None where there is none."""
    if request.when == "interval":
        return now + (request.every_seconds or 0)
    if request.when == "cron":
        at = datetime.fromtimestamp(now, UTC)
        return float(croniter(request.cron, at).get_next(datetime).timestamp())
    return None


def next_look(request: TriggerRequest, next_start: float | None, now: float) -> float | None:
    """When to look whether an idle trigger is due; None: not before it changes."""
    if not request.enabled or request.when == "hand":
        return None
    return next_start if request.when in ("cron", "interval") else now + LOOK_SECONDS


def measured(connection: Connection, tenant: str, request: TriggerRequest) -> float | None:
    """What examples, reports or an evaluation amount to now; None where there is nothing to measure."""
    if request.when == "examples":
        query = select(func.sum(datasets.c.train)).where(
            datasets.c.tenant == tenant, datasets.c.dataset == request.dataset
        )
        return float(connection.execute(query).scalar_one() or 0)
    if request.when == "blobs":
        of = (
            rounds.c.task == _task(request)
            if request.dataset is None
            else rounds.c.dataset == request.dataset
        )
        reports = select(func.sum(rounds.c.reported)).where(rounds.c.tenant == tenant, of)
        return float(connection.execute(reports).scalar_one() or 0)
    if request.when == "drift":
        last = select(evaluations.c.value).where(
            evaluations.c.tenant == tenant,
            evaluations.c.task == _task(request),
            evaluations.c.metric == request.metric,
        )
        return connection.execute(last).scalar_one_or_none()
    return None


def is_due(
    request: TriggerRequest, next_start: float | None, baseline: float | None, value: float | None, now: float
) -> bool:
    """Whether what a trigger waits for is so.

    Args:
        next_start: of its schedule.
        baseline: what was measured at its last start; `value`: what is measured now.
    """
    if request.when in ("cron", "interval"):
        return next_start is not None and next_start <= now
    if value is None or baseline is None:
        return False
    if request.when == "drift":
        return abs(value - baseline) >= (request.change or 0)
    return value - baseline >= (request.count or 1)


def baseline(request: TriggerRequest, kept: float | None, value: float | None) -> float | None:
    """What a later value is compared with, where a trigger is not due: reports are counted anew from where they are once
    old rounds were forgotten.
    """
    fell = request.when == "blobs" and kept is not None and value is not None and value < kept
    return value if kept is None or fell else kept


def _task(request: TriggerRequest) -> str:
    return str(json.loads(request.task)["name"])
