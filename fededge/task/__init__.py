"""FederatedTask: the one typed, validated description of a learning task.

A task is a YAML file. `load` reads and validates it; every mistake names its path in the file and
its line. `json_schema` is what editors use to complete it.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fededge.errors import TaskError
from fededge.storage import digest

LIMIT = 1 << 20
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A strict, immutable part of a task: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DigitsData(Part):
    """scikit-learn's 1,797 handwritten digits, scaled from 8x8 to 28x28x1; needs no network."""

    source: Literal["digits"]
    holdout: Fraction = Field(0.2, description="share kept for evaluation, seen by no client")


class FileData(Part):
    """An .npz file with x_train, y_train, x_test, y_test (Keras's mnist.npz layout)."""

    source: Literal["npz"]
    path: str = Field(description="path, relative to the task file, or URL")
    key: str | None = Field(None, description="array that names each training example's owner (natural)")


class KerasMnist(Part):
    """The full MNIST by Keras's downloader."""

    source: Literal["keras-mnist"]


class SyntheticData(Part):
    """Random images with learnable labels, for benchmarks."""

    source: Literal["synthetic"]
    examples: Count = 60_000
    holdout: Fraction = 0.01


class Partition(Part):
    """How the training examples are spread over clients."""

    kind: Literal["iid", "dirichlet", "natural"] = "dirichlet"
    clients: Count = Field(3, description="population; with natural, the number of keys wins")
    alpha: Positive = Field(0.5, description="Dirichlet concentration: smaller is more skewed")
    local_holdout: Fraction = Field(0.1, description="share of each client's data for its own evaluation")
    min_examples: Annotated[int, Field(ge=2)] = Field(10, description="fewest examples a client may get")


class Model(Part):
    """The model to learn. `cnn` is the 317,066-parameter CNN of paper 004, Table 1."""

    name: Literal["cnn"] = "cnn"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25


class ClientOptimizer(Part):
    """A client's work in one round."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.05
    epochs: Count = 1
    batch_size: Count = 32


class ServerOptimizer(Part):
    """How the server applies the averaged delta."""

    optimizer: Literal["sgd", "adam", "yogi"] = "sgd"
    learning_rate: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Cohort(Part):
    """Which clients take part in a round, and when it commits."""

    size: Count = 3
    policy: Literal["uniform"] = "uniform"
    quorum: Count | None = Field(None, description="reports that commit a round; default: the whole cohort")
    deadline_seconds: Positive = Field(600.0, description="when a round stops waiting for reports")


class Learning(Part):
    """The algorithm: federated averaging over rounds."""

    engine: Literal["simulation", "federated"] = "federated"
    rounds: Count = 10
    rounds_per_step: Count = Field(5, description="rounds in one pipeline step")
    client: ClientOptimizer = ClientOptimizer()
    server: ServerOptimizer = ServerOptimizer()
    cohort: Cohort = Cohort()
    max_update_norm: Positive | None = Field(None, description="an update whose L2 norm is larger is refused")


class Gate(Part):
    """What a trained model must reach before it is shipped."""

    min_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.9
    max_gap_to_centralized: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_loss_against_champion: Annotated[float, Field(ge=0, le=1)] = 0.01


class Variant(Part):
    """One build of the model and the gate it must pass."""

    kind: Literal["float32", "float16", "dynamic-int8", "int8"]
    max_accuracy_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_bytes: Count | None = None


class DeviceClass(Part):
    """A class of devices and its limits; each gets the variant that fits and is most accurate."""

    name: Name
    runtime: Literal["litert"] = "litert"
    kinds: list[Literal["float32", "float16", "dynamic-int8", "int8"]] | None = Field(
        None, description="kinds its runtime can execute; default: all"
    )
    max_bytes: Count | None = Field(None, description="largest model file that fits its memory")
    max_latency_ms: Positive | None = Field(None, description="largest latency for one example")


class Endpoint(Part):
    """The inference endpoint on Seldon."""

    name: Name
    variant: Literal["float32", "float16", "dynamic-int8", "int8"] = "float32"
    replicas: Count = 1
    canary_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    namespace: Name = "default"


class FederatedTask(Part):
    """A learning task, from data to devices."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: Annotated[DigitsData | FileData | KerasMnist | SyntheticData, Field(discriminator="source")]
    partition: Partition = Partition()
    model: Model = Model()
    learning: Learning = Learning()
    gate: Gate = Gate()
    variants: list[Variant] = [
        Variant(kind="float32"),
        Variant(kind="float16"),
        Variant(kind="dynamic-int8"),
        Variant(kind="int8", max_accuracy_loss=0.02),
    ]
    devices: list[DeviceClass] = []
    endpoint: Endpoint | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "FederatedTask":
        cohort = self.learning.cohort
        if self.partition.kind != "natural" and cohort.size > self.partition.clients:
            raise ValueError(
                f"learning.cohort.size is {cohort.size} but the population has only "
                f"{self.partition.clients} clients (partition.clients): lower the one or raise the other"
            )
        if cohort.quorum is not None and cohort.quorum > cohort.size:
            raise ValueError(
                f"learning.cohort.quorum {cohort.quorum} is more than learning.cohort.size {cohort.size}"
            )
        if self.learning.engine == "simulation":
            for key, value in (
                ("cohort.quorum", cohort.quorum),
                ("max_update_norm", self.learning.max_update_norm),
            ):
                if value is not None:
                    raise ValueError(
                        f"learning.{key} goes with learning.engine federated: in a simulation every client "
                        "reports, and TFF takes updates as they are"
                    )
        if self.partition.kind == "natural" and getattr(self.data, "key", None) is None:
            raise ValueError("partition.kind natural needs data.source npz with data.key")
        for label, names in (
            ("variants", [variant.kind for variant in self.variants]),
            ("devices", [device.name for device in self.devices]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{label} lists a name twice: {names}")
        if not self.variants:
            raise ValueError("variants is empty: name at least float32")
        if self.endpoint and self.endpoint.variant not in [v.kind for v in self.variants]:
            raise ValueError(f"endpoint.variant {self.endpoint.variant} is not among variants")
        return self

    @property
    def quorum(self) -> int:
        """Reports that commit a round."""
        return self.learning.cohort.quorum or self.learning.cohort.size

    def to_json(self) -> str:
        """The task as canonical JSON: the form in which it travels through the pipeline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Digest of the canonical JSON: equal for tasks that say the same."""
        return digest(self.to_json().encode())

    @classmethod
    def from_json(cls, text: str) -> "FederatedTask":
        """The task in `text` (JSON or YAML), validated as `load` does."""
        return _parse(text, "task")


def load(path: str | Path) -> FederatedTask:
    """Read and validate a task file; a relative data path becomes absolute against its folder.

    Raises:
        TaskError: the file is missing, too large, not YAML, or says something the schema refuses.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LIMIT:
            raise TaskError(f"{path} is larger than 1 MiB: this is not a task file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read task file {path}: {error}. Check the path") from error
    task = _parse(text, str(path))
    if isinstance(task.data, FileData) and "://" not in task.data.path:
        data = task.data.model_copy(update={"path": str((path.parent / task.data.path).resolve())})
        task = task.model_copy(update={"data": data})
    return task


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the task file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **FederatedTask.model_json_schema()}


class _Loader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 and JSON do: 1e-5 is a number, 2024-01-01 is text. It takes no aliases."""

    yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) have no place in a task", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, source: str) -> FederatedTask:
    try:
        tree = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TaskError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise TaskError(
            f"{source} must be a mapping with at least name and data, not {type(content).__name__}"
        )
    try:
        return FederatedTask.model_validate_json(json.dumps(content), strict=True)
    except (ValidationError, TypeError, ValueError) as error:
        raise TaskError(_explain(error, tree, source)) from error


def _explain(error: Exception, tree: yaml.Node | None, source: str) -> str:
    if not isinstance(error, ValidationError):
        return f"{source}: {error}"
    lines = []
    for mistake in error.errors(include_url=False):
        keys = _keys(tree, mistake["loc"])
        where = f"{source}:{_line(tree, keys)}: " + (".".join(map(str, keys)) or "task")
        found = mistake["input"]
        if mistake["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; remove it or correct its spelling")
        elif isinstance(found, dict | list):
            lines.append(f"{where}: {mistake['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{where}: {mistake['msg']} (found {found!r})")
    return "; ".join(lines)


def _keys(node: yaml.Node | None, location: tuple[int | str, ...]) -> list[int | str]:
    """`location` without the union tags that pydantic adds (data.digits.holdout -> data.holdout)."""
    keys: list[int | str] = []
    for position, key in enumerate(location):
        child = _child(node, key)
        if child is None and position < len(location) - 1:
            continue
        keys.append(key)
        node = child or node
    return keys


def _line(node: yaml.Node | None, keys: list[int | str]) -> int:
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, value in node.value:
                if key_node.value == key:
                    line, node = key_node.start_mark.line + 1, value
                    break
        else:
            child = _child(node, key)
            if child is None:
                break
            line, node = child.start_mark.line + 1, child
    return line


def _child(node: yaml.Node | None, key: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key_node, value in node.value if key_node.value == key), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    return None
