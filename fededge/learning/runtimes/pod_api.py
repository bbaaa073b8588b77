"""The Kubernetes API as a pod asks it: by REST, as its own service account.

The worker image has no Kubernetes SDK, and four requests need none.
"""

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from fededge.errors import KubeflowError, shown

URL = "https://kubernetes.default.svc"
"""By which every pod reaches the API of its cluster."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's token, which it renews, the certificates of the API and the namespace."""
TIMEOUT = httpx.Timeout(20.0, connect=5.0)
MERGE = "application/merge-patch+json"


class Refused(KubeflowError):
    """The API server answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PodApi:
    """The API at `url`.

    Args:
        url: `https://host:port`.
        account: folder as ACCOUNT is.
        patience_seconds: how long a request is repeated that the server cannot answer now.
    """

    def __init__(self, url: str, account: Path, patience_seconds: float) -> None:
        self._account = account
        self._patience = patience_seconds
        self.namespace = self._read("namespace")
        try:
            trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except OSError as error:
            raise KubeflowError(
                f"{account / 'ca.crt'} holds no certificates: {error}. Run in a pod"
            ) from error
        # No proxy of the environment: it is one to the world outside the cluster.
        self._client = httpx.Client(base_url=url, verify=trusted, timeout=TIMEOUT, trust_env=False)

    @classmethod
    def own(cls, patience_seconds: float) -> Self:
        """The API of the cluster that this pod runs in.

        Raises:
            KubeflowError: this is no pod, or one without a service account's token.
        """
        if not ACCOUNT.is_dir():
            raise KubeflowError(
                "this process runs in no pod, so there is no cluster to start workers on: run it on Kubeflow, or set "
                "FEDEDGE_PLATFORM=local"
            )
        return cls(URL, ACCOUNT, patience_seconds)

    def get(self, path: str, *, patiently: bool = True) -> dict[str, Any] | None:
        """The object at `path`; None where there is none.

        Args:
            path: of the object.
            patiently: whether to ask again where the server cannot answer now.

        Raises:
            Refused: the server refuses.
            KubeflowError: it does not answer.
        """
        return self._ask("GET", path, missing=True, patience_seconds=self._patience if patiently else 0.0)

    def post(self, path: str, body: Mapping[str, Any]) -> bool:
        """Make the object `body`; False where one of its name is there already. Raises as `get`."""
        try:
            self._ask("POST", path, body)
        except Refused as error:
            if error.status == 409:
                return False
            raise
        return True

    def merge(self, path: str, body: Mapping[str, Any]) -> None:
        """Let the object at `path` have the fields of `body`. Raises as `get`."""
        self._ask("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Delete the object at `path`, and what it owns after it; none there is as good. Raises as `get`."""
        self._ask("DELETE", path, {"propagationPolicy": "Background"}, missing=True)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: bool = False,
        patience_seconds: float | None = None,
    ) -> dict[str, Any] | None:
        patience_seconds = self._patience if patience_seconds is None else patience_seconds
        end, pause = time.monotonic() + patience_seconds, 0.25
        while True:
            try:
                answer = self._send(method, path, body)
                if answer.status_code != 429 and answer.status_code < 500:
                    return _content(answer, method, path, missing)
                trouble = f"it answers {answer.status_code}"
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
            if time.monotonic() + pause > end:
                raise KubeflowError(
                    f"the Kubernetes API at {self._client.base_url} cannot be asked to {method} {path}: "
                    f"{shown(trouble, 300)}. Run the step again when it answers"
                )
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._read('token')}", "Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = MERGE
        return self._client.request(method, path, json=body, headers=headers)

    def _read(self, name: str) -> str:
        try:
            return (self._account / name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise KubeflowError(
                f"{self._account / name} cannot be read: {error.strerror}. Let the pod have its service account's token"
            ) from error


def _content(answer: httpx.Response, method: str, path: str, missing: bool) -> dict[str, Any] | None:
    if answer.status_code == 404 and missing:
        return None
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if answer.is_success:
        return dict(content)
    said = content.get("message") if isinstance(content, dict) else None
    words = shown(str(said or "no reason given"), 300)
    raise Refused(
        f"the Kubernetes API answers {answer.status_code} to {method} {path}: {words}", answer.status_code
    )
