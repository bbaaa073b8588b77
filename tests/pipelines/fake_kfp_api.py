"""A Kubeflow Pipelines API for tests: the v2beta1 paths that uploads, runs and schedules use.

It keeps what it is given in memory, parses every pipeline into a PipelineSpec, and answers as the
real API does. `refuse` makes it answer everything with a status; `token` makes it ask for one.
"""

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

PREFIX = "/apis/v2beta1"
Content = dict[str, Any]


class FakeKubeflow:
    """State and address of the API."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Content] = {}
        self.versions: dict[str, Content] = {}
        self.experiments: dict[str, Content] = {}
        self.runs: dict[str, Content] = {}
        self.recurring: dict[str, Content] = {}
        self.refuse: tuple[int, str] | None = None
        self.token: str | None = None
        self.url = ""
        self.tag = "2.17.0"
        self._count = itertools.count(1)

    def respond(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Content:
        """The answer to one request.

        Raises:
            KeyError: no such path or object.
            ValueError: the request is not well-formed.
        """
        match (method, *path.removeprefix(PREFIX).strip("/").split("/")):
            case ("GET", "healthz"):
                return {
                    "commit_sha": "unknown",
                    "tag_name": self.tag,
                    "multi_user": False,
                    "pipeline_store": "database",
                }
            case ("POST", "pipelines", "upload"):
                return self._upload(query, _file(body, kind))
            case ("POST", "pipelines", "upload_version"):
                return self._version(query["pipelineid"], query["name"], _file(body, kind))
            case ("GET", "pipelines"):
                space = query.get("namespace", "")
                own = {k: v for k, v in self.pipelines.items() if v["namespace"] == space}
                return _page("pipelines", own, query)
            case ("GET", "pipelines", identity, "versions"):
                mine = {k: v for k, v in self.versions.items() if v["pipeline_id"] == identity}
                return _page("pipeline_versions", mine, query)
            case ("GET", "experiments"):
                return _page("experiments", self.experiments, query)
            case ("POST", "experiments"):
                return self._add(self.experiments, "experiment_id", json.loads(body))
            case ("POST", "runs"):
                return self._add(self.runs, "run_id", self._runnable(json.loads(body)) | {"state": "PENDING"})
            case ("POST", "runs", action) if action.endswith(":terminate"):
                self.runs[action.removesuffix(":terminate")]["state"] = "CANCELED"
                return {}
            case ("GET", "runs"):
                return _page("runs", self.runs, query)
            case ("GET", "runs", identity):
                return self.runs[identity]
            case ("POST", "recurringruns"):
                return self._add(self.recurring, "recurring_run_id", self._runnable(json.loads(body)))
        raise KeyError(f"{method} {path}")

    def _add(self, table: dict[str, Content], key: str, content: Content) -> Content:
        identity = f"{key.removesuffix('_id')}-{next(self._count)}"
        table[identity] = {**content, key: identity, "created_at": "2026-01-01T00:00:00Z"}
        return table[identity]

    def _upload(self, query: dict[str, str], package: str) -> Content:
        name = query["name"]
        space = query.get("namespace", "")
        if any((p["display_name"], p["namespace"]) == (name, space) for p in self.pipelines.values()):
            raise ValueError(f"pipeline {name} already exists")
        _spec(package)
        pipeline = self._add(
            self.pipelines,
            "pipeline_id",
            {"display_name": name, "name": name, "namespace": space},
        )
        self._version(pipeline["pipeline_id"], name, package)
        return pipeline

    def _version(self, pipeline_id: str, name: str, package: str) -> Content:
        if pipeline_id not in self.pipelines:
            raise KeyError(pipeline_id)
        spec = {"pipeline_spec": _spec(package), "platform_spec": _platform(package)}
        content = {"pipeline_id": pipeline_id, "display_name": name, **spec}
        return self._add(self.versions, "pipeline_version_id", content)

    def _runnable(self, content: Content) -> Content:
        if content["experiment_id"] not in self.experiments:
            raise KeyError(content["experiment_id"])
        if "pipeline_spec" in content:
            document = content["pipeline_spec"]
            _parsed(document.get("pipeline_spec", document))
        elif content["pipeline_version_reference"]["pipeline_version_id"] not in self.versions:
            raise KeyError("pipeline_version_id")
        return content


@contextmanager
def serving() -> Iterator[FakeKubeflow]:
    """The API on a free port of this machine, while the block runs."""
    api = FakeKubeflow()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, content = 200, {}
            if api.refuse:
                status, content = api.refuse[0], {"message": api.refuse[1]}
            elif api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                status, content = 401, {"message": "no valid token"}
            else:
                try:
                    kind = self.headers.get("Content-Type", "")
                    content = api.respond(self.command, parts.path, query, body, kind)
                except KeyError as error:
                    status, content = 404, {"message": f"not found: {error}"}
                except ValueError as error:
                    status, content = 400, {"message": str(error)}
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _handle  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _page(key: str, table: dict[str, Content], query: dict[str, str]) -> Content:
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    for predicate in predicates:
        if predicate["operation"] not in ("EQUALS", 1):
            raise ValueError(f"unknown operation {predicate['operation']}")
    rows = [
        row
        for row in table.values()
        if all(row.get(p["key"]) == (p.get("stringValue") or p.get("string_value")) for p in predicates)
    ]
    first, size = int(query.get("page_token") or 0), int(query.get("page_size") or 10)
    page = {key: rows[first : first + size], "total_size": len(rows)}
    more = {"next_page_token": str(first + size)} if first + size < len(rows) else {}
    return page | more if rows else {}


def _file(body: bytes, kind: str) -> str:
    """The uploaded file of a multipart/form-data body."""
    if not re.match(r"multipart/form-data; ?boundary=", kind):
        raise ValueError(f"not a form: {kind}")
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            content: bytes = part.get_content()
            return content.decode()
    raise ValueError("the form has no uploadfile")


def _spec(package: str) -> Content:
    document = next(iter(yaml.safe_load_all(package)))
    _parsed(document)
    return document


def _platform(package: str) -> Content:
    documents = list(yaml.safe_load_all(package))
    return documents[1] if len(documents) > 1 else {}


def _parsed(document: Content) -> pipeline_spec_pb2.PipelineSpec:
    try:
        return json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise ValueError(f"not a PipelineSpec: {error}") from error
