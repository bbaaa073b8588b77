"""Documents about learning: rounds and evaluations.

A **score** is in the metric of the label's kind, the higher the better (fededge.metrics). Documents of version 1 knew
accuracy alone, and called it so.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from fededge.documents.base import ACCURACY, Count, Digest, Document, NotNegative, Part, Share, renamed
from fededge.documents.data import Schema
from fededge.metrics import OF_CLIENTS


class Variable(Part):
    """A variable of a model; a `statistic` (a moving mean or variance) is averaged, and no optimizer moves it."""

    name: str = Field(min_length=1)
    shape: list[Count]
    statistic: bool = False


class Dropout(Part):
    """Which units a layer leaves out: each that a uniform number from the `salt`ed seed of a step finds below `rate`."""

    salt: Count
    rate: Share


class LiteRTProgram(Part):
    """A client's work as a LiteRT file, for devices without TensorFlow; fededge.litert_program names its tensors.

    Attributes:
        format: of the file, and of what is said about it here.
        digest: of the file.
        batch_size: examples of a step, all of which the file always takes.
        epochs: passes over a client's examples in a round.
        buffer: examples ahead among which the next one is drawn.
        dropout: of each input that says which units are kept, in their order.
    """

    format: Literal["fededge-litert-program-1"] = "fededge-litert-program-1"
    digest: Digest
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    buffer: int = Field(ge=1)
    dropout: list[Dropout]


class Plan(Document):
    """What lies in a plan's folder beside the program that clients execute.

    Attributes:
        framework: that executes it; a folder under fededge/learning/frameworks.
        task: identity of the task.
        example: what an example looks like.
        variables: that travel, in the order in which the program takes and gives them.
        activations: names of the tensors whose ranges it measures: the input first, then each layer's output.
        device: where a Keras plan is executed, as in the task; the rest know it from their own work.json.
        litert: the same work for LiteRT alone, where the plan has it.
        litert_refused: why the model has no such form, where that was found.
    """

    KIND: ClassVar = "plan"
    VERSION: ClassVar = 3
    REMEDY: ClassVar = "Run initialize_model again (`fededge run --fresh`)"

    framework: str
    task: Digest
    example: Schema
    variables: list[Variable]
    activations: list[str]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    litert: LiteRTProgram | None = None
    litert_refused: str | None = None


class Score(Part):
    """How good a model is on held-out examples; `loss` is their mean, of cross-entropy in nats."""

    score: float
    loss: NotNegative
    examples: Count


class RoundRecord(Part):
    """One committed round.

    Attributes:
        round: its number, from 1.
        cohort: ids of the selected clients, sorted.
        reported: ids of those whose update counts, sorted.
        failed: reason by id of those whose update does not.
        examples: sample passes of the reported updates.
        loss: mean over them during training; `score` likewise.
        losses: the mean loss during training by id of those whose update counts.
        spare: ids of those who were asked beyond what the round needed, and whose report it did not wait for.
        seconds: how long the round took.
        at: when it was committed, in seconds since the epoch.
        bytes_sent: that went to clients; `bytes_received`: that came back; over a gateway, as it measured them.
        client_seconds: that clients worked, all together.
        coordinator_seconds: of the coordinator, from selection to scoring, waiting included.
        cost: of transfer, clients and coordinator, by the task's prices; None where it names none.
        held_out: of the weights after the round, on held-out examples.
    """

    round: int = Field(ge=1)
    cohort: list[str]
    reported: list[str]
    failed: dict[str, str] = {}
    examples: NotNegative
    loss: float
    score: float
    losses: dict[str, float] = {}
    spare: list[str] = []
    seconds: NotNegative
    at: NotNegative
    bytes_sent: Count = 0
    bytes_received: Count = 0
    client_seconds: NotNegative = 0.0
    coordinator_seconds: NotNegative = 0.0
    cost: NotNegative | None = None
    held_out: Score | None = None

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """The fields of today in a record of an older `version` of the document around it: until 1 scores were
        accuracies; until 2 nothing was known of client_seconds, cost and their like.
        """
        if version > 1:
            return content
        held_out = content.get("score")
        scored = {"held_out": renamed(held_out, {"accuracy": "score"})} if held_out else {}
        rest = {name: value for name, value in content.items() if name != "score"}
        return renamed(rest, {"accuracy": "score"}) | scored


class Rounds(Document):
    """The rounds that one step committed."""

    KIND: ClassVar = "rounds"
    VERSION: ClassVar = 3
    BARE_LIST: ClassVar = "rounds"

    rounds: list[RoundRecord]

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """See RoundRecord.upgraded."""
        content = super().upgraded(content, version)
        return {"rounds": [RoundRecord.upgraded(record, version) for record in content["rounds"]]}


class ClassScore(Part):
    """Scores of one class on held-out examples."""

    label: str
    examples: Count
    precision: Share
    recall: Share
    f1: Share


class ClientScore(Part):
    """Scores of the global model on one client's own held-out examples."""

    id: str
    score: float
    loss: NotNegative
    examples: Count


class Alone(Document):
    """What each client reaches without the others: scores on the same held-out examples.

    Attributes:
        metric: of the scores.
        clients: each with the number of held-out examples.
    """

    KIND: ClassVar = "alone"

    metric: str
    clients: list[ClientScore] = Field(min_length=1)

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return sum(client.score for client in self.clients) / len(self.clients)

    @property
    def best(self) -> float:
        """The highest of the scores."""
        return max(client.score for client in self.clients)


class Pass(Part):
    """Scores on held-out examples after one pass of centralized training."""

    round: Count
    score: float
    loss: NotNegative


class Quantile(Part):
    """A value, and the share of values that lie at or below it."""

    share: Share
    value: float


class ExampleErrors(Part):
    """How wrong a model was on each held-out example, in their order (fededge.paired).

    Attributes:
        kind: wrong is one bit an example; size is a float16 each, 0 where it was right.
        count: of examples.
        data: base64.
    """

    kind: Literal["wrong", "size"]
    count: Count
    data: str


class Evaluation(Document):
    """A model on held-out examples, and at each client.

    Attributes:
        round: after which it was evaluated.
        metric: of all scores.
        score: on the held-out examples; `loss`: their mean loss, of cross-entropy in nats.
        metrics: by name, on the held-out examples: those of the label's kind, and those that the task names.
        examples: how many were held out.
        test_digest: of the held-out examples.
        errors: of each held-out example; kept with a model version, not with a run's records.
        samples: sample passes that training took until then.
        per_class: scores by class.
        confusion: counts by true class and predicted class.
        roc: points of false and true positive rate and threshold, where there are two classes.
        quantiles: of output minus target for numbers, of the reconstruction error of an example where the label is none.
        residuals: pairs of output and output minus target, of some of the held-out examples, for a plot.
        clients: scores at the clients, on their own test examples.
        worst_tenth: mean score of the worst tenth of the clients, of one at least.
        spread: standard deviation of the clients' scores.
        failed: reason by id of a client that could not evaluate.
        passes: of centralized training: the scores after each pass, which takes as many samples as a round.
    """

    KIND: ClassVar = "evaluation"
    VERSION: ClassVar = 2

    round: Count
    metric: str = ACCURACY
    score: float
    loss: NotNegative
    metrics: dict[str, float] = {}
    examples: Count
    test_digest: Digest | None = None
    errors: ExampleErrors | None = None
    samples: NotNegative
    per_class: list[ClassScore] = []
    confusion: list[list[Count]] = []
    roc: list[list[float]] = []
    quantiles: list[Quantile] = []
    residuals: list[list[float]] = []
    clients: list[ClientScore] = []
    worst_tenth: float | None = None
    spread: float | None = None
    failed: dict[str, str] = {}
    passes: list[Pass] = []

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Until version 1 scores were accuracies; version 0 had labels as numbers, and at first no round of
        centralized training.
        """
        content = super().upgraded(renamed(content, {"accuracy": "score"}), version)
        content["per_class"] = [{**row, "label": str(row["label"])} for row in content.get("per_class", [])]
        for name in ("clients", "passes"):
            content[name] = [renamed(row, {"accuracy": "score"}) for row in content.get(name, [])]
        return {"round": 0, "samples": 0, **content}

    @property
    def figures(self) -> dict[str, float]:
        """Every number by its name, on the held-out examples and over clients."""
        own = {
            self.metric: self.score,
            "loss": self.loss,
            OF_CLIENTS: self.worst_tenth,
            "spread": self.spread,
        }
        return self.metrics | {name: value for name, value in own.items() if value is not None}

    def value(self, metric: str) -> float | None:
        """The model in `metric`; None where it was not evaluated in it."""
        return None if metric == "spread" else self.figures.get(metric)
