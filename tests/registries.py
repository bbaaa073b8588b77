"""What tests of the registry begin with: tenants, enrolled and connected clients, stored blobs, open rounds."""

import base64
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge.fleet.functions import blobs, enrollment, model_update, monitoring, operators
from fededge.fleet.functions.model_update import Due
from fededge.fleet.functions.monitoring import Connected
from fededge.fleet.registry.database import Registry
from fededge.protocol import (
    Dataset,
    Enrollment,
    EnrollmentRequest,
    Hello,
    RoundRequest,
    RoundStatus,
    Tenant,
    enrollment_bytes,
)

Result = TypeVar("Result")
NOW = 1_700_000_000.0
TENANT = "hospital"
GATEWAY = "gateway-1"
PLAN, WEIGHTS, UPDATE, SCHEMA = (f"sha256:{letter * 64}" for letter in "abcd")
UPDATE_BYTES = 100


def make_tenant(registry: Registry, tenant: str = TENANT, **quotas: int) -> None:
    operators.put_tenant(registry, Tenant(name=tenant, **quotas), "admin", NOW)


def proof(token: str, key: Ed25519PrivateKey) -> Enrollment:
    public = key.public_key().public_bytes_raw()
    signature = key.sign(enrollment_bytes(token, public))
    return Enrollment(
        token=token,
        public_key=base64.b64encode(public).decode(),
        signature=base64.b64encode(signature).decode(),
    )


def enroll(
    registry: Registry, client: str, tenant: str = TENANT, key: Ed25519PrivateKey | None = None, **said: Any
) -> None:
    request = EnrollmentRequest(client=client, **said)
    (token,) = enrollment.tokens(registry, tenant, request, "admin", NOW)
    enrollment.enroll(registry, proof(token.token, key or Ed25519PrivateKey.generate()), NOW)


def hello(client: str, tenant: str = TENANT, **said: Any) -> Hello:
    datasets = [Dataset(name="scans", train=100, test=10, schema_digest=SCHEMA)]
    return Hello(
        **{
            "tenant": tenant,
            "client": client,
            "signature": "",
            "frameworks": ["keras"],
            "datasets": datasets,
            **said,
        }
    )


def connect(
    registry: Registry,
    client: str,
    tenant: str = TENANT,
    gateway: str = GATEWAY,
    now: float = NOW,
    **said: Any,
) -> Connected:
    return monitoring.connect(registry, gateway, hello(client, tenant, **said), 10.0, now)


def make_fleet(registry: Registry, clients: Iterable[str], tenant: str = TENANT) -> dict[str, str]:
    """A tenant with connected clients and what rounds need; sessions by client."""
    make_tenant(registry, tenant)
    monitoring.lease(registry, GATEWAY, "http://gateway", 60.0, NOW)
    for digest in (PLAN, WEIGHTS):
        blobs.stored(registry, tenant, digest, UPDATE_BYTES, NOW)
    for client in clients:
        enroll(registry, client, tenant)
        blobs.stored(registry, tenant, UPDATE, UPDATE_BYTES, NOW, client)
    return {client: connect(registry, client, tenant).session for client in clients}


def round_request(cohort: Sequence[str], **changes: Any) -> RoundRequest:
    return RoundRequest(
        **{
            "task": "tumors",
            "kind": "train",
            "number": 1,
            "dataset": "scans",
            "order": "signed",
            "plan": PLAN,
            "weights": WEIGHTS,
            "cohort": list(cohort),
            "seconds": 600.0,
            "update_bytes": UPDATE_BYTES,
            **changes,
        }
    )


def open_round(
    registry: Registry, cohort: Sequence[str], round: str = "r1", tenant: str = TENANT, **changes: Any
) -> RoundStatus:
    return model_update.open_round(registry, tenant, round, round_request(cohort, **changes), NOW)


def sent(registry: Registry, now: float = NOW, gateway: str = GATEWAY) -> dict[str, Due]:
    """What is due, by client."""
    return {each.client: each for each in model_update.due(registry, gateway, now, 1000)}


def ended_sessions(registry: Registry, gateway: str = GATEWAY) -> list[str]:
    """Sessions on `gateway` that ended elsewhere."""
    return registry.read(lambda connection: monitoring.ended_sessions(connection, gateway))


def at_once(works: Sequence[Callable[[], Result]]) -> list[Result | Exception]:
    """What `works` return or raise, each begun in a thread of its own at one moment."""
    barrier = threading.Barrier(len(works))
    results: list[Result | Exception] = [RuntimeError("never ran")] * len(works)

    def run(place: int) -> None:
        barrier.wait()
        try:
            results[place] = works[place]()
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
