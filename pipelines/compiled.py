"""Compiled pipelines: what they hold, and what the local runner changes in them."""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from pipelines.warm import component


def name_of(path: Path) -> str | None:
    """Name of the pipeline that was compiled to the file `path`; None where it is another kind of file."""
    try:
        document = next(yaml.safe_load_all(path.read_text(encoding="utf-8")), None)
        name = document["pipelineInfo"]["name"] if isinstance(document, dict) else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None
    return str(name) if name else None


def images(spec: Mapping[str, Any]) -> list[str]:
    """The images that a pipeline's steps run in."""
    executors = spec.get("deploymentSpec", {}).get("executors", {}).values()
    return sorted({executor["container"]["image"] for executor in executors if "container" in executor})


def components(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """The sources of the Python components that a pipeline's steps run, by image."""
    found: dict[str, set[str]] = {}
    for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container", {})
        source = component(container.get("command", []))
        if source is not None:
            found.setdefault(container["image"], set()).add(source)
    return {image: sorted(sources) for image, sources in found.items()}


def steps(spec: Mapping[str, Any]) -> int:
    """How many steps a pipeline has; those of a loop count once."""
    tasks = [task for tasks in _graphs(spec) for task in tasks.values()]
    return sum("executorLabel" in spec["components"][task["componentRef"]["name"]] for task in tasks)


def reused(spec: Mapping[str, Any]) -> list[str]:
    """The steps whose results a cluster takes from an earlier run, where that had the same inputs."""
    return sorted(
        name
        for tasks in _graphs(spec)
        for name, task in tasks.items()
        if "executorLabel" in spec["components"][task["componentRef"]["name"]]
        and task.get("cachingOptions", {}).get("enableCache")
    )


def pods(spec: Mapping[str, Any]) -> int:
    """How many pods Kubeflow starts for it: two for a step, and one for each graph; a loop counts once."""
    return 2 * steps(spec) + len(_graphs(spec))


def closing_steps(spec: Mapping[str, Any]) -> set[str]:
    """Steps that wait for the others' end, not for their success: exit handlers above all."""
    return {
        task["componentRef"]["name"].removeprefix("comp-")
        for tasks in _graphs(spec)
        for task in tasks.values()
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
    }


def _graphs(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks, by name, of each graph in a pipeline."""
    nodes = (spec["root"], *spec["components"].values())
    return [node["dag"]["tasks"] for node in nodes if "dag" in node]


def chain(spec: Mapping[str, Any]) -> None:
    """Let each task of a graph wait for the one before it; kfp.local's order differs from process to process.

    Of the tasks that are ready, the first by name goes first.
    """
    for tasks in _graphs(spec):
        sorter = TopologicalSorter({name: task.get("dependentTasks", ()) for name, task in tasks.items()})
        sorter.prepare()
        ready: list[str] = []
        before: list[str] = []
        while sorter.is_active():
            name, *ready = sorted([*ready, *sorter.get_ready()])
            tasks[name]["dependentTasks"] = sorted({*tasks[name].get("dependentTasks", ()), *before})
            sorter.done(name)
            before = [name]


def drop_retries(node: Any) -> None:
    """Take all retry policies out of a pipeline, or a part of one."""
    if isinstance(node, dict):
        node.pop("retryPolicy", None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        drop_retries(child)
