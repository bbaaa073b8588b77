"""The whole task: its sections, what must fit together in them, and its two digests."""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from fededge.errors import TaskError, shown
from fededge.kinds import Runtime, kinds_of, runtime_of
from fededge.metrics import OF_CLIENTS
from fededge.storage import digest
from fededge.task.base import Name, Part
from fededge.task.card import Card
from fededge.task.data import Data, FleetData, FoldersData, LocalData, Table
from fededge.task.delivery import Compare, DeviceClass, Endpoint, Evaluation, Gate, Variant
from fededge.task.learning import Learning, Privacy
from fededge.task.model import Model
from fededge.task.operation import Operation
from fededge.task.partition import BY_OWNER, Partition

IDENTITY = ("name", "seed", "data", "partition", "model", "learning", "privacy")
"""The sections that say what is learned and how."""
CODE = (("model",), ("data",), ("data", "held_out"), ("learning", "cohort"))
"""Where a task may name a folder with `code` of the user's own."""


class FederatedTask(Part):
    """A learning task, from data to devices.

    Its **identity** (data, model, algorithm, privacy) says whether two runs are the same experiment; the
    rest, **operation** and delivery, may change when a run is resumed.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: Data
    partition: Partition = Partition()
    model: Model = Model()
    learning: Learning = Learning()
    privacy: Privacy = Privacy()
    operation: Operation = Operation()
    compare: Compare = Compare()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    variants: list[Variant] = [
        Variant(kind="float32"),
        Variant(kind="float16"),
        Variant(kind="dynamic-int8"),
        Variant(kind="int8", max_score_loss=0.02),
    ]
    devices: list[DeviceClass] = []
    endpoint: Endpoint | None = None
    card: Card = Card()

    @model_validator(mode="before")
    @classmethod
    def _folders_are_clients(cls, content: Any) -> Any:
        """Where each folder is a client already, nobody needs to say so again."""
        data = content.get("data") if isinstance(content, dict) else None
        partition = content.get("partition", {}) if isinstance(content, dict) else None
        if isinstance(data, dict) and data.get("source") == "folders" and isinstance(partition, dict):
            return {**content, "partition": {"kind": "natural", **partition}}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "FederatedTask":
        self._check_clients()
        self._check_delivery()
        return self

    def _check_clients(self) -> None:
        cohort = self.learning.cohort
        if isinstance(self.data, FleetData):
            self._check_fleet()
        else:
            self._check_simulated(self.data)
        quorum = self.operation.quorum
        if quorum is not None and quorum > cohort.size:
            raise ValueError(f"operation.quorum {quorum} is more than learning.cohort.size {cohort.size}")
        if cohort.policy == "poisson" and quorum is None:
            raise ValueError(
                "learning.cohort.policy poisson draws cohorts of different sizes: say how many reports commit a round "
                "by operation.quorum"
            )
        if self.learning.engine == "simulation":
            self._check_simulation()
        if self.learning.functions is not None:
            self._check_functions()

    def _check_functions(self) -> None:
        if self.learning.engine != "federated" or self.learning.workers or not self.simulated:
            raise ValueError(
                "learning.functions goes with learning.engine federated, without learning.workers, and not with "
                "data.source fleet, whose gateway reaches its clients"
            )
        if self.model.framework != "keras":
            raise ValueError(
                f"learning.functions train by LiteRT, which model.framework {self.model.framework} has no plan for: "
                "remove it, or take keras"
            )
        if any(variant.kind == "int8" for variant in self.variants):
            raise ValueError(
                "variant int8 is calibrated with what clients measure, and functions on LiteRT measure nothing: list "
                "variants without int8"
            )

    def _check_simulation(self) -> None:
        cohort = self.learning.cohort
        if self.learning.workers is not None:
            raise ValueError(
                "learning.workers goes with learning.engine federated: a simulation runs all clients in one step"
            )
        for key, value in (
            ("operation.quorum", self.operation.quorum if cohort.policy != "poisson" else None),
            ("learning.max_update_norm", self.learning.max_update_norm),
            ("learning.cohort.over_selection", cohort.over_selection if cohort.over_selection > 1 else None),
        ):
            if value is not None:
                raise ValueError(
                    f"{key} goes with learning.engine federated: in a simulation every client "
                    "reports, and TFF takes updates as they are"
                )
        if "oort" in cohort.policies:
            raise ValueError(
                "learning.cohort.policy oort needs the loss of each client, and a simulation gives only their sum: "
                "say learning.engine federated"
            )

    def _check_fleet(self) -> None:
        if self.partition != Partition():
            raise ValueError("with data.source fleet clients hold what they hold: remove partition")
        if self.learning.engine == "simulation":
            raise ValueError(
                "learning.engine simulation reads all examples on one machine, but with data.source fleet they stay at "
                "the clients: say federated"
            )
        if self.learning.workers is not None:
            raise ValueError(
                "learning.workers spreads simulated clients, but with data.source fleet clients are where they are: "
                "remove it"
            )
        for key, asked in self.compare.model_dump().items():
            if asked:
                raise ValueError(
                    f"compare.{key} trains on clients' examples here, but with data.source fleet nobody holds them all: "
                    "remove it"
                )
        if ":" in self.learning.cohort.policy:
            raise ValueError(
                "with data.source fleet the gateway selects, and it runs no code of a task: other tenants rely on it. "
                "Name a policy that the gateway has"
            )

    def _check_simulated(self, data: LocalData) -> None:
        cohort, partition = self.learning.cohort, self.partition
        self._check_owners(data)
        if partition.kind not in BY_OWNER and cohort.size > partition.clients:
            raise ValueError(
                f"learning.cohort.size is {cohort.size} but the population has only "
                f"{partition.clients} clients (partition.clients): lower the one or raise the other"
            )
        if "geo" in cohort.policies:
            raise ValueError(
                "learning.cohort.policy geo needs regions, which only clients of a gateway have: take another policy"
            )
        if cohort.conditions.stated:
            raise ValueError(
                "learning.cohort.conditions are over what a client says of its machine, and simulated clients say "
                "nothing: remove them, or take data.source fleet"
            )
        if cohort.allocation != "none":
            raise ValueError(
                "learning.cohort.allocation needs the speed of each client, which a gateway measures: remove it, or "
                "take data.source fleet"
            )

    def _check_owners(self, data: LocalData) -> None:
        kind = self.partition.kind
        if isinstance(data, FoldersData):
            if kind != "natural":
                raise ValueError(
                    f"in data.source folders each folder is a client, but partition.kind is {kind}: say natural"
                )
        elif kind == "natural" and data.owners is None:
            raise ValueError(
                f"partition.kind natural needs an owner of each example, but data.source {data.source} names none: "
                "give data.owner (npz: data.key), or take another partition.kind"
            )
        if kind == "column" and not isinstance(data, Table):
            raise ValueError(f"partition.kind column needs a table, but data.source is {data.source}")
        by = data.split.by if data.split else None
        if by == "owner" and data.owners is None and not isinstance(data, FoldersData):
            raise ValueError(
                "data.split.by owner needs the owner of each example: give data.owner (npz: data.key)"
            )
        if "time" in (by, kind) and getattr(data, "time", None) is None:
            raise ValueError(
                "data.split.by time and partition.kind time need data.time: name where the time stands"
            )

    def _check_delivery(self) -> None:
        kinds = [variant.kind for variant in self.variants]
        for label, names in (("variants", kinds), ("devices", [device.name for device in self.devices])):
            if len(set(names)) != len(names):
                raise ValueError(f"{label} lists a name twice: {names}")
        if not kinds:
            raise ValueError("variants is empty: name at least float32")
        self._check_runtimes({runtime_of(kind) for kind in kinds})
        if self.endpoint and self.endpoint.variant not in kinds:
            raise ValueError(f"endpoint.variant {self.endpoint.variant} is not among variants")
        if self.endpoint:
            self._check_replicas(self.endpoint)
        if self.gate.max_gap_to_centralized is not None and not self.compare.centralized:
            raise ValueError(
                "gate.max_gap_to_centralized is set, but nothing is trained centrally: add "
                "`compare: {centralized: true}`, or remove the gap"
            )
        floor = self.privacy.min_clients
        spread = self.simulated and self.partition.kind not in BY_OWNER
        if "int8" in kinds and spread and self.partition.clients < floor:
            raise ValueError(
                f"variant int8 is calibrated with a summary of at least {floor} clients (privacy.min_clients), but "
                f"the population has {self.partition.clients}: raise partition.clients, lower privacy.min_clients, "
                "or list variants without int8"
            )

    def _check_runtimes(self, built: set[Runtime]) -> None:
        if "onnx" in built and self.model.framework == "keras":
            raise ValueError(
                f"variants of kind {' and '.join(kinds_of('onnx'))} are for model.framework torch and sklearn, not for "
                "keras: remove them"
            )
        for device in self.devices:
            if device.runtime not in built:
                raise ValueError(
                    f"devices {device.name} runs {device.runtime}, but variants lists none of "
                    f"{', '.join(kinds_of(device.runtime))}: add one"
                )

    def _check_replicas(self, endpoint: Endpoint) -> None:
        replicas, autoscale = self.operation.replicas, endpoint.autoscale
        if autoscale and autoscale.max_replicas < replicas:
            raise ValueError(
                f"endpoint.autoscale.max_replicas {autoscale.max_replicas} is less than operation.replicas {replicas}, "
                "the fewest: raise the one or lower the other"
            )
        if endpoint.min_available and endpoint.min_available >= replicas:
            raise ValueError(
                f"endpoint.min_available {endpoint.min_available} of operation.replicas {replicas} lets no node be "
                "drained: raise operation.replicas, or lower endpoint.min_available"
            )

    @property
    def metrics(self) -> list[str]:
        """In what the model must be evaluated on held-out examples, beside the usual metrics of its label."""
        names = [*self.evaluation.metrics, *([self.gate.metric] if self.gate.metric else [])]
        return [name for name in dict.fromkeys(names) if name != OF_CLIENTS]

    @property
    def simulated(self) -> bool:
        """Whether one machine holds all clients' examples, and only plays them apart."""
        return not isinstance(self.data, FleetData)

    @property
    def local_data(self) -> LocalData:
        """The examples that are read where the task runs: all of them, or with a fleet the held-out ones."""
        return self.data.held_out if isinstance(self.data, FleetData) else self.data

    @property
    def code(self) -> dict[tuple[str, ...], str]:
        """The folders with code of the user's own, or the digests of their bundles, by the section that names them."""
        named = {place: getattr(functools.reduce(_part, place, self), "code", None) for place in CODE}
        return {place: code for place, code in named.items() if code}

    def with_code(self, code: Mapping[tuple[str, ...], str]) -> "FederatedTask":
        """The task with `code` in place of what it names at these places; see `code`."""
        changed = self
        for place, named in code.items():
            changed = _replaced(changed, place, named)
        return changed

    def to_json(self) -> str:
        """The task as canonical JSON: the form in which it travels through the pipeline."""
        return _canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """Digest of the canonical JSON: equal for tasks that say the same."""
        return digest(self.to_json().encode())

    @property
    def identity(self) -> str:
        """Digest of what is learned and how: equal for runs of the same experiment, wherever clients work."""
        content = self.model_dump(
            mode="json", include=set(IDENTITY), exclude={"learning": {"workers", "functions"}}
        )
        return digest(_canonical(content).encode())

    @property
    def reusable(self) -> "FederatedTask | None":
        """The task without what steps from its data to its first weights, and its comparisons, do not depend on.

        Runs for which it is equal may share the results of those steps. None where no two runs may: examples of a
        fleet, or at a path, can be others by then.
        """
        if isinstance(self.data, FleetData) or not self.data.fixed:
            return None
        others = {
            "learning": self.learning.model_copy(update={"workers": None}),
            "operation": Operation(quorum=self.operation.quorum),  # some ways to select cohorts ask for it
            "variants": [Variant(kind="float32")],
            "devices": [],
            "endpoint": None,
            "card": Card(),
        }
        return self.model_copy(update=others)

    @classmethod
    def from_json(cls, text: str) -> "FederatedTask":
        """The task in canonical JSON, as `to_json` gives it.

        Raises:
            TaskError: it is not one.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = shown(".".join(map(str, first["loc"]))) or "task"
            raise TaskError(
                f"the task is not one that this FedEdge writes: {place}: {shown(first['msg'], 200)}. Compile it again"
            ) from error

    def refuse_other(self, compiled: str) -> None:
        """Check that this task is the one that a pipeline was compiled for.

        Args:
            compiled: that task as canonical JSON.

        Raises:
            TaskError: it is another; names the keys that differ.
        """
        if self.to_json() != compiled:
            keys = list(_different(json.loads(compiled), self.model_dump(mode="json"), ""))
            shown = ", ".join(keys[:10]) + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")
            raise TaskError(
                f"this pipeline was compiled for another task than it was given; they differ in {shown}. Its steps "
                "follow the compiled task: compile the changed task, and run that pipeline"
            )


def json_schema(model: type[Part] = FederatedTask) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the task file, or of another `model`'s."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def _canonical(content: dict[str, Any]) -> str:
    """JSON in one form. It has no two opening braces in a row, which Argo Workflows would take for a template."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).replace("{{", "\\u007b\\u007b")


def _part(part: Any, name: str) -> Any:
    return getattr(part, name, None)


def _replaced(part: Any, place: tuple[str, ...], code: str) -> Any:
    """`part` with another `code` at `place` below it."""
    if not place:
        return part.model_copy(update={"code": code})
    return part.model_copy(update={place[0]: _replaced(getattr(part, place[0]), place[1:], code)})


def _different(one: Any, other: Any, place: str) -> Iterator[str]:
    """Dotted names of the keys in which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _different(one.get(key), other.get(key), f"{place}.{key}" if place else key)
    elif one != other:
        yield place
