"""Whether an endpoint answers as its model does, over REST and gRPC, by Seldon's own client.

Between its deployment and its check, another run may replace what an endpoint serves. Since only the
champion is ever deployed, the check takes either of two answers: those of the version that was deployed, or
those of the version that is the champion now. So no run waits for another, and a run that is killed in
between holds nothing up.
"""

import base64
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fededge import settings, storage
from fededge.delivery.endpoints.deployment import standing
from fededge.documents import (
    Endpoint,
    EndpointCheck,
    ModelVersion,
    PublishedVariant,
    TransportCheck,
    check_model,
)
from fededge.errors import EndpointError
from fededge.examples import floats
from fededge.inference import load_model

SAMPLES = 100
ANSWER_SECONDS = 60.0
PATIENCE = {"local": 30.0, "kubernetes": 300.0}
"""Seconds in which an endpoint that does not answer, or serves neither version, is asked again."""
POLL = 2.0
TOLERANCE = 1e-3
"""Of a probability, or of the largest number: an int8 model may round otherwise with another number of threads."""


class _NotYet(EndpointError):
    """It does not answer, or serves another model: it may be replaced just now."""


@dataclass(frozen=True)
class _Answer:
    """What an endpoint said over one transport."""

    version: str
    variant: str
    digest: str
    values: np.ndarray
    milliseconds: float


def check(
    endpoint: Endpoint, served: ModelVersion, champion: Callable[[], ModelVersion], x: np.ndarray
) -> EndpointCheck:
    """Ask an endpoint, and hold its answers against those of the model file.

    Args:
        endpoint: as it was deployed.
        served: the version that was deployed.
        champion: gives the version that is the champion now.
        x: examples as they are stored, float32 or uint8 [n, ...]; the first 100 are sent.

    Returns:
        What it serves, and how it answered over REST and gRPC.

    Raises:
        EndpointError: it does not answer, answers otherwise, or serves another model.
        IntegrityError: the model file is not the one that was registered.
    """
    examples = np.ascontiguousarray(x[:SAMPLES])
    end = time.monotonic() + PATIENCE[settings.platform()]
    while True:
        try:
            return _check_now(standing(endpoint), served, champion, examples)
        except _NotYet as error:
            if time.monotonic() > end:
                raise EndpointError(str(error)) from error
            time.sleep(POLL)


def _check_now(
    endpoint: Endpoint, served: ModelVersion, champion: Callable[[], ModelVersion], examples: np.ndarray
) -> EndpointCheck:
    rest = _ask(endpoint, "rest", examples)
    version = served if rest.version == str(served.version) else champion()
    kind = endpoint.variant if version is served else rest.variant
    variant = version.variant(kind)
    if variant is None:
        raise _NotYet(
            f"endpoint {endpoint.name} serves {kind}, no variant of version {version.version}: deploy it again"
        )
    answers = {"rest": rest, "grpc": _ask(endpoint, "grpc", examples)}
    places = {
        transport: f"endpoint {endpoint.name} over {transport} ({getattr(endpoint, transport)})"
        for transport in answers
    }
    promised = {"version": str(version.version), "variant": variant.kind, "digest": variant.digest}
    for transport, answer in answers.items():
        for name, value in promised.items():
            if (told := getattr(answer, name)) != value:
                raise _NotYet(f"{places[transport]} serves {name} {told}, not {value}: deploy it again")
    expected = _expected(variant, examples)
    checks = {
        transport: _compare(places[transport], answer, expected) for transport, answer in answers.items()
    }
    return EndpointCheck(
        variant=variant.kind,
        digest=variant.digest,
        version=version.version,
        examples=len(examples),
        **checks,
    )


def _expected(variant: PublishedVariant, examples: np.ndarray) -> np.ndarray:
    """What the model file answers: float32 [n, outputs]."""
    data = storage.read(variant.url, variant.bytes)
    check_model(variant, data)
    return load_model(data, variant.kind).predict(floats(examples))


def _compare(where: str, answer: _Answer, expected: np.ndarray) -> TransportCheck:
    values = answer.values
    if values.size != expected.size:
        raise EndpointError(f"{where} gives {values.size} values where {expected.size} are expected")
    difference = float(np.abs(values.reshape(expected.shape) - expected).max(initial=0))
    most = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
    if not difference <= most:
        raise EndpointError(
            f"{where} differs from its model by {difference:.2g}, more than {most:.2g}: deploy it again"
        )
    return TransportCheck(max_abs_difference=difference, milliseconds=answer.milliseconds)


def _ask(endpoint: Endpoint, transport: str, examples: np.ndarray) -> _Answer:
    from seldon_core.seldon_client import SeldonClient

    _reach(endpoint.rest)
    address = {"rest": endpoint.rest, "grpc": endpoint.grpc}[transport].removeprefix("http://")
    client = SeldonClient(gateway="seldon", transport=transport, gateway_endpoint=address)
    where = f"endpoint {endpoint.name} over {transport} ({address})"
    request = {
        "binData": base64.b64encode(examples.tobytes()).decode(),
        "meta": {"tags": {"dtype": str(examples.dtype)}},
    }
    answers: list[Any] = []
    begun = time.perf_counter()
    asking = threading.Thread(
        target=lambda: answers.append(client.predict(raw_data=request, client_return_type="proto")),
        daemon=True,
    )
    asking.start()
    asking.join(ANSWER_SECONDS)  # Seldon's client knows no time limit
    milliseconds = 1000 * (time.perf_counter() - begun)
    if not answers:
        raise _NotYet(f"{where} gave no answer (time limit {ANSWER_SECONDS:g} s). Deploy the endpoint again")
    (answer,) = answers
    if not answer.success or answer.response is None:
        raise _NotYet(f"{where} does not answer: {' '.join(str(answer.msg).split())[:300]}")
    tags = answer.response.meta.tags
    version, variant, digest = (
        tags[name].string_value if name in tags else "nothing"
        for name in ("model_version", "variant", "digest")
    )
    return _Answer(version, variant, digest, np.frombuffer(answer.response.binData, "<f4"), milliseconds)


def _reach(url: str) -> None:
    """Fail soon where nobody answers; Seldon's client would wait without end."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=10):
            return
    except (urllib.error.URLError, OSError) as error:
        raise _NotYet(f"nobody answers at {url}: {error}. Deploy the endpoint again") from error
