"""Metrics are added by one thread of each process, after the answer.

Seldon keeps them in a process of their own: to add one takes six messages, about a millisecond, and two
threads that add at the same time lose one of the two.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from seldon_core.metrics import SeldonMetrics

STOCK_UPDATE = SeldonMetrics.update

_writer = ThreadPoolExecutor(
    max_workers=1
)  # its thread starts with the first metric, after Seldon has forked


def install() -> None:
    """Let Seldon's servers add their metrics here."""
    SeldonMetrics.update = _update


def _update(metrics: SeldonMetrics, custom_metrics: list[dict[str, Any]], method: str) -> None:
    _writer.submit(STOCK_UPDATE, metrics, custom_metrics, method)
