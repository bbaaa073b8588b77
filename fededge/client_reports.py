"""What clients hand in, wherever they run, before anybody has screened it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingReport:
    """What a client handed in: its update file, which is not trusted yet, or why there is none."""

    client: str
    update: Path | None
    failure: str | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """What a client counted on its test examples (see fededge.learning.interfaces.Client), or why it did not."""

    client: str
    counts: Mapping[str, float] | None
    failure: str | None = None


@dataclass(frozen=True)
class RangesReport:
    """The ranges that a client measured (a JSON object of Ranges' fields), or why it did not."""

    client: str
    ranges: Mapping[str, Any] | None
    failure: str | None = None


@dataclass(frozen=True)
class Usage:
    """What a round took: bytes sent to clients and received from them, and seconds that they worked together."""

    bytes_sent: int = 0
    bytes_received: int = 0
    client_seconds: float = 0.0

    def plus(self, sent: int = 0, received: int = 0, seconds: float = 0.0) -> "Usage":
        """What it is with that on top."""
        return Usage(self.bytes_sent + sent, self.bytes_received + received, self.client_seconds + seconds)
