"""Building and pushing images, told by an engine that records what it is asked for; tests/e2e has real ones."""

import itertools
import json
from pathlib import Path

import pytest

from fededge.errors import SetupError
from fededge.host import images
from fededge.host.images import Engine

BASE = "docker.io/library/python@sha256:" + "a" * 64
DIGEST = "sha256:" + "b" * 64
RECORDER = """#!/usr/bin/env python3
import json, os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps(sys.argv), file=calls)
if "--digestfile" in sys.argv:
    pathlib.Path(sys.argv[sys.argv.index("--digestfile") + 1]).write_text(os.environ["TOLD"])
elif "push" in sys.argv:
    print("1: digest: " + os.environ["TOLD"] + " size: 1065")
sys.exit(int(os.environ.get("STATUS", 0)))
"""


class Recorded:
    """The calls of engines since the test began, each a command line."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> list[list[str]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [[Path(program).name, *rest] for program, *rest in map(json.loads, lines)]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    for engine in Engine:
        (tmp_path / engine).write_text(RECORDER)
        (tmp_path / engine).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("TOLD", DIGEST)
    for name in ("UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Recorded(tmp_path / "calls")


@pytest.mark.parametrize("engine", Engine)
def test_a_build_names_target_base_commit_and_reference(engine: Engine, calls: Recorded) -> None:
    images.build(engine, "worker", "registry:5000/a/worker:1", BASE, "c0ffee", "linux/arm64")
    [[program, verb, *rest]] = calls()
    assert (program, verb) == (engine, "build")
    given = dict(itertools.pairwise(rest))
    assert (given["--target"], given["--tag"]) == ("worker", "registry:5000/a/worker:1")
    assert given["--platform"] == "linux/arm64"
    assert {"NAME=worker", f"BASE={BASE}", "GIT_COMMIT=c0ffee"} <= set(rest)
    assert Path(rest[-1], "setup.cfg").exists()


def test_index_and_ca_are_secrets_that_no_command_line_shows(
    calls: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://user:hunter2@pypi.example/simple")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ca.pem")
    images.build(Engine.podman, "edge", "a/edge:1", BASE, "c0ffee")
    [command] = calls()
    assert {"id=index,env=UV_DEFAULT_INDEX", "id=ca,src=/etc/ca.pem"} <= set(command)
    assert "hunter2" not in " ".join(command)


@pytest.mark.parametrize("base", ["python:3.11-slim", "python@sha256:abc", f"{BASE}0"])
def test_a_base_without_a_digest_is_refused(base: str, calls: Recorded) -> None:
    with pytest.raises(SetupError, match="has no digest"):
        images.build(Engine.podman, "edge", "a/edge:1", base, "c0ffee")
    assert calls() == []


@pytest.mark.parametrize("engine", Engine)
def test_a_push_tells_the_digest_in_the_registry(engine: Engine, calls: Recorded) -> None:
    assert images.push(engine, "registry:5000/a/worker:1") == f"registry:5000/a/worker@{DIGEST}"
    assert calls()[0][:2] == [engine, "push"]


@pytest.mark.parametrize("engine", Engine)
def test_a_push_without_a_digest_is_no_push(
    engine: Engine, calls: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLD", "")
    with pytest.raises(SetupError, match="does not tell the digest"):
        images.push(engine, "registry:5000/a/worker:1")


@pytest.mark.parametrize("engine", Engine)
def test_a_push_that_fails_is_named(engine: Engine, calls: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATUS", "125")
    with pytest.raises(SetupError, match=rf"pushing a/edge:1 failed: {engine} push.* ended with status 125"):
        images.push(engine, "a/edge:1")


def test_the_first_engine_that_is_installed_is_taken(
    calls: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images.find_engine() is Engine.podman
    (tmp_path / "podman").unlink()
    assert images.find_engine() is Engine.buildah
    assert images.find_engine(Engine.docker) is Engine.docker
    with pytest.raises(SetupError, match="podman is not installed here"):
        images.find_engine(Engine.podman)
