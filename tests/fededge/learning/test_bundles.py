"""Code travels as a signed bundle, and nothing of it is imported before that is proven."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fededge import settings, storage
from fededge.errors import IntegrityError, StorageError, TaskError
from fededge.learning import bundles, factories
from fededge.signing import SigningKey, public_file
from fededge.task import FederatedTask, load

TASK = "name: a\ndata: {source: digits}\nmodel: {factory: 'own_model:build', code: own}\n"


@pytest.fixture
def task(tmp_path: Path) -> FederatedTask:
    (tmp_path / "own" / "inner").mkdir(parents=True)
    (tmp_path / "own" / "own_model.py").write_text(
        "from inner import parts\ndef build(): return parts.NAME\n"
    )
    (tmp_path / "own" / "inner" / "parts.py").write_text("NAME = 'it is me'\n")
    (tmp_path / "own" / "patients.csv").write_text("name,age\n")
    (tmp_path / "own" / ".git").mkdir()
    (tmp_path / "own" / ".git" / "hook.py").write_text("")
    (tmp_path / "task.yaml").write_text(TASK)
    return load(tmp_path / "task.yaml")


def stored(data: bytes, signed: str | None = None, key: SigningKey | None = None) -> str:
    """`data` as the bundle of its digest, signed as if it were sound."""
    code = storage.digest(data)
    name = code.removeprefix("sha256:")
    shelf = storage.join(settings.storage(), "bundles")
    key = key or SigningKey.load_or_create(settings.signing_key_file())
    storage.write(storage.join(shelf, f"{name}.zip"), data)
    storage.write(storage.join(shelf, f"{name}.json"), key.sign({"bundle": signed or code}))
    return code


def zipped(*names: str, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            archive.writestr(name, "x = 1\n")
    return buffer.getvalue()


def test_a_packed_task_names_its_code_by_digest_and_imports_it_from_a_private_folder(
    task: FederatedTask, tmp_path: Path
) -> None:
    packed = bundles.packed(task, on_cluster=False)
    assert packed == bundles.packed(task, on_cluster=False) == bundles.packed(packed, on_cluster=False)
    code = packed.model.code
    assert code
    assert code.startswith("sha256:")
    assert packed.identity != task.identity
    folder = bundles.folder_of(code)
    assert folder.stat().st_mode & 0o077 == 0
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["inner/parts.py", "own_model.py"]
    assert factories.load("own_model:build", "model.factory", code)() == "it is me"
    assert bundles.folder_of(str(tmp_path / "own")) == tmp_path / "own"


def test_a_task_without_code_is_packed_as_it_is() -> None:
    task = FederatedTask.model_validate({"name": "a", "data": {"source": "digits"}})
    assert bundles.packed(task, on_cluster=True) == task
    assert not settings.signing_key_file().exists()


def test_a_change_in_the_code_is_another_experiment(task: FederatedTask, tmp_path: Path) -> None:
    before = bundles.packed(task, on_cluster=False)
    (tmp_path / "own" / "inner" / "parts.py").write_text("NAME = 'another'\n")
    assert bundles.packed(task, on_cluster=False).identity != before.identity


def test_a_bundle_is_copied_for_clients_that_cannot_reach_the_storage(
    task: FederatedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = bundles.packed(task, on_cluster=False).model.code
    assert code
    bundles.copy(code, str(tmp_path / "plan"))
    monkeypatch.setenv("FEDEDGE_STORAGE", str(tmp_path / "nowhere"))
    assert (bundles.folder_of(code, str(tmp_path / "plan")) / "own_model.py").exists()
    with pytest.raises(StorageError, match="nowhere"):
        bundles.folder_of(code)


def test_a_changed_bundle_is_refused(task: FederatedTask) -> None:
    code = bundles.packed(task, on_cluster=False).model.code
    assert code
    path = storage.local_path(
        storage.join(settings.storage(), "bundles", f"{code.removeprefix('sha256:')}.zip")
    )
    assert path
    path.write_bytes(path.read_bytes().replace(b"it is me", b"it is he"))
    with pytest.raises(IntegrityError, match="changed or damaged"):
        bundles.folder_of(code)


def test_a_release_key_that_lies_alone_proves_what_it_signed() -> None:
    SigningKey.load_or_create(settings.signing_key_file())
    public_file(settings.signing_key_file()).unlink()
    assert (bundles.folder_of(stored(zipped("a.py"))) / "a.py").is_file()


def test_a_bundle_that_is_not_signed_by_the_trusted_key_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(settings.signing_key_file())
    data = zipped("a.py")
    with pytest.raises(IntegrityError, match=r"only .* is trusted here"):
        bundles.folder_of(stored(data, key=SigningKey.create(tmp_path / "other.pem")))
    with pytest.raises(IntegrityError, match="signs something else"):
        bundles.folder_of(stored(data, signed="sha256:" + "1" * 64))
    settings.signing_key_file().unlink()
    public_file(settings.signing_key_file()).unlink()
    with pytest.raises(StorageError, match="no public key"):
        bundles.folder_of("sha256:" + "2" * 64)


@pytest.mark.parametrize(
    "names",
    [
        ["../a.py"],
        ["/tmp/a.py"],
        ["a/../../b.py"],
        ["a\\..\\b.py"],
        [".hidden/a.py"],
        ["a.pth"],
        ["a.py", "a.py/b.py"],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_signed_bundle_that_writes_outside_its_folder_is_refused(names: list[str]) -> None:
    with pytest.raises(IntegrityError, match=r"is no module in its folder|is no bundle"):
        bundles.folder_of(stored(zipped(*names)))


def test_what_is_no_plain_zip_file_is_refused() -> None:
    for data in (b"", b"nonsense", zipped("a.py", method=zipfile.ZIP_DEFLATED), zipped("a.py")[:-30]):
        with pytest.raises(IntegrityError, match=r"is no bundle|is compressed"):
            bundles.folder_of(stored(data))


def make_link(own: Path) -> None:
    (own / "more.py").symlink_to("/etc/passwd")


def make_folder_link(own: Path) -> None:
    (own / "more").symlink_to("/etc")


def make_many(own: Path) -> None:
    for number in range(bundles.MOST):
        (own / f"m{number}.py").write_text("")


def make_large(own: Path) -> None:
    for number in range(3):
        (own / f"large{number}.py").write_bytes(b"#" * (6 << 20))


def remove_all(own: Path) -> None:
    for path in own.rglob("*.py"):
        path.unlink()


def make_odd(own: Path) -> None:
    (own / "a b.py").write_text("")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (make_link, "is a link"),
        (make_folder_link, "is a link"),
        (make_many, "1,002 Python modules"),
        (make_large, "18,8.* bytes, more than"),
        (remove_all, "0 Python modules"),
        (make_odd, "'?a b.py'? is no name of a module"),
    ],
)
def test_a_folder_that_cannot_be_packed_is_told(
    task: FederatedTask, tmp_path: Path, change: Any, said: str
) -> None:
    change(tmp_path / "own")
    with pytest.raises(TaskError, match=said):
        bundles.packed(task, on_cluster=False)


def test_code_for_a_cluster_needs_its_storage_and_the_release_key(
    task: FederatedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="FEDEDGE_STORAGE"):
        bundles.packed(task, on_cluster=True)
    monkeypatch.setenv("FEDEDGE_STORAGE", "memory://bucket")
    with pytest.raises(StorageError, match=r"release\.pem"):
        bundles.packed(task, on_cluster=True)
    SigningKey.create(settings.signing_key_file())
    code = bundles.packed(task, on_cluster=True).model.code
    assert code
    assert (bundles.folder_of(code) / "own_model.py").exists()
