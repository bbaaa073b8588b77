"""A gateway deletes objects that are old, and that no open round needs."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import update

from fededge import storage
from fededge.fleet.functions import blobs
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import blobs as table
from tests.gateway_client import Operator, stored
from tests.gateway_process import Gateway, token


def test_old_objects_go_and_those_that_an_open_round_needs_stay(
    tmp_path: Path, until: Callable[[Callable[[], object]], None]
) -> None:
    digests = {name: storage.digest(name.encode()) for name in ("plan", "weights", "old", "update")}
    files = tmp_path / "storage" / "fleet" / "default"
    with Gateway.start(tmp_path) as gateway:
        registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
        admin = Operator(gateway.url, token(registry))
        client = admin.enroll("site").join()
        admin.round("done", ["site"])
        assignment = client.hear()
        request = {"type": "upload", "assignment": assignment.id, "digest": digests["update"], "bytes": 6}
        assert stored(client.ask(request), b"update", client.url).status_code == 201
        report = {"type": "report", "assignment": assignment.id, "update": digests["update"], "seconds": 1.0}
        assert client.ask(report).outcome == "kept"
        admin.round("open", ["site"])
        admin.store(b"old")
        client.close()
        admin.close()
        assert gateway.end() == 0
    registry.run(lambda connection: connection.execute(update(table).values(stored=1.0)))
    with Gateway.start(tmp_path):
        until(lambda: blobs.known(registry, "default", digests["old"]) is None)
        until(lambda: blobs.known(registry, "default", digests["update"], "site") is None)
        for name in ("plan", "weights"):
            assert blobs.known(registry, "default", digests[name]) is not None
    names = {file.read_bytes() for file in files.rglob("*") if file.is_file()}
    assert names == {b"plan", b"weights"}
    registry.close()
