"""What a site allows, in a YAML file of its own: who may learn from which data, how, how often and with which limits.

The file is read again when it changes. While it has a mistake, nothing is allowed. docs/guides/sites.md has an example.
"""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fededge import storage
from fededge.eligibility import Region
from fededge.errors import FedEdgeError, SiteError, shown
from fededge.protocol import Kind
from fededge.protocol.fields import Name
from fededge.signing import TrustedKey
from fededge.yaml_text import Content, Place, dotted, read

LIMIT = 1 << 20
"""Bytes of the largest policy file."""
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?$")]
File = Annotated[str, Field(min_length=1, max_length=4096)]
Positive = Annotated[int, Field(ge=1, le=1 << 50)]
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
        poll_seconds: how often to ask for newer ones.
        rules: of which the first that is for an order decides.
    """

    datasets: Annotated[dict[Name, File], Field(max_length=64)] = {}
    hosts: Annotated[list[Host], Field(max_length=100)] = []
    conditions: Monitoring = Monitoring()
    releases: Annotated[list[Follows], Field(max_length=16)] = []
    serving: Serving | None = None
    poll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    rules: Annotated[list[Rule], Field(max_length=1000)] = []

    @model_validator(mode="after")
    def _says_something(self) -> "Policy":
        if not self.rules and not self.releases:
            raise ValueError("it has neither rules nor releases: nothing would be done here")
        if bool(self.rules) != bool(self.datasets):
            raise ValueError("rules and datasets go together: give both or none")
        names = [each.task for each in self.releases]
        if len(set(names)) < len(names):
            raise ValueError("releases lists a task twice")
        return self


class Loaded:
    """A policy with what it names: `folders` of data by name, `conditions`, trusted keys, and `releases` by task.

    Args:
        path: of the file; what it names is relative to its folder.

    Raises:
        SiteError: the file is missing or wrong, or a key that it names is.
    """

    def __init__(self, path: Path) -> None:
        self.policy = _validated(_read(path), shown(str(path), 500))
        folder = path.parent
        self.folders = {name: folder / data for name, data in self.policy.datasets.items()}
        told = self.policy.conditions
        file = None if told.file is None else str(folder / told.file)
        self.conditions = told.model_copy(update={"file": file})
        self._keys: dict[str, TrustedKey] = {}
        named = {file for rule in self.policy.rules for file in rule.signers}
        named |= {each.trusted_key for each in self.policy.releases}
        self._files = [path, *sorted(folder / file for file in named)]
        self._seen = [_state(file) for file in self._files]
        self._signers: dict[str, set[str]] = {}
        for number, rule in enumerate(self.policy.rules):
            try:
                keys = [TrustedKey.load(folder / file) for file in rule.signers]
            except FedEdgeError as error:
                raise SiteError(f"{shown(str(path), 500)}: rules.{number}.signers: {error}") from error
            self._keys |= {key.id: key for key in keys}
            self._signers[rule.name] = {key.id for key in keys}
        self.releases: dict[str, tuple[Follows, TrustedKey]] = {}
        for number, each in enumerate(self.policy.releases):
            try:
                trusted = TrustedKey.load(folder / each.trusted_key)
            except FedEdgeError as error:
                raise SiteError(f"{shown(str(path), 500)}: releases.{number}.trusted_key: {error}") from error
            samples = None if each.samples is None else str(folder / each.samples)
            self.releases[each.task] = (each.model_copy(update={"samples": samples}), trusted)

    @property
    def changed(self) -> bool:
        """Whether a file that it was read from is another now."""
        return self._seen != [_state(file) for file in self._files]

    def key(self, id: str) -> TrustedKey | None:
        """The key `id`, if any rule trusts it."""
        return self._keys.get(id)

    def rule_for(self, task: str, owner: str, signer: str, dataset: str) -> Rule | None:
        """The first rule that is for such an order."""
        for rule in self.policy.rules:
            if (
                signer in self._signers[rule.name]
                and dataset in rule.datasets
                and any(fnmatchcase(task, pattern) for pattern in rule.tasks)
                and any(fnmatchcase(owner, pattern) for pattern in rule.owners)
            ):
                return rule
        return None


class PolicyFile:
    """The policy in a file, as it is now.

    Raises:
        SiteError: it is missing or wrong at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: Loaded | None = Loaded(path)

    @property
    def last(self) -> Loaded | None:
        """The policy as it was read last; None where that had a mistake."""
        return self._loaded

    def current(self) -> Loaded:
        """The policy, read again where a file of it changed.

        Raises:
            SiteError: what is there now is wrong.
        """
        if self._loaded is None or self._loaded.changed:
            self._loaded = None
            self._loaded = Loaded(self._path)
        return self._loaded


def _read(path: Path) -> Content:
    source = shown(str(path), 500)
    try:
        return read(storage.read(str(path), LIMIT).decode(), source)
    except UnicodeDecodeError as error:
        raise SiteError(f"{source} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except FedEdgeError as error:
        raise SiteError(f"the site's policy cannot be read: {error}") from error


def _validated(content: Content, source: str) -> Policy:
    try:
        policy = Policy.model_validate(content.value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
        raise SiteError("; ".join(told(mistake, content, source) for mistake in mistakes[:10])) from error
    names = [rule.name for rule in policy.rules]
    for number, rule in enumerate(policy.rules):
        where = content.places.get(("rules", number), source)
        if names.count(rule.name) > 1:
            raise SiteError(
                f"{where}: rules.{number}.name: there are two rules {rule.name!r}: name each once"
            )
        if unknown := sorted(set(rule.datasets) - set(policy.datasets)):
            raise SiteError(
                f"{where}: rules.{number}.datasets: {unknown[0]!r} is none of datasets ({', '.join(policy.datasets)})"
            )
    return policy


def told(mistake: Mapping[str, Any], content: Content, source: str) -> str:
    """One mistake that pydantic found: where, what, and the value it found there."""
    place: Place = mistake["loc"]
    ends = (place[:end] for end in range(len(place), -1, -1))
    where = next((content.places[part] for part in ends if part in content.places), source)
    if mistake["type"] == "extra_forbidden":
        return f"{where}: {dotted(place)}: there is no such key: correct or remove it"
    found = "" if isinstance(mistake["input"], dict | list) else f" (found {shown(repr(mistake['input']))})"
    return f"{where}: {dotted(place)}: {shown(mistake['msg'], 300)}{found}"


def _state(file: Path) -> tuple[int, int, int] | None:
    """What tells a file from the one that it becomes; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
