"""The sections `learning` and `privacy`: the algorithm, and what may be said about clients' examples."""

from typing import Annotated, Literal

from pydantic import Field

from fededge.task.base import Count, Part, Positive


class ClientOptimizer(Part):
    """A client's work in one round."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.05
    epochs: Count = 1
    batch_size: Count = 32
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where PyTorch computes; auto: on a GPU where there is one"
    )


class ServerOptimizer(Part):
    """How the server applies the averaged delta."""

    optimizer: Literal["sgd", "adam", "yogi"] = "sgd"
    learning_rate: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Cohort(Part):
    """Which clients take part in a round."""

    size: Count = 3
    policy: Literal["uniform"] = "uniform"


class Learning(Part):
    """The algorithm: federated averaging over rounds."""

    engine: Literal["simulation", "federated"] = "federated"
    rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    client: ClientOptimizer = ClientOptimizer()
    server: ServerOptimizer = ServerOptimizer()
    cohort: Cohort = Cohort()
    max_update_norm: Positive | None = Field(None, description="an update whose L2 norm is larger is refused")


class Privacy(Part):
    """The floor under what is said about clients' examples.

    A summary of them, such as the ranges that calibrate an int8 variant, is written only if at least
    `min_clients` clients are in it, each with at least `min_examples` examples.
    """

    min_clients: Count = Field(3, description="fewest clients that a summary may cover")
    min_examples: Count = Field(20, description="fewest examples a client must have to be in a summary")
