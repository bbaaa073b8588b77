"""numpy draws what TensorFlow draws, bit for bit."""

import numpy as np
import pytest
import tensorflow as tf

from fededge import philox

pytestmark = pytest.mark.environment("worker")


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 5), (40, 12, 12, 8)])
@pytest.mark.parametrize("rate", [0.0, 0.25, 1 / 3, 0.999])
def test_dropout_keeps_the_units_that_tensorflow_keeps(shape: tuple[int, ...], rate: float) -> None:
    rng = np.random.default_rng(len(shape))
    for seed in ((0, 0), tuple(rng.integers(-(2**62), 2**62, 2).tolist())):
        kept = (tf.random.stateless_uniform(shape, seed) >= rate).numpy()
        assert (philox.kept(shape, seed, rate) == kept).all()


def test_the_units_of_fewer_examples_are_the_first_of_more() -> None:
    more = philox.kept((7, 5, 3), (9, 1), 0.5)
    assert (philox.kept((4, 5, 3), (9, 1), 0.5) == more[:4]).all()


@tf.function
def order(count: tf.Tensor, seed: tf.Tensor, buffer: tf.Tensor) -> tf.Tensor:
    shuffled = tf.data.Dataset.range(count).shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
    return next(iter(shuffled.batch(count)))


@pytest.mark.parametrize(
    ("count", "buffer"), [(1, 5), (4, 5), (5, 5), (6, 5), (100, 1), (1000, 64), (10_001, 10_000)]
)
def test_examples_come_in_tensorflows_order(count: int, buffer: int) -> None:
    for seed in (0, 2**31 - 1, 2**61 + 12345):
        wanted = order(*(tf.constant(number, tf.int64) for number in (count, seed, buffer)))
        assert (philox.shuffled(count, seed, buffer) == wanted.numpy()).all()
