"""Ranges for calibrating int8 variants: measured by clients on their own examples, merged over many.

No example and no client's own range is written: a merged low and high end of each tensor is the median of
the clients'. So one client that lies cannot move it far, and a floor under the number of clients and
examples keeps a summary from being about a few.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fededge.client_reports import RangesReport
from fededge.clients import Ranges
from fededge.documents import CalibrationRanges, ClientCounts, TensorRange
from fededge.errors import DataError
from fededge.task import Privacy

LARGEST = 1e30
"""Magnitude beyond which a reported bound is no activation of a usable model."""
LOW, HIGH = 0.01, 0.99
"""Quantiles that a client hands in."""


def measured(smallest: np.ndarray, largest: np.ndarray) -> Ranges:
    """What a client hands in, out of each tensor's smallest and largest value in an example, both [n, tensors]."""
    return Ranges(
        examples=len(smallest),
        low=np.quantile(smallest, LOW, axis=0).tolist(),
        high=np.quantile(largest, HIGH, axis=0).tolist(),
    )


def merge(
    reports: Iterable[RangesReport],
    names: Sequence[str],
    clients: Sequence[ClientCounts],
    floor: Privacy,
) -> CalibrationRanges:
    """The median ranges over all clients whose report is usable.

    Args:
        reports: untrusted, in any order.
        names: of the tensors, in the order of the reports' lists.
        clients: that were asked, and how many training examples each holds.
        floor: fewest clients, and fewest examples of each.

    Raises:
        DataError: fewer usable reports than the floor asks for.
    """
    held = {client.id: client for client in clients}
    usable: list[list[list[float]]] = []
    examples = 0
    refused: dict[str, str] = {}
    for report in reports:
        reason = _mistake(report, held[report.client], len(names), floor)
        if reason is not None or report.ranges is None:
            refused[report.client] = reason or "no report"
            continue
        usable.append([report.ranges["low"], report.ranges["high"]])
        examples += report.ranges["examples"]
    if len(usable) < floor.min_clients:
        why = "; ".join(f"{client}: {reason}" for client, reason in sorted(refused.items())[:5])
        raise DataError(
            f"calibration ranges of {len(usable)} clients where privacy.min_clients asks for {floor.min_clients} "
            f"({why or 'the others do not exist'}). Remove int8 from variants and run again, or start a new run "
            "with more clients or a lower floor"
        )
    low, high = np.median(np.array(usable, np.float64), axis=0)
    ranges = [TensorRange(name=name, low=float(low[i]), high=float(high[i])) for i, name in enumerate(names)]
    return CalibrationRanges(clients=len(usable), examples=examples, ranges=ranges)


def _mistake(report: RangesReport, held: ClientCounts, width: int, floor: Privacy) -> str | None:
    """Why an untrusted report is not used; None where it is."""
    if report.ranges is None:
        return report.failure or "no report"
    examples = report.ranges.get("examples")
    if not isinstance(examples, int) or not 0 < examples <= held.train:
        return f"claims {examples!r:.40} training examples of {held.train}"
    if examples < floor.min_examples:
        return f"has {examples} examples where privacy.min_examples asks for {floor.min_examples}"
    bounds = [_numbers(report.ranges, side, width) for side in ("low", "high")]
    if None in bounds or any(low > high for low, high in zip(*bounds, strict=True)):
        return f"its ranges are not {width} pairs of finite numbers, low before high"
    return None


def _numbers(ranges: Mapping[str, Any], side: str, width: int) -> list[float] | None:
    values = ranges.get(side)
    if not isinstance(values, list) or len(values) != width:
        return None
    good = all(isinstance(v, int | float) and math.isfinite(v) and abs(v) < LARGEST for v in values)
    return values if good else None
