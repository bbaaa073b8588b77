"""Gates: what a model and each of its variants must reach, and which variant a device class gets.

All conditions are written so that a value that is not a number fails them.
"""

import math
import time
from collections.abc import Sequence

from fededge.documents import Champion, GateDecision, Measurement
from fededge.errors import ReleaseError, VariantError
from fededge.task import DeviceClass, FederatedTask, Gate, Variant

ROUNDING = 1e-9  # of a difference of two scores: 0.98 - 0.97 is still 0.01


def judge_model(
    gate: Gate,
    metric: str,
    score: float,
    centralized: float | None,
    champion: Champion | None,
    weights_digest: str | None = None,
) -> GateDecision:
    """Whether a trained model may become the champion, decided now.

    Args:
        gate: the task's gate.
        metric: of all scores.
        score: of the federated model on held-out examples.
        centralized: score of the same model trained on all examples in one place; None where nothing was
            trained centrally.
        champion: the present champion; None for the first model.
        weights_digest: of the judged weights.
    """
    return GateDecision(
        decision="fail"
        if (reasons := _against_model(gate, metric, score, centralized, champion))
        else "pass",
        reasons=reasons,
        metric=metric,
        score=score,
        centralized=centralized,
        champion=champion,
        weights_digest=weights_digest,
        at=time.time(),
    )


def judge_again(gate: Gate, decision: GateDecision, champion: Champion | None) -> GateDecision:
    """`decision` where it was taken against today's `champion`; else the decision on the same model against it."""
    if (decision.champion and decision.champion.version) == (champion and champion.version):
        return decision
    return judge_model(
        gate, decision.metric, decision.score, decision.centralized, champion, decision.weights_digest
    )


def judge_variant(gate: Variant, measured: Measurement) -> Measurement:
    """`measured`, with the judgment whether it may be shipped: by its loss of score and its size."""
    reasons = []
    if not measured.score_loss <= gate.max_score_loss + ROUNDING:
        reasons.append(
            f"loses {measured.score_loss:.4f} of {measured.metric}, more than max_score_loss {gate.max_score_loss:g}"
        )
    if gate.max_bytes is not None and not measured.bytes <= gate.max_bytes:
        reasons.append(f"has {measured.bytes:,} bytes, more than max_bytes {gate.max_bytes:,}")
    return measured.model_copy(update={"passed": not reasons, "reasons": reasons})


def variant_gate(task: FederatedTask, kind: str) -> Variant:
    """The task's entry for variant `kind`.

    Raises:
        VariantError: the task has none.
    """
    for variant in task.variants:
        if variant.kind == kind:
            return variant
    raise VariantError(f"the task builds no variant {kind!r}: add it to variants, or use one of them")


def against_device(device: DeviceClass, measured: Measurement) -> list[str]:
    """Why devices of a class cannot run a measured variant; empty where they can.

    Latency is that of one thread of the machine that measured, not of the device itself.
    """
    reasons = []
    if device.kinds is not None and measured.kind not in device.kinds:
        reasons.append(f"its runtime takes only {', '.join(device.kinds)}")
    if device.max_bytes is not None and not measured.bytes <= device.max_bytes:
        reasons.append(f"{measured.bytes:,} bytes are more than max_bytes {device.max_bytes:,}")
    if device.max_latency_ms is not None and not measured.latency_ms_1 <= device.max_latency_ms:
        reasons.append(
            f"{measured.latency_ms_1:.3f} ms are more than max_latency_ms {device.max_latency_ms:g}"
        )
    return reasons


def choose(devices: Sequence[DeviceClass], measured: Sequence[Measurement]) -> dict[str, str]:
    """The variant for each device class: of those that passed and fit, the best.

    Of equally good ones the smaller is taken, then the first by name.

    Args:
        devices: the task's device classes.
        measured: all variants.

    Returns:
        Device class to kind.

    Raises:
        ReleaseError: nothing fits a class; says why each variant does not.
    """
    return {device.name: _best(device, measured) for device in devices}


def _best(device: DeviceClass, measured: Sequence[Measurement]) -> str:
    against = {m.kind: _failure(m) + against_device(device, m) for m in measured}
    fitting = [m for m in measured if not against[m.kind]]
    if not fitting:
        why = "; ".join(f"{kind}: {', '.join(reasons)}" for kind, reasons in against.items())
        raise ReleaseError(
            f"no variant fits device class {device.name} ({why or 'none was built'}): relax its limits, "
            "or add a variant"
        )
    best = min(fitting, key=lambda m: (-m.score, m.bytes, m.kind))
    return best.kind


def _failure(measured: Measurement) -> list[str]:
    return [] if measured.passed else [f"failed its gate: {', '.join(measured.reasons)}"]


def _against_model(
    gate: Gate, metric: str, score: float, centralized: float | None, champion: Champion | None
) -> list[str]:
    reasons = []
    if gate.min is not None and not score >= gate.min - ROUNDING:
        reasons.append(f"{metric} {score:.4f} is below gate.min {gate.min:g}")
    if gate.max is not None and not score <= gate.max + ROUNDING:
        reasons.append(f"{metric} {score:.4f} is above gate.max {gate.max:g}")
    if gate.max_gap_to_centralized is not None:
        alternative = math.nan if centralized is None else centralized
        if not alternative - score <= gate.max_gap_to_centralized + ROUNDING:
            reasons.append(
                f"{metric} {score:.4f} is {alternative - score:.4f} behind centralized training "
                f"({alternative:.4f}), more than gate.max_gap_to_centralized {gate.max_gap_to_centralized:g}"
            )
    if champion is not None:
        best = math.nan if champion.score is None else champion.score
        if not best - score <= gate.max_loss_against_champion + ROUNDING:
            reasons.append(
                f"{metric} {score:.4f} is {best - score:.4f} behind the champion, version "
                f"{champion.version} ({best:.4f}), more than gate.max_loss_against_champion "
                f"{gate.max_loss_against_champion:g}"
            )
    return reasons
