"""What every framework does alike: subclass Conformance, and pytest tests yours.

The examples are a table with two numbers and a word at a client with 21 of them, which is no multiple of the batch.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fededge import counting, examples
from fededge.clients import Client
from fededge.documents import Feature, Label, Plan, Schema
from fededge.errors import DataError, DivergedError, VariantError
from fededge.inference import load_model
from fededge.learning.frameworks import model_spec, open_client
from fededge.task import ClientOptimizer, Model
from fededge.update import UpdateFormat
from fededge.weights import Weights, from_bytes, to_bytes

IDENTITY = "sha256:" + "0" * 64
TRAIN, TEST = 21, 13
FEATURES = [
    Feature(name="warmth", dtype="float32", shape=[], mean=20.0, std=4.0),
    Feature(name="light", dtype="float32", shape=[], log=0.5),
    Feature(name="room", dtype="float32", shape=[], categories=["attic", "cellar", "hall"]),
]
LABELS = {
    "class": Label(kind="class", classes=3),
    "two classes": Label(kind="class", classes=2),
    "number": Label(kind="number", mean=[50.0], std=[10.0]),
    "numbers": Label(kind="number", shape=[2], mean=[50.0, 1.0], std=[10.0, 3.0]),
    "multi-label": Label(kind="multi-label", classes=2),
    "sequence": Label(kind="sequence", classes=2, shape=[3]),
    "none": Label(kind="none"),
}


def schema_of(kind: str) -> Schema:
    return Schema(features=FEATURES, label=LABELS[kind])


def table(kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y whose label follows from the features."""
    rng, label = np.random.default_rng(seed), LABELS[kind]
    warmth, light, room = rng.normal(20, 4, count), rng.normal(0, 1, count), rng.integers(0, 3, count)
    x = np.stack([warmth, light, room], axis=1).astype(np.float32)
    y = {
        "class": room,
        "sequence": np.stack([light > 0, warmth > 20, room > 1], axis=1),
        "multi-label": np.stack([light > 0, warmth > 20], axis=1),
        "number": np.stack([50 + 10 * light, warmth / 4], axis=1)[:, : max(1, *label.shape, 1)],
        "none": np.zeros((count, 0)),
    }[label.kind]
    if kind == "two classes":
        y = light > 0
    stored = (0,) if label.kind == "none" else label.stored_shape
    return x, y.astype(label.dtype).reshape(count, *stored)


class Conformance:
    """A framework's own: `models` by the kind of label, and `local`, its plain training loop."""

    models: ClassVar[dict[str, Model]]
    work: ClassVar = ClientOptimizer(batch_size=8, epochs=2, learning_rate=0.05)
    tolerance: ClassVar = 1e-5
    """How far an update may be from the framework's own training."""
    shuffles: ClassVar = True
    """Whether a client's seed decides what it learns."""
    diverges: ClassVar = True
    """Whether too large a learning rate leaves the finite numbers."""
    in_keras: ClassVar = True
    """Whether `inference` gives a Keras model."""
    in_onnx: ClassVar = True
    """Whether `onnx` gives an ONNX file."""

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        """The weights after the framework's own loop over the client's examples in `data`, by `self.work`."""
        raise NotImplementedError

    def export(self, kind: str, work: ClientOptimizer, plan: Path) -> None:
        """Write the plan that clients execute."""
        model_spec(self.models[kind], schema_of(kind), 7).export_plan(work, IDENTITY, plan)

    def client(self, plan: Path, data: Path) -> Client:
        """The client in `data` that executes `plan`."""
        return open_client(plan, data)

    @pytest.fixture(scope="class")
    def home(self, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A client's folder, and the plan beside it."""
        folder, schema = tmp_path_factory.mktemp("client"), schema_of(kind)
        examples.write(folder / "train", *table(kind, TRAIN, 1), schema)
        examples.write(folder / "test", *table(kind, TEST, 2), schema)
        self.export(kind, self.work, folder / "plan")
        return folder

    @pytest.fixture(scope="class")
    def weights(self, kind: str, home: Path) -> Weights:
        """Initial weights, moved a little."""
        rng, given = (
            np.random.default_rng(3),
            model_spec(self.models[kind], schema_of(kind), 7).initial_weights(),
        )
        moved = {name: value + rng.normal(0, 0.05, value.shape) for name, value in given.items()}
        statistics = {v.name for v in Plan.read(home / "plan" / "plan.json").variables if v.statistic}
        return {name: (given if name in statistics else moved)[name].astype(np.float32) for name in given}

    def test_initial_weights_are_the_plans_variables_and_the_same_for_a_seed(
        self, kind: str, home: Path
    ) -> None:
        first, second, other = (
            model_spec(self.models[kind], schema_of(kind), seed).initial_weights() for seed in (7, 7, 8)
        )
        plan = Plan.read(home / "plan" / "plan.json")
        assert plan.example == schema_of(kind)
        assert {v.name: tuple(v.shape) for v in plan.variables} == {n: v.shape for n, v in first.items()}
        assert all(value.dtype == np.float32 for value in first.values())
        assert to_bytes(first) == to_bytes(second)
        linear = all((value == 0).all() for value in first.values())
        assert linear or to_bytes(first) != to_bytes(other)

    def test_answers_have_the_schemas_form_and_survive_the_weights_way_through_a_file(
        self, kind: str, weights: Weights
    ) -> None:
        schema, model = schema_of(kind), model_spec(self.models[kind], schema_of(kind), 7)
        x, _ = table(kind, TEST, 2)
        answers = model.predict(weights, x)
        assert answers.dtype == np.float32
        assert answers.shape == (TEST, schema.outputs)
        if schema.label.kind in ("class", "sequence"):
            totals = answers.reshape(-1, schema.label.classes).sum(axis=1)
            np.testing.assert_allclose(totals, 1, atol=1e-5)
        read = {name: np.array(value) for name, value in from_bytes(to_bytes(weights)).items()}
        assert (model.predict(read, x) == answers).all()

    def test_the_same_seed_gives_the_same_update_whatever_was_trained_before(
        self, kind: str, home: Path, weights: Weights
    ) -> None:
        before = to_bytes(weights)
        client = self.client(home / "plan", home)
        first, other, again = (client.train(weights, seed) for seed in (11, 12, 11))
        fresh = self.client(home / "plan", home).train(weights, 11)
        assert to_bytes(first.delta) == to_bytes(again.delta) == to_bytes(fresh.delta)
        assert (first.loss_sum, first.sums) == (again.loss_sum, again.sums) == (fresh.loss_sum, fresh.sums)
        assert not self.shuffles or to_bytes(first.delta) != to_bytes(other.delta)
        assert to_bytes(weights) == before

    def test_an_update_is_the_frameworks_own_training(self, kind: str, home: Path, weights: Weights) -> None:
        update = self.client(home / "plan", home).train(weights, 11)
        wanted = self.local(kind, weights, home / "train", 11)
        assert any((wanted[name] != weights[name]).any() for name in weights)
        for name, value in weights.items():
            np.testing.assert_allclose(value - update.delta[name], wanted[name], rtol=0, atol=self.tolerance)

    def test_an_update_is_of_every_example_and_of_the_declared_names_only(
        self, kind: str, home: Path, weights: Weights
    ) -> None:
        form = UpdateFormat.of(Plan.read(home / "plan" / "plan.json"))
        update = self.client(home / "plan", home).train(weights, 11)
        assert update.examples == TRAIN * self.work.epochs
        screened = form.screen(form.encode(update), TRAIN * self.work.epochs)
        assert set(screened.delta) == set(weights)

    def test_a_client_counts_what_the_models_answers_count(
        self, kind: str, home: Path, weights: Weights
    ) -> None:
        schema, model = schema_of(kind), model_spec(self.models[kind], schema_of(kind), 7)
        x, y = table(kind, TEST, 2)
        found = self.client(home / "plan", home).evaluate(weights)
        parts = [
            counting.counts(schema, model.predict(weights, x[part]), x[part], y[part])
            for part in (slice(0, 5), slice(5, None))
        ]
        assert set(found) == set(parts[0])
        for name, value in found.items():
            assert value == pytest.approx(sum(part[name] for part in parts), rel=1e-4), name

    def test_rounds_at_one_client_lower_its_loss(self, kind: str, home: Path, weights: Weights) -> None:
        client = self.client(home / "plan", home)
        losses = []
        for seed in range(8):
            update = client.train(weights, seed)
            losses.append(update.loss_sum / update.examples)
            weights = {name: value - update.delta[name] for name, value in weights.items()}
        assert losses[-1] < losses[0]

    def test_the_keras_model_answers_as_the_model_does(self, kind: str, weights: Weights) -> None:
        if not self.in_keras:
            pytest.skip("the framework's models have no Keras form")
        model, (x, _) = model_spec(self.models[kind], schema_of(kind), 7), table(kind, TEST, 2)
        answers = model.inference(weights)(x, training=False).numpy()
        np.testing.assert_allclose(answers, model.predict(weights, x), rtol=1e-4, atol=1e-5)

    def test_the_onnx_file_answers_as_the_model_does_and_is_the_same_each_time(
        self, kind: str, weights: Weights
    ) -> None:
        schema, model = schema_of(kind), model_spec(self.models[kind], schema_of(kind), 7)
        if not self.in_onnx:
            with pytest.raises(VariantError, match="has no ONNX variant"):
                model.onnx(weights)
            return
        x, _ = table(kind, TEST, 2)
        file = model.onnx(weights)
        loaded = load_model(file, "onnx-float32")
        np.testing.assert_allclose(loaded.predict(x), model.predict(weights, x), rtol=1e-4, atol=1e-5)
        assert loaded.schema == schema
        assert model.onnx(weights) == file

    def test_ranges_are_of_the_input_and_each_layer(self, kind: str, home: Path, weights: Weights) -> None:
        names = Plan.read(home / "plan" / "plan.json").activations
        if not names:
            pytest.skip("the plan measures no ranges")
        from fededge.learning.frameworks.keras.network import activations

        ranges = self.client(home / "plan", home).ranges(weights)
        assert ranges.examples == TRAIN
        assert len(ranges.low) == len(ranges.high) == len(names)
        assert all(low <= high for low, high in zip(ranges.low, ranges.high, strict=True))
        body = model_spec(self.models[kind], schema_of(kind), 7).inference(weights).layers[-2]
        assert names == ["input", *activations(body)]

    def test_a_client_with_one_class_or_one_example_learns(
        self, kind: str, home: Path, weights: Weights, tmp_path: Path
    ) -> None:
        schema, (x, y) = schema_of(kind), table(kind, TRAIN, 1)
        for count in (9, 1):
            one = np.repeat(y[:1], count, axis=0)
            examples.write(tmp_path / "train", x[:count], one, schema)
            update = self.client(home / "plan", tmp_path).train(weights, 1)
            assert update.examples == count * self.work.epochs
            assert all(np.isfinite(value).all() for value in update.delta.values())

    def test_an_empty_client_and_one_of_another_schema_are_refused(
        self, kind: str, home: Path, tmp_path: Path
    ) -> None:
        x, y = table(kind, 4, 1)
        examples.write(tmp_path / "empty" / "train", x[:0], y[:0], schema_of(kind))
        with pytest.raises(DataError, match="n > 0"):
            self.client(home / "plan", tmp_path / "empty")
        other = Schema(features=[FEATURES[1], *FEATURES[:1], FEATURES[2]], label=LABELS[kind])
        examples.write(tmp_path / "other" / "train", x, y, other)
        with pytest.raises(DataError, match="schema"):
            self.client(home / "plan", tmp_path / "other")

    def test_training_that_leaves_the_finite_numbers_is_told(
        self, kind: str, home: Path, weights: Weights, tmp_path: Path
    ) -> None:
        if not self.diverges:
            pytest.skip("no learning rate to diverge by")
        work = self.work.model_copy(update={"learning_rate": 1e30})
        self.export(kind, work, tmp_path)
        with pytest.raises(DivergedError, match="learning_rate"):
            self.client(tmp_path, home).train(weights, 1)
