"""How good a model is on held-out examples: accuracy, loss, per class, confusion, and per client."""

from pathlib import Path
from typing import Any

import numpy as np

from fededge.errors import DivergedError, RoundError
from fededge.learning.data import folders
from fededge.learning.frameworks.keras import models
from fededge.learning.runtimes.local import LocalSites
from fededge.learning.state import State
from fededge.task import FederatedTask

BATCH = 512


def evaluate(model: Any, x: np.ndarray, y: np.ndarray, classes: int) -> dict[str, Any]:
    """Evaluate a Keras `model` on x float32 [n, ...], y int64 [n].

    Returns:
        accuracy, loss (mean cross-entropy in nats), examples, per_class (precision, recall, f1 and
        examples by label) and confusion ([true][predicted] counts).

    Raises:
        DivergedError: the model's answers are not finite.
    """
    scores = np.concatenate([model(x[i : i + BATCH], training=False) for i in range(0, len(x), BATCH)])
    if not np.isfinite(scores).all():
        raise DivergedError(
            "the model answers NaN: its training diverged; lower learning.client.learning_rate"
        )
    loss = -np.log(np.clip(scores[np.arange(len(y)), y], 1e-7, 1.0)).mean(dtype=np.float64)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (y, scores.argmax(axis=1)), 1)
    hits, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "accuracy": float(hits.sum() / len(y)),
        "loss": float(loss),
        "examples": len(y),
        "per_class": [
            {
                "label": label,
                "examples": int(actual[label]),
                "precision": float(hits[label] / max(claimed[label], 1)),
                "recall": float(hits[label] / max(actual[label], 1)),
                "f1": float(2 * hits[label] / max(actual[label] + claimed[label], 1)),
            }
            for label in range(classes)
        ],
        "confusion": confusion.tolist(),
    }


def evaluate_state(task: FederatedTask, state: State, data: Path, test: Path, plan: Path) -> dict[str, Any]:
    """Evaluate the global weights of `state` on the examples in `test` and at each client of `data`.

    Returns:
        What `evaluate` gives, with `round`, `samples` (sample passes so far), `clients` (id, accuracy,
        loss and examples of each, measured on its own test examples) and `failed` (why a client is not
        among them).

    Raises:
        DivergedError: the model's answers are not finite.
        RoundError: no client could evaluate the model.
    """
    model = models.inference_model(task, state.weights)
    population = folders.population(data)
    clients = [client["id"] for client in population["clients"]]
    x, y = folders.read(test)
    failed: dict[str, str] = {}
    if task.learning.engine == "simulation":
        per_client = [
            _client(
                client,
                evaluate(model, *folders.read(data / "clients" / client / "test"), population["classes"]),
            )
            for client in clients
        ]
    else:
        per_client, failed = _evaluate_at_sites(task, state, data, plan, clients)
    return evaluate(model, x, y, population["classes"]) | {
        "round": state.round,
        "samples": sum(record["examples"] for record in state.history),
        "clients": per_client,
        "failed": failed,
    }


def _evaluate_at_sites(
    task: FederatedTask, state: State, data: Path, plan: Path, clients: list[str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    sites = LocalSites(plan, data / "clients")
    try:
        found = sites.evaluate(state.weights, clients, task.learning.cohort.deadline_seconds)
    finally:
        sites.close()
    if not found.counts:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(found.failed.items()))
        raise RoundError(f"no client can evaluate the model ({reasons}). Mend them, then run again")
    results = []
    for client, counts in sorted(found.counts.items()):
        examples = counts["examples"]
        accuracy, loss = (counts[key] / examples for key in ("correct", "loss_sum"))
        results.append(_client(client, {"accuracy": accuracy, "loss": loss, "examples": int(examples)}))
    return results, found.failed


def _client(client: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"id": client} | {key: result[key] for key in ("accuracy", "loss", "examples")}
