"""Inference for programs of this machine: REST on 127.0.0.1, with the endpoint's payloads (fededge.payloads).

Each model answers in a process of its own (fededge.device.model_process). A model that takes another's place answers all
requests that begin from then on, and those that wait; the one under way is answered by the model that it began with. A
model that hangs or crashes loses its place, and the request goes to the one that takes it. So no request is lost.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fededge.device.answering import failure
from fededge.device.model_process import Answering, ModelProcess
from fededge.errors import FedEdgeError, IntegrityError, ReleaseError, RequestError, SiteError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LARGEST_BODY = 1 << 20
"""Bytes of a request: a number in JSON becomes up to 40 times as many."""
REST_SECONDS = 60.0
"""Between looks for processes that nobody asks any more."""
PREDICTIONS = "/api/v1.0/predictions"


@dataclass(eq=False)
class Served:
    """A model that answers, what is said of it beside its answers, and who is told that it does not."""

    process: ModelProcess
    tags: Mapping[str, str]
    failed: Callable[[FedEdgeError], None]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Models:
    """The models that answer, by task.

    Args:
        port: on 127.0.0.1; None: nobody asks, and nothing is loaded.
    """

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._served: dict[str, Served] = {}

    def put(self, task: str, told: Answering, failed: Callable[[FedEdgeError], None]) -> None:
        """Let a model answer for its task from now on; once it hangs, crashes or is damaged, `failed` is told why."""
        if self._port is None:
            return
        self.remove(task)
        self._served[task] = Served(ModelProcess(told), told.tags, failed)

    def remove(self, task: str) -> None:
        """Answer for a task no longer."""
        before = self._served.pop(task, None)
        if before is not None and not before.turn.locked():
            before.process.close()

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
            resting = asyncio.create_task(self._rest())
            try:
                yield
            finally:
                server.should_exit = True
                await serving
                resting.cancel()
                for task in list(self._served):
                    self._served.pop(task).process.close()

    async def _rest(self) -> None:
        while True:
            await asyncio.sleep(REST_SECONDS)
            for served in self._served.values():
                if not served.turn.locked():
                    served.process.rest()

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
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "ready" if self._served else "empty"}, 200 if self._served else 503)

    async def _metadata(self, request: "Request") -> "Response":
        from starlette.responses import JSONResponse

        return JSONResponse(
            {"models": {task: dict(served.tags) for task, served in sorted(self._served.items())}}
        )

    async def _predict(self, request: "Request") -> "Response":
        from starlette.responses import Response

        try:
            status, answer = await self._answer(request.path_params.get("task"), await _body(request))
        except RequestError as error:
            status, answer = error.status, failure(error)
        return Response(answer, status, media_type="application/json")

    async def _answer(self, task: str | None, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request of `task`, by whichever model can answer it."""
        while True:
            name, served = self._chosen(task)
            async with served.turn:
                if self._served.get(name) is not served:
                    continue
                try:
                    return await asyncio.to_thread(served.process.ask, body)
                except (ReleaseError, IntegrityError) as error:
                    if self._served.get(name) is served:
                        del self._served[name]
                        served.failed(error)
                except FedEdgeError as error:
                    raise RequestError(str(error), "CANNOT_ANSWER", 503) from error
                finally:
                    if self._served.get(name) is not served:
                        served.process.close()

    def _chosen(self, task: str | None) -> tuple[str, Served]:
        """The model of `task`, with its name; None: the only one."""
        if not self._served:
            raise RequestError("no release runs here yet: try again", "LOADING", 503)
        if task is None and len(self._served) > 1:
            raise RequestError(f"name the task: POST /TASK{PREDICTIONS}", "TASK", 404)
        name = next(iter(self._served)) if task is None else task
        if name not in self._served:
            raise RequestError(f"no release of this task runs here: {', '.join(self._served)}", "TASK", 404)
        return name, self._served[name]


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
