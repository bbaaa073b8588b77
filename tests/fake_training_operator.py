"""A fake Kubernetes API with the Training Operator: it keeps jobs, and runs their replicas as processes of this machine.

It speaks TLS, asks for the token of a service account, and knows jobs of group kubeflow.org/v1 in one namespace. What
the operator does, it does whenever a job is read: it starts what is missing, starts again what failed, and sets the
conditions that the real one sets.
"""

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMESPACE = "kubeflow"
JOBS = f"/apis/kubeflow.org/v1/namespaces/{NAMESPACE}/"
SPECS = {"tfjobs": ("tfReplicaSpecs", "tensorflow"), "pytorchjobs": ("pytorchReplicaSpecs", "pytorch")}
POD = "/pod"
"""Begins the paths of a replica's own files; each has a folder of its own in its place."""
Object = dict[str, Any]


@dataclass
class FakeTrainingOperator:
    """What the API server knows.

    Attributes:
        folder: for logs and the files of pods.
        url: of the API; `account`: folder with a service account's files.
        jobs: by path.
        asked: method and path of each request.
        refusals: HTTP codes and messages for the next requests, in order.
        knows: the kinds that are installed.
        full: whether no node has room, so that no replica starts.
        meanwhile: called whenever a job is looked at.
        script: run in place of a replica's module, with its arguments.
        processes: of replicas, by pod.
    """

    folder: Path
    url: str = ""
    account: Path = Path()
    jobs: dict[str, Object] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    knows: set[str] = field(default_factory=lambda: set(SPECS))
    full: bool = False
    meanwhile: Callable[[], None] = lambda: None
    script: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def job(self) -> Object:
        """The only job."""
        (job,) = self.jobs.values()
        return job

    def pods(self) -> list[str]:
        """Names of the pods whose process runs."""
        return sorted(name for name, process in self.processes.items() if process.poll() is None)

    def end(self, pod: str) -> None:
        """Let a pod's process end at once, as the kernel does when memory is short."""
        self.processes[pod].kill()
        self.processes[pod].wait()

    def remove_pod_of_step(self, uid: str) -> None:
        """What Kubernetes does with jobs whose only owner is removed."""
        for path, job in list(self.jobs.items()):
            if {each["uid"] for each in job["metadata"]["ownerReferences"]} == {uid}:
                self.delete(path)

    def fail(self, words: str) -> None:
        """Let the only job fail, and its pods go."""
        self._condition(self.job, "Failed", words)
        self._end_pods(self.job["metadata"]["name"])

    def create(self, path: str, job: Object) -> None:
        """Take a new job."""
        self.jobs[path] = {**job, "status": {"conditions": [], "replicaStatuses": {"Worker": {}}}}
        self._condition(self.jobs[path], "Created")

    def delete(self, path: str) -> None:
        """Remove a job with its pods."""
        job = self.jobs.pop(path, None)
        if job:
            self._end_pods(job["metadata"]["name"])

    def reconcile(self, path: str) -> None:
        """Do what the operator does for a job."""
        job = self.jobs[path]
        if self.full or {each["type"] for each in job["status"]["conditions"]} & {"Failed", "Succeeded"}:
            return
        specs, container = SPECS[path.removeprefix(JOBS).partition("/")[0]]
        worker = job["spec"][specs]["Worker"]
        ended = 0
        for index in range(worker["replicas"]):
            pod = f"{job['metadata']['name']}-worker-{index}"
            process = self.processes.get(pod)
            if process is not None and process.poll() not in (None, 0):
                assert worker["restartPolicy"] == "OnFailure"
                self._condition(job, "Restarting")
            if process is None or process.poll() not in (None, 0):
                self.processes[pod] = self._start(pod, worker["template"], container, index)
            ended += self.processes[pod].poll() == 0
        job["status"]["replicaStatuses"]["Worker"] = {"active": worker["replicas"] - ended}
        self._condition(job, "Succeeded" if ended == worker["replicas"] else "Running")

    def _start(self, pod: str, template: Object, container: str, index: int) -> "subprocess.Popen[bytes]":
        (found,) = [each for each in template["spec"]["containers"] if each["name"] == container]
        labels = {**template["metadata"]["labels"], "training.kubeflow.org/replica-index": str(index)}
        variables = {}
        for each in found["env"]:
            where = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            if where:
                variables[each["name"]] = labels[where.removeprefix("metadata.labels['").removesuffix("']")]
            elif "value" in each:
                variables[each["name"]] = each["value"]
        words = list(found["command"])
        for name, value in variables.items():
            words = [word.replace(f"$({name})", value) for word in words]
        words = [
            word.replace(POD, str(self.folder / pod)) if word.startswith(POD) else word for word in words
        ]
        assert words[:2] == ["python", "-m"]
        program = ["-c", self.script, *words[3:]] if self.script else words[1:]
        with (self.folder / f"{pod}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *program], stdout=log, stderr=log, env={**os.environ, **variables}
            )

    def _condition(self, job: Object, kind: str, words: str = "") -> None:
        """Set a condition as the operator does: Running and Restarting take each other's place, and an end both."""
        conditions = [each for each in job["status"]["conditions"] if each["type"] != kind]
        if kind in ("Running", "Restarting"):
            conditions = [each for each in conditions if each["type"] not in ("Running", "Restarting")]
        for each in conditions:
            if kind in ("Succeeded", "Failed") and each["type"] == "Running":
                each["status"] = "False"
        conditions.append({"type": kind, "status": "True", "reason": f"Job{kind}", "message": words})
        job["status"]["conditions"] = conditions

    def _end_pods(self, job: str) -> None:
        for pod in [name for name in self.processes if name.startswith(f"{job}-worker-")]:
            process = self.processes.pop(pod)
            process.send_signal(signal.SIGTERM)
            process.wait()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[FakeTrainingOperator]:
    """The API, while this lasts; afterwards all replicas have ended."""
    operator = FakeTrainingOperator(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            with lock:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else {}
                self._answer(*self._content(body))

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 (http.server's names)

        def _content(self, body: Object) -> tuple[int, Object]:
            operator.asked.append((self.command, self.path))
            token = (operator.account / "token").read_text().strip()
            if self.headers["Authorization"] != f"Bearer {token}":
                return 401, {"message": "Unauthorized"}
            if operator.refusals:
                code, message = operator.refusals.pop(0)
                return code, {"message": message}
            plural, _, name = self.path.removeprefix(JOBS).partition("/")
            if not self.path.startswith(JOBS) or plural not in operator.knows:
                return 404, {"message": "the server could not find the requested resource"}
            if self.command == "POST":
                path = f"{self.path}/{body['metadata']['name']}"
                if path in operator.jobs:
                    return 409, {"message": f"{path} already exists"}
                operator.create(path, body)
                return 201, operator.jobs[path]
            if self.path not in operator.jobs:
                return 404, {"message": f'{plural}.kubeflow.org "{name}" not found'}
            if self.command == "DELETE":
                operator.delete(self.path)
                return 200, {"kind": "Status", "status": "Success"}
            if self.command == "PATCH":
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                operator.jobs[self.path]["metadata"].update(body["metadata"])
            operator.meanwhile()
            operator.reconcile(self.path)
            return 200, operator.jobs[self.path]

        def _answer(self, code: int, content: Object) -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    operator.account = folder / "account"
    operator.account.mkdir(parents=True)
    (operator.account / "namespace").write_text(NAMESPACE)
    (operator.account / "token").write_text("first-token\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(operator.account))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        operator.url = f"https://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield operator
        finally:
            server.shutdown()
            for process in operator.processes.values():
                process.kill()
                process.wait()


def _certificate(account: Path) -> Path:
    """A file with key and certificate of 127.0.0.1, which `account`/ca.crt lets clients trust."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (account / "ca.crt").write_bytes(certificate)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = account / "server.pem"
    file.write_bytes(private + certificate)
    return file
