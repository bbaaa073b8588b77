"""A backup holds everything, restores into any database of the registry, and shows when it was touched."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from fededge.errors import RegistryError
from fededge.fleet.functions import (
    aggregation,
    connections,
    enrollment,
    model_update,
    operators,
    releases,
    triggering,
)
from fededge.fleet.functions.work import assignment_id
from fededge.fleet.registry import audit
from fededge.fleet.registry.backup import MANIFEST, backup, restore
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata, tenants
from fededge.protocol import (
    CloseRequest,
    Following,
    OperatorRequest,
    ReleaseRequest,
    ReportMessage,
    Running,
    TriggerRequest,
)
from tests.postgres import Postgres
from tests.registries import (
    NOW,
    PLAN,
    TENANT,
    UPDATE,
    WEIGHTS,
    at_once,
    make_fleet,
    make_tenant,
    open_round,
    sent,
)


def fill(registry: Registry) -> str:
    """Something in every table; an operator's token."""
    make_fleet(registry, ["a", "b"])
    open_round(registry, ["a", "b"])
    due = sent(registry)
    for client, said in (("a", {"update": UPDATE}), ("b", {"failure": "é 漢 🎲"})):
        message = ReportMessage.model_validate({"assignment": due[client].assignment, **said})
        aggregation.report(registry, TENANT, client, message, NOW)
    told = CloseRequest(outcome="committed", losses={"a": 0.1})
    aggregation.close(registry, TENANT, "r1", told, NOW + 0.1)
    trigger = TriggerRequest(when="interval", every_seconds=60.0, task='{"name":"t"}')
    triggering.put(registry, TENANT, "often", trigger, "admin", NOW)
    open_round(registry, ["a"], "e", kind="evaluate", update_bytes=None)
    counts = {"examples": 3.0, "loss_sum": 0.1, "correct": 1.0}
    evaluation = ReportMessage(assignment=assignment_id(TENANT, "e", "a"), counts=counts)
    aggregation.report(registry, TENANT, "a", evaluation, NOW)
    aggregation.close(registry, TENANT, "e", CloseRequest(outcome="committed"), NOW)
    released = ReleaseRequest(manifest=PLAN, issued=1.0, models={"camera": WEIGHTS})
    releases.publish(registry, TENANT, "tumors", released, "ci", NOW)
    runs = Running(task="tumors", device_class="camera", status="failed", error="é")
    following = [Following(task="tumors", device_class="camera", running=runs)]
    releases.follow(registry, TENANT, "a", following, NOW)
    connections.opened(registry, "held elsewhere", "lambda", "bm9uY2U=", NOW)
    request = OperatorRequest(name="ci", scope="operator")
    return operators.make(registry, TENANT, request, "admin", NOW).token


def rows(registry: Registry) -> dict[str, list[tuple[object, ...]]]:
    def everything(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }

    return registry.read(everything)


def test_a_backup_restores_to_the_same_rows_on_the_other_kind_of_database(
    url: str, registry: Registry, postgres: Postgres, tmp_path: Path
) -> None:
    token = fill(registry)
    before = rows(registry)
    assert all(before.values())
    file = tmp_path / "backup.zip"
    count = backup(url, file)
    assert count == sum(map(len, before.values()))
    assert file.stat().st_mode & 0o777 == 0o600
    postgres.execute("CREATE DATABASE other")
    try:
        other = postgres.url("other") if url.startswith("sqlite") else f"sqlite:///{tmp_path}/other.db"
        assert restore(file, other) == count
        restored = Registry.open(other)
        assert rows(restored) == before
        assert audit.verify(restored) is None
        assert operators.token_of(restored, token, NOW) is not None
        assert enrollment.info(restored, TENANT, "a", NOW).rounds == 1
        assert model_update.expire(restored, NOW + 1e9) == 0
        restored.close()
    finally:
        postgres.execute("DROP DATABASE other WITH (FORCE)")


def test_equal_registries_have_equal_backups(url: str, registry: Registry, tmp_path: Path) -> None:
    fill(registry)
    for name in "ab":
        backup(url, tmp_path / name)
    first, second = (zipfile.ZipFile(tmp_path / name) for name in "ab")
    with first, second:
        assert {name: first.read(name) for name in first.namelist()} == {
            name: second.read(name) for name in second.namelist()
        }


def test_a_backup_is_of_one_moment(opened: Callable[[], Registry], url: str, tmp_path: Path) -> None:
    registry = opened()

    def pairs() -> None:
        for number in range(40):
            names = [f"first{number}", f"second{number}"]
            many = [{"name": name, "clients": None, "open_rounds": None, "bytes": None} for name in names]
            registry.run(lambda connection, many=many: connection.execute(insert(tenants), many))  # type: ignore[misc]

    def backups() -> None:
        for number in range(5):
            backup(url, tmp_path / str(number))

    assert at_once([pairs, backups]) == [None, None]
    for number in range(5):
        with zipfile.ZipFile(tmp_path / str(number)) as archive:
            names = {json.loads(line)[0] for line in archive.read("tenants.jsonl").splitlines()}
        assert {name.replace("first", "second") for name in names} == names - {
            name for name in names if name.startswith("first")
        }


def test_a_registry_that_is_not_empty_is_not_overwritten(
    url: str, registry: Registry, tmp_path: Path
) -> None:
    make_tenant(registry)
    before = rows(registry)
    backup(url, tmp_path / "backup")
    with pytest.raises(RegistryError, match="not empty"):
        restore(tmp_path / "backup", url)
    assert rows(registry) == before


def test_a_file_that_is_there_is_not_overwritten(url: str, registry: Registry, tmp_path: Path) -> None:
    make_tenant(registry)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(RegistryError, match="cannot write the backup"):
        backup(url, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"
    assert not list(tmp_path.glob(".mine*"))


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda name, data: data.replace(b"hospital", b"hospitel"), "was changed"),
        (lambda name, data: None if name == "work.jsonl" else data, "work.jsonl"),
        (lambda name, data: None if name == MANIFEST else data, MANIFEST),
        (lambda name, data: data[:-40] if name == MANIFEST else data, "cut short"),
        (lambda name, data: data[:-40] if name == "clients.jsonl" else data, "clients was changed"),
        (lambda name, data: re.sub(rb'"version": "\d+"', b'"version": "0"', data), "of version 0"),
        (lambda name, data: data.replace(b"backup-1", b"backup-2"), "newer than"),
        (
            lambda name, data: data.replace(b'"blobs"', b'"globs"') if name == MANIFEST else data,
            "other tables",
        ),
    ],
)
def test_a_backup_that_was_touched_is_refused(
    tmp_path: Path, change: Callable[[str, bytes], bytes | None], why: str
) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    registry = Registry.open(url)
    fill(registry)
    registry.close()
    backup(url, tmp_path / "backup")
    touched = rewritten(tmp_path / "backup", tmp_path / "touched", change)
    other = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(RegistryError, match=why):
        restore(touched, other)
    restore(tmp_path / "backup", other)  # and nothing was written before


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    for file in ("file", "missing"):
        with pytest.raises(RegistryError, match="cannot read the backup"):
            restore(tmp_path / file, f"sqlite:///{tmp_path}/other.db")
