"""Asking an endpoint over plain REST, with images as bytes."""

import base64
from typing import Any

import numpy as np
import requests

from fededge.errors import EndpointError, RequestError

PATH = "/api/v1.0/predictions"
TIMEOUT = (5, 60)  # seconds to connect and to answer


def to_uint8(x: np.ndarray) -> np.ndarray:
    """uint8 images [n, ...] of float32 images in [0, 1], rounded to the nearest of 256 levels."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def predict(url: str, images: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities for images.

    Args:
        url: of the endpoint, such as http://127.0.0.1:9000.
        images: uint8 [n, height, width, channels].

    Returns:
        float32 [n, classes], and the answer's tags: model_version, variant, digest.

    Raises:
        RequestError: the endpoint refuses the images.
        EndpointError: it cannot be reached or gives no usable answer.
    """
    if images.dtype != np.uint8:
        raise RequestError(f"images are {images.dtype}: send uint8, 0 to 255", "WRONG_TYPE")
    body = {
        "binData": base64.b64encode(images.tobytes()).decode(),
        "meta": {"tags": {"dtype": "uint8"}},
    }
    try:
        answer = requests.post(url.rstrip("/") + PATH, json=body, timeout=TIMEOUT)
        content = answer.json()
        if 400 <= answer.status_code < 500:
            status = content["status"]
            raise RequestError(f"{url} refuses: {status['info']}", status["reason"], answer.status_code)
        answer.raise_for_status()
        tags = content["meta"]["tags"]
        values = np.frombuffer(base64.b64decode(content["binData"]), "<f4").astype(np.float32)
        return values.reshape([int(size) for size in tags["shape"]]), tags
    except requests.ConnectionError as error:
        raise EndpointError(f"nobody answers at {url}: deploy the endpoint, or correct the URL") from error
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        raise EndpointError(
            f"{url} gives no usable answer ({' '.join(str(error).split())[:200]}): is it a FedEdge endpoint?"
        ) from error
