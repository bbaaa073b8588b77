"""The house itself: lock files, images, continuous integration, and what the documents promise."""

import configparser
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fededge import errors

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("platform", "worker", "serving", "edge")
LOCKS = sorted((ROOT / "images").rglob("*.lock"))
PIN = re.compile(
    r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?$)+)", re.MULTILINE
)


def pins(lock: Path) -> dict[str, str]:
    return {name: version for name, version, _ in PIN.findall(lock.read_text())}


def extras() -> dict[str, list[str]]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    options = config["options.extras_require"]
    return {name: options[name].split() for name in options} | {
        "": config["options"]["install_requires"].split()
    }


def test_there_is_a_lock_for_each_environment_and_for_the_tools() -> None:
    wanted = {"uv.lock", "build.lock", "sbom.lock", "platform/notebook.lock"} | {
        f"{n}/{kind}.lock" for n in NAMES for kind in ("requirements", "test")
    }
    assert {str(lock.relative_to(ROOT / "images")) for lock in LOCKS} == wanted


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT / "images")))
def test_a_lock_holds_nothing_but_hashed_pins_and_comments(lock: Any) -> None:
    text = lock.read_text()
    assert pins(lock)
    rest = [line for line in PIN.sub("", text).splitlines() if line and not line.lstrip().startswith("#")]
    assert rest == []
    assert not re.search(r"://|index-url|find-links|(?<![\w.])/[a-z]", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_holds_what_its_extra_asks_for(name: Any) -> None:
    locked = pins(ROOT / "images" / name / "requirements.lock")
    for requirement in extras()[name] + extras()[""]:
        package, _, version = requirement.partition("==")
        package = re.split(r"[<>=]", package)[0].lower()
        assert package in locked
        assert version in ("", locked[package])


@pytest.mark.parametrize("name", NAMES)
def test_a_test_lock_adds_to_the_production_lock_and_changes_nothing_in_it(name: Any) -> None:
    production = pins(ROOT / "images" / name / "requirements.lock")
    added = pins(ROOT / "images" / name / "test.lock")
    assert {"pytest", "hypothesis"} <= set(added) | set(production)
    assert not set(added) & set(production)


def test_images_do_without_libraries_that_nothing_in_them_imports() -> None:
    platform, worker = (pins(ROOT / "images" / n / "requirements.lock") for n in ("platform", "worker"))
    assert not {"docker", "pyarrow", "scikit-learn", "scipy"} & set(platform)
    assert not {"docker", "libclang", "tensorboard", "tensorflow"} & set(worker)


def test_edge_devices_carry_no_training_or_pipeline_tools() -> None:
    heavy = {"tensorflow", "tensorflow-federated", "kfp", "mlflow", "mlflow-skinny", "torch"}
    assert not heavy & set(pins(ROOT / "images" / "edge" / "requirements.lock"))


def test_the_project_is_built_with_the_locked_build_tools() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = pins(ROOT / "images" / "build.lock")
    assert dict(item.split("==") for item in requires).items() <= locked.items()


def test_images_copy_only_what_exists_and_the_build_context_lets_in() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    text = (ROOT / "images" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE)
    for source in {
        part.replace("${NAME}", name) for x in copied for part in x.split()[:-1] for name in NAMES
    }:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignore


def test_continuous_integration_runs_the_readmes_test_command_and_the_slow_tier() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().splitlines()[-2:] == ["make test", "make test-slow"]
    assert "set -euo pipefail" in script.read_text()


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    broken = []
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_the_readme_lists_every_guide() -> None:
    linked = set(re.findall(r"\]\(docs/guides/([a-z-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked == {guide.name for guide in (ROOT / "docs" / "guides").glob("*.md")}


def test_the_table_of_environment_variables_is_that_of_the_code() -> None:
    table = set(
        re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    )
    text = "".join(
        file.read_text()
        for top in ("fededge", "components", "pipelines")
        for file in (ROOT / top).rglob("*.py")
    )
    read = {name for name in re.findall(r'environ\.get\(\s*"([A-Z_]+)"', text) if name != "PYTHONPATH"}
    assert read <= table
    assert {name for name in table if name.startswith("FEDEDGE_")} <= read | {
        "FEDEDGE_SHARED",
        "FEDEDGE_TEST_ENVIRONMENT",
    }


def test_the_table_of_errors_is_the_exception_tree() -> Any:
    from fededge.errors import FedEdgeError

    def tree(error: type[FedEdgeError]) -> set[str]:
        return {error.__name__}.union(*map(tree, error.__subclasses__()))

    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert len(table) == len(set(table))
    named = {name for name in tree(FedEdgeError) if hasattr(errors, name)}
    assert set(table) == named


def test_the_table_of_documents_is_that_of_the_code() -> None:
    import fededge.learning.state
    from fededge.documents import Document

    row = r"^\| `([a-z-]+)` \| (\d+) \| (yes)? ?\|"
    table = re.findall(row, (ROOT / "docs" / "formats.md").read_text(), re.MULTILINE)
    kinds = {
        (kind.KIND, str(kind.VERSION), "yes" if kind.UNVERSIONED else "")
        for kind in Document.__subclasses__()
        if kind.__module__.startswith(("fededge.documents", fededge.learning.state.__name__))
    }
    assert set(table) == kinds
