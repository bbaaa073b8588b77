"""A fake Kubernetes API with Seldon's operator: it plays back what a real one answered, or rolls out at once.

It speaks the real paths of SeldonDeployments, Deployments and pods, and keeps its own clock, so that minutes
of a recording pass in no time.
"""

import contextlib
import copy
import json
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.fake_port_forward import forward

SELDON = "/apis/machinelearning.seldon.io/v1/namespaces/default/seldondeployments/"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments/"
PODS = "/api/v1/namespaces/default/pods"
VERSION = "fededge.io/model-version"


class FakeCluster:
    """What the API server knows.

    Attributes:
        objects: SeldonDeployments by name.
        patches: content type and query of each apply.
        applied: the manifests, in order.
        status: of every SeldonDeployment.
        refusals: HTTP codes and messages for the next requests, in order; the last one stays if `refuses`.
        recording: what happens after the first apply, as lines of a recording; empty: all is done at once.
        now: seconds, by its own clock.
        broken: names of Deployments whose new pods never become available.
        ready: names of Deployments that have a ready pod, where nothing is played back.
        forwards: port of this machine that stands for a port of every pod.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.patches: list[tuple[str, dict[str, list[str]]]] = []
        self.applied: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {"state": "Available"}
        self.refusals: list[tuple[int, str]] = []
        self.refuses = False
        self.recording: list[dict[str, Any]] = []
        self.now = 0.0
        self.broken: set[str] = set()
        self.ready: list[str] = []
        self.forwards: dict[int, int] = {}

    def clock(self) -> Any:
        """What takes the place of the module `time`."""

        def sleep(seconds: float) -> None:
            self.now += seconds

        return types.SimpleNamespace(monotonic=lambda: self.now, sleep=sleep)

    def moment(self) -> dict[str, Any] | None:
        """The line of the recording that holds now."""
        passed = [line for line in self.recording if line["t"] <= self.now]
        return (passed or self.recording)[-1 if passed else 0] if self.recording else None

    def seldon(self, name: str) -> dict[str, Any] | None:
        """A SeldonDeployment with its status."""
        if name not in self.objects:
            return None
        line = self.moment()
        status = line["seldondeployment"]["status"] if line else self.status
        return {**self.objects[name], "status": status}

    def deployments(self) -> list[dict[str, Any]]:
        """The Deployments that stand."""
        line = self.moment()
        if line is None:
            return [self._complete(name, predictor) for name, predictor in self._predictors()]
        return [
            {
                "kind": "Deployment",
                "metadata": {"name": each["name"], "generation": each["generation"]},
                "spec": {
                    "replicas": each["replicas"],
                    "template": {"metadata": {"labels": self._labels(each["name"], each["model_version"])}},
                },
                "status": each["status"],
            }
            for each in line["deployments"]
        ]

    def pods(self) -> list[dict[str, Any]]:
        """The pods of all Deployments."""
        line = self.moment() or {"pods": []}
        found: list[dict[str, Any]] = [
            {
                "metadata": {"name": f"{name}-1-a", "labels": {"app": name}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
            for name in self.ready
        ]
        for each in line["pods"]:
            deployment = each["name"].rsplit("-", 2)[0]
            metadata = {
                "name": each["name"],
                "labels": {"app": deployment, **self._labels(deployment, each["model_version"])},
            }
            if each["deleting"]:
                metadata["deletionTimestamp"] = "2026-11-23T15:11:36Z"
            containers = [
                {
                    "name": one["name"],
                    "ready": one["ready"],
                    "restartCount": one["restarts"],
                    "state": one["state"],
                    "lastState": one["last_state"],
                }
                for one in each["containers"]
            ]
            status = {
                "phase": each["phase"],
                "conditions": each["conditions"],
                "containerStatuses": containers,
            }
            found.append({"metadata": metadata, "status": status})
        return found

    def _predictors(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, found in self.objects.items():
            for predictor in found["spec"]["predictors"]:
                yield f"{name}-{predictor['name']}-0-model", predictor

    def _labels(self, deployment: str, version: str) -> dict[str, str]:
        """Those that Seldon copies from the predictor, where it is the one that was applied."""
        for name, predictor in self._predictors():
            if name == deployment and predictor["labels"][VERSION] == version:
                return dict(predictor["labels"])
        return {VERSION: version}

    def _complete(self, name: str, predictor: dict[str, Any]) -> dict[str, Any]:
        replicas = predictor.get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
        if name in self.broken:
            counts["availableReplicas"] = 0
        return {
            "kind": "Deployment",
            "metadata": {"name": name, "generation": 1},
            "spec": {"replicas": replicas, "template": {"metadata": {"labels": predictor["labels"]}}},
            "status": {"observedGeneration": 1, **counts},
        }


@contextlib.contextmanager
def serving(cluster: FakeCluster, folder: Path) -> Iterator[str]:
    """The API of `cluster` over HTTP, while this lasts; the kubeconfig file that names it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if cluster.refusals:
                code, message = cluster.refusals[0]
                if not cluster.refuses:
                    cluster.refusals.pop(0)
                self._answer(code, {"message": message})
            elif url.path.startswith(SELDON):
                name = url.path.removeprefix(SELDON)
                self._one(cluster.seldon(name), f'seldondeployments.machinelearning.seldon.io "{name}"')
            elif url.path.startswith(DEPLOYMENTS):
                name = url.path.removeprefix(DEPLOYMENTS)
                found = {each["metadata"]["name"]: each for each in cluster.deployments()}
                self._one(found.get(name), f'deployments.apps "{name}"')
            elif url.path.endswith("/portforward"):
                (asked,) = parse_qs(url.query)["ports"]
                forward(self, int(asked), cluster.forwards[int(asked)])
            elif url.path == PODS:
                (selector,) = parse_qs(url.query)["labelSelector"]
                key, _, value = selector.partition("=")
                pods = [pod for pod in cluster.pods() if pod["metadata"]["labels"].get(key) == value]
                self._answer(200, {"apiVersion": "v1", "kind": "PodList", "items": pods})
            else:
                self._answer(404, {"message": f"no such path {url.path}"})

        def do_PATCH(self) -> None:
            url = urlsplit(self.path)
            cluster.patches.append((self.headers["Content-Type"], parse_qs(url.query)))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            cluster.objects[url.path.removeprefix(SELDON)] = body
            cluster.applied.append(copy.deepcopy(body))
            self._answer(200, body)

        def _one(self, found: dict[str, Any] | None, what: str) -> None:
            self._answer(*((200, found) if found else (404, {"message": f"{what} not found"})))

        def _answer(self, code: int, content: dict[str, Any]) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kubeconfig(folder, server.server_address[1])
        server.shutdown()


def kubeconfig(folder: Path, port: int) -> str:
    """A kubeconfig file for a cluster at `port` of this machine."""
    named = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": named}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return str(file)
