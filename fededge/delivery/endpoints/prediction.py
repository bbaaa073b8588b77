"""Asking an endpoint over plain REST, with examples as bytes."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from fededge.documents import Schema
from fededge.errors import DocumentError, EndpointError, RequestError

PATH = "/api/v1.0/predictions"
METADATA = "/api/v1.0/metadata"
TIMEOUT = (5, 60)  # seconds to connect and to answer


@dataclass(frozen=True)
class Way:
    """How an endpoint is asked behind an ingress: what each request says beside its question, and the file of the
    certificates that are trusted in place of the public ones.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    certificates: str | None = None


DIRECT = Way()


def to_uint8(x: np.ndarray) -> np.ndarray:
    """uint8 images [n, ...] of float32 images in [0, 1], rounded to the nearest of 256 levels."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def input_of(url: str, way: Way = DIRECT) -> tuple[tuple[int, ...], Schema | None]:
    """Shape of one example that an endpoint takes, such as (28, 28, 1), by its metadata; and its schema.

    Args:
        url: of the endpoint, such as http://127.0.0.1:9000.
        way: that leads there.

    Returns:
        The shape; the schema, or None where the model does not tell one.

    Raises:
        EndpointError: the URL is malformed, or the endpoint cannot be reached or does not tell a shape.
    """
    content = _ask("GET", url, METADATA, way)
    try:
        # A server of its own tells its inputs; Seldon's executor before it, those of its graph.
        (source,) = content.get("inputs") or content["graphinputs"]
        shape = source["shape"][1:]
        if not shape or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"shape {shape}")
        (model,) = content.get("models", {"": content}).values()
        told = model.get("custom", {}).get("schema")
        return tuple(shape), Schema.from_bytes(told.encode(), "the endpoint's schema") if told else None
    except (DocumentError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise EndpointError(
            f"{url} does not tell the shape of its input ({error}): is it a FedEdge endpoint? Deploy it again"
        ) from error


def predict(url: str, examples: np.ndarray, way: Way = DIRECT) -> tuple[np.ndarray, dict[str, Any]]:
    """What a model answers to examples.

    Args:
        url: of the endpoint, such as http://127.0.0.1:9000.
        examples: float32 [n, ...], or uint8 for images, whose levels stand for 0 to 1.
        way: that leads there.

    Returns:
        float32 [n, outputs], and what answered: model_version, variant, digest.

    Raises:
        RequestError: the endpoint refuses the examples.
        EndpointError: the URL is malformed, or the endpoint cannot be reached or gives no usable answer.
    """
    if examples.dtype not in (np.uint8, np.float32):
        raise RequestError(f"examples are {examples.dtype}: send float32, or uint8 for images", "WRONG_TYPE")
    body = {
        "binData": base64.b64encode(examples.tobytes()).decode(),
        "meta": {"tags": {"dtype": str(examples.dtype), "shape": list(examples.shape)}},
    }
    content = _ask("POST", url, PATH, way, body)
    try:
        tags = {name: content["meta"]["tags"][name] for name in ("model_version", "variant", "digest")}
        values = np.frombuffer(base64.b64decode(content["binData"]), "<f4").astype(np.float32)
        if not values.size:
            raise ValueError("no values")
        return values.reshape(len(examples), -1), tags
    except (KeyError, TypeError, ValueError) as error:
        raise _no_answer(url, error) from error


def _ask(method: str, url: str, path: str, way: Way, body: dict[str, Any] | None = None) -> Any:
    """The JSON that an endpoint answers."""
    if not _is_address(url):
        raise EndpointError(f"{url!r} is not the URL of an endpoint: give one such as http://127.0.0.1:9000")
    try:
        answer = requests.request(
            method,
            url.rstrip("/") + path,
            json=body,
            timeout=TIMEOUT,
            headers=dict(way.headers),
            verify=way.certificates or True,
        )
        if answer.status_code in (401, 403):
            raise EndpointError(
                f"{url} answers {answer.status_code}: what is before the endpoint wants another token, or does not let "
                "predictions through. Correct `ingress` in the file that FEDEDGE_CLUSTER_FILE names"
            )
        content = answer.json()
        if 400 <= answer.status_code < 500:
            status = content["status"]
            raise RequestError(f"{url} refuses: {status['info']}", status["reason"], answer.status_code)
        answer.raise_for_status()
        return content
    except requests.ConnectionError as error:
        raise EndpointError(f"nobody answers at {url}: deploy the endpoint, or correct the URL") from error
    except (requests.RequestException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _no_answer(url, error) from error


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(address) and url.isprintable() and not (parts.query or parts.fragment or " " in url)


def _no_answer(url: str, error: Exception) -> EndpointError:
    return EndpointError(
        f"{url} gives no usable answer ({' '.join(str(error).split())[:200]}): is it a FedEdge endpoint?"
    )
