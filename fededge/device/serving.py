"""Inference for programs of this machine: REST on 127.0.0.1, with the endpoint's payloads (fededge.payloads).

A model that takes another's place is loaded first, then answers all requests that begin from then on; those under way are
answered by the one that they began with. So a swap loses no request.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fededge.device.installation import Installed
from fededge.errors import RequestError, SiteError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from fededge.documents import Schema
    from fededge.inference import LoadedModel

LARGEST_BODY = 1 << 20
"""Bytes of a request: a number in JSON becomes up to 40 times as many."""
AT_ONCE = 2
"""Requests that are decoded and answered at the same time."""
PREDICTIONS = "/api/v1.0/predictions"


@dataclass(frozen=True)
class Served:
    """A model that answers, and what is said of it beside its answers."""

    model: "LoadedModel"
    schema: "Schema | None"
    tags: dict[str, Any]

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            RequestError: it is malformed, of another shape, or it or its answer is not finite.
        """
        import numpy as np

        from fededge import payloads

        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body is not JSON: {error}", "MALFORMED_JSON") from error
        examples, kind = payloads.from_json(message, self.model.input_shape, self.schema)
        outputs = self.model.predict(examples)
        if not np.isfinite(outputs).all():
            raise RequestError(
                "the model's answer holds NaN or infinity: send examples like those it was trained on",
                "OUTPUT_NOT_FINITE",
                422,
            )
        answer, described = payloads.to_json(outputs, kind, examples, self.schema)
        return {**answer, "meta": {"tags": {**self.tags, **described}}}


class Models:
    """The models that answer, by task.

    Args:
        port: on 127.0.0.1; None: nobody asks, and nothing is loaded.
    """

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._served: dict[str, Served] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def put(self, task: str, release: Installed) -> None:
        """Let a release answer for its task from now on.

        Raises:
            VariantError: its model cannot be loaded.
        """
        if self._port is None:
            return
        from fededge.inference import load_model

        model = load_model(release.model, release.variant.kind, threads=1)
        tags = {
            "model_version": str(release.manifest.version),
            "variant": release.variant.kind,
            "digest": release.variant.digest,
        }
        self._served[task] = Served(model, model.schema, tags)

    def remove(self, task: str) -> None:
        """Answer for a task no longer."""
        self._served.pop(task, None)

    @contextlib.asynccontextmanager
    async def serving(self) -> Any:
        """Answer as long as the block lasts; requests under way at its end are answered.

        Raises:
            SiteError: the port is taken.
        """
        if self._port is None:
            yield
            return
        with _listening(self._port) as listener:
            server = _server(self._app())
            serving = asyncio.create_task(server.serve([listener]))
            try:
                yield
            finally:
                server.should_exit = True
                await serving

    def _app(self) -> "Starlette":
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route

        return Starlette(
            routes=[
                Route("/ready", self._ready),
                Route("/metadata", self._metadata),
                Route(PREDICTIONS, self._predict, methods=["POST"]),
                Route(f"/{{task}}{PREDICTIONS}", self._predict, methods=["POST"]),
            ],
            # A page that a browser here shows must not reach it by a name that leads to this address.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        )

    async def _ready(self, request: "Request") -> "Response":
        return _json({"status": "ready" if self._served else "empty"}, 200 if self._served else 503)

    async def _metadata(self, request: "Request") -> "Response":
        return _json({"models": {task: served.tags for task, served in sorted(self._served.items())}})

    async def _predict(self, request: "Request") -> "Response":
        try:
            served = self._chosen(request.path_params.get("task"))
            body = await _body(request)
            async with self._turns:
                return _json(await asyncio.to_thread(served.answer, body))
        except RequestError as error:
            told = {"code": error.status, "reason": error.reason, "info": str(error), "status": "FAILURE"}
            return _json({"status": told}, error.status)

    def _chosen(self, task: str | None) -> Served:
        """The model of `task`; None: the only one."""
        if not self._served:
            raise RequestError("no release runs here yet: try again", "LOADING", 503)
        if task is None and len(self._served) > 1:
            raise RequestError(f"name the task: POST /TASK{PREDICTIONS}", "TASK", 404)
        found = next(iter(self._served.values())) if task is None else self._served.get(task)
        if found is None:
            raise RequestError(f"no release of this task runs here: {', '.join(self._served)}", "TASK", 404)
        return found


async def _body(request: "Request") -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RequestError("send Content-Type application/json", "WRONG_TYPE", 415)
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > LARGEST_BODY:
            raise RequestError(
                f"the body has more than {LARGEST_BODY:,} bytes: send fewer examples at a time",
                "TOO_LARGE",
                413,
            )
    return bytes(body)


def _json(content: Any, status: int = 200) -> "Response":
    import numpy as np
    from starlette.responses import Response

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else str(value)

    return Response(json.dumps(content, default=plain), status, media_type="application/json")


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise SiteError(
                f"cannot serve on 127.0.0.1:{port}: {error.strerror}. Name another serving.port in the policy"
            ) from error
        yield listener


def _server(app: "Starlette") -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The client hears them."""
            yield

    return Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=64,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
        )
    )
