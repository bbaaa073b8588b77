"""Who may import whom, read from the source without running it."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("fededge", "components", "pipelines", "serving")
FLOORS = ("tracking", "learning", "privacy", "fleet", "device", "delivery", "report", "host")
MAY_USE = {
    "delivery": {"host", "privacy", "tracking"},
    "fleet": {"host", "privacy"},
    "device": {"privacy"},
    "report": {"tracking"},
}
BASE = {"cryptography", "filelock", "fsspec", "numpy", "pydantic", "safetensors", "yaml"}
DEVICE = BASE | {"ai_edge_litert", "httpx", "paho", "psutil", "starlette", "uvicorn", "websockets"}
# What the ground floor needs beyond the base: runtimes, imported when a model is loaded.
LAZY = {("fededge.inference", "ai_edge_litert"), ("fededge.inference", "onnxruntime")}


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` when inside a function, `typing` when for type checkers only."""

    importer: str
    module: str
    lazy: bool
    typing: bool

    @property
    def root(self) -> str:
        return self.module.split(".")[0]


def module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, importer: str, known: frozenset[str] = frozenset()) -> Iterator[Import]:
    """Every import in `source`; `from package import module` counts as package.module where that is known."""

    def walk(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, lazy, typing)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer} imports relatively: name the whole module"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(importer, whole if whole in known else str(node.module), lazy, typing)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guard = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside, guard)

    yield from walk(ast.parse(source), lazy=False, typing=False)


def read(root: Path) -> dict[str, list[Import]]:
    files = {module_name(file, root): file for top in TOP for file in sorted((root / top).rglob("*.py"))}
    known = frozenset(files)
    return {name: list(imports_of(file.read_text(), name, known)) for name, file in files.items()}


IMPORTS = read(ROOT)
COMMAND = "fededge.__main__"
"""The command's entry: part of the command line, though it must start without its libraries."""
GROUND = {
    module_name(file, ROOT)
    for pattern in ("*.py", "task/*.py", "documents/*.py", "protocol/*.py")
    for file in (ROOT / "fededge").glob(pattern)
} - {COMMAND}


def found(prefix: str) -> Iterator[Import]:
    for name, imports in IMPORTS.items():
        if name == prefix or name.startswith(prefix + "."):
            yield from imports


def is_library(module: str) -> bool:
    """Whether a module is part of the library: all of fededge but its command line."""
    return module.split(".")[0] == "fededge" and not f"{module}.".startswith(("fededge.cli.", COMMAND))


def floor_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "fededge" and parts[1] in FLOORS else None


def is_outside(imported: Import) -> bool:
    return imported.root not in sys.stdlib_module_names


def is_external(imported: Import) -> bool:
    return is_outside(imported) and imported.root not in TOP


def test_the_tree_is_read() -> None:
    assert {"fededge.task", "fededge.cli", "components.images", "pipelines.local"} <= set(IMPORTS)


def test_the_library_imports_neither_kfp_nor_what_stands_on_it() -> None:
    above = {"kfp", "components", "pipelines", "serving"}
    library = [i for name, imports in IMPORTS.items() if is_library(name) for i in imports]
    assert not [i for i in library if i.root in above or f"{i.module}.".startswith("fededge.cli.")]


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_do_not_import_each_other(floor: Any) -> None:
    allowed = {floor, None} | MAY_USE.get(floor, set())
    assert not [i for i in found(f"fededge.{floor}") if floor_of(i.module) not in allowed]


def exported(found: Import) -> bool:
    """Whether `fededge` itself tells type checkers of it, as what it gives to its users."""
    return found.importer == "fededge" and found.typing


def bare(found: Import) -> bool:
    return exported(found) or found.root in sys.stdlib_module_names


def test_the_ground_floor_imports_no_floor() -> None:
    assert "fededge.task" in GROUND
    assert not [i for name in GROUND for i in IMPORTS[name] if floor_of(i.module) and not exported(i)]


def test_ground_floor_and_privacy_need_no_more_than_the_base() -> None:
    privacy = {name for name in IMPORTS if floor_of(name) == "privacy"}
    wrong = [
        i
        for name in GROUND | privacy
        for i in IMPORTS[name]
        if is_external(i) and i.root not in BASE and not (i.lazy and (name, i.root) in LAZY)
    ]
    assert not wrong


def test_set_up_runs_on_a_bare_python() -> None:
    external = [i for i in found("fededge.host") if is_external(i)]
    assert not external
    own = {i.module for i in found("fededge.host") if i.root == "fededge"}
    assert all(name == "fededge.errors" or name.startswith("fededge.host") for name in own)
    assert not [i for name in ("fededge", "fededge.errors") for i in IMPORTS[name] if not bare(i)]


def test_a_device_needs_no_more_than_the_edge_environment_has() -> None:
    wrong = [i for i in found("fededge.device") if is_external(i) and i.root not in DEVICE]
    assert not wrong


def users_of(package: str) -> set[str]:
    return {name for name, imports in IMPORTS.items() if any(i.root == package for i in imports)}


def test_tensorflow_federated_is_imported_in_one_room() -> None:
    users = users_of("tensorflow_federated")
    assert users
    assert not [name for name in users if not name.startswith("fededge.learning.tff.")]


def test_mlflow_is_imported_by_tracking_and_delivery() -> None:
    assert {floor_of(name) for name in users_of("mlflow")} == {"tracking", "delivery"}


def test_components_import_only_kfp_and_their_image_at_the_top() -> None:
    files = sorted((ROOT / "components").rglob("component.py"))
    assert files
    for file in files:
        name = module_name(file, ROOT)
        assert "from __future__" not in file.read_text(), f"{file}: breaks the component decorator"
        for i in IMPORTS[name]:
            allowed = {"fededge"} if i.lazy else {"kfp"}
            assert i.module.startswith("components.images") or i.root in allowed or not is_outside(i), i


def test_pipelines_and_servers_stand_beside_each_other() -> None:
    assert not [i for i in found("serving") if i.root in ("kfp", "components", "pipelines")]
    assert not [i for i in found("components") if i.root in ("pipelines", "serving")]
    assert not [i for i in found("pipelines") if i.root == "serving"]


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        name: {i.module for i in imports if i.module in IMPORTS and not i.typing}
        for name, imports in IMPORTS.items()
    }
    assert cycle(graph) is None


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """A path in `graph` that ends where it began, or None."""
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for target in sorted(graph.get(node, ())):
            if (loop := follow(target, [*path, node])) is not None:
                return loop
        done.add(node)
        return None

    return next((loop for node in sorted(graph) if (loop := follow(node, [])) is not None), None)


def test_the_rules_see_lazy_typing_and_cyclic_imports() -> None:
    source = (
        "import kfp\nfrom fededge import task, __version__\n"
        "if TYPE_CHECKING:\n    import a\ndef f():\n    import b\n"
    )
    seen = list(imports_of(source, "x", frozenset({"fededge.task"})))
    assert [(i.module, i.lazy, i.typing) for i in seen] == [
        ("kfp", False, False),
        ("fededge.task", False, False),
        ("fededge", False, False),
        ("a", False, True),
        ("b", True, False),
    ]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
