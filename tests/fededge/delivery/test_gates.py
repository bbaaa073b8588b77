"""Gates of a model, of its variants, and the choice for device classes."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fededge.delivery.gates import (
    against_device,
    choose,
    judge_again,
    judge_model,
    judge_variant,
    variant_gate,
)
from fededge.documents import Champion, Measurement
from fededge.errors import ReleaseError, VariantError
from fededge.task import DeviceClass, FederatedTask, Gate, Variant
from tests.registered_models import measured

KINDS = ["float32", "float16", "dynamic-int8", "int8"]
GATE = Gate(min=0.9, max_gap_to_centralized=0.03, max_loss_against_champion=0.01)
fraction = st.floats(0, 1)


def best(accuracy: float | None, version: int = 1) -> Champion:
    return Champion(version=version, score=accuracy)


measurements = st.lists(
    st.builds(
        measured,
        st.sampled_from(KINDS),
        score=st.sampled_from([0.9, 0.95, 0.99]),
        bytes=st.integers(1, 20),
        latency_ms_1=st.sampled_from([0.1, 1.0, 10.0]),
        passed=st.booleans(),
    ),
    min_size=1,
    unique_by=lambda m: m.kind,
)
devices = st.builds(
    DeviceClass,
    name=st.just("camera"),
    kinds=st.none() | st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    max_bytes=st.none() | st.integers(1, 20),
    max_latency_ms=st.none() | st.sampled_from([0.5, 5.0, 50.0]),
)


class TestModelGate:
    def test_a_good_first_model_passes(self) -> None:
        decision = judge_model(GATE, "accuracy", 0.95, centralized=0.96, champion=None)
        assert decision.passed
        assert decision.reasons == []

    def test_a_decision_says_what_it_compared_and_when(self) -> None:
        digest = "sha256:" + "a" * 64
        decision = judge_model(GATE, "accuracy", 0.95, 0.96, best(0.94, version=3), digest)
        assert (decision.score, decision.centralized, decision.weights_digest) == (0.95, 0.96, digest)
        assert decision.champion == Champion(version=3, score=0.94)
        assert decision.at > 0

    @pytest.mark.parametrize(
        ("accuracy", "centralized", "champion", "reason"),
        [
            (0.89, 0.9, None, "gate.min 0.9"),
            (0.95, 0.99, None, "gate.max_gap_to_centralized 0.03"),
            (0.95, None, None, "gate.max_gap_to_centralized 0.03"),
            (0.95, 0.95, best(0.97), "gate.max_loss_against_champion 0.01"),
            (0.95, 0.95, best(None), "gate.max_loss_against_champion 0.01"),
        ],
    )
    def test_a_failure_names_the_condition(
        self, accuracy: float, centralized: float | None, champion: Champion | None, reason: str
    ) -> None:
        decision = judge_model(GATE, "accuracy", accuracy, centralized, champion)
        assert not decision.passed
        assert [reason in found for found in decision.reasons] == [True]

    def test_without_a_gap_in_the_task_nothing_has_to_be_trained_centrally(self) -> None:
        assert judge_model(Gate(), "accuracy", 0.95, centralized=None, champion=None).passed

    def test_a_difference_at_the_limit_passes_in_spite_of_rounding(self) -> None:
        assert 0.98 - 0.97 > 0.01
        assert judge_model(GATE, "accuracy", 0.97, centralized=0.97, champion=best(0.98)).passed

    @pytest.mark.parametrize("values", [(math.nan, 0.9), (0.95, math.nan)])
    def test_not_a_number_is_never_judged(self, values: tuple[float, float]) -> None:
        with pytest.raises(ValidationError):
            judge_model(GATE, "accuracy", *values, champion=None)

    @given(fraction, fraction, st.none() | st.builds(best, fraction), fraction)
    def test_a_more_accurate_model_never_does_worse(
        self, accuracy: float, centralized: float, champion: Champion | None, better: float
    ) -> None:
        if judge_model(GATE, "accuracy", accuracy, centralized, champion).passed:
            assert judge_model(GATE, "accuracy", max(accuracy, better), centralized, champion).passed

    def test_a_decision_stands_while_the_champion_does(self) -> None:
        for champion in (None, best(0.95)):
            decision = judge_model(GATE, "accuracy", 0.95, 0.95, champion)
            assert judge_again(GATE, decision, champion) == decision

    @pytest.mark.parametrize("before", [None, best(0.9)])
    def test_a_decision_is_taken_again_when_another_is_champion(self, before: Champion | None) -> None:
        decision = judge_again(GATE, judge_model(GATE, "accuracy", 0.95, 0.95, before), best(0.99, version=2))
        assert not decision.passed
        assert decision.champion == best(0.99, version=2)

    def test_a_model_that_failed_passes_when_someone_rolled_back(self) -> None:
        decision = judge_model(GATE, "accuracy", 0.95, 0.95, best(0.99, version=2))
        assert not decision.passed
        assert judge_again(GATE, decision, best(0.94)).passed


class TestVariantGate:
    def test_a_loss_and_a_size_beyond_the_limits_are_both_named(self) -> None:
        gate = Variant(kind="int8", max_score_loss=0.01, max_bytes=999)
        judged = judge_variant(gate, measured(score_loss=0.02, bytes=1000))
        assert not judged.passed
        assert ["max_score_loss" in judged.reasons[0], "max_bytes" in judged.reasons[1]] == [True, True]

    def test_a_variant_more_accurate_than_the_model_passes(self) -> None:
        assert judge_variant(Variant(kind="int8", max_score_loss=0.0), measured(score_loss=-0.01)).passed

    def test_a_kind_that_the_task_does_not_build_is_named(self, task: FederatedTask) -> None:
        assert variant_gate(task, "int8").max_bytes == 400_000
        with pytest.raises(VariantError, match="'float16'"):
            variant_gate(task, "float16")


class TestChoice:
    def test_the_most_accurate_that_fits_is_chosen(self) -> None:
        small = DeviceClass(name="camera", max_bytes=500)
        found = choose(
            [small, DeviceClass(name="gateway")],
            [
                measured("float32", bytes=1000),
                measured("int8", bytes=400, score=0.9),
                measured("float16", bytes=500),
            ],
        )
        assert found == {"camera": "float16", "gateway": "float16"}

    def test_of_equally_accurate_the_smaller_is_chosen(self) -> None:
        assert choose([DeviceClass(name="camera")], [measured("float32"), measured("int8", bytes=9)]) == {
            "camera": "int8"
        }

    def test_a_class_without_a_variant_is_named_with_all_reasons(self) -> None:
        device = DeviceClass(name="camera", kinds=["float32", "int8"], max_bytes=500, max_latency_ms=0.05)
        failed = measured("int8", bytes=400, latency_ms_1=0.01, passed=False, reasons=["loses too much"])
        with pytest.raises(ReleaseError) as caught:
            choose(
                [device],
                [measured("float32", bytes=1000), failed, measured("float16", bytes=1, latency_ms_1=0.01)],
            )
        message = str(caught.value)
        for part in (
            "device class camera",
            "float32: 1,000 bytes are more than max_bytes 500, 0.100 ms are more than max_latency_ms 0.05",
            "int8: failed its gate: loses too much",
            "float16: its runtime takes only float32, int8",
        ):
            assert part in message
        assert "\n" not in message

    @given(devices, measurements)
    def test_what_is_chosen_passed_fits_and_is_not_beaten(
        self, device: DeviceClass, candidates: list[Measurement]
    ) -> None:
        usable = [m for m in candidates if m.passed and not against_device(device, m)]
        if not usable:
            with pytest.raises(ReleaseError, match="camera"):
                choose([device], candidates)
            return
        kind = choose([device], candidates)["camera"]
        chosen = next(m for m in candidates if m.kind == kind)
        assert chosen in usable
        assert all((chosen.score, -chosen.bytes) >= (m.score, -m.bytes) for m in usable)

    @given(devices, measurements, st.randoms(use_true_random=False))
    def test_the_order_of_variants_does_not_matter(
        self, device: DeviceClass, candidates: list[Measurement], random: Any
    ) -> None:
        if any(m.passed and not against_device(device, m) for m in candidates):
            shuffled = random.sample(candidates, len(candidates))
            assert choose([device], candidates) == choose([device], shuffled)
