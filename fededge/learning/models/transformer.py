"""A small transformer encoder for sequences of tokens.

Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan Gomez, Lukasz Kaiser and Illia
Polosukhin 2017, Attention Is All You Need, section 3; normalization comes first in each block, as in Ruibin Xiong et
al. 2020, On Layer Normalization in the Transformer Architecture, section 3.
"""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs
from fededge.learning.models.shipped import check

layers = tf.keras.layers


class Positions(tf.keras.layers.Layer):
    """Adds to each step of [b, steps, width] a learned vector of its place."""

    def build(self, shape: tf.TensorShape) -> None:
        """One vector for each step."""
        self.places = self.add_weight(
            "places", shape[1:], initializer=tf.keras.initializers.RandomNormal(stddev=0.02)
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Inputs plus places."""
        return inputs + self.places


class Tokens(tf.keras.layers.Layer):
    """Tokens as float32 [b, steps] to whole numbers within the vocabulary."""

    def __init__(self, vocabulary: int, **options: object) -> None:
        super().__init__(**options)
        self.vocabulary = vocabulary

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Tokens int32 [b, steps]."""
        return tf.clip_by_value(tf.cast(inputs, tf.int32), 0, self.vocabulary - 1)

    def get_config(self) -> dict[str, object]:
        """See Keras."""
        return {**super().get_config(), "vocabulary": self.vocabulary}


def build(
    schema: Schema,
    vocabulary: int = 256,
    width: int = 32,
    heads: int = 2,
    blocks: int = 1,
    dropout: float = 0.0,
) -> tf.keras.Model:
    """An encoder over tokens [steps]: the next step's token for each step, or one answer for all.

    Where the label is a sequence, a step sees itself and the steps before it.

    Args:
        schema: of the examples, whose only feature is the tokens.
        vocabulary: number of tokens, 0 to vocabulary - 1.
        width: of a token's vector.
        heads: of attention; they divide `width`.
        blocks: of attention and a dense network.
        dropout: share of units that a training step leaves out.
    """
    sequence = schema.label.kind == "sequence"
    tokens = tf.keras.Input(check("transformer", schema))
    x = Positions(name="positions")(layers.Embedding(vocabulary, width)(Tokens(vocabulary)(tokens)))
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads, dropout=dropout)
        normal = layers.LayerNormalization()(x)
        x = layers.Add()([x, attended(normal, normal, use_causal_mask=sequence)])
        inside = layers.Dense(4 * width, activation="relu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(dropout)(layers.Dense(width)(inside))])
    x = layers.LayerNormalization()(x)
    if sequence:
        return tf.keras.Model(tokens, layers.Dense(schema.label.classes, name="outputs")(x))
    return tf.keras.Model(tokens, outputs(schema, layers.GlobalAveragePooling1D()(x)))
