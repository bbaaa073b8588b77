"""The servers that are measured: a gateway, and bare ones of uvicorn and Starlette beside it."""

import asyncio
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fededge.fleet.gateway.server import serve
from fededge.fleet.gateway.settings import GatewaySettings, Rate

FREE = Rate(1e6, 1e6)
"""No limit: all clients of the benchmark are one machine."""


def ready(url: str) -> None:
    """Tell the benchmark that a server answers."""
    print(json.dumps({"url": url}), flush=True)


def gateway(folder: Path, connections: str = "15000") -> None:
    """A gateway whose files lie in `folder`, and that has so many clients at most."""
    rates = dict.fromkeys(("enrolls", "connects", "requests_rate", "operations"), FREE)
    settings = GatewaySettings(
        port=0,
        database=f"sqlite:///{folder}/registry.db",
        storage=f"file://{folder}/storage",
        log_level="WARNING",
        connections=int(connections),
        **rates,  # type: ignore[arg-type]
    )
    serve(settings, ready)


def bare(folder: Path) -> None:
    """A WebSocket that echoes, and a PUT that streams to a synced file in `folder` and answers with its digest."""

    async def echo(socket: WebSocket) -> None:
        await socket.accept(subprotocol="fededge")
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnect:
            return

    async def put(request: Request) -> Response:
        hasher = hashlib.sha256()
        with (folder / secrets.token_hex(16)).open("wb") as file:
            async for block in request.stream():
                hasher.update(block)
                file.write(block)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        return Response(hasher.hexdigest(), 201)

    class Server(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup()
            ready(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}")

    app = Starlette(routes=[WebSocketRoute("/v1/connect", echo), Route("/put/{name}", put, methods=["PUT"])])
    config = uvicorn.Config(
        app,
        port=0,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        backlog=4096,
    )
    Server(config).run()


if __name__ == "__main__":
    {"gateway": gateway, "bare": bare}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
