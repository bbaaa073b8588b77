"""Endpoints on this machine need the serving environment, wherever they are started from."""

from pathlib import Path

import pytest

from fededge.delivery.endpoints import local as local_endpoint
from fededge.errors import EnvironmentMissing


def test_a_missing_serving_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_endpoint, "ROOT", tmp_path)
    with pytest.raises(EnvironmentMissing, match=r"no serving environment .* set it up with `make setup`"):
        local_endpoint.start("tiny", {"kind": "float32", "url": "x", "digest": "sha256:0"}, 1)
    assert local_endpoint.running() == []
