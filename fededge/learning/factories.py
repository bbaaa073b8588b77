"""The function that makes a task's model: of a model that ships, or of the user's own code."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fededge.documents import Schema
from fededge.errors import FedEdgeError, TaskError, shown
from fededge.learning import bundles
from fededge.task import Model


def load(path: str, what: str, code: str | None = None) -> Callable[..., Any]:
    """The function that an import path `module:name` names.

    Args:
        path: such as my_model:build.
        what: of the task names it, for errors.
        code: folder in which its modules lie, or the digest of their bundle (`fededge.learning.bundles`); None looks
            among those that are installed.

    Raises:
        TaskError: there is no such module or function, or its module cannot be imported.
        IntegrityError, StorageError: the bundle is not proven.
    """
    module, _, name = path.partition(":")
    folder = str(bundles.folder_of(code)) if code else None
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise TaskError(
            f"{what} {path} cannot be imported{f' from {Path(code)}' if code else ''}: "
            f"{shown(f'{type(error).__name__}: {error}', 300)}. Name a function as module:function"
        ) from error
    if not callable(found):
        raise TaskError(f"{what} {path} is a {type(found).__name__}, not a function: name a function")
    return found


def make(factory: Callable[..., Any], model: Model, schema: Schema) -> Any:
    """What `factory` makes for `schema` with the model's arguments.

    Raises:
        TaskError: it takes other arguments, or raised an error of its own.
    """
    given = dict(model.arguments)
    try:
        inspect.signature(factory).bind(schema, **given)
    except TypeError as error:
        names = list(inspect.signature(factory).parameters)[1:]
        raise TaskError(
            f"model.arguments of {model.shown}: {shown(str(error), 200)}; it takes {', '.join(names) or 'none'}"
        ) from error
    try:
        return factory(schema, **given)
    except FedEdgeError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise TaskError(
            f"model {model.shown} cannot be made with the arguments {shown(str(given), 200)}: "
            f"{shown(f'{type(error).__name__}: {error}', 300)}"
        ) from error


def check_shapes(model: Model, schema: Schema, answer: Callable[[], Any]) -> None:
    """Check that a model takes encoded examples of `schema` and gives what its label asks for.

    Args:
        model: the task's section, for errors.
        schema: of the examples.
        answer: gives the model's outputs [b, ...] for a batch of such examples.

    Raises:
        TaskError: it does not.
    """
    wanted = schema.label.output_shape or schema.encoded_shape
    try:
        found = tuple(answer().shape[1:])
    except Exception as error:  # the user's model may raise anything
        raise TaskError(
            f"model {model.shown} does not take examples of shape {list(schema.encoded_shape)}: "
            f"{shown(f'{type(error).__name__}: {error}', 300)}"
        ) from error
    if found != wanted:
        raise TaskError(
            f"model {model.shown} gives outputs of shape {list(found)} for an example, where the label asks for "
            f"{list(wanted)}: change its last layer"
        )
