"""Pods of a fake Kubernetes API: each is a process of this machine with an address of its own on the loopback."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.built_manifests import check_restricted

PATH = re.compile(r"/api/v1/namespaces/([a-z-]+)/pods(?:/([a-z0-9-]+))?")
Pod = dict[str, Any]


@dataclass
class FakePods:
    """The pods.

    Attributes:
        folder: for logs.
        port: that listening pods open.
        secrets: data by namespace and name, which pods read variables from.
        enforced: whether pods with the label of steps are told to be where nobody reaches them, as a network plugin
            keeps others away from them.
        waiting: what containers wait for, in Kubernetes' words; nothing then starts.
        taken: each pod that was posted.
        running: the processes by path.
    """

    folder: Path
    port: int
    secrets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    enforced: bool = True
    waiting: str = ""
    taken: list[Pod] = field(default_factory=list)
    running: dict[str, tuple[Pod, str, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The answer to a request for pods; None where it is another."""
        found = PATH.fullmatch(path)
        if found is None:
            return None
        if method == "POST":
            return self._start(found[1], json.loads(body))
        if path not in self.running:
            return 404
        if method == "DELETE":
            process = self.running.pop(path)[2]
            process.kill()
            process.wait()
            return {"kind": "Status", "status": "Success"}
        return self._told(path)

    def _start(self, namespace: str, pod: Pod) -> Pod:
        kubernetes_validate.validate(pod, "1.32", strict=True)
        check_restricted(pod["spec"])
        self.taken.append(pod)
        (container,) = pod["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container.get("env", ())}
        for source in container.get("envFrom", ()):
            variables |= self.secrets.get((namespace, source["secretRef"]["name"]), {})
        address = f"127.0.1.{len(self.taken)}"
        command = [sys.executable, *container["command"][1:]]
        if "http.server" in command:
            command += ["--bind", address]
        name = pod["metadata"]["name"]
        with (self.folder / name).open("wb") as log:
            process = subprocess.Popen(
                command if not self.waiting else ["sleep", "60"],
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
            )
        self.running[f"/api/v1/namespaces/{namespace}/pods/{name}"] = (pod, address, process)
        return pod

    def _told(self, path: str) -> Pod:
        pod, address, process = self.running[path]
        code = process.poll()
        state: Pod = {"running": {}}
        if self.waiting:
            state = {"waiting": {"reason": self.waiting}}
        elif code is not None:
            words = (self.folder / pod["metadata"]["name"]).read_text()[-2048:]
            state = {"terminated": {"exitCode": code, "reason": "Error", "message": words if code else ""}}
        with socket.socket() as asked:
            ready = code is None and asked.connect_ex((address, self.port)) == 0
        hidden = self.enforced and "fededge.io/step" in pod["metadata"].get("labels", {})
        return {
            **pod,
            "status": {
                "phase": "Running" if code is None else "Failed" if code else "Succeeded",
                "podIP": address.replace("127.0.1.", "127.0.2.") if hidden else address,
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"name": "worker", "ready": ready, "state": state}],
            },
        }


def encoded(data: dict[str, str]) -> dict[str, str]:
    """The data of a secret, as the API tells them."""
    return {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
