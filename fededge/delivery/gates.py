"""Gates: what a model and each of its variants must reach, and which variant a device class gets.

All conditions are written so that a value that is not a number fails them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fededge.errors import ReleaseError, VariantError
from fededge.task import DeviceClass, FederatedTask, Gate, Variant

Measurement = Mapping[str, Any]
"""`kind`, `accuracy`, `accuracy_loss`, `bytes`, `latency_ms_1` ... as `measurement.measure` gives them."""


ROUNDING = 1e-9  # of a difference of two accuracies: 0.98 - 0.97 is still 0.01


@dataclass(frozen=True)
class Decision:
    """Outcome of a gate: it passes where no reason speaks against it."""

    reasons: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether what stood at the gate may go on."""
        return not self.reasons

    @property
    def word(self) -> str:
        """`pass` or `fail`."""
        return "pass" if self.passed else "fail"


def judge_model(gate: Gate, accuracy: float, centralized: float, champion: float | None) -> Decision:
    """Whether a trained model may become the champion.

    Args:
        gate: the task's gate.
        accuracy: of the federated model on held-out data, 0 to 1.
        centralized: accuracy of the same model trained on all data in one place.
        champion: accuracy of the present champion; None for the first model.
    """
    reasons = []
    if not accuracy >= gate.min_accuracy - ROUNDING:
        reasons.append(f"accuracy {accuracy:.4f} is below gate.min_accuracy {gate.min_accuracy:g}")
    gap = centralized - accuracy
    if not gap <= gate.max_gap_to_centralized + ROUNDING:
        reasons.append(
            f"accuracy {accuracy:.4f} is {gap:.4f} behind centralized training ({centralized:.4f}), "
            f"more than gate.max_gap_to_centralized {gate.max_gap_to_centralized:g}"
        )
    if champion is not None and not champion - accuracy <= gate.max_loss_against_champion + ROUNDING:
        reasons.append(
            f"accuracy {accuracy:.4f} is {champion - accuracy:.4f} behind the champion ({champion:.4f}), "
            f"more than gate.max_loss_against_champion {gate.max_loss_against_champion:g}"
        )
    return Decision(reasons)


def judge_variant(gate: Variant, measured: Measurement) -> Decision:
    """Whether a measured variant may be shipped: its loss of accuracy and its size."""
    reasons = []
    if not measured["accuracy_loss"] <= gate.max_accuracy_loss + ROUNDING:
        reasons.append(
            f"loses {measured['accuracy_loss']:.4f} of accuracy, more than max_accuracy_loss "
            f"{gate.max_accuracy_loss:g}"
        )
    if gate.max_bytes is not None and not measured["bytes"] <= gate.max_bytes:
        reasons.append(f"has {measured['bytes']:,} bytes, more than max_bytes {gate.max_bytes:,}")
    return Decision(reasons)


def variant_gate(task: FederatedTask, kind: str) -> Variant:
    """The task's entry for variant `kind`.

    Raises:
        VariantError: the task has none.
    """
    for variant in task.variants:
        if variant.kind == kind:
            return variant
    raise VariantError(f"the task builds no variant {kind!r}: add it to variants, or use one of them")


def fits(device: DeviceClass, measured: Measurement) -> Decision:
    """Whether devices of a class can run a measured variant.

    Latency is that of one thread of the machine that measured, not of the device itself.
    """
    reasons = []
    if device.kinds is not None and measured["kind"] not in device.kinds:
        reasons.append(f"its runtime takes only {', '.join(device.kinds)}")
    if device.max_bytes is not None and not measured["bytes"] <= device.max_bytes:
        reasons.append(f"{measured['bytes']:,} bytes are more than max_bytes {device.max_bytes:,}")
    if device.max_latency_ms is not None and not measured["latency_ms_1"] <= device.max_latency_ms:
        reasons.append(
            f"{measured['latency_ms_1']:.3f} ms are more than max_latency_ms {device.max_latency_ms:g}"
        )
    return Decision(reasons)


def choose(devices: Sequence[DeviceClass], measured: Sequence[Measurement]) -> dict[str, str]:
    """The variant for each device class: of those that passed and fit, the most accurate.

    Of equally accurate ones the smaller is taken, then the first by name.

    Args:
        devices: the task's device classes.
        measured: all variants, with `passed` and the gate's `reasons`.

    Returns:
        Device class to kind.

    Raises:
        ReleaseError: nothing fits a class; says why each variant does not.
    """
    return {device.name: _best(device, measured) for device in devices}


def _best(device: DeviceClass, measured: Sequence[Measurement]) -> str:
    against = {str(m["kind"]): _failure(m) + fits(device, m).reasons for m in measured}
    fitting = [m for m in measured if not against[m["kind"]]]
    if not fitting:
        why = "; ".join(f"{kind}: {', '.join(reasons)}" for kind, reasons in against.items())
        raise ReleaseError(
            f"no variant fits device class {device.name} ({why or 'none was built'}): relax its limits, "
            "or add a variant"
        )
    best = min(fitting, key=lambda m: (-m["accuracy"], m["bytes"], m["kind"]))
    return str(best["kind"])


def _failure(measured: Measurement) -> list[str]:
    return [] if measured["passed"] else [f"failed its gate: {', '.join(measured['reasons'])}"]
