"""Whether this client meets the conditions of an order: before it begins, and as long as it works."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fededge.device.workplace import Workplace
from fededge.eligibility import NEW_EXAMPLES, REGION, Conditions, coarse
from fededge.errors import SiteError
from fededge.protocol import Dataset

T = TypeVar("T")
log = logging.getLogger("fededge.site")
LOOK_SECONDS = 0.25
"""How often conditions are looked at while work is under way."""
INELIGIBLE = "ineligible"
"""How the reason of a refusal or failure begins that is for conditions."""


class Ineligible(SiteError):
    """The client does not meet the conditions."""


def told(place: Workplace, busy: bool, held: list[Dataset]) -> dict[str, str]:
    """What a client says of itself, in coarse steps.

    Args:
        place: where it works.
        busy: whether it has assignments.
        held: its data; the most examples that are new in any of them are told.
    """
    new = max((_new(place, each.name, each.train) for each in held), default=0)
    facts = coarse({NEW_EXAMPLES: str(new), **place.monitor.read()})
    return {"busy": str(busy).lower(), **facts}


def check(place: Workplace, conditions: Conditions, dataset: str, examples: int) -> None:
    """That they are met now.

    Args:
        place: where the client works.
        conditions: of the order.
        dataset: that the work is on; `examples`: how many training examples it has.

    Raises:
        Ineligible: which is not, and why.
    """
    if not conditions.stated:
        return
    facts = {NEW_EXAMPLES: str(_new(place, dataset, examples)), **_region(place), **place.monitor.read()}
    why = conditions.unmet(facts, place.clock.now().wall)
    if why is not None:
        raise Ineligible(f"{INELIGIBLE}: {why}{_mistake(place)}")


async def while_eligible(
    place: Workplace, conditions: Conditions, dataset: str, examples: int, work: Coroutine[Any, Any, T]
) -> T:
    """What `work` returns, if the conditions are met until then; else it is canceled.

    Raises:
        Ineligible: as for `check`.
    """
    working = asyncio.create_task(work)
    try:
        while not working.done():
            check(place, conditions, dataset, examples)
            await asyncio.wait([working], timeout=LOOK_SECONDS if conditions.stated else None)
        return working.result()
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([working])


def _new(place: Workplace, dataset: str, examples: int) -> int:
    return max(0, examples - place.store.learned(dataset))


def _region(place: Workplace) -> Mapping[str, str]:
    region = place.whereabouts.region
    return {} if region is None else {REGION: region}


def _mistake(place: Workplace) -> str:
    """Files of this machine are the log's business."""
    if (mistake := place.monitor.mistake()) is not None:
        log.warning("conditions: %s", mistake)
        return " (the site's log tells more)"
    return ""
