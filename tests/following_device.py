"""A device for tests that follows the release of a task at a stand-in gateway, and serves it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import storage
from fededge.device.client import Client
from fededge.documents import Release, VariantFile
from fededge.ports import free_port
from fededge.protocol import Follow, Releases, Running
from fededge.signing import SigningKey
from tests.enrolled_site import EnrolledSite
from tests.stand_in_gateway import Answer, StandInGateway

FIXTURES = Path(__file__).resolve().parent / "fixtures"
FIRST, SECOND, LOOPING = (
    (FIXTURES / f"{name}.tflite").read_bytes() for name in ("first", "second", "looping")
)
"""Models; the last one answers dark images, and never ends with bright ones."""
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\3" * 32))


def manifest(version: int, model: bytes, **changes: Any) -> Release:
    variant = VariantFile(
        kind="float32", url="file:///elsewhere", digest=storage.digest(model), bytes=len(model)
    )
    fields: dict[str, Any] = {
        "task": "tiny",
        "version": version,
        "issued": float(version),
        "devices": {"camera": variant},
        "shape": [4, 4, 1],
        "classes": 3,
        "state_digest": storage.digest(b"state"),
        "round": 1,
    }
    return Release(**(fields | changes))


def signed(version: int, model: bytes, key: SigningKey = KEY, **changes: Any) -> bytes:
    return key.sign(manifest(version, model, **changes).to_content())


class Device(EnrolledSite):
    """A client that follows the release of the task `tiny` for the class camera, and serves it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "release.pub.pem").write_bytes(KEY.public.pem)
        self.port = free_port()
        self.follow()

    def follow(self, **changes: Any) -> None:
        release = {"task": "tiny", "class": "camera", "trusted_key": "release.pub.pem"}
        policy = {"releases": [release | changes], "serving": {"port": self.port}, "poll_seconds": 1}
        self.policy_file.write_text(yaml.safe_dump(policy))

    @property
    def releases(self) -> Path:
        return self.folder / "releases" / "tiny"

    @asynccontextmanager
    async def running(self, gateway: StandInGateway, **options: Any) -> AsyncIterator[Client]:
        async with super().running(gateway, **options) as client:
            yield client

    async def predict(self, http: httpx.AsyncClient, x: np.ndarray) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1.0/predictions"
        answer = await http.post(url, json={"data": {"ndarray": x.tolist()}})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def told(gateway: StandInGateway, good: Callable[[Running], bool]) -> Running:
    """What the device says that it runs, once it is so."""

    def look() -> Running | None:
        said = [each.running for message in gateway.heard(Follow) for each in message.releases]
        return next((running for running in reversed(said) if running is not None and good(running)), None)

    return await gateway.until(look)


def failed(reason: str) -> Callable[[Running], bool]:
    return lambda running: running.status == "failed" and reason in str(running.error)


def runs(version: int) -> Callable[[Running], bool]:
    return lambda running: running.status == "running" and running.version == version


async def offered(gateway: StandInGateway, envelope: bytes, model: bytes, task: str = "tiny") -> None:
    """Offer a release without waiting to be asked."""
    gateway.release(envelope, model, task)
    await gateway.tell(Releases(offers=list(gateway.offers.values())))


def fetches(gateway: StandInGateway) -> list[str]:
    """Names of objects that are asked for from now on."""
    asked: list[str] = []

    def look(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
        if "/objects/" in path:
            asked.append(path.rsplit("/", 1)[-1])
        return None

    gateway.http = look
    return asked
