"""A task to deliver, an MLflow store that is set up, and a free port."""

import pytest

from fededge import ports
from fededge.task import FederatedTask, parse

TASK = """
name: digits
seed: 7
data: {source: digits}
learning: {client: {learning_rate: 0.05}}
compare: {centralized: true}
gate: {min: 0.9, max_gap_to_centralized: 0.03, max_loss_against_champion: 0.01}
variants:
  - {kind: float32, max_score_loss: 0.001}
  - {kind: int8, max_score_loss: 0.02, max_bytes: 400000}
devices:
  - {name: gateway}
  - {name: hub, kinds: [int8], max_bytes: 400000}
endpoint: {name: digits}
"""


@pytest.fixture
def task() -> FederatedTask:
    return parse(TASK)


@pytest.fixture
def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    return ports.free_port()
