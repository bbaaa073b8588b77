"""Gates: what a model and each of its variants must reach, and which variant a device class gets.

All conditions are written so that a value that is not a number fails them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fededge import paired
from fededge.documents import Champion, Comparison, Evaluation, GateDecision, Measurement
from fededge.errors import ReleaseError, TaskError, VariantError
from fededge.kinds import runtime_of
from fededge.metrics import behind
from fededge.task import DeviceClass, FederatedTask, Gate, Variant

ROUNDING = 1e-9  # of a difference of two scores: 0.98 - 0.97 is still 0.01
NOT_COMPARED = -1e300
"""The score of centralized training where there was none."""


@dataclass(frozen=True)
class Rival:
    """The champion that a model is held against; `evaluation` is None where it was kept without one."""

    version: int
    metric: str
    score: float | None
    evaluation: Evaluation | None = None

    def value(self, metric: str) -> float | None:
        """The champion in `metric`; None where it was not evaluated in it."""
        if self.evaluation and (value := self.evaluation.value(metric)) is not None:
            return value
        return self.score if self.metric == metric else None


def judge_model(
    gate: Gate,
    evaluation: Evaluation,
    centralized: float | None,
    champion: Rival | None,
    weights_digest: str | None = None,
) -> GateDecision:
    """Whether a trained model may become the champion, decided now.

    Args:
        gate: the task's gate.
        evaluation: of the federated model on held-out examples.
        centralized: the same model trained on all examples in one place, in the gate's metric; None where nothing was
            trained centrally.
        champion: the present champion; None for the first model.
        weights_digest: of the judged weights.

    Raises:
        TaskError: the model was not evaluated in the gate's metric.
    """
    metric = gate.metric or evaluation.metric
    score = evaluation.value(metric)
    if score is None:
        known = sorted({evaluation.metric, "loss", *evaluation.metrics})
        raise TaskError(f"gate.metric {metric} does not suit this label: name one of {', '.join(known)}")
    reasons = _against(gate, evaluation, metric, score)
    reasons += _behind(gate, metric, score, centralized, champion)
    comparison = None
    if champion and gate.replace == "better" and not reasons:
        comparison = compare(evaluation, champion)
        if not comparison.better:
            reasons.append(
                f"not better than the champion, version {champion.version}: p {comparison.p_value:.3g} over "
                f"{comparison.examples:,} examples; gate.replace not_worse would take it"
            )
    kept = comparison is not None and not comparison.better
    return GateDecision(
        decision="kept" if kept else "fail" if reasons else "pass",
        reasons=reasons,
        metric=metric,
        score=score,
        examples=evaluation.examples,
        centralized=centralized,
        champion=Champion(version=champion.version, score=champion.value(metric)) if champion else None,
        comparison=comparison,
        weights_digest=weights_digest,
        at=time.time(),
    )


def judge_again(
    gate: Gate, evaluation: Evaluation, decision: GateDecision, champion: Rival | None
) -> GateDecision:
    """`decision` where it was taken against today's `champion`; else the decision on the same model against it."""
    if (decision.champion and decision.champion.version) == (champion and champion.version):
        return decision
    return judge_model(gate, evaluation, decision.centralized, champion, decision.weights_digest)


def compare(model: Evaluation, champion: Rival) -> Comparison:
    """Whether `model` is better than the champion by a paired test of their errors on the same held-out examples.

    Without such errors there is no test, and it counts as better: the margin has been judged by then.
    """
    other = champion.evaluation
    note = ""
    if other is None or other.errors is None:
        note = f"version {champion.version} was kept without its errors by example"
    elif model.errors is None or model.test_digest is None:
        note = "this model was evaluated without its errors by example"
    elif (other.test_digest, other.errors.count) != (model.test_digest, model.errors.count):
        note = f"version {champion.version} was evaluated on other held-out examples"
    elif other.errors.kind != model.errors.kind:
        note = f"version {champion.version} was made for another kind of label"
    if note or other is None or other.errors is None or model.errors is None:
        return Comparison(
            test="margin", better=True, note=f"{note}: judged by gate.max_loss_against_champion"
        )
    new, old = paired.unpack(model.errors), paired.unpack(other.errors)
    chance = paired.p_value(new, old)
    return Comparison(
        test="mcnemar" if model.errors.kind == "wrong" else "signs",
        better=bool(chance < paired.LEVEL and new.mean() < old.mean()),
        p_value=chance,
        examples=len(new),
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
    if runtime_of(measured.kind) != device.runtime:
        reasons.append(f"it is no file for runtime {device.runtime}")
    elif device.kinds is not None and measured.kind not in device.kinds:
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


def _against(gate: Gate, evaluation: Evaluation, metric: str, score: float) -> list[str]:
    """What speaks against the model by itself."""
    reasons = []
    if gate.min is not None and not score >= gate.min - ROUNDING:
        reasons.append(f"{metric} {score:.4f} is below gate.min {gate.min:g}")
    if gate.max is not None and not score <= gate.max + ROUNDING:
        reasons.append(f"{metric} {score:.4f} is above gate.max {gate.max:g}")
    if gate.min_examples is not None and not evaluation.examples >= gate.min_examples:
        reasons.append(
            f"judged on {evaluation.examples:,} held-out examples, fewer than gate.min_examples {gate.min_examples:,}"
        )
    return reasons


def _behind(
    gate: Gate, metric: str, score: float, centralized: float | None, champion: Rival | None
) -> list[str]:
    """What speaks against the model beside others."""
    reasons = []
    if gate.max_gap_to_centralized is not None:
        if centralized is None:
            reasons.append("nothing was trained centrally, as gate.max_gap_to_centralized asks for")
        elif not (gap := behind(metric, score, centralized)) <= gate.max_gap_to_centralized + ROUNDING:
            reasons.append(
                f"{metric} {score:.4f} is {gap:.4f} behind centralized training ({centralized:.4f}), more than "
                f"gate.max_gap_to_centralized {gate.max_gap_to_centralized:g}"
            )
    if champion is not None:
        best = champion.value(metric)
        if best is None:
            reasons.append(
                f"the champion, version {champion.version}, has no {metric} to be held against for "
                f"gate.max_loss_against_champion: judge by {champion.metric}, or remove its alias in MLflow"
            )
        elif not (gap := behind(metric, score, best)) <= gate.max_loss_against_champion + ROUNDING:
            reasons.append(
                f"{metric} {score:.4f} is {gap:.4f} behind the champion, version {champion.version} ({best:.4f}), "
                f"more than gate.max_loss_against_champion {gate.max_loss_against_champion:g}"
            )
    return reasons
