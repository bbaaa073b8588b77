"""The sections `learning` and `privacy`: the algorithm, and what may be said about clients' examples."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from fededge.eligibility import Conditions
from fededge.task.base import Count, Part, Positive
from fededge.task.model import IMPORT, Folder

POLICIES = ("data_size", "fair", "geo", "oort", "poisson", "uniform", "weighted")
"""Selection policies that come with FedEdge, by name: fededge.fleet.selection."""


def _known(policy: str) -> str:
    if policy not in POLICIES and not re.fullmatch(IMPORT, policy):
        raise ValueError(f"unknown policy: use {', '.join(POLICIES)}, or module:name of your own")
    return policy


Policy = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "enum": list(POLICIES)}, {"type": "string", "pattern": IMPORT}]}
    ),
]


class ClientOptimizer(Part):
    """A client's work in one round."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.05
    epochs: Count = 1
    batch_size: Count = 32
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where PyTorch and Keras compute; auto: on a GPU where there is one"
    )


class ServerOptimizer(Part):
    """How the server applies the averaged delta."""

    optimizer: Literal["sgd", "adam", "yogi"] = "sgd"
    learning_rate: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Cohort(Part):
    """Which clients take part in a round."""

    size: Count = Field(3, description="reports that a round waits for")
    policy: Policy = Field("uniform", description="by which they are chosen, or module:name of your own")
    weights: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], Positive] = Field(
        {}, description="weighted: the policies that are combined, each with its weight", max_length=16
    )
    code: Folder | None = Field(
        None, description="folder with the module of your own policy, relative to the task file"
    )
    over_selection: Annotated[float, Field(ge=1, le=10)] = Field(
        1.0, description="how many times `size` are asked; the round goes on with the first `size`"
    )
    allocation: Literal["none", "deadline"] = Field(
        "none", description="deadline: a slow client learns from as many examples as it can in time"
    )

    conditions: Conditions = Field(
        Conditions(), description="that a client of a fleet must meet to be asked, to begin and to go on"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Cohort":
        if (self.policy == "weighted") != bool(self.weights):
            raise ValueError("policy weighted and weights go together: give both or none")
        if unknown := sorted(set(self.weights) - set(POLICIES) | set(self.weights) & {"weighted", "poisson"}):
            raise ValueError(
                f"weights names {unknown[0]!r}: weights goes with policies of fixed size, such as fair and uniform"
            )
        if self.code and ":" not in self.policy:
            raise ValueError("code is the folder of a policy of your own: name it as module:name, too")
        return self

    @property
    def asked(self) -> int:
        """Clients that are asked in a round."""
        return math.ceil(round(self.size * self.over_selection, 6))

    @property
    def policies(self) -> set[str]:
        """The policies that have a say."""
        return {self.policy, *self.weights} - {"weighted"}


class Workers(Part):
    """Where the clients of a simulated population work, other than in the step itself."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="of the job that trains and evaluates them; on this machine processes, at most one a core"
    )


class Functions(Part):
    """Clients that are functions: each has its client's folder of the population, and starts when it is asked."""

    urls: dict[str, Annotated[str, Field(pattern=r"^https?://[^/?#]+(/[^?#]*[^/?#])?$", max_length=2000)]] = (
        Field(
            min_length=1, max_length=1000, description="where the function of each client answers, by client"
        )
    )


class Learning(Part):
    """The algorithm: federated averaging over rounds."""

    engine: Literal["simulation", "federated"] = "federated"
    rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    client: ClientOptimizer = ClientOptimizer()
    server: ServerOptimizer = ServerOptimizer()
    cohort: Cohort = Cohort()
    workers: Workers | None = Field(None, description="spread simulated clients over a cluster")
    functions: Functions | None = Field(None, description="clients of the population that are functions")
    max_update_norm: Positive | None = Field(None, description="an update whose L2 norm is larger is refused")


class Privacy(Part):
    """The floor under what is said about clients' examples.

    A summary of them, such as the ranges that calibrate an int8 variant, is written only if at least
    `min_clients` clients are in it, each with at least `min_examples` examples.
    """

    min_clients: Count = Field(3, description="fewest clients that a summary may cover")
    min_examples: Count = Field(20, description="fewest examples a client must have to be in a summary")
