"""What every document has in common: a format version, one way to write it and one way to read it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge import storage
from fededge.errors import DocumentError, ReleaseError, shown

if TYPE_CHECKING:
    from fededge.signing import TrustedKey

Signed = TypeVar("Signed", bound="Document")

FORMAT = re.compile(r"fededge-([a-z]+(?:-[a-z]+)*)-([0-9]{1,6})")
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
ACCURACY = "accuracy"
"""The metric of documents that do not say which: there was no other one."""


class Part(BaseModel):
    """A part of a document: immutable, of exactly these fields and types, with finite numbers only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Document(Part):
    """A JSON document with the format `fededge-<KIND>-<VERSION>`.

    Attributes:
        KIND: what it is, in lower case with hyphens.
        VERSION: of the format that this code writes; older ones are read by way of `upgraded`.
        LIMIT: largest size in bytes that is read.
        REMEDY: what to do about one that cannot be read.
        UNVERSIONED: whether documents without a format, which version 0.1 of FedEdge wrote, are read.
        BARE_LIST: the field whose list was the whole document while it had no format.
    """

    KIND: ClassVar[str]
    VERSION: ClassVar[int] = 1
    LIMIT: ClassVar[int] = 64 << 20
    REMEDY: ClassVar[str] = "Run the step that wrote it again (`fededge run --fresh`)"
    UNVERSIONED: ClassVar[bool] = False
    BARE_LIST: ClassVar[str | None] = None

    @classmethod
    def format_name(cls) -> str:
        """The `format` of documents that this code writes."""
        return f"fededge-{cls.KIND}-{cls.VERSION}"

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """`content` of an older `version`, brought to the fields of today; 0 is one without a format."""
        return {name: value for name, value in content.items() if name in _names(cls)}

    def to_content(self) -> dict[str, Any]:
        """The document as a JSON object."""
        return {"format": self.format_name(), **self.model_dump(mode="json", by_alias=True)}

    def to_bytes(self) -> bytes:
        """The document as JSON in UTF-8; the same document always gives the same bytes."""
        return json.dumps(self.to_content(), sort_keys=True, indent=1).encode()

    def write(self, url: str | Path) -> None:
        """Write the document to `url`, whole or not at all.

        Raises:
            StorageError: the write failed.
        """
        storage.write(str(url), self.to_bytes())

    @classmethod
    def read(cls, url: str | Path) -> Self:
        """The document at `url`.

        Raises:
            StorageError: it cannot be read, or is larger than LIMIT.
            DocumentError: it is no such document, or of a newer format.
        """
        return cls.from_bytes(storage.read(str(url), cls.LIMIT), str(url))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "document") -> Self:
        """The document in JSON `data`; `where` names it in errors.

        Raises:
            DocumentError: as for `read`.
        """
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{where} is not JSON, or cut short. {cls.REMEDY}") from error
        return cls.from_content(content, where)

    @classmethod
    def from_content(cls, content: Any, where: str = "document", *, unversioned: bool | None = None) -> Self:
        """The document in parsed JSON `content`.

        Args:
            content: what `json.loads` gave.
            where: its name in errors.
            unversioned: whether one without a format is read; by default as UNVERSIONED says.

        Raises:
            DocumentError: as for `read`.
        """
        unversioned = cls.UNVERSIONED if unversioned is None else unversioned
        if unversioned and cls.BARE_LIST and isinstance(content, list):
            content = {cls.BARE_LIST: content}
        if not isinstance(content, dict):
            raise DocumentError(
                f"{where} is a JSON {type(content).__name__}, not the object of a {cls.KIND}. {cls.REMEDY}"
            )
        version = cls._version(content, where, unversioned)
        fields = {key: value for key, value in content.items() if key != "format"}
        try:
            if version < cls.VERSION:
                fields = cls.upgraded(fields, version)
            return cls.model_validate(fields)
        except ValidationError as error:
            raise DocumentError(f"{where} is no {cls.KIND}: {first_mistake(error)}. {cls.REMEDY}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DocumentError(f"{where} is no {cls.KIND} of version {version}. {cls.REMEDY}") from error

    @classmethod
    def _version(cls, content: dict[str, Any], where: str, unversioned: bool) -> int:
        if "format" not in content:
            if unversioned:
                return 0
            raise DocumentError(
                f"{where} has no format, as {cls.KIND} documents of FedEdge 0.1 had none, where "
                f"{cls.format_name()} is expected. {cls.REMEDY}"
            )
        written = content["format"] if isinstance(content["format"], str) else "of another type"
        named = FORMAT.fullmatch(written)
        if named is None or named[1] != cls.KIND:
            raise DocumentError(
                f"{where} has the format {shown(written)!r} where {cls.format_name()} is "
                f"expected. {cls.REMEDY}"
            )
        version = int(named[2])
        if version > cls.VERSION:
            raise DocumentError(
                f"{where} has the format {named[0]}, newer than {cls.format_name()}, the newest that this "
                "FedEdge reads: update FedEdge here"
            )
        return version


def signed(kind: type[Signed], envelope: bytes, trusted: "TrustedKey") -> Signed:
    """The document of a release in `envelope`, once it is proven to be signed by `trusted`.

    Raises:
        IntegrityError: not signed by the trusted key, or changed since.
        ReleaseError: signed, but no document of this kind, or one of a newer format.
    """
    try:
        return kind.from_content(trusted.verify(envelope), "the signed document")
    except DocumentError as error:
        raise ReleaseError(str(error)) from error


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line and without the value."""
    mistake = error.errors(include_url=False, include_input=False)[0]
    place = shown(".".join(map(str, mistake["loc"])), 200)
    return f"{place or 'document'}: {shown(mistake['msg'], 200)}"


def renamed(content: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`content` with the keys of `names` called what they are called today."""
    return {names.get(name, name): value for name, value in content.items()}


def _names(model: type[Part]) -> set[str]:
    return set(model.model_fields) | {f.alias for f in model.model_fields.values() if f.alias}
