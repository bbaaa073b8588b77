"""Frameworks that models come from: one folder each, with a model spec, a client and a plan."""

import importlib.util
from pathlib import Path

from fededge.clients import Client
from fededge.documents import Plan, Schema
from fededge.errors import DataError, TaskError
from fededge.learning.interfaces import ModelSpec
from fededge.task import ClientOptimizer, Model

INSTALL = "pip install torch==2.13.0 'mpmath<1.4'"


def model_spec(model: Model, schema: Schema, seed: int) -> ModelSpec:
    """The model that a task names, for examples of `schema`; its initial weights are drawn from the task's `seed`.

    Raises:
        TaskError: there is no such model, or it does not fit the examples.
    """
    if model.framework == "sklearn":
        from fededge.learning.frameworks.sklearn.spec import SklearnModel

        return SklearnModel(model, schema, seed)
    if model.framework == "torch":
        if not _has_torch():
            raise TaskError(f"model.framework torch needs PyTorch in the worker environment: {INSTALL}")
        from fededge.learning.frameworks.torch.spec import TorchModel

        return TorchModel(model, schema, seed)
    from fededge.learning.frameworks.keras.spec import KerasModel

    return KerasModel(model, schema, seed)


def add_litert(model: ModelSpec, work: ClientOptimizer, plan: Path) -> None:
    """Add to the plan in `plan` what clients on LiteRT execute, or why the model does not allow it; of Keras alone."""
    from fededge.learning.frameworks.keras.spec import KerasModel

    if isinstance(model, KerasModel):
        model.add_litert(work, plan)


def litert_refusal(model: ModelSpec, work: ClientOptimizer) -> str | None:
    """Why clients on LiteRT cannot train the model, as far as its operations tell."""
    from fededge.learning.frameworks.keras.spec import KerasModel

    return model.litert_refusal(work) if isinstance(model, KerasModel) else "it is no Keras model"


def open_client(plan: Path, data: Path) -> Client:
    """A client that executes the plan in `plan` on its own folder `data` (with train/ and test/).

    Raises:
        DataError: the plan is of a framework that is not installed here, or the examples are malformed.
        StorageError: there is no plan.
        DocumentError: plan.json is malformed, or of a newer format.
    """
    document = Plan.read(plan / "plan.json")
    if document.framework == "sklearn":
        from fededge.learning.frameworks.sklearn.client import SklearnClient

        return SklearnClient(plan, document, data)
    if document.framework == "torch" and _has_torch():
        from fededge.learning.frameworks.torch.client import TorchClient

        return TorchClient(plan, document, data)
    if document.framework != "keras":
        raise DataError(f"the plan in {plan} is for the framework {document.framework!r}: install it here")
    from fededge.learning.frameworks.keras.client import KerasClient

    return KerasClient(plan, document, data)


def installed() -> list[str]:
    """The frameworks whose plans can be executed here."""
    packages = {"keras": "tensorflow", "sklearn": "sklearn", "torch": "torch"}
    return [name for name, package in packages.items() if importlib.util.find_spec(package)]


def _has_torch() -> bool:
    return "torch" in installed()
