"""Gates of a model, of its variants, and the choice for device classes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fededge import paired
from fededge.delivery.gates import (
    Rival,
    against_device,
    choose,
    judge_again,
    judge_model,
    judge_variant,
    variant_gate,
)
from fededge.documents import Champion, Evaluation, Measurement
from fededge.errors import ReleaseError, TaskError, VariantError
from fededge.task import DeviceClass, FederatedTask, Gate, Variant
from tests.registered_models import measured

KINDS = ["float32", "float16", "dynamic-int8", "int8"]
ONNX = ["onnx-float32", "onnx-dynamic-int8"]
GATE = Gate(min=0.9, max_gap_to_centralized=0.03, max_loss_against_champion=0.01)
fraction = st.floats(0, 1)


def best(accuracy: float | None, version: int = 1) -> Rival:
    return Rival(version, "accuracy", accuracy)


def scored(score: float, **facts: Any) -> Evaluation:
    return Evaluation(**{"round": 1, "score": score, "loss": 0.1, "examples": 10, "samples": 1.0, **facts})


measurements = st.lists(
    st.builds(
        measured,
        st.sampled_from(KINDS + ONNX),
        score=st.sampled_from([0.9, 0.95, 0.99]),
        bytes=st.integers(1, 20),
        latency_ms_1=st.sampled_from([0.1, 1.0, 10.0]),
        passed=st.booleans(),
    ),
    min_size=1,
    unique_by=lambda m: m.kind,
)


def devices_of(runtime: str, kinds: list[str]) -> st.SearchStrategy[DeviceClass]:
    return st.builds(
        DeviceClass,
        name=st.just("camera"),
        runtime=st.just(runtime),
        kinds=st.none() | st.lists(st.sampled_from(kinds), min_size=1, unique=True),
        max_bytes=st.none() | st.integers(1, 20),
        max_latency_ms=st.none() | st.sampled_from([0.5, 5.0, 50.0]),
    )


devices = devices_of("litert", KINDS) | devices_of("onnx", ONNX)


class TestModelGate:
    def test_a_good_first_model_passes(self) -> None:
        decision = judge_model(GATE, scored(0.95), centralized=0.96, champion=None)
        assert decision.passed
        assert decision.reasons == []

    def test_a_decision_says_what_it_compared_and_when(self) -> None:
        digest = "sha256:" + "a" * 64
        decision = judge_model(GATE, scored(0.95), 0.96, best(0.94, version=3), digest)
        assert (decision.score, decision.centralized, decision.weights_digest) == (0.95, 0.96, digest)
        assert decision.champion == Champion(version=3, score=0.94)
        assert (decision.metric, decision.examples) == ("accuracy", 10)
        assert decision.at > 0

    @pytest.mark.parametrize(
        ("accuracy", "centralized", "champion", "reason"),
        [
            (0.89, 0.9, None, "gate.min 0.9"),
            (0.95, 0.99, None, "gate.max_gap_to_centralized 0.03"),
            (0.95, None, None, "gate.max_gap_to_centralized"),
            (0.95, 0.95, best(0.97), "gate.max_loss_against_champion 0.01"),
            (0.95, 0.95, best(None), "gate.max_loss_against_champion"),
        ],
    )
    def test_a_failure_names_the_condition(
        self, accuracy: float, centralized: float | None, champion: Rival | None, reason: str
    ) -> None:
        decision = judge_model(GATE, scored(accuracy), centralized, champion)
        assert not decision.passed
        assert [reason in found for found in decision.reasons] == [True]

    def test_without_a_gap_in_the_task_nothing_has_to_be_trained_centrally(self) -> None:
        assert judge_model(Gate(), scored(0.95), centralized=None, champion=None).passed

    def test_a_difference_at_the_limit_passes_in_spite_of_rounding(self) -> None:
        assert 0.98 - 0.97 > 0.01
        assert judge_model(GATE, scored(0.97), centralized=0.97, champion=best(0.98)).passed

    def test_not_a_number_is_never_judged(self) -> None:
        with pytest.raises(ValidationError):
            judge_model(GATE, scored(0.95), math.nan, champion=None)

    @given(fraction, fraction, st.none() | st.builds(best, fraction), fraction)
    def test_a_more_accurate_model_never_does_worse(
        self, accuracy: float, centralized: float, champion: Rival | None, better: float
    ) -> None:
        if judge_model(GATE, scored(accuracy), centralized, champion).passed:
            assert judge_model(GATE, scored(max(accuracy, better)), centralized, champion).passed

    def test_a_model_is_judged_in_the_metric_of_the_gate(self) -> None:
        gate = Gate(metric="mae", max=3.0, max_loss_against_champion=0.5)
        champion = Rival(2, "r2", 0.9, scored(0.9, metric="r2", metrics={"mae": 2.0}))
        decision = judge_model(gate, scored(0.8, metric="r2", metrics={"mae": 2.4}), None, champion)
        assert decision.passed
        assert (decision.metric, decision.score, decision.champion) == (
            "mae",
            2.4,
            Champion(version=2, score=2.0),
        )
        worse = judge_model(gate, scored(0.8, metric="r2", metrics={"mae": 2.6}), None, champion)
        assert ["max_loss_against_champion" in reason for reason in worse.reasons] == [True]
        poor = judge_model(gate, scored(0.8, metric="r2", metrics={"mae": 3.1}), None, None)
        assert poor.reasons == ["mae 3.1000 is above gate.max 3"]

    def test_less_of_a_score_that_is_better_low_never_does_worse(self) -> None:
        gate = Gate(metric="max_error", max_gap_to_centralized=0.1)
        results = [
            judge_model(gate, scored(0.5, metrics={"max_error": value}), 1.0, None).passed
            for value in (0.5, 1.05, 1.2)
        ]
        assert results == [True, True, False]

    def test_a_champion_that_was_not_scored_in_the_metric_does_not_fall_to_one_that_was(self) -> None:
        decision = judge_model(
            Gate(metric="f1", min=0.5), scored(0.9, metrics={"f1": 0.9}), None, best(0.9, version=4)
        )
        assert decision.reasons == [
            "the champion, version 4, has no f1 to be held against for gate.max_loss_against_champion: judge by "
            "accuracy, or remove its alias in MLflow"
        ]

    def test_a_metric_that_does_not_suit_the_label_is_named(self) -> None:
        with pytest.raises(TaskError, match=r"gate\.metric auc does not suit .* accuracy, f1, loss"):
            judge_model(Gate(metric="auc"), scored(0.9, metrics={"f1": 0.9}), None, None)

    def test_the_worst_tenth_of_the_clients_can_be_the_gate(self) -> None:
        gate = Gate(metric="worst_tenth", min=0.8)
        assert not judge_model(gate, scored(0.95, worst_tenth=0.7), None, None).passed
        assert judge_model(gate, scored(0.95, worst_tenth=0.85), None, None).passed

    def test_a_model_is_not_judged_on_fewer_examples_than_asked(self) -> None:
        decision = judge_model(Gate(min_examples=11), scored(0.95), None, None)
        assert decision.reasons == ["judged on 10 held-out examples, fewer than gate.min_examples 11"]

    def test_a_decision_stands_while_the_champion_does(self) -> None:
        for champion in (None, best(0.95)):
            decision = judge_model(GATE, scored(0.95), 0.95, champion)
            assert judge_again(GATE, scored(0.95), decision, champion) == decision

    @pytest.mark.parametrize("before", [None, best(0.9)])
    def test_a_decision_is_taken_again_when_another_is_champion(self, before: Rival | None) -> None:
        first = judge_model(GATE, scored(0.95), 0.95, before)
        decision = judge_again(GATE, scored(0.95), first, best(0.99, version=2))
        assert not decision.passed
        assert decision.champion == Champion(version=2, score=0.99)

    def test_a_model_that_failed_passes_when_someone_rolled_back(self) -> None:
        decision = judge_model(GATE, scored(0.95), 0.95, best(0.99, version=2))
        assert not decision.passed
        assert judge_again(GATE, scored(0.95), decision, best(0.94)).passed


BETTER = Gate(min=0.5, replace="better")
DIGEST = "sha256:" + "b" * 64


def with_errors(wrong: int, of: int = 400, **facts: Any) -> Evaluation:
    """An evaluation of a model that is wrong on the first `wrong` of the held-out examples."""
    errors = paired.pack(np.arange(of) < wrong)
    usual: dict[str, Any] = {"examples": of, "errors": errors, "test_digest": DIGEST}
    return scored(1 - wrong / of, **{**usual, **facts})


def rival(evaluation: Evaluation) -> Rival:
    return Rival(1, "accuracy", evaluation.score, evaluation)


class TestReplacingOnlyByABetterModel:
    def test_a_model_that_is_clearly_better_passes(self) -> None:
        decision = judge_model(BETTER, with_errors(20), None, rival(with_errors(40)))
        assert decision.passed
        assert decision.comparison
        assert (decision.comparison.test, decision.comparison.examples) == ("mcnemar", 400)
        assert decision.comparison.p_value == pytest.approx(2 / 2**20)

    def test_a_model_that_is_as_good_leaves_the_champion(self) -> None:
        for wrong in (40, 38, 41):
            decision = judge_model(BETTER, with_errors(wrong), None, rival(with_errors(40)))
            assert decision.decision == "kept"
            assert not decision.passed
            assert "not better than the champion, version 1" in decision.reasons[0]

    def test_a_model_that_is_far_worse_fails(self) -> None:
        assert judge_model(BETTER, with_errors(90), None, rival(with_errors(40))).decision == "fail"

    def test_the_first_model_passes(self) -> None:
        decision = judge_model(BETTER, with_errors(40), None, None)
        assert (decision.decision, decision.comparison) == ("pass", None)

    def test_numbers_are_compared_by_signs(self) -> None:
        errors = np.random.default_rng(0).random(200)
        old, new = (
            scored(0.9, metric="r2", errors=paired.pack(found), test_digest=DIGEST)
            for found in (errors, errors * 0.9)
        )
        decision = judge_model(BETTER, new, None, Rival(1, "r2", 0.9, old))
        assert decision.passed
        assert decision.comparison
        assert (decision.comparison.test, decision.comparison.examples) == ("signs", 200)
        assert judge_model(BETTER, old, None, Rival(1, "r2", 0.9, new)).decision == "kept"

    @pytest.mark.parametrize(
        ("champion", "note"),
        [
            (best(0.9), "version 1 was kept without its errors by example"),
            (rival(with_errors(40, errors=None)), "version 1 was kept without its errors by example"),
            (
                rival(with_errors(40, test_digest="sha256:" + "c" * 64)),
                "evaluated on other held-out examples",
            ),
            (rival(with_errors(40, of=401)), "evaluated on other held-out examples"),
        ],
    )
    def test_without_errors_of_the_same_examples_the_margin_decides_and_that_is_said(
        self, champion: Rival, note: str
    ) -> None:
        decision = judge_model(BETTER, with_errors(41), None, champion)
        assert decision.passed
        assert decision.comparison
        assert (decision.comparison.test, decision.comparison.p_value) == ("margin", None)
        assert note in decision.comparison.note


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

    def test_a_class_gets_variants_for_its_own_runtime_alone(self) -> None:
        built = [measured("float32", score=0.99), measured("onnx-float32", score=0.9), measured("int8")]
        devices = [DeviceClass(name="camera"), DeviceClass(name="hub", runtime="onnx")]
        assert choose(devices, built) == {"camera": "float32", "hub": "onnx-float32"}
        with pytest.raises(ReleaseError, match="int8: it is no file for runtime onnx"):
            choose(devices, built[::2])

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
