"""FedEdge: federated learning for edge fleets as Kubeflow pipelines.

What is named here stays; it is imported when it is first used, so that set-up runs on a bare Python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fededge.delivery.endpoints.prediction import predict
    from fededge.documents import Endpoint, Evaluation, GateDecision, ModelVersion, Release
    from fededge.errors import FedEdgeError
    from fededge.task import FederatedTask
    from fededge.task import load as load_task
    from fededge.task import parse as parse_task

__version__ = "0.1.0"

__all__ = [
    "Endpoint",
    "Evaluation",
    "FedEdgeError",
    "FederatedTask",
    "GateDecision",
    "ModelVersion",
    "Release",
    "load_task",
    "parse_task",
    "predict",
]

_PLACES = {
    "FedEdgeError": ("fededge.errors", "FedEdgeError"),
    "FederatedTask": ("fededge.task", "FederatedTask"),
    "load_task": ("fededge.task", "load"),
    "parse_task": ("fededge.task", "parse"),
    "predict": ("fededge.delivery.endpoints.prediction", "predict"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fededge' has no attribute {name!r}")
    module, attribute = _PLACES.get(name, ("fededge.documents", name))
    return getattr(import_module(module), attribute)
