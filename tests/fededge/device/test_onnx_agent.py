"""The agent runs ONNX variants where ONNX Runtime is installed."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fededge import storage
from fededge.device.agent import Agent
from fededge.device.installation import Installation
from fededge.device.samples import Samples
from fededge.device.transport import BlobTransport
from fededge.documents import ModelVersion
from fededge.fleet import release
from fededge.signing import TrustedKey

pytestmark = pytest.mark.environment("serving")

FIRST = Path(__file__).resolve().parents[2] / "fixtures" / "first.onnx"


def test_a_release_with_an_onnx_variant_is_followed_and_restored(
    fleet: Any, examples: Any, tmp_path: Path
) -> None:
    document = fleet.document(1, FIRST.read_bytes())
    document["variants"][0]["kind"] = "onnx-float32"
    document["devices"] = {"camera": "onnx-float32"}
    manifest = release.build(ModelVersion.from_content(document))
    release.publish(fleet.root, manifest, fleet.key)
    trusted = TrustedKey.load(fleet.trusted_key)
    with closing(Installation(tmp_path / "device", "tiny", "camera", trusted)) as installation:
        transport = BlobTransport(fleet.root, "tiny")
        report = Agent("camera-0", "camera", installation, transport, Samples(*examples)).poll()
        assert (report.status, report.kind, report.score) == ("running", "onnx-float32", 1.0)
        assert report.digest == storage.digest(FIRST.read_bytes())
        again = Agent("camera-0", "camera", installation, transport, Samples(*examples))
        again.restore()
        assert again.running is not None
        assert again.running.performance.score == 1.0
