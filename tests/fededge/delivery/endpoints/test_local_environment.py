"""Endpoints on this machine need the serving environment, wherever they are started from."""

from pathlib import Path

import pytest

from fededge.delivery.endpoints import local as local_endpoint
from fededge.errors import EnvironmentMissing
from tests.model_versions import DIGEST, published


def test_a_missing_serving_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_endpoint, "interpreter", lambda name: tmp_path / name / "bin" / "python")
    with pytest.raises(EnvironmentMissing, match=r"no serving environment .* set it up with `make setup`"):
        local_endpoint.start("tiny", published("x", digest=DIGEST, bytes=1), 1)
    assert local_endpoint.running() == []
