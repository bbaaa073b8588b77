"""Field types that messages and HTTP bodies share, each bounded."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Of a client, tenant, dataset, region, operator: what neither a log, a path nor SQL reads otherwise."""

Name = Annotated[str, Field(pattern=NAME)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Url = Annotated[str, Field(min_length=1, max_length=4096)]
Text = Annotated[str, Field(max_length=500)]
Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400)]
Base64 = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
Trace = Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
"""A `traceparent` (W3C Trace Context, section 3.2)."""
Facts = Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=64)]
"""Names and what is said of them: attributes, capabilities, conditions."""


class Said(BaseModel):
    """Something said by another program: strict and immutable; fields that a newer program adds are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    def to_content(self) -> dict[str, Any]:
        """It as a JSON object."""
        return self.model_dump(mode="json", exclude_none=True)


class Object(Said):
    """Something to fetch: bytes of one digest, behind a URL that is good for a short time."""

    digest: Digest
    bytes: Bytes
    url: Url
