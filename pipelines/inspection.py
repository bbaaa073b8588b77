"""Inspecting a data set, and making one up, in the worker environment of this machine."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fededge.documents import Inspection
from fededge.errors import DataError, shown
from fededge.host.layout import VENVS
from fededge.learning.data.inspection import Answer, Request
from pipelines.asking import ask


def inspect(data: dict[str, Any], folder: str | None = None, environments: Path = VENVS) -> Inspection:
    """Look at the data that a section `data` of a task names, and complete it.

    Args:
        data: the section, as far as it is known.
        folder: of the task file that is to be written.
        environments: folder of this machine's environments.

    Raises:
        DataError: the section is none, or the data are missing or malformed.
        StorageError: they cannot be read.
        EnvironmentMissing: there is no worker environment here.
    """
    request = json.dumps({"data": data, "folder": folder})
    try:
        Request.model_validate_json(request)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in mistake["loc"][2:]) or "data"
        raise DataError(f"{place}: {shown(mistake['msg'].removeprefix('Value error, '), 300)}") from error
    name = str(data.get("path") or data.get("name") or data.get("source"))
    found = ask(
        "fededge.learning.data.inspection", request, Answer, shown(name, 200), environments
    ).inspection
    assert found is not None
    return found
