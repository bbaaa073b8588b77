"""The file of a relay (YAML), as it is read: strictly, and a mistake is told with its line and key.

docs/guides/relay.md has an example.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from fededge import storage
from fededge.device.policy import told
from fededge.device.relay.payload import Part
from fededge.device.relay.settings import Broker, Group
from fededge.errors import FedEdgeError, RelayError, shown
from fededge.yaml_text import Content, read

LIMIT = 1 << 20
"""Bytes of the largest file."""


class RelayFile(Part):
    """A whole file.

    Attributes:
        groups: of sensors, each with topics and a dataset of its own.
    """

    broker: Broker
    groups: Annotated[list[Group], Field(min_length=1, max_length=100)]


def load(path: Path) -> RelayFile:
    """The relay's file at `path`; the files that it names are relative to its folder, and given whole.

    Raises:
        RelayError: it is missing or wrong.
    """
    source = shown(str(path), 500)
    try:
        content = read(storage.read(str(path), LIMIT).decode(), source)
    except UnicodeDecodeError as error:
        raise RelayError(f"{source} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except FedEdgeError as error:
        raise RelayError(f"the relay's file cannot be read: {error}") from error
    try:
        file = RelayFile.model_validate(content.value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
        raise RelayError("; ".join(told(mistake, content, source) for mistake in mistakes[:10])) from error
    _check_names(file, content, source)
    return file


def _check_names(file: RelayFile, content: Content, source: str) -> None:
    """Refuse what two groups share: a name, a dataset, a topic."""
    seen: dict[tuple[str, str], int] = {}
    for number, group in enumerate(file.groups):
        where = content.places.get(("groups", number), source)
        mine = [("name", group.name), ("dataset.name", group.dataset.name)]
        mine += [("topic", topic.filter) for topic in group.topics.values()]
        for key, value in mine:
            if (key, value) in seen:
                raise RelayError(
                    f"{where}: groups.{number}.{key}: {shown(value)!r} is used by groups.{seen[key, value]}, too: "
                    "give each its own"
                )
            seen[key, value] = number
