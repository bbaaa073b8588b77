"""The LiteRT file of a plan, out of a Keras model: converted, and proven against TensorFlow."""

import re
import tempfile

import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from fededge import storage
from fededge.documents import Dropout, LiteRTProgram, Schema
from fededge.learning.frameworks.keras import batches
from fededge.learning.frameworks.keras.litert.forms import Refused
from fededge.learning.frameworks.keras.litert.program import Optimizer, Program
from fededge.learning.frameworks.keras.litert.proof import prove
from fededge.task import ClientOptimizer, Model

LARGEST_BATCH = 1024
"""Examples that a device computes at once."""


def refusal(
    model: Model, schema: Schema, seed: int, work: ClientOptimizer, optimizer: Optimizer
) -> str | None:
    """Why the model cannot be trained on LiteRT, as far as its operations tell; arguments as for `build`."""
    try:
        _program(model, schema, seed, work, optimizer).functions()
    except Refused as error:
        return str(error)
    return None


def build(
    model: Model, schema: Schema, seed: int, work: ClientOptimizer, optimizer: Optimizer
) -> tuple[bytes, LiteRTProgram]:
    """The file, and what plan.json says of it.

    Args:
        model: what is trained.
        schema: of the examples.
        seed: of the task.
        work: a client's work in one round.
        optimizer: of its local steps.

    Raises:
        Refused: the model cannot be trained on LiteRT.
    """
    program = _program(model, schema, seed, work, optimizer)
    data = _converted(program)
    prove(data, program, model, schema, seed, optimizer)
    described = LiteRTProgram(
        digest=storage.digest(data),
        batch_size=program.batch_size,
        epochs=work.epochs,
        buffer=batches.shuffle_buffer(schema),
        dropout=[Dropout(salt=mask.salt, rate=mask.rate) for mask in program.masks],
    )
    return data, described


def _program(model: Model, schema: Schema, seed: int, work: ClientOptimizer, optimizer: Optimizer) -> Program:
    if work.batch_size > LARGEST_BATCH:
        raise Refused(
            f"learning.client.batch_size {work.batch_size:,} is more than the {LARGEST_BATCH:,} examples that a device "
            "computes at once"
        )
    return Program(model, schema, seed, optimizer, work.batch_size)


def _converted(program: Program) -> bytes:
    functions = program.functions()
    with tempfile.TemporaryDirectory(prefix="fededge-litert-") as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        try:
            return bytes(converter.convert())
        except ConverterError as error:
            raise Refused(_reason(str(error), program)) from error


def _reason(text: str, program: Program) -> str:
    """What the converter says, by the name of the layer."""
    place = re.search(r'fused\["(\w+):", "([^"@]+)', text)
    lacking = re.search(r"'tf\.(\w+)' op is neither", text)
    parts = place[2].split("/") if place else []
    layer = next((part for part in reversed(parts) if part in program.network.layer_names), None)
    what = lacking[1] if lacking else place[1] if place else "an operation"
    return f"{f'layer {layer}' if layer else 'the model'} needs {what}, for which LiteRT has no builtin operation"
