"""Documents about delivery: measurements, decisions, model versions and endpoints."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from fededge.documents.base import ACCURACY, Count, Digest, Document, NotNegative, Part, renamed
from fededge.kinds import MODEL_LIMIT

SCORE = {"accuracy": "score"}
"""What scores were called in documents of version 1."""


class Measurement(Document):
    """A variant, what it was measured at, and whether it passed its gate.

    Attributes:
        kind: of variant.
        digest: of the file.
        bytes: its size; `compressed_bytes`: that of the gzipped file.
        score: on held-out examples, in `metric`; higher is better.
        score_loss: by how much that is behind the model it was built from.
        shape: of one example, without the batch dimension.
        classes: length of the output for one example.
        latency_ms_1: median milliseconds for one example on one thread; `latency_ms_500`: for 500 at once.
        passed: whether it may be shipped; no while nobody has judged it.
        reasons: why not.
    """

    KIND: ClassVar = "measurement"
    VERSION: ClassVar = 2

    kind: str
    digest: Digest
    bytes: int = Field(ge=1)
    compressed_bytes: int = Field(ge=1)
    metric: str = ACCURACY
    score: float
    score_loss: float
    shape: list[Count]
    classes: int = Field(ge=1)
    latency_ms_1: NotNegative
    latency_ms_500: NotNegative
    passed: bool = False
    reasons: list[str] = []

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Until version 1 scores were accuracies; records of version 0 left out the shape at first."""
        content = renamed(content, {**SCORE, "accuracy_loss": "score_loss"})
        return {"shape": [], "classes": 1, **super().upgraded(content, version)}


class Champion(Part):
    """The version that held the alias champion when a decision was made, and its score in the same metric."""

    version: int = Field(ge=1)
    score: float | None = None


class Comparison(Part):
    """A model beside the champion.

    Attributes:
        test: mcnemar or signs, see fededge.paired; margin where the two have no errors of the same examples.
        better: whether the model is better, or by the margin not worse.
        p_value: how probable so large a difference is by chance; None of the margin.
        examples: that both were tested on.
        note: why there is no paired test.
    """

    test: Literal["mcnemar", "signs", "margin"]
    better: bool
    p_value: float | None = None
    examples: Count = 0
    note: str = ""


class GateDecision(Document):
    """The decision on a trained model.

    Attributes:
        decision: `pass`, `fail`, or `kept`: it passes, but is not better than the champion, which stays.
        reasons: what speaks against the model.
        metric: of all scores; the gate's.
        score: of the model on held-out examples.
        examples: how many those are.
        centralized: that of centralized training, where the task compares with it.
        comparison: with the champion, where only a better model takes its place.
        champion: the champion at that moment, which the model was held against.
        weights_digest: of the weights that were judged.
        at: when, in seconds since the epoch.
    """

    KIND: ClassVar = "gate-decision"
    VERSION: ClassVar = 2

    decision: Literal["pass", "fail", "kept"]
    reasons: list[str]
    metric: str = ACCURACY
    score: float
    examples: Count | None = None
    centralized: float | None = None
    champion: Champion | None = None
    comparison: Comparison | None = None
    weights_digest: Digest | None = None
    at: NotNegative = 0.0

    @property
    def passed(self) -> bool:
        """Whether the model becomes the champion and is shipped."""
        return self.decision == "pass"

    @property
    def figures(self) -> dict[str, float]:
        """The numbers behind the decision, by name."""
        beside = {
            "centralized": self.centralized,
            "champion": self.champion.score if self.champion else None,
            "p_value": self.comparison.p_value if self.comparison else None,
            "examples": self.examples,
        }
        told = {name: float(value) for name, value in beside.items() if value is not None}
        return {"passed": float(self.passed), self.metric: self.score, **told}

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Until version 1 scores were accuracies; version 0 wrote `centralised`."""
        content = renamed(content, {**SCORE, "centralised": "centralized"})
        if champion := content.get("champion"):
            content["champion"] = renamed(champion, SCORE)
        return super().upgraded(content, version)


class VariantFile(Part):
    """One variant of a model: its kind, where its file lies, and the bytes that are promised there."""

    kind: str = Field(min_length=1, max_length=40)
    url: str = Field(min_length=1, max_length=2000)
    digest: Digest
    bytes: int = Field(ge=1, le=MODEL_LIMIT)


class PublishedVariant(VariantFile):
    """A variant of a model version, with what it was measured at."""

    compressed_bytes: int = Field(ge=1)
    score: float
    latency_ms_1: NotNegative
    latency_ms_500: NotNegative


class ModelVersion(Document):
    """A registered version of a task's model.

    Attributes:
        name: of the task and the registered model.
        version: its number.
        task_digest: of the whole task.
        state_digest: of the state artifact that holds the weights.
        weights_digest: of the weights themselves: equal for equal weights. None before 0.2.
        round: after which they were taken.
        git_commit: of the code that made them.
        run: id of the pipeline run.
        champion: whether its gate let it pass when it was registered.
        metric: of all scores.
        score: on held-out examples.
        shape: of one example, without the batch dimension.
        classes: length of the output for one example.
        variants: those that passed their gates.
        devices: kind of variant by device class.
    """

    KIND: ClassVar = "model-version"
    VERSION: ClassVar = 2
    REMEDY: ClassVar = "Register the model again (`fededge run --fresh`)"
    UNVERSIONED: ClassVar = True

    name: str = Field(min_length=1)
    version: int = Field(ge=1, lt=10**12)
    task_digest: Digest
    state_digest: Digest
    weights_digest: Digest | None = None
    round: Count
    git_commit: str
    run: str
    champion: bool
    metric: str = ACCURACY
    score: float
    shape: list[Count]
    classes: int = Field(ge=1)
    variants: list[PublishedVariant]
    devices: dict[str, str]

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Until version 1 scores were accuracies."""
        content = renamed(content, SCORE)
        content["variants"] = [renamed(variant, SCORE) for variant in content["variants"]]
        return super().upgraded(content, version)

    def variant(self, kind: str) -> PublishedVariant | None:
        """The published variant of `kind`, or None."""
        return next((variant for variant in self.variants if variant.kind == kind), None)


class Rollback(Document):
    """The decision of a person to make an earlier version the champion again.

    Attributes:
        name: of the model.
        from_version: the champion until then; `to_version`: the champion from then on.
        who: decided it, and `why`.
        at: when, in seconds since the epoch.
    """

    KIND: ClassVar = "rollback"
    REMEDY: ClassVar = "Roll back again (`fededge rollback`)"

    name: str = Field(min_length=1)
    from_version: int = Field(ge=1)
    to_version: int = Field(ge=1)
    who: str = Field(max_length=200)
    why: str = Field(min_length=1, max_length=1000)
    at: NotNegative


class Endpoint(Document):
    """Where an inference endpoint answers, and what it serves.

    Attributes:
        name: of the endpoint, in `namespace`.
        rest: URL; `grpc`: host:port.
        manifest: the SeldonDeployment.
        variant: kind that it serves, with `digest`, of model version `version`.
        instead_of: the version that the deploying run had registered, where another was champion by then.
    """

    KIND: ClassVar = "endpoint"
    REMEDY: ClassVar = "Deploy the endpoint again (`fededge run --fresh`)"

    name: str
    namespace: str
    rest: str
    grpc: str
    manifest: dict[str, Any] = {}
    variant: str
    digest: Digest
    version: int = Field(ge=1)
    instead_of: int | None = None


class TransportCheck(Part):
    """How an endpoint answered over one transport: largest absolute difference, and the time of the call."""

    max_abs_difference: NotNegative
    milliseconds: NotNegative


class EndpointCheck(Document):
    """An endpoint that answered as its model does."""

    KIND: ClassVar = "endpoint-check"

    variant: str
    digest: Digest
    version: int = Field(ge=1)
    examples: Count
    rest: TransportCheck
    grpc: TransportCheck
