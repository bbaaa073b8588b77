"""Device reports: written by devices, believed only within bounds."""

import logging
from pathlib import Path
from typing import Any

import pytest

from fededge import storage
from fededge.device.transport import BlobTransport
from fededge.documents import DeviceReport
from fededge.errors import StorageError
from fededge.fleet.reports import collect

pytestmark = pytest.mark.environment("platform", "edge")

CONTENT: dict[str, Any] = {
    "device": "camera-0",
    "class": "camera",
    "version": 1,
    "kind": "int8",
    "digest": "sha256:" + "a" * 64,
    "status": "running",
    "error": None,
    "score": 0.5,
    "latency_ms": 0.1,
    "at": 1.0,
}


def test_reports_come_back_sorted_by_device(tmp_path: Path) -> None:
    transport = BlobTransport(str(tmp_path), "tiny")
    for device in ("gateway-1", "camera-0", "gateway-0"):
        transport.report(DeviceReport(**{**CONTENT, "device": device}))
    reports = collect(str(tmp_path), "tiny")
    assert [report.device for report in reports] == ["camera-0", "gateway-0", "gateway-1"]
    assert reports[0] == DeviceReport(**CONTENT)


def test_a_fleet_without_reports_is_empty(tmp_path: Path) -> None:
    assert collect(str(tmp_path), "tiny") == []


def test_reports_lie_by_device_in_any_storage() -> None:
    BlobTransport("memory://reports", "tiny").report(DeviceReport(**CONTENT))
    assert collect("memory://reports", "tiny") == [DeviceReport(**CONTENT)]
    assert storage.exists("memory://reports/fleet/tiny/devices/camera-0.json")


@pytest.mark.parametrize(
    "change",
    [
        {"device": "../../releases/tiny"},
        {"device": "a" * 65},
        {"device": ""},
        {"accuracy": 1.5},
        {"accuracy": float("nan")},
        {"latency_ms": float("inf")},
        {"status": "perfect"},
        {"error": "x" * 501},
        {"version": 0},
        {"version": True},
        {"digest": "sha256:"},
        {"more": 1},
    ],
)
def test_a_report_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        DeviceReport(**{**CONTENT, **change})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"device": "camera-1"}',
        b"\xff\xfe",
        b" " * (DeviceReport.LIMIT + 1),
        b"[" * 10_000,
    ],
)
def test_one_bad_report_does_not_hide_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    BlobTransport(str(tmp_path), "tiny").report(DeviceReport(**CONTENT))
    storage.write(f"{tmp_path}/fleet/tiny/devices/camera-1.json", data)
    with caplog.at_level(logging.WARNING):
        assert [report.device for report in collect(str(tmp_path), "tiny")] == ["camera-0"]
    assert "camera-1.json" in caplog.text


def test_a_report_in_another_devices_name_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = DeviceReport(**CONTENT).to_bytes()
    storage.write(f"{tmp_path}/fleet/tiny/devices/camera-7.json", data)
    assert collect(str(tmp_path), "tiny") == []
    assert "it says that it is from camera-0" in caplog.text


def test_no_release_yet_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no release for task tiny"):
        BlobTransport(str(tmp_path), "tiny").fetch_release()


def test_a_model_that_is_longer_than_promised_is_not_read_whole(fleet: Any) -> None:
    manifest = fleet.publish(1)
    variant = manifest.variant_for("camera")
    storage.write(variant.url, storage.read(variant.url) + b"more")
    with pytest.raises(StorageError, match="larger than"):
        BlobTransport(fleet.root, "tiny").fetch_model(variant)
