"""Metrics: their names, which way is better, and the score of a model out of sums that clients count.

A **score** is one number in the metric of the label's kind, the higher the better: accuracy where classes are
predicted, R2 (the coefficient of determination) where numbers are. It follows from sums over examples, so a
client hands in sums, and no example's own result:

| sum | of each example |
|---|---|
| correct | the share of its predicted classes that are right |
| squared_error | the mean over its outputs of (output - target)^2, both standardized |
| target, target_squared | the mean over its outputs of the target, and of its square |
"""

from collections.abc import Mapping

SUMS = {
    "class": ("correct",),
    "multi-label": ("correct",),
    "sequence": ("correct",),
    "number": ("squared_error", "target", "target_squared"),
    "none": ("squared_error", "target", "target_squared"),
}
"""What is summed over examples, by the kind of label."""

METRIC = {kind: "accuracy" if "correct" in sums else "r2" for kind, sums in SUMS.items()}
"""The metric of a model's score, by the kind of label."""

LOWER_IS_BETTER = frozenset({"loss", "mae", "mse", "rmse", "calibration_error", "perplexity"})
OF_CLIENTS = "worst_tenth"
"""The mean score of the worst tenth of the clients."""
ENDS_LOWER = (
    "_error",
    "_loss",
    "_deviance",
    "Error",
    "Loss",
    "Deviance",
    "Crossentropy",
    "Divergence",
    "Distance",
)
"""How scikit-learn, Keras and torchmetrics name those of which less is better."""

WORST = -1e6
"""R2 below which nobody needs to know how much worse a model is than the mean."""
SMALLEST = 1e-12
LARGEST = 1e30
ROUNDING = 1e-3


def lower_is_better(metric: str) -> bool:
    """Whether less of `metric` is better; of those of libraries and users the name says it."""
    return metric in LOWER_IS_BETTER or metric.endswith(ENDS_LOWER)


def behind(metric: str, value: float, other: float) -> float:
    """By how much `value` is worse than `other` in `metric`; below 0 where it is better."""
    return value - other if lower_is_better(metric) else other - value


def score(kind: str, examples: float, sums: Mapping[str, float]) -> float:
    """The score that follows from `sums` over `examples`, for a label of `kind`: accuracy in [0, 1], or R2 at most 1."""
    if METRIC[kind] == "accuracy":
        return min(sums["correct"] / examples, 1.0)
    total = sums["target_squared"] - sums["target"] ** 2 / examples
    return max(1 - sums["squared_error"] / max(total, SMALLEST), WORST)


def mistake(kind: str, examples: float, sums: Mapping[str, float]) -> str | None:
    """Why untrusted `sums` cannot be those of `examples` examples; None where they can."""
    if METRIC[kind] == "accuracy":
        good = 0 <= sums["correct"] <= examples * (1 + ROUNDING)
    else:
        good = 0 <= sums["squared_error"] < LARGEST and 0 <= sums["target_squared"] < LARGEST
        good = good and sums["target"] ** 2 <= examples * sums["target_squared"] * (1 + ROUNDING) + ROUNDING
    return None if good else ", ".join(f"{name} {value:g}" for name, value in sums.items())
