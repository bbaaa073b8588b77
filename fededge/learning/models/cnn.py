"""A CNN of 317,066 parameters for 28x28x1 images and 10 classes.

Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, Serverless Computing Approach for Deploying Machine
Learning Applications in Edge Layer, Table 1.

Dropout draws from stateless random numbers whose seed comes in with each batch. So the same task,
round, client and step always drop the same units, in any process and after any restart.
"""

import tensorflow as tf

PARAMETERS = 317_066
SEED_SIZE = 2


class SeededDropout(tf.keras.layers.Layer):
    """Inverted dropout; inputs are (activations [b, ...], seed int64 [b, 2])."""

    def __init__(self, rate: float, salt: int, **options: object) -> None:
        super().__init__(**options)
        self.rate = rate
        self.salt = salt

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Drop units where `training`, else pass them on."""
        activations, seed = inputs
        if not training or self.rate == 0:
            return activations
        draw = tf.random.stateless_uniform(
            tf.shape(activations), seed[0] + tf.constant([self.salt, 0], tf.int64)
        )
        return tf.where(draw >= self.rate, activations / (1 - self.rate), tf.zeros_like(activations))


class PooledConvolution(tf.keras.layers.Conv2D):
    """Conv2D and a 2x2 max pool, where bias and activation (a rising one) come after the pool.

    That gives the values and gradients of the usual order, and bias and activation take a quarter of the
    work. Nor can a build of TensorFlow merge convolution and bias into one operation, which some builds do
    and which rounds otherwise.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Activations [b, h, w, c] to [b, h', w', filters]."""
        pooled = tf.nn.max_pool2d(self.convolution_op(inputs, self.kernel), 2, 2, "VALID")
        return self.activation(tf.nn.bias_add(pooled, self.bias))


def training_model(dropout: float) -> tf.keras.Model:
    """Functional model with inputs image float32 [b, 28, 28, 1] and seed int64 [b, 2], output logits [b, 10]."""
    image = tf.keras.Input((28, 28, 1), name="image")
    seed = tf.keras.Input((SEED_SIZE,), dtype=tf.int64, name="seed")
    conv1, conv2, dense1, logits = _layers(PooledConvolution)
    x = SeededDropout(dropout, 1)((conv1(image), seed))
    x = conv2(x)
    x = dense1(tf.keras.layers.Flatten()(x))
    x = SeededDropout(dropout, 2)((x, seed))
    return _checked(tf.keras.Model({"image": image, "seed": seed}, logits(x)))


def inference_model() -> tf.keras.Model:
    """The same layers without dropout: image float32 [b, 28, 28, 1] to softmax [b, 10]."""
    image = tf.keras.Input((28, 28, 1), name="image")
    conv1, conv2, dense1, logits = _layers(tf.keras.layers.Conv2D)
    x = tf.keras.layers.MaxPool2D(2)(conv1(image))
    x = tf.keras.layers.MaxPool2D(2)(conv2(x))
    x = logits(dense1(tf.keras.layers.Flatten()(x)))
    return _checked(tf.keras.Model(image, tf.keras.layers.Softmax()(x)))


def _layers(convolution: type[tf.keras.layers.Conv2D]) -> tuple[tf.keras.layers.Layer, ...]:
    return (
        convolution(32, 5, activation="relu", name="conv1"),
        convolution(64, 5, activation="relu", name="conv2"),
        tf.keras.layers.Dense(256, activation="relu", name="dense1"),
        tf.keras.layers.Dense(10, name="logits"),
    )


def _checked(model: tf.keras.Model) -> tf.keras.Model:
    assert model.count_params() == PARAMETERS, model.count_params()
    return model
