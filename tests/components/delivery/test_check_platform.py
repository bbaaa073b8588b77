"""check_platform: MLflow and the blob store from inside a step."""

from typing import Any

import pytest

from fededge.errors import StorageError


def test_the_step_inside_fails_with_what_is_wrong(
    plain: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = plain("delivery/check_platform")
    step()
    assert "fededge: MLflow: " in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="nobody answers there"):
        step()
