"""What a model file says about itself: the schema of the examples that it takes.

A LiteRT file is a flatbuffer with a ZIP archive behind it, as TensorFlow Lite's metadata keeps associated files; readers
of the flatbuffer do not look there. The archive holds schema.json alone. An ONNX file has the same text among its
metadata, under KEY.
"""

import io
import zipfile
import zlib
from typing import TYPE_CHECKING

from fededge.errors import DocumentError, VariantError

if TYPE_CHECKING:
    from fededge.documents import Schema

NAME = "schema.json"
KEY = "fededge.schema"
LIMIT = 4 << 20
"""Bytes of the largest schema in a model file."""
EPOCH = (1980, 1, 1, 0, 0, 0)


def with_schema(model: bytes, schema: "Schema") -> bytes:
    """The LiteRT `model` with the schema of its examples behind it; the same inputs give the same bytes."""
    file = io.BytesIO(model)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(NAME, EPOCH), schema.to_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def schema_of(model: bytes) -> "Schema | None":
    """The schema in a LiteRT file; None where it has none, as files of version 0.1.

    Raises:
        VariantError: what stands there is no schema.
    """
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            if archive.namelist() != [NAME] or archive.getinfo(NAME).file_size > LIMIT:
                return None
            content = archive.read(NAME)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, zlib.error) as error:
        raise VariantError(f"the model's schema cannot be read: {error}. Build the variant again") from error
    return parsed(content)


def parsed(content: bytes) -> "Schema":
    """The schema that a model file holds as `content`.

    Raises:
        VariantError: it is none.
    """
    from fededge.documents import Schema

    if len(content) > LIMIT:
        raise VariantError(
            f"the model's schema has {len(content):,} bytes, more than {LIMIT:,}: build the variant again"
        )
    try:
        return Schema.from_bytes(content, "the model's schema")
    except DocumentError as error:
        raise VariantError(f"{error}, or build the variant again") from error
