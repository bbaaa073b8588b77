"""The LiteRT file of a plan, by which a client trains and evaluates without TensorFlow: its names.

| signature | takes | gives |
|---|---|---|
| train | examples, labels, weight, w0 ..., s0 ..., keep0 ... | w0 ..., s0 ..., loss_sum, sums |
| evaluate | examples, labels, weight, w0 ... | loss_sum, sums |

A step takes `batch_size` examples as float32 and their stored labels (none where the label is none); `weight` is 1 for
each, and 0 for those that fill a smaller batch up. `w` are the variables in the order of plan.json, `s` what the
optimizer remembers, zeros before the first step, and `keep` is 1 for each unit that dropout keeps. The sums are those
of `fededge.metrics`, in their order.
"""

FILE = "client.tflite"
TRAIN, EVALUATE = "train", "evaluate"
EXAMPLES, LABELS, WEIGHT = "examples", "labels", "weight"
LOSS_SUM, SUMS = "loss_sum", "sums"


def variable(place: int) -> str:
    """The name of a variable's tensor."""
    return f"w{place}"


def memory(place: int) -> str:
    """The name of a tensor that the optimizer remembers."""
    return f"s{place}"


def keep(place: int) -> str:
    """The name of the tensor that says which units a dropout keeps."""
    return f"keep{place}"
