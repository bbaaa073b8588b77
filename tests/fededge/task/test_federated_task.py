"""The whole task: what must fit together in it, and what its digests say."""

import json
from typing import Any

import pytest

from fededge import task
from fededge.errors import TaskError
from fededge.task import FederatedTask

MINIMAL: dict[str, Any] = {"name": "t", "data": {"source": "digits"}}
SKLEARN = {"framework": "sklearn", "name": "SGDClassifier"}


def made(**changes: Any) -> FederatedTask:
    return task.parse(json.dumps(MINIMAL | changes))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning": {"cohort": {"size": 4}}}, "cohort.size is 4"),
        ({"learning": {"cohort": {"size": 2}}, "operation": {"quorum": 3}}, "quorum 3"),
        ({"partition": {"kind": "natural"}}, "natural needs"),
        ({"learning": {"engine": "simulation"}, "operation": {"quorum": 2}}, "quorum goes with .* federated"),
        ({"learning": {"engine": "simulation", "max_update_norm": 1.0}}, "max_update_norm goes with"),
        ({"variants": []}, "variants is empty"),
        ({"variants": [{"kind": "int8"}, {"kind": "int8"}]}, "twice"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"gate": {"max_gap_to_centralized": 0.1}}, "compare"),
        ({"privacy": {"min_clients": 4}}, "int8 .* raise partition.clients"),
        (
            {"variants": [{"kind": "float32"}, {"kind": "onnx-float32"}]},
            "onnx-float32 .* are for model.framework torch and sklearn, not for keras",
        ),
        (
            {"devices": [{"name": "a", "runtime": "onnx"}]},
            "a runs onnx, but variants lists none of onnx-float32, onnx-dynamic-int8",
        ),
        (
            {"devices": [{"name": "a"}], "variants": [{"kind": "onnx-float32"}], "model": SKLEARN},
            "a runs litert, but variants lists none of float32",
        ),
        (
            {"devices": [{"name": "a", "runtime": "onnx", "kinds": ["int8"]}]},
            "kinds lists int8, which runtime onnx does not execute: say runtime litert",
        ),
        (
            {"endpoint": {"name": "e", "variant": "int8"}, "variants": [{"kind": "float32"}]},
            "endpoint.variant",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        made(**change)


def test_a_task_survives_its_canonical_json() -> None:
    loaded = made(seed=5, endpoint={"name": "e"})
    again = FederatedTask.from_json(loaded.to_json())
    assert again == loaded
    assert again.digest == loaded.digest


@pytest.mark.parametrize("text", ["", "{", "[]", "name: t", '{"name": "\\u001b"}', "[" * 100_000])
def test_canonical_json_of_another_form_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(TaskError) as caught:
        FederatedTask.from_json(text)
    assert str(caught.value).isprintable()


def test_tasks_that_say_the_same_have_one_digest() -> None:
    assert made().digest == made(seed=0, partition={"kind": "dirichlet"}).digest


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"operation": {"quorum": 2, "round_deadline_seconds": 5.0, "rounds_per_step": 1}}, True),
        ({"gate": {"min": 0.1}}, True),
        ({"variants": [{"kind": "float32"}]}, True),
        ({"learning": {"rounds": 11}}, False),
        ({"seed": 1}, False),
        ({"partition": {"clients": 4}}, False),
        ({"privacy": {"min_examples": 5}}, False),
        ({"data": {"source": "synthetic"}}, False),
        ({"name": "u"}, False),
    ],
)
def test_operation_and_delivery_leave_the_identity_as_it_is(change: dict[str, Any], same: bool) -> None:
    assert (made(**change).identity == made().identity) is same
    assert made(**change).digest != made().digest


def test_a_pipeline_refuses_another_task_than_it_was_compiled_for() -> None:
    compiled = made().to_json()
    made().refuse_other(compiled)
    with pytest.raises(TaskError, match=r"learning\.rounds, seed"):
        made(seed=2, learning={"rounds": 6}).refuse_other(compiled)
