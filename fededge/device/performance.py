"""How well a model does on a device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Performance:
    """`score`: in `metric`, None without samples; `latency_ms`: median for one example."""

    metric: str
    score: float | None
    latency_ms: float
