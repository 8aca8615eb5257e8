"""The subpackages import in one direction only, and leave each other's private names alone."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import bgmm_jd

PACKAGE = Path(bgmm_jd.__file__).parent
BENCHMARKS = PACKAGE.parent / "benchmarks"

# The subpackages in order: each may import from those beside it, all of which stand above it.
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
    "cli": {"datasets"},  # and the public names
}
# Modules beside the subpackages. Any subpackage may import the first two, and they import nothing.
SHARED = {"_version", "settings"}
DEMONSTRATION = "datasets"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)

every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each (module, name) that a file imports from the package, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bgmm_jd":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            modules = (alias.name for alias in node.names)
            yield from ((name, "") for name in modules if name.split(".")[0] == "bgmm_jd")


def origins(path: Path) -> set[str]:
    """Return the subpackages and modules below `bgmm_jd` that a file imports from.

    A public name that it imports from `bgmm_jd` itself stands for itself, and the whole package for
    an empty string.
    """
    return {(module.split(".")[1:] or [name])[0] for module, name in imports(path)}


def subpackage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@every_module
def test_module_imports_only_from_subpackages_above_its_own(path):
    own = subpackage(path)
    allowed = MAY_IMPORT[own] | SHARED | {own}
    if own == "cli":
        allowed = MAY_IMPORT[own] | {own, "", *bgmm_jd.__all__}
    assert origins(path) <= allowed


def test_table_names_every_subpackage_and_runs_one_way():
    order = list(MAY_IMPORT)
    assert set(order) == {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    for name, others in MAY_IMPORT.items():
        above = set(order[: order.index(name)])
        assert others - {DEMONSTRATION} <= above, name


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_table_allows_no_import_that_is_not_used(name):
    used = set().union(*(origins(path) for path in MODULES if subpackage(path) == name))
    assert used >= MAY_IMPORT[name]


@pytest.mark.parametrize("name", sorted({*SHARED, DEMONSTRATION}))
def test_modules_beside_the_subpackages_import_nothing_from_the_package(name):
    assert origins(PACKAGE / f"{name}.py") == set()


def test_datasets_are_imported_by_the_command_line_only():
    users = {path for path in PACKAGE.rglob("*.py") if DEMONSTRATION in origins(path)}
    assert {subpackage(path) for path in users} == {"cli"}


TESTS = sorted(path for path in Path(__file__).parent.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.stem)
def test_file_leaves_private_names_of_others_alone(path):
    """Neither `from module import _name` nor `module._name` nor `setattr(module, "_name", ...)`."""
    assert private_names(path) == set()


def private_names(path: Path) -> set[str]:
    """Return the private names of other modules of the package that a file uses."""
    taken = {f"{module}.{name}" for module, name in imports(path) if is_private(name)}
    modules = {name for module, name in imports(path) if is_module(module, name)}
    for node in ast.walk(ast.parse(path.read_text())):
        owner = name = None
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            owner, name = node.args[0], getattr(node.args[1], "value", "")
        if isinstance(owner, ast.Name) and owner.id in modules and is_private(str(name)):
            taken.add(f"{owner.id}.{name}")
    return taken


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_module(package: str, name: str) -> bool:
    return (PACKAGE.parent / package.replace(".", "/") / f"{name}.py").exists()


def test_variables_and_optimizers_are_in_the_optimization_subpackage_only():
    """No other subpackage holds a value that changes."""
    users = {
        subpackage(path)
        for path in MODULES
        if "tf.Variable(" in path.read_text() or "apply_gradients" in path.read_text()
    }
    assert users == {"optimization"}


def test_benchmarks_import_inner_modules_in_one_place_only():
    """`benchmarks/_inside.py`; the others use public names and settings."""
    public = {"", "settings", *bgmm_jd.__all__}
    paths = sorted(BENCHMARKS.glob("*.py"))
    inner = {path.name for path in paths if not origins(path) <= public}
    assert inner == {"_inside.py"}
    private = itertools.chain.from_iterable(imports(path) for path in paths)
    assert not any(is_private(name) for _, name in private)
