"""Reading task files: YAML in, a validated task out, and each mistake told by its line."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from fededge import storage
from fededge.errors import StorageError, TaskError, shown
from fededge.task.base import Part
from fededge.task.changes import changed
from fededge.task.federated_task import FederatedTask
from fededge.task.keys import unknown
from fededge.task.steps import ClusterSettings
from fededge.yaml_text import Content, Place, dotted, read

LIMIT = 1 << 20
"""Bytes of the largest task file."""
MISTAKES = 10
"""Most mistakes that one error lists."""
PATHS = ("path", "code")
NPY_PATHS = ("x", "y", "owner", "time")
"""Keys of `data` that are paths relative to the task file."""
TAGGED: tuple[Place, ...] = (("data",), ("data", "held_out"))
"""Where pydantic adds the tag of a union to the place of a mistake: data.digits.holdout."""
Whole = TypeVar("Whole", bound=Part)


def load(path: str | Path, changes: Sequence[str] = ()) -> FederatedTask:
    """Read and validate a task file; relative paths of data become absolute against its folder.

    Args:
        path: of the file.
        changes: `key=value` each, as `--set` gives them; made in their order before the task is validated.

    Raises:
        TaskError: the file is missing, no regular file, too large, not YAML, or says something that the
            schema refuses; or a change does.
    """
    path, source = Path(path), shown(str(path), 500)
    content = changed(read(_text(path, source), source), changes)
    _make_data_paths_absolute(content.value, path.parent)
    return _validated(content, source, FederatedTask)


def load_cluster_settings(path: str | Path) -> ClusterSettings:
    """Read and validate a file of a cluster's defaults, as strictly as a task file.

    Raises:
        TaskError: as for `load`.
    """
    source = shown(str(path), 500)
    return _validated(read(_text(Path(path), source), source), source, ClusterSettings)


def parse(text: str, source: str = "task", changes: Sequence[str] = ()) -> FederatedTask:
    """The task in YAML (or JSON) `text`; `source` names it in errors.

    Raises:
        TaskError: as for `load`.
    """
    return _validated(changed(read(text, source), changes), source, FederatedTask)


def _text(path: Path, source: str) -> str:
    try:
        return storage.read(str(path), LIMIT).decode()
    except StorageError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else shown(str(error), 1000)
        raise TaskError(f"cannot read task file {source}: {reason}. Check the path") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{source} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error


def _make_data_paths_absolute(task: Any, folder: Path) -> None:
    _make_absolute(_section(task, "model"), ("code", "weights"), folder)
    _make_absolute(_section(task, "learning", "cohort"), ("code",), folder)
    for data in (_section(task, "data"), _section(task, "data", "held_out")):
        _make_absolute(data, (*PATHS, *(NPY_PATHS if data.get("source") == "npy" else ())), folder)


def _section(content: Any, *keys: str) -> dict[str, Any]:
    """The mapping at `keys`; an empty one where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _make_absolute(section: dict[str, Any], keys: Sequence[str], folder: Path) -> None:
    for key in keys:
        path = section.get(key)
        if isinstance(path, str) and path and path.isprintable() and not _is_elsewhere(path):
            section[key] = os.path.realpath(folder / path)


def _is_elsewhere(path: str) -> bool:
    """Whether it is a URL, a registered model, or the digest of code that is packed already."""
    return "://" in path or path.startswith(("sha256:", "models:/"))


def _validated(content: Content, source: str, model: type[Whole]) -> Whole:
    if not isinstance(content.value, dict):
        least = "steps: {}" if model is ClusterSettings else "name: NAME` and `data: {source: digits}"
        raise TaskError(f"{source} is no mapping: say at least `{least}`")
    try:
        return model.model_validate(content.value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
        told = [_explained(mistake, content, model) for mistake in mistakes[:MISTAKES]]
        if len(mistakes) > MISTAKES:
            told.append(f"and {len(mistakes) - MISTAKES:,} more mistakes")
        raise TaskError("; ".join(told)) from error


def _explained(mistake: Any, content: Content, model: type[Part]) -> str:
    """One mistake that pydantic found: where, what, and the value it found there."""
    place: Place = mistake["loc"]
    for tagged in TAGGED:
        if place[: len(tagged)] == tagged:
            place = tagged + place[len(tagged) + 1 :]
    where = next(
        content.places[place[:end]] for end in range(len(place), -1, -1) if place[:end] in content.places
    )
    reason = shown(mistake["msg"].removeprefix("Value error, "), 400)
    if mistake["type"] == "extra_forbidden":
        reason = unknown(place, model)
    elif not isinstance(mistake["input"], dict | list):
        reason += f" (found {shown(_literal(mistake['input']))})"
    return f"{where}: {dotted(place)}: {reason}"


def _literal(value: Any) -> str:
    return repr(value[:100]) if isinstance(value, str) else str(value)
