"""Weights as bytes, and artifacts tied to theirs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fededge import lineage, weights
from fededge.errors import IntegrityError

pytestmark = pytest.mark.environment("platform", "worker", "serving", "edge")
TENSORS = st.dictionaries(
    st.text("abc/", min_size=1, max_size=6),
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)),
    max_size=4,
)


@given(tensors=TENSORS)
def test_weights_survive_their_bytes_bit_for_bit(tensors: dict[str, np.ndarray]) -> None:
    back = weights.from_bytes(weights.to_bytes(tensors, {"note": "x"}))
    assert list(back) == sorted(tensors)
    for name, value in tensors.items():
        assert back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()


@given(tensors=TENSORS)
def test_the_digest_does_not_depend_on_order(tensors: dict[str, np.ndarray]) -> None:
    assert weights.digest_of(tensors) == weights.digest_of(dict(reversed(tensors.items())))


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        weights.from_bytes(data)


def test_metadata_comes_back() -> None:
    data = weights.to_bytes({"a": np.zeros(3, np.float32)}, {"state": "{}"})
    assert weights.metadata_of(data) == {"state": "{}"}
    assert weights.metadata_of(weights.to_bytes({"a": np.zeros(3, np.float32)})) == {}


def test_an_artifact_changed_after_its_seal_is_refused(tmp_path: Path) -> None:
    parent, child = (SimpleNamespace(path=str(tmp_path / n), metadata={}) for n in ("parent", "child"))
    for artifact in (parent, child):
        Path(artifact.path).write_bytes(b"bytes")
    lineage.seal(parent)
    lineage.seal(child, parents=[parent], round=3)
    lineage.verify(parent, child)
    assert child.metadata["parents"] == [parent.metadata["digest"]]
    assert child.metadata["round"] == 3
    Path(child.path).write_bytes(b"bytez")
    with pytest.raises(IntegrityError, match="changed after the step"):
        lineage.verify(child)


def test_an_artifact_without_a_seal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(IntegrityError):
        lineage.verify(SimpleNamespace(path=str(tmp_path / "a"), metadata={}))
