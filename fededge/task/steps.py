"""What a pipeline's steps get on a cluster: `operation.steps` of a task, and the file of a cluster's defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from fededge.task.base import Count, Part

DEFAULT = "default"
"""The name under which settings of all steps stand."""
TAKEN = (
    "/gcs",
    "/kfp",
    "/kfp-launcher",
    "/minio",
    "/s3",
    "/var/run/argo",
    "/var/run/secrets",
    "/etc/fededge",
)
"""Folders that Kubeflow Pipelines, Kubernetes or FedEdge mount into steps."""
PRIVATE = ("PASSWORD", "SECRET", "TOKEN", "_KEY", "CREDENTIAL", "CONNECTION_STRING")


def _as_text(value: Any) -> Any:
    """A number as text, which quantities are kept as."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


AMOUNT = BeforeValidator(_as_text, json_schema_input_type=float | str)
Cpu = Annotated[str, Field(pattern=r"^([0-9]*\.)?[0-9]+m?$"), AMOUNT]
"""Cores, or thousandths of one with m."""
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*(E|Ei|P|Pi|T|Ti|G|Gi|M|Mi|K|Ki)?$"), AMOUNT]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
LabelKey = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
FolderPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
LocalPath = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")]
StepName = Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,62}$")]
Address = Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]
"""Of a proxy; a password in it would be shown to everybody who sees the pipeline."""


class Toleration(Part):
    """A taint that does not keep a step away from a node."""

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None
    seconds: Count | None = Field(
        None, description="how long a NoExecute taint is tolerated; default: always"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value: remove it, or write operator Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key: add it, or write operator Exists")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("seconds go with effect NoExecute: write that effect, or remove them")
        return self


class Requirement(Part):
    """What a label of a node must say."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    values: list[LabelValue] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = len(self.values)
        if self.operator in ("In", "NotIn") and not count:
            raise ValueError(f"operator {self.operator} needs values: name at least one")
        if self.operator in ("Exists", "DoesNotExist") and count:
            raise ValueError(f"operator {self.operator} takes no values: remove them")
        if self.operator in ("Gt", "Lt") and (count != 1 or not self.values[0].isdecimal()):
            raise ValueError(
                f"operator {self.operator} compares with one whole number: write it as the one value"
            )
        return self


class NodeAffinity(Part):
    """Nodes that a step must run on, or with a weight, should."""

    expressions: Annotated[list[Requirement], Field(min_length=1)]
    weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="1 to 100; default: required"
    )


class Volume(Part):
    """A folder in a step's container, from one source."""

    path: FolderPath
    claim: ObjectName | None = Field(None, description="a PersistentVolumeClaim")
    sub_path: str | None = Field(None, pattern=r"^[^/].*$", description="with claim: the folder in it")
    secret: ObjectName | None = None
    config_map: ObjectName | None = None
    empty_dir: Bytes | None = Field(None, description="size of an empty folder on the node")
    ephemeral: Bytes | None = Field(None, description="size of a volume made for the step and gone with it")
    storage_class: ObjectName | None = Field(None, description="with ephemeral; default: the cluster's")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sources = ("claim", "secret", "config_map", "empty_dir", "ephemeral")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a volume has one of {', '.join(sources)}; this has {' and '.join(given) or 'none'}"
            )
        for key, source in (("sub_path", "claim"), ("storage_class", "ephemeral")):
            if getattr(self, key) is not None and given != [source]:
                raise ValueError(f"{key} goes with {source}: remove it")
        if any(f"{self.path}/".startswith(f"{taken}/") for taken in TAKEN):
            raise ValueError(f"path {self.path} is taken: mount the volume outside {', '.join(TAKEN)}")
        return self


class CaBundle(Part):
    """Certificates (PEM) that a step trusts, in place of the public ones: put those into the file, too."""

    secret: ObjectName | None = None
    config_map: ObjectName | None = None
    key: FileName = "ca.crt"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.secret is None) == (self.config_map is None):
            raise ValueError("ca_bundle is in a secret or in a config_map: name one of them")
        return self


class Proxy(Part):
    """The proxy to the world outside the cluster."""

    http: Address | None = None
    https: Address | None = None
    no_proxy: list[Annotated[str, Field(pattern=r"^[^,\s]+$")]] = Field(
        [], description="hosts that are reached without it, beside the cluster's own"
    )


class EnvironmentFrom(Part):
    """Environment variables from a secret or a config map, by the names they have there."""

    secret: ObjectName | None = None
    config_map: ObjectName | None = None
    keys: Annotated[list[Variable], Field(min_length=1)]
    optional: bool = Field(False, description="a step starts without it, too")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.secret is None) == (self.config_map is None):
            raise ValueError("keys are those of a secret or of a config_map: name one of them")
        return self


class StepSettings(Part):
    """What a step gets on a cluster; a key that is null takes a default away."""

    cpu_request: Cpu | None = None
    cpu_limit: Cpu | None = None
    memory_request: Bytes | None = None
    memory_limit: Bytes | None = None
    gpus: Annotated[int, Field(ge=1, le=64)] | None = None
    gpu_type: LabelKey = Field("nvidia.com/gpu", description="resource by which the cluster counts GPUs")
    node_selector: dict[LabelKey, LabelValue] = {}
    node_affinity: list[NodeAffinity] = []
    tolerations: list[Toleration] = []
    pull_secrets: list[ObjectName] = []
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=365 * 86_400)] | None = Field(
        None, description="when the pod of a step is ended"
    )
    run_as_user: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    run_as_group: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    run_as_non_root: bool | None = None
    labels: dict[LabelKey, LabelValue] = Field(
        {}, description="of the pod, beside those that FedEdge gives it"
    )
    annotations: dict[LabelKey, str] = {}
    environment: dict[Variable, str] = {}
    environment_from: list[EnvironmentFrom] = []
    volumes: list[Volume] = []
    ca_bundle: CaBundle | None = None
    proxy: Proxy | None = None

    @field_validator("environment")
    @classmethod
    def _public(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if any(word in name.upper() for word in PRIVATE) and not name.upper().endswith("_FILE"):
                raise ValueError(
                    f"{name} looks like a secret, and everybody who sees the pipeline sees its environment: put "
                    "it into a secret, and name that in environment_from"
                )
        return environment

    @model_validator(mode="after")
    def _mounted_once(self) -> Self:
        mounted: list[Volume | CaBundle] = [*self.volumes, *filter(None, [self.ca_bundle])]
        names = [f"secret {each.secret}" for each in mounted if each.secret]
        names += [f"config map {each.config_map}" for each in mounted if each.config_map]
        names += [volume.path for volume in self.volumes]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{repeated} is mounted twice: remove one of the two")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was left open, so that a task says the same after a journey as JSON."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


Steps = dict[StepName, StepSettings]
"""Settings by the name of a step's component, such as run-rounds, or DEFAULT for all."""


class Ingress(Part):
    """How this machine reaches the endpoints of the cluster; {name} and {namespace} stand for an endpoint's."""

    url: Annotated[str, Field(pattern=r"^https?://([^@\s?#{}]|\{name\}|\{namespace\})+$")] = Field(
        description="such as https://{name}.models.example, or https://gateway.example/seldon/{namespace}/{name}"
    )
    host: Annotated[str, Field(pattern=r"^([A-Za-z0-9.:-]|\{name\}|\{namespace\})+$")] | None = Field(
        None, description="that the ingress routes by, where the URL names another, such as its address"
    )
    token_file: LocalPath | None = Field(None, description="file with a bearer token; relative to this file")
    ca_file: LocalPath | None = Field(None, description="certificates to trust in place of the public ones")


class ClusterSettings(Part):
    """The file that FEDEDGE_CLUSTER_FILE names: defaults for all tasks that are compiled for a cluster, and the ingress
    of its endpoints.
    """

    steps: Steps = {}
    ingress: Ingress | None = None


def settings_of(step: str, first: StepSettings, *layers: Mapping[str, StepSettings]) -> StepSettings:
    """The settings of one step.

    Args:
        step: name of its component.
        first: what counts where no layer says anything.
        layers: each takes the place of those before it, key by key (variables of `environment` one by one); in
            each, those of the step count before DEFAULT.

    Raises:
        pydantic.ValidationError: what the layers say does not fit together.
    """
    found = {name: getattr(first, name) for name in first.model_fields_set}
    for layer in layers:
        for given in filter(None, (layer.get(DEFAULT), layer.get(step))):
            variables = {**found.get("environment", {}), **given.environment}
            found |= {name: getattr(given, name) for name in given.model_fields_set}
            found["environment"] = variables
    return StepSettings.model_validate(found)
