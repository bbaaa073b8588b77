"""What clients and gateways say of releases: which a client follows and runs, and where a newer one is.

A manifest (`fededge.documents.Release`, signed) and a model are objects like any other: named by digest, fetched by a URL
that is good for one of them and a short time. What a client believes of them is in the signature alone.
"""

from typing import Annotated, Literal

from pydantic import Field

from fededge.protocol.fields import Digest, Name, Object, Said, Text


class Running(Said):
    """What a client runs of a task, as `fededge.documents.DeviceReport` has it.

    Attributes:
        status: `failed` when it could not follow the last release; what it goes on running stays in the other fields.
        score: on examples of its own, in `metric`; latency_ms: median of one example.
    """

    task: Name
    device_class: Name
    version: Annotated[int, Field(ge=1)] | None = None
    kind: Name | None = None
    digest: Digest | None = None
    status: Literal["running", "failed"]
    error: Text | None = None
    metric: Annotated[str, Field(max_length=200)] = ""
    score: float | None = None
    latency_ms: Annotated[float, Field(ge=0)] | None = None


class Following(Said):
    """A release that a client follows.

    Attributes:
        manifest: digest of the one that it has, or has refused; None: it has seen none.
        running: what it runs of the task, where that changed since it was told in this session.
    """

    task: Name
    device_class: Name
    manifest: Digest | None = None
    running: Running | None = None


class Follow(Said):
    """Client to gateway: are there other releases than these?"""

    type: Literal["follow"] = "follow"
    releases: Annotated[list[Following], Field(max_length=16)]


class Offer(Said):
    """A release that a client does not have.

    Attributes:
        model: for its device class; None: the release has none for it.
    """

    task: Name
    manifest: Object
    model: Object | None = None


class Releases(Said):
    """Gateway to client: here they are; none that is not newer is among them."""

    type: Literal["releases"] = "releases"
    offers: Annotated[list[Offer], Field(max_length=16)] = []


class ReleaseRequest(Said):
    """Pipeline to gateway, PUT /v1/releases/TASK: from now on this is the release of the task.

    Attributes:
        manifest: digest of the signed manifest; models: digest of each device class's model. They are stored before.
        issued: as the manifest says: a release that was issued before the one that is there is refused.
    """

    manifest: Digest
    issued: float
    models: Annotated[dict[Name, Digest], Field(min_length=1, max_length=1000)]


class ReleaseInfo(ReleaseRequest):
    """The release of a task, and when it came."""

    task: Name
    published: float
