"""HTTP to a gateway: who calls, what is tried again and for how long, what is refused, and bytes that are proven.

The token goes to the gateway alone. Objects are fetched and sent by URLs that carry their own right, often at another
host, and get no token.
"""

import hashlib
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import httpx
from pydantic import BaseModel, ValidationError

from fededge import storage
from fededge.documents.base import first_mistake
from fededge.errors import GatewayError, IntegrityError, shown
from fededge.protocol import Problem

Answer = TypeVar("Answer", bound=BaseModel)
Taken = TypeVar("Taken")

LARGEST_ANSWER = 256 << 20
"""Bytes of JSON that are read: a round of a million clients has as many names."""
PATIENCE = 120.0
"""Seconds for which a call is tried again, where nothing else is said."""
TIMEOUT = 30.0
"""Seconds for which a gateway may say nothing."""
PAUSES = 0.25, 15.0
"""Seconds before the second try, and most before any."""
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""Answers that say: not now."""
TOO_LARGE = "TOO_LARGE"
LARGEST_REFUSAL = 1 << 16


class Connection:
    """Requests to the gateway at `url`; use it with `with`.

    A request that meets a broken connection, or a gateway that says to come back (429, 503), is sent again after a pause
    that grows, or that the gateway names, until `patience` seconds are over. What would be done twice if it were sent
    twice is sent again only where the gateway cannot have taken it.

    Args:
        url: of the gateway.
        token_file: holds the caller's token; None sends none.
        ca_file: PEM file with the authorities of its certificate; None: the usual ones.
        patience: seconds.

    Raises:
        GatewayError: `ca_file` cannot be read.
    """

    def __init__(
        self, url: str, token_file: Path | None, ca_file: Path | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = url.rstrip("/")
        self._token_file = token_file
        self._patience = patience
        timeout = httpx.Timeout(TIMEOUT, connect=10.0)
        try:
            trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        except (OSError, ssl.SSLError) as error:
            raise GatewayError(
                f"cannot read the authorities in {ca_file}: {shown(str(error))}. Correct FEDEDGE_GATEWAY_CA_FILE"
            ) from error
        self._client = httpx.Client(verify=trusted, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        body: BaseModel | None = None,
        query: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
        wait: float = 0.0,
    ) -> Answer:
        """What the gateway answers.

        Args:
            answer: what that must be.
            method: of HTTP.
            path: below the gateway's URL.
            body: sent as JSON.
            query: without what is None.
            repeatable: whether doing it twice is as good as once.
            wait: seconds for which the gateway is asked to hold the answer back.

        Raises:
            GatewayError: it cannot be reached within `patience`, refuses, or answers something else.
        """
        headers = {"accept": "application/json"}
        if self._token_file:
            headers["authorization"] = f"Bearer {_token(self._token_file)}"
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = body.model_dump_json(exclude_none=True).encode()
        request = self._client.build_request(
            method,
            self.url + path,
            params={name: _text(value) for name, value in (query or {}).items() if value is not None},
            headers=headers,
            content=content,
            timeout=httpx.Timeout(TIMEOUT + wait, connect=10.0),
        )
        data = self._send(request, LARGEST_ANSWER, b"".join, repeatable)
        try:
            return answer.model_validate_json(data)
        except ValidationError as error:
            raise GatewayError(
                f"{self.url}{path} answers no {answer.__name__}: {first_mistake(error)}. Update the older side",
                "MALFORMED",
            ) from error

    def fetch(self, url: str, digest: str, size: int, target: Path) -> None:
        """Fetch the object of `size` bytes and `digest` at `url`, which may be below the gateway's own, into a file.

        Raises:
            GatewayError: it cannot be fetched.
            IntegrityError: other bytes lie there; what `target` holds then is worth nothing.
            StorageError: the file cannot be written.
        """
        request = self._client.build_request("GET", urljoin(f"{self.url}/", url))

        def written(blocks: Iterator[bytes]) -> tuple[int, str]:
            hasher = hashlib.sha256()
            with storage.named_failure(str(target), "write"), target.open("wb") as file:
                for block in blocks:
                    hasher.update(block)
                    file.write(block)
                return file.tell(), f"sha256:{hasher.hexdigest()}"

        try:
            length, found = self._send(request, size, written, repeatable=True)
        except GatewayError as error:
            if error.reason != TOO_LARGE:
                raise
            raise IntegrityError(str(error)) from error
        if length != size or found != digest:
            raise IntegrityError(
                f"an object of {length:,} bytes with digest {found} where {size:,} with {digest} were promised"
            )

    def put(self, url: str, data: bytes, offset: int = 0) -> None:
        """Send `data` from `offset` on to `url`, which may be below the gateway's own.

        Raises:
            GatewayError: it is not taken.
        """
        headers = {"content-type": "application/octet-stream"}
        if offset:
            headers["content-range"] = f"bytes {offset}-{len(data) - 1}/{len(data)}"
        request = self._client.build_request(
            "PUT", urljoin(f"{self.url}/", url), content=data[offset:], headers=headers
        )
        self._send(request, LARGEST_ANSWER, b"".join, repeatable=True)

    def _send(
        self, request: httpx.Request, most: int, take: Callable[[Iterator[bytes]], Taken], repeatable: bool
    ) -> Taken:
        """What `take` makes of the body of the answer to `request`, of `most` bytes at most."""
        end = time.monotonic() + self._patience
        pause, most_pause = PAUSES
        while True:
            wait = pause * random.uniform(0.5, 1.0)
            try:
                with closing(self._client.send(request, stream=True)) as response:
                    if response.is_success:
                        return take(_bounded(request, response, most))
                    failure = _refusal(
                        request, response, b"".join(_bounded(request, response, LARGEST_REFUSAL))
                    )
                if response.status_code not in BUSY:
                    raise failure
                wait = max(wait, _retry_after(response))
            except httpx.TransportError as error:
                failure = GatewayError(
                    f"cannot reach {_place(request)}: {shown(str(error) or type(error).__name__)}. Check "
                    "FEDEDGE_GATEWAY, and that the gateway runs"
                )
                failure.__cause__ = error
                if not repeatable and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise failure from error
            if time.monotonic() + wait > end:
                raise failure
            time.sleep(wait)
            pause = min(2 * pause, most_pause)


def _bounded(request: httpx.Request, response: httpx.Response, most: int) -> Iterator[bytes]:
    """The body of an answer, block by block, unless it has more than `most` bytes."""
    length = 0
    for block in response.iter_raw():
        length += len(block)
        if length > most:
            raise GatewayError(
                f"{_place(request)} answers with more than the {most:,} bytes that are expected", TOO_LARGE
            )
        yield block


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise GatewayError(
            f"cannot read the gateway's token in {file}: {reason}. Correct FEDEDGE_GATEWAY_TOKEN_FILE"
        ) from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _place(request: httpx.Request) -> str:
    """Where a request goes, for people; a URL that carries a right is not shown."""
    host = f"{request.url.scheme}://{request.url.netloc.decode()}"
    path = request.url.path
    secret = "authorization" not in request.headers
    return host if secret else host + path


def _refusal(request: httpx.Request, response: httpx.Response, data: bytes) -> GatewayError:
    try:
        problem = Problem.model_validate_json(data)
    except ValidationError:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        return GatewayError(
            f"{_place(request)} answers {shown(status)}: check FEDEDGE_GATEWAY", "HTTP", response.status_code
        )
    return GatewayError(shown(problem.message, 1000), problem.reason, response.status_code)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the gateway asks to wait; 0 where it names none. A date is not read: gateways send seconds."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0.0
