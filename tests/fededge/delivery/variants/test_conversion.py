import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fededge import weights
from fededge.delivery.variants import conversion as variants
from fededge.errors import DataError, IntegrityError, VariantError

pytestmark = pytest.mark.environment("worker")

KINDS = ["float32", "float16", "dynamic-int8", "int8"]
SHAPE = (12, 12, 1)


@pytest.fixture(scope="module")
def model() -> "variants.tf.keras.Model":
    """A small convolutional classifier with seeded weights."""
    layers = variants.tf.keras.layers
    made = variants.tf.keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(3)
    made.set_weights([rng.normal(0, 0.1, weight.shape) for weight in made.get_weights()])
    return made


@pytest.fixture
def clients(tmp_path: Path) -> Callable[..., Path]:
    """Writes one summary.safetensors a client; the folder of the data artifact."""

    def write(*summaries: dict[str, np.ndarray]) -> Path:
        for index, summary in enumerate(summaries):
            folder = tmp_path / "clients" / f"site-{index}"
            folder.mkdir(parents=True)
            (folder / "summary.safetensors").write_bytes(weights.to_bytes(summary))
        return tmp_path

    return write


def summary(low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = SHAPE) -> dict[str, np.ndarray]:
    values = {"mean": (low + high) / 2, "std": (high - low) / 4, "min": low, "max": high}
    return {name: np.full(shape, value, np.float32) for name, value in values.items()}


def answers(built: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = variants.tf.lite.Interpreter(model_content=built)
    source = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(source, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source, x)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_answers_like_the_model_for_any_number_of_examples(
    kind: str, model: "variants.tf.keras.Model", clients: Callable[..., Path]
) -> None:
    samples = variants.representative_samples(clients(summary()), seed=1)
    built = variants.build(model, kind, samples)
    tolerance = 1e-5 if kind == "float32" else 0.05
    for count in (1, 7):
        np.testing.assert_allclose(
            answers(built, samples[:count]), model(samples[:count]).numpy(), atol=tolerance
        )


def test_weights_shrink_with_their_type(
    model: "variants.tf.keras.Model", clients: Callable[..., Path]
) -> None:
    samples = variants.representative_samples(clients(summary()), seed=1)
    float32, float16, dynamic, int8 = (len(variants.build(model, kind, samples)) for kind in KINDS)
    assert float16 < 0.6 * float32
    assert dynamic < 0.4 * float32
    assert int8 < 0.4 * float32


def test_int8_computes_in_int8_between_float32_input_and_output(
    model: "variants.tf.keras.Model", clients: Callable[..., Path]
) -> None:
    samples = variants.representative_samples(clients(summary()), seed=1)
    interpreter = variants.tf.lite.Interpreter(model_content=variants.build(model, "int8", samples))
    types = [tensor["dtype"] for tensor in interpreter.get_tensor_details()]
    assert types.count(np.float32) == 2
    assert np.int8 in types


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_the_same_inputs_give_the_same_bytes(
    kind: str, model: "variants.tf.keras.Model", clients: Callable[..., Path]
) -> None:
    data = clients(summary())
    first, second = (
        variants.build(model, kind, variants.representative_samples(data, seed=1)) for _ in range(2)
    )
    assert first == second


def test_an_unknown_kind_is_named(model: "variants.tf.keras.Model") -> None:
    with pytest.raises(VariantError, match="'int4'"):
        variants.build(model, "int4", np.zeros((1, *SHAPE), np.float32))


def test_a_model_for_one_example_at_a_time_is_refused() -> None:
    image = variants.tf.keras.Input(SHAPE, batch_size=1)
    fixed = variants.tf.keras.Model(image, variants.tf.keras.layers.Flatten()(image))
    with pytest.raises(VariantError, match="free batch dimension"):
        variants.build(fixed, "float32", np.zeros((1, *SHAPE), np.float32))


def test_building_writes_nothing_to_the_terminal(
    model: "variants.tf.keras.Model", capfd: pytest.CaptureFixture[str]
) -> None:
    variants.build(model, "float16", np.zeros((1, *SHAPE), np.float32))
    os.write(2, b"after\n")
    assert capfd.readouterr().err.replace(
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", ""
    ) == ("after\n")


class TestRepresentativeSamples:
    def test_samples_stay_within_the_range_of_their_client(self, clients: Callable[..., Path]) -> None:
        data = clients(summary(0.0, 0.25), summary(0.5, 1.0))
        samples = variants.representative_samples(data, seed=1, count=10)
        assert samples.shape == (10, *SHAPE)
        assert samples.dtype == np.float32
        assert samples[0::2].max() <= 0.25
        assert samples[1::2].min() >= 0.5

    def test_the_seed_decides(self, clients: Callable[..., Path]) -> None:
        data = clients(summary())
        same = [variants.representative_samples(data, seed=1) for _ in range(2)]
        np.testing.assert_array_equal(*same)
        assert not np.array_equal(same[0], variants.representative_samples(data, seed=2))

    def test_only_summaries_are_read(self, clients: Callable[..., Path]) -> None:
        data = clients(summary())
        before = variants.representative_samples(data, seed=1)
        for name in ("clients/site-0/train/x.npy", "clients/site-0/test/x.npy", "x.npy"):
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_bytes(b"never to be read")
        np.testing.assert_array_equal(variants.representative_samples(data, seed=1), before)

    def test_no_client_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="prepare_data"):
            variants.representative_samples(tmp_path, seed=1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {**summary(), "mean": np.full(SHAPE, np.nan, np.float32)},
            {**summary(), "mean": np.zeros((3, 3, 1), np.float32)},
            {"mean": summary()["mean"]},
            summary(shape=(5,)),
        ],
        ids=["nan", "shapes differ", "missing", "not an image"],
    )
    def test_a_malformed_summary_is_named(
        self, wrong: dict[str, np.ndarray], clients: Callable[..., Path]
    ) -> None:
        with pytest.raises(DataError, match=r"site-0/summary\.safetensors"):
            variants.representative_samples(clients(wrong), seed=1)

    def test_a_summary_that_is_not_safetensors_is_refused(self, clients: Callable[..., Path]) -> None:
        data = clients(summary())
        (data / "clients/site-0/summary.safetensors").write_bytes(b"no")
        with pytest.raises(IntegrityError):
            variants.representative_samples(data, seed=1)
