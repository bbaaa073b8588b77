"""Bundles of wheels: the same bytes for the same wheels, and nothing but wheels comes out of one."""

import zipfile
from pathlib import Path

import pytest

from fededge import wheels
from fededge.errors import IntegrityError

GOOD = "fededge-0.2.0-py3-none-any.whl"


def wheel(folder: Path, name: str = GOOD, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in (files or {"fededge/__init__.py": "x = 1\n"}).items():
            archive.writestr(file, text)
    return folder / name


def bundle(file: Path, entries: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, kind)
    return file


def test_a_bundle_is_the_same_for_the_same_wheels_and_gives_them_back(tmp_path: Path) -> None:
    files = [wheel(tmp_path / "a"), wheel(tmp_path / "a", "numpy-2.4.6-cp311-cp311-manylinux2014_x86_64.whl")]
    for name, given in (("one", files), ("two", files[::-1])):
        wheels.pack(given, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = wheels.unpack(tmp_path / "one", tmp_path / "out")
    assert {file.name: file.read_bytes() for file in found} == {
        file.name: file.read_bytes() for file in files
    }
    assert wheels.version_in(tmp_path / "out", "fededge") == "0.2.0"


@pytest.mark.parametrize(
    "name",
    [
        f"../{GOOD}",
        f"/tmp/{GOOD}",
        f"folder/{GOOD}",
        f"folder\\{GOOD}",
        "fededge.whl",
        "fededge-0.2.0.tar.gz",
        "-rrequirements-0-0-0.whl/",
        "--index-url=x-0.2.0-py3-none-any.whl",
    ],
)
def test_what_has_no_name_of_a_wheel_is_refused(tmp_path: Path, name: str) -> None:
    data = wheel(tmp_path / "a").read_bytes()
    with pytest.raises(IntegrityError, match="no wheel's name"):
        wheels.unpack(bundle(tmp_path / "b", {name: data}), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("inside", ["../evil.py", "/etc/evil", "a/../../evil.py", "..\\evil.py"])
def test_a_wheel_that_writes_elsewhere_is_refused(tmp_path: Path, inside: str) -> None:
    file = bundle(tmp_path / "b", {GOOD: wheel(tmp_path / "a", **{inside: "x"}).read_bytes()})
    with pytest.raises(IntegrityError, match="outside its place"):
        wheels.unpack(file, tmp_path / "out")


def test_a_wheel_that_becomes_much_more_is_refused(tmp_path: Path) -> None:
    bomb = wheel(tmp_path / "a", **{"fededge/bomb.py": "0" * 10_000_000})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(IntegrityError, match="would become 10,000,000 bytes"):
        wheels.unpack(bundle(tmp_path / "b", {GOOD: bomb.read_bytes()}), tmp_path / "out")


@pytest.mark.parametrize("limit", ["FILES", "LIMIT"])
def test_too_many_files_or_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    file = bundle(tmp_path / "b", {GOOD: wheel(tmp_path / "a", a="1", b="2").read_bytes()})
    monkeypatch.setattr(wheels, limit, 1)
    with pytest.raises(IntegrityError, match="or with the others over"):
        wheels.unpack(file, tmp_path / "out")


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    data = wheel(tmp_path / "a").read_bytes()
    (tmp_path / "text").write_bytes(b"no zip file")
    cases = {
        "no bundle of wheels": tmp_path / "text",
        "compressed in its bundle": bundle(tmp_path / "deflated", {GOOD: data}, zipfile.ZIP_DEFLATED),
        "a bundle of 0 wheels": bundle(tmp_path / "empty", {}),
        "is no wheel": bundle(tmp_path / "other", {GOOD: b"text"}),
    }
    for number, (why, file) in enumerate(cases.items()):
        with pytest.raises(IntegrityError, match=why):
            wheels.unpack(file, tmp_path / f"out-{number}")


def test_a_folder_has_one_wheel_of_the_program(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with pytest.raises(IntegrityError, match="holds 0 wheels of fededge"):
        wheels.version_in(folder, "fededge")
    wheel(folder)
    wheel(folder, GOOD.replace("0.2.0", "0.3.0"))
    with pytest.raises(IntegrityError, match="holds 2 wheels of fededge"):
        wheels.version_in(folder, "fededge")
