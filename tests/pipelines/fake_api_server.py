"""A Kubernetes API for tests: it answers from a table of paths, as the cluster that KUBECONFIG names."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from .fake_pods import FakePods


@contextmanager
def serving(
    table: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, pods: FakePods | None = None
) -> Iterator[dict[str, Any]]:
    """`table`, which may be changed while it is served: objects or text by path; a number is a refusal.

    With `pods`, those that are posted run as processes.
    """

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            path = self.path.split("?")[0]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = table.get(path, 404)
            if pods is not None and path not in table and (own := pods.answer(self.command, path, body)):
                found = own
            status, content = (
                (found, {"message": f"no {self.path}"}) if isinstance(found, int) else (200, found)
            )
            plain = isinstance(content, str)
            said = str(content if plain else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.delenv("KFP_NAMESPACE", raising=False)
    try:
        yield table
    finally:
        server.shutdown()
        server.server_close()
