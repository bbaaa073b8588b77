"""A small convolutional network in PyTorch."""

from torch import nn

from fededge.learning.frameworks.torch.layers import ChannelsFirst


def build(schema, filters=16):
    """From images [28, 28, 1] to a logit for each class.

    Args:
        schema: of the examples.
        filters: of the first convolution; the second has twice as many.
    """
    return nn.Sequential(
        ChannelsFirst(),
        nn.Conv2d(1, filters, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(filters, 2 * filters, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * filters * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, schema.label.classes),
    )
