"""The subpackages import in one direction only, and leave each other's private names alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bgmm_jd

PACKAGE = Path(bgmm_jd.__file__).parent

# Each subpackage may import from those that are named beside it, all of which stand above it.
MAY_IMPORT = {
    "backend": set(),
    "data": {"backend"},
    "distributions": {"backend"},
    "model": {"backend", "data", "distributions"},
    "variational": {"backend", "data", "distributions", "model"},
    "optimization": {"backend", "data", "model", "variational"},
    "calibration": {"backend", "data", "distributions", "model", "variational"},
    "posterior": {"backend", "data", "model", "variational", "optimization", "calibration"},
    "reporting": {"backend", "data", "model", "variational", "calibration", "posterior"},
    "fitting": {
        "backend",
        "data",
        "model",
        "variational",
        "optimization",
        "calibration",
        "posterior",
        "reporting",
    },
    "cli": set(),  # the public names alone
}
# Modules beside the subpackages: values that any of them may read, and what only the user calls.
SHARED = {"_version"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each (module, name) that a file imports from the package, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bgmm_jd":
            for alias in node.names:
                yield node.module, alias.name


def subpackage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_from_the_layers_below_its_own(path):
    own = subpackage(path)
    for module, name in imports(path):
        parts = module.split(".")[1:] or [name]
        allowed = MAY_IMPORT[own] | SHARED | {own}
        if own == "cli" and not module.startswith("bgmm_jd.cli"):
            assert module == "bgmm_jd", f"{path.name} imports {module}.{name}"
            continue
        assert parts[0] in allowed, f"{path.name} imports {module}.{name}"


def test_table_names_every_subpackage_and_runs_one_way():
    order = list(MAY_IMPORT)
    assert set(order) == {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    for name, others in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(name) for other in others), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_leaves_private_names_of_others_alone(path):
    """Neither `from module import _name` nor `module._name`."""
    taken = {f"{module}.{name}" for module, name in imports(path) if is_private(name)}
    modules = {
        name for module, name in imports(path) if (PACKAGE.parent / _file(module, name)).exists()
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        if node.value.id in modules and is_private(node.attr):
            taken.add(f"{node.value.id}.{node.attr}")
    assert taken == set()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _file(module: str, name: str) -> str:
    return f"{module.replace('.', '/')}/{name}.py"


def test_variables_and_optimizers_live_in_the_optimization_subpackage():
    """Nothing outside of it holds a value that changes."""
    users = {
        subpackage(path)
        for path in MODULES
        if "tf.Variable(" in path.read_text() or "apply_gradients" in path.read_text()
    }
    assert users == {"optimization"}
