"""Training starts from given weights, of the same model and finite."""

from pathlib import Path

import numpy as np
import pytest

from fededge import weights
from fededge.errors import IntegrityError, TaskError
from fededge.learning import warm_start
from fededge.learning.state import State

pytestmark = pytest.mark.environment("worker", "platform")
INITIAL = {"kernel": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)}


def test_a_state_or_a_safetensors_file_gives_all_weights_or_some(tmp_path: Path) -> None:
    ones = {name: np.ones_like(value) for name, value in INITIAL.items()}
    State("sha256:" + "0" * 64, 0, ones, []).save(tmp_path / "state")
    (tmp_path / "file").write_bytes(weights.to_bytes({"bias": np.ones(3, np.float64)}))
    whole, part = (
        warm_start.start_from(warm_start.read(str(tmp_path / name)), INITIAL, name)
        for name in ("state", "file")
    )
    assert all((value == 1).all() for value in whole.values())
    assert (part["kernel"] == 0).all()
    assert part["bias"].dtype == np.float32
    assert (part["bias"] == 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"other": np.zeros(3, np.float32)}, "has other, which the model does not: it has kernel, bias"),
        ({"bias": np.zeros(4, np.float32)}, r"bias of shape \[4\] where the model's is \[3\]"),
        ({"bias": np.full(3, np.nan, np.float32)}, "bias is not finite"),
        ({"bias": np.zeros(3, np.int64)}, "bias is not finite floating point numbers"),
    ],
)
def test_weights_of_another_model_are_refused(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        warm_start.start_from(given, INITIAL, "x")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x80\x04pickle")
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        warm_start.read(str(tmp_path / "file"))
