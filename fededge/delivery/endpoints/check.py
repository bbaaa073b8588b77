"""Whether an endpoint answers as its model does, over REST and gRPC, by Seldon's own client."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np

from fededge import storage
from fededge.delivery.endpoints.prediction import to_uint8
from fededge.errors import EndpointError
from fededge.inference import load_runtime

MODEL_LIMIT = 1 << 30
SAMPLES = 100
ANSWER_SECONDS = 60.0
POLL = 2.0
TOLERANCE = 1e-3  # of a probability: an int8 model may round otherwise with another number of threads


def check(
    endpoint: Mapping[str, Any], version: Mapping[str, Any], x: np.ndarray, patience: float = 0.0
) -> dict[str, Any]:
    """Ask an endpoint, and hold its answers against those of the model file.

    Args:
        endpoint: endpoint document.
        version: model-version document, which names the variant's URL and digest.
        x: float32 [n, height, width, channels] examples in [0, 1]; the first 100 are sent, rounded to
            256 levels.
        patience: seconds in which an endpoint that does not answer, or still serves another version, is
            asked again. A cluster takes its time to replace what it served.

    Returns:
        variant, digest, version, examples, and for `rest` and `grpc` the largest absolute difference
        and the milliseconds of the call.

    Raises:
        EndpointError: it does not answer, answers otherwise, or serves another model.
        IntegrityError: the model file is not the one that was registered.
    """
    variant = next((each for each in version["variants"] if each["kind"] == endpoint["variant"]), None)
    if variant is None:
        raise EndpointError(f"the model version has no variant {endpoint['variant']}: deploy it again")
    model = load_runtime(storage.read_verified(variant["url"], variant["digest"], limit=MODEL_LIMIT))
    images = to_uint8(x[:SAMPLES])
    expected = model.predict(np.divide(images, np.float32(255), dtype=np.float32))
    tags = {"model_version": str(version["version"]), "variant": variant["kind"], "digest": variant["digest"]}
    return {
        "variant": variant["kind"],
        "digest": variant["digest"],
        "version": version["version"],
        "examples": len(images),
        **{
            transport: _ask_until(time.monotonic() + patience, endpoint, transport, images, expected, tags)
            for transport in ("rest", "grpc")
        },
    }


def _ask_until(end: float, *question: Any) -> dict[str, float]:
    while True:
        try:
            return _ask(*question)
        except EndpointError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL)


def _ask(
    endpoint: Mapping[str, Any],
    transport: str,
    images: np.ndarray,
    expected: np.ndarray,
    promised: Mapping[str, str],
) -> dict[str, float]:
    from seldon_core.seldon_client import SeldonClient

    _reach(endpoint["rest"])
    address = endpoint[transport].removeprefix("http://")
    client = SeldonClient(gateway="seldon", transport=transport, gateway_endpoint=address)
    where = f"endpoint {endpoint['name']} over {transport} ({address})"
    answers: list[Any] = []
    begun = time.perf_counter()
    asking = threading.Thread(
        target=lambda: answers.append(client.predict(bin_data=images.tobytes(), client_return_type="proto")),
        daemon=True,
    )
    asking.start()
    asking.join(ANSWER_SECONDS)  # Seldon's client knows no time limit
    milliseconds = 1000 * (time.perf_counter() - begun)
    if not answers:
        raise EndpointError(
            f"{where} gave no answer (time limit {ANSWER_SECONDS:g} s). Deploy the endpoint again"
        )
    (answer,) = answers
    if not answer.success or answer.response is None:
        raise EndpointError(f"{where} does not answer: {' '.join(str(answer.msg).split())[:300]}")
    tags = answer.response.meta.tags
    told = {name: tags[name].string_value if name in tags else "nothing" for name in promised}
    for name, value in promised.items():
        if told[name] != value:
            raise EndpointError(f"{where} serves {name} {told[name]}, not {value}: deploy it again")
    values = np.frombuffer(answer.response.binData, "<f4")
    if values.size != expected.size:
        raise EndpointError(f"{where} gives {values.size} values where {expected.size} are expected")
    difference = float(np.abs(values.reshape(expected.shape) - expected).max(initial=0))
    if not difference <= TOLERANCE:
        raise EndpointError(
            f"{where} differs from its model by {difference:.2g}, more than {TOLERANCE:g}: deploy it again"
        )
    return {"max_abs_difference": difference, "milliseconds": milliseconds}


def _reach(url: str) -> None:
    """Fail soon where nobody answers; Seldon's client would wait without end."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=10):
            return
    except (urllib.error.URLError, OSError) as error:
        raise EndpointError(f"nobody answers at {url}: {error}. Deploy the endpoint again") from error
