"""A gateway in memory, over real HTTP: the part of the API that coordinators use, and clients that are functions."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fededge import storage
from fededge.errors import GatewayError
from fededge.fleet.gateway_client import GatewayClient
from fededge.protocol import (
    BlobOffer,
    BlobPlace,
    Caller,
    ClientInfo,
    CloseRequest,
    Dataset,
    LookupRequest,
    Page,
    Problem,
    Report,
    Reports,
    RoundRequest,
    RoundStatus,
    SelectionRequest,
    SelectionResult,
)

TOKEN = "the-operators-token"
Said = dict[str, Any]
"""What a client reports: `update` as bytes, counts, ranges or failure, and seconds."""


@dataclass
class Round:
    """A round, with what clients reported so far."""

    request: RoundRequest
    reports: list[Report] = field(default_factory=list)
    state: str = "open"
    outcome: str | None = None
    reason: str = ""
    losses: dict[str, float] = field(default_factory=dict)


class StandIn:
    """The gateway's state; `answer(request, client)` is what a client says as soon as a round is open, None nothing."""

    def __init__(self, answer: Callable[[RoundRequest, str], Said | None]) -> None:
        self.answer = answer
        self.clients: dict[str, ClientInfo] = {}
        self.blobs: dict[str, bytes] = {}
        self.rounds: dict[str, Round] = {}
        self.selections: list[SelectionRequest] = []
        self.requests: list[tuple[str, str]] = []
        self.stale = 0
        """How many URLs of objects that are fetched next are too old."""
        self.lock = threading.RLock()
        self.url = ""

    def enroll(self, client: str, dataset: Dataset | None, **facts: Any) -> None:
        """Let a client in."""
        self.clients[client] = ClientInfo(
            client=client,
            kind="site",
            state="active",
            key_id="sha256:" + "0" * 64,
            enrolled=0.0,
            connected=True,
            datasets=[dataset] if dataset else [],
            **facts,
        )

    def report(self, round_id: str, client: str, said: Said) -> None:
        """What a client reports now."""
        update = said.get("update")
        digest = None
        if update is not None:
            digest = storage.digest(update)
            self.blobs[digest] = update
        with self.lock:
            found = self.rounds[round_id]
            url = f"/objects/{digest}" if digest else None
            said = said | {"update": said.get("claims", digest), "url": url}
            said.pop("claims", None)
            found.reports.append(Report(ordinal=len(found.reports) + 1, client=client, **said))
            if len(found.reports) == len(found.request.cohort):
                found.state = "closed"

    def status(self, round_id: str) -> RoundStatus:
        """How a round stands."""
        found = self.rounds[round_id]
        request, heard = found.request, {report.client for report in found.reports}
        return RoundStatus(
            round=round_id,
            task=request.task,
            kind=request.kind,
            number=request.number,
            state=found.state,  # type: ignore[arg-type]
            outcome=found.outcome,  # type: ignore[arg-type]
            reason=found.reason,
            cohort=sorted(request.cohort),
            goal=len(request.cohort),
            reported=len(heard),
            failed=0,
            waiting=len(request.cohort) - len(heard),
            failures={client: "asleep" for client in request.cohort if client.startswith("asleep")},
            opened=0.0,
            deadline=request.seconds,
            bytes_down=1000,
            bytes_up=2000,
            client_seconds=sum(report.seconds for report in found.reports),
        )

    def handle(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Any:
        """The answer to a request."""
        parts = path.strip("/").split("/")
        match method, parts:
            case "GET", ["v1", "caller"]:
                return Caller(tenant="hospital", name="pipelines", scope="operator")
            case "POST", ["v1", "lookups"]:
                asked = LookupRequest.model_validate_json(body).clients
                return Page[ClientInfo](items=[self.clients[client] for client in asked])
            case "GET", ["v1", "clients"]:
                return self._listing(query)
            case "GET", ["v1", "clients", client]:
                return self.clients[client]
            case "POST", ["v1", "selections"]:
                request = SelectionRequest.model_validate_json(body)
                self.selections.append(request)
                there = sorted(name for name, found in self.clients.items() if found.connected)
                cohort = there[: request.size]
                clients = [self.clients[name] for name in cohort]
                return SelectionResult(cohort=cohort, available=len(there), clients=clients)
            case "POST", ["v1", "blobs"]:
                offer = BlobOffer.model_validate_json(body)
                there_already = offer.digest in self.blobs
                return BlobPlace(url=None if there_already else f"/uploads/{offer.digest}")
            case "PUT", ["uploads", digest]:
                assert storage.digest(body) == digest
                self.blobs[digest] = body
                return Page[Caller](items=[])
            case "GET", ["objects", digest]:
                if self.stale:
                    self.stale -= 1
                    raise GatewayError("this URL is too old: ask for another", "EXPIRED", 403)
                return self.blobs[digest]
            case "PUT", ["v1", "rounds", name]:
                self._open(name, RoundRequest.model_validate_json(body))
                return self.status(name)
            case "GET", ["v1", "rounds", name] if name in self.rounds:
                return self.status(name)
            case "GET", ["v1", "rounds", name, "reports"] if name in self.rounds:
                return self._reports(name, int(query["after"][0]), float(query["wait"][0]))
            case "POST", ["v1", "rounds", name, "close"] if name in self.rounds:
                found, request_ = self.rounds[name], CloseRequest.model_validate_json(body)
                found.state, found.outcome = "closed", request_.outcome
                found.reason, found.losses = request_.reason, request_.losses
                return self.status(name)
        raise GatewayError(f"nothing at {path}", "NOT_FOUND", 404)

    def _open(self, name: str, request: RoundRequest) -> None:
        assert name not in self.rounds
        if not {request.plan, request.weights} <= self.blobs.keys():
            raise GatewayError("it is not stored: upload it first", "NO_BLOB", 409)
        self.rounds[name] = Round(request)
        for client in request.cohort:
            said = self.answer(request, client)
            if said is not None:
                self.report(name, client, said)

    def _listing(self, query: dict[str, list[str]]) -> Page[ClientInfo]:
        dataset, after = query["dataset"][0], query.get("after", [""])[0]
        found = [
            client
            for name, client in sorted(self.clients.items())
            if name > after and any(held.name == dataset for held in client.datasets)
        ]
        return Page[ClientInfo](items=found[:2], next=found[1].client if len(found) > 2 else None)

    def _reports(self, name: str, after: int, wait: float) -> Reports:
        end = time.monotonic() + min(wait, 5.0)
        while True:
            with self.lock:
                found = self.rounds[name]
                items, is_open = found.reports[after:][:2], found.state == "open"
            if items or not is_open or time.monotonic() > end:
                more = is_open or len(items) == 2
                return Reports(items=items, open=more, status=None if more else self.status(name))
            time.sleep(0.01)


@contextmanager
def running(gateway: StandIn) -> Iterator[StandIn]:
    """`gateway` at `gateway.url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            gateway.requests.append((self.command, target.path))
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            api = target.path.startswith("/v1/")
            authorized = self.headers.get("authorization") == (f"Bearer {TOKEN}" if api else None)
            try:
                if not authorized:
                    raise GatewayError("who is this?", "UNAUTHORIZED", 401)
                answer = gateway.handle(self.command, target.path, parse_qs(target.query), body)
                status = 200
            except GatewayError as error:
                answer, status = Problem(reason=error.reason, message=str(error)), error.status
            data = answer if isinstance(answer, bytes) else json.dumps(answer.to_content()).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_of(gateway: StandIn, folder: Path) -> GatewayClient:
    """A client of a running stand-in with the operator's token."""
    (folder / "token").write_text(f"{TOKEN}\n")
    return GatewayClient(gateway.url, folder / "token", patience=5.0)
