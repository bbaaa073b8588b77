"""Metrics are added by one thread of each process, after the answer.

Seldon keeps them in a process of their own: to add one takes six messages, about a millisecond, and two
threads that add at the same time lose one of the two. Its labels call the tag of the image the model's version.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from seldon_core.env_utils import NONIMPLEMENTED_MSG
from seldon_core.metrics import DEFAULT_LABELS, SeldonMetrics

STOCK_UPDATE = SeldonMetrics.update

_writer = ThreadPoolExecutor(1)  # its thread starts with the first metric, after Seldon has forked


def install(model_version: str) -> None:
    """Let Seldon's servers add their metrics here, and label them with the version of the model."""
    SeldonMetrics.update = _update
    for name, value in DEFAULT_LABELS.items():
        if value == NONIMPLEMENTED_MSG:
            DEFAULT_LABELS[name] = ""  # to Prometheus, no label
    DEFAULT_LABELS["model_version"] = model_version


def _update(metrics: SeldonMetrics, custom_metrics: list[dict[str, Any]], method: str) -> None:
    _writer.submit(STOCK_UPDATE, metrics, custom_metrics, method)
