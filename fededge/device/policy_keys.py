"""The keys of a policy file, each typed and bounded; docs/guides/sites.md and devices.md have examples."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fededge.eligibility import Region
from fededge.protocol import Kind
from fededge.protocol.fields import Name

Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?$")]
File = Annotated[str, Field(min_length=1, max_length=4096)]
Positive = Annotated[int, Field(ge=1, le=1 << 50)]
MOST_RELEASES = 16
"""That a client follows, as it can ask for at a time."""
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=1000)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no time zone: give a name such as Europe/Berlin") from error
    return name


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Limits(_Part):
    """What the work of one assignment may take.

    Attributes:
        memory_bytes: that the runner and its children hold (RSS).
        cpus: processors that they may run on; None: all.
        cpu_seconds: processor time; None: as much as there is.
        seconds: wall time of the work itself.
        download_bytes: of a plan or of weights; `upload_bytes`: of an update.
    """

    memory_bytes: Positive = 4 << 30
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    cpu_seconds: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] = 3600.0
    download_bytes: Positive = 1 << 30
    upload_bytes: Positive = 256 << 20


class Rule(_Part):
    """Who may do what.

    Attributes:
        name: as it is told where it allows or declines.
        tasks, owners: names, or patterns with * and ?.
        signers: PEM files of the public keys whose orders it is for.
        datasets: by their names in the policy.
        kinds: of work.
        rounds_per_day: most orders in 24 hours; `seconds_between`: fewest seconds from one to the next.
        min_clients: smallest cohort, and fewest updates in an aggregate, that an order may have.
        min_examples: fewest examples that work may be on.
        code: whether plans may bring a user's own code; it runs in isolation, or not at all.
        isolation: whether all work must run in isolation.
    """

    name: Name
    tasks: Patterns
    owners: Patterns = ["*"]
    signers: Annotated[list[File], Field(min_length=1, max_length=100)]
    datasets: Annotated[list[Name], Field(min_length=1, max_length=64)]
    kinds: Annotated[list[Kind], Field(min_length=1)]
    rounds_per_day: Positive | None = None
    seconds_between: Annotated[float, Field(ge=0)] = 0.0
    min_clients: Positive = 3
    min_examples: Positive = 20
    code: bool = False
    isolation: bool = False
    limits: Limits = Limits()


class Measured(_Part):
    """What an integrator's program, or the policy, says of a client: facts of fededge.eligibility, as JSON or YAML."""

    charging: bool | None = None
    battery: Annotated[float, Field(ge=0, le=1)] | None = None
    metered: bool | None = None
    idle: bool | None = None
    manual: bool | None = None
    temperature_celsius: Annotated[float, Field(ge=-273.15, le=10_000)] | None = None
    free_memory_bytes: Annotated[int, Field(ge=0, le=1 << 60)] | None = None
    free_storage_bytes: Annotated[int, Field(ge=0, le=1 << 60)] | None = None
    region: Region | None = None


class Monitoring(_Part):
    """Where facts come from that the machine does not tell.

    Attributes:
        file: JSON file with `Measured`, which a program of the integrator writes, whole, again and again.
        max_age_seconds: for which it is believed after it was written.
        always: what does not change.
        time_zone: IANA name of the client's; None: the machine's.
    """

    file: File | None = None
    max_age_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    always: Measured = Measured()
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None


class Follows(_Part):
    """A task whose releases are run here.

    Attributes:
        task: its name; device_class: which of its variants.
        trusted_key: PEM file of the public key that releases are signed by.
        issued_after: seconds since the epoch: no release that was issued earlier is taken, whatever else is forgotten.
        samples: folder of the device's own samples (x.npy, y.npy), on which a new model is tried.
        limits: of trying it.
    """

    task: Name
    device_class: Annotated[Name, Field(alias="class")]
    trusted_key: File
    issued_after: Annotated[float, Field(ge=0)] = 0.0
    samples: File | None = None
    limits: Limits = Limits(memory_bytes=512 << 20, seconds=60.0, download_bytes=256 << 20)


class Program(_Part):
    """Releases of the client's own program.

    Attributes:
        device_class: which of a release's bundles.
        trusted_key: PEM file of the public key that releases are signed by.
        issued_after: as for releases of models.
        download_bytes: of a bundle.
        confirm_seconds: for which a new program may be without a session with the gateway before it counts as failed.
    """

    device_class: Annotated[Name, Field(alias="class")]
    trusted_key: File
    issued_after: Annotated[float, Field(ge=0)] = 0.0
    download_bytes: Positive = 512 << 20
    confirm_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0


class Serving(_Part):
    """Inference for programs of this machine.

    Attributes:
        port: on 127.0.0.1.
    """

    port: Annotated[int, Field(ge=1, le=65_535)] = 9000


class Policy(_Part):
    """A whole policy.

    Attributes:
        datasets: the client folder (with train/ and test/) of each name by which tasks ask for examples.
        hosts: beside the gateway's, where plans, weights and updates may lie: HOST or HOST:PORT of a bucket.
        conditions: where facts of this client come from.
        releases: that are run here; serving: how they answer; None: they do not.
        program: releases of this program itself; None: it stays as it was installed.
        poll_seconds: how often to ask for newer ones.
        rules: of which the first that is for an order decides.
    """

    datasets: Annotated[dict[Name, File], Field(max_length=64)] = {}
    hosts: Annotated[list[Host], Field(max_length=100)] = []
    conditions: Monitoring = Monitoring()
    releases: Annotated[list[Follows], Field(max_length=MOST_RELEASES)] = []
    serving: Serving | None = None
    program: Program | None = None
    poll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    rules: Annotated[list[Rule], Field(max_length=1000)] = []

    @model_validator(mode="after")
    def _says_something(self) -> "Policy":
        if not self.rules and not self.releases and self.program is None:
            raise ValueError("it has no rules, no releases and no program: nothing would be done here")
        if bool(self.rules) != bool(self.datasets):
            raise ValueError("rules and datasets go together: give both or none")
        names = [each.task for each in self.releases]
        if len(set(names)) < len(names):
            raise ValueError("releases lists a task twice")
        if self.program is not None and len(self.releases) == MOST_RELEASES:
            raise ValueError(
                f"releases and program are more than the {MOST_RELEASES} that a client may follow"
            )
        return self
