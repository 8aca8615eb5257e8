"""The subpackages import in one direction only, and leave each other's private names alone."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import bgmm_jd

PACKAGE = Path(bgmm_jd.__file__).parent
TESTS = Path(__file__).parent
BENCHMARKS = PACKAGE.parent / "benchmarks"

# The subpackages in order: each may import from those in its set, which all stand above it.
MAY_IMPORT = {
    "backend": set(),
    "data": {"backend"},
    "sources": {"backend", "data"},
    "distributions": {"backend", "data"},
    "model": {"backend", "data", "distributions"},
    "variational": {"backend", "data", "distributions", "model"},
    "optimization": {"backend", "data", "sources", "model", "variational"},
    "calibration": {"backend", "data", "distributions", "model", "variational"},
    "sampling": {"backend", "data", "model", "variational", "calibration"},
    "posterior": {
        "backend",
        "data",
        "sources",
        "model",
        "variational",
        "optimization",
        "calibration",
        "sampling",
    },
    "storage": {"backend", "data", "model", "sampling", "variational", "posterior"},
    "reporting": {
        "backend",
        "data",
        "sources",
        "model",
        "variational",
        "calibration",
        "posterior",
        "storage",
    },
    "fitting": {
        "backend",
        "data",
        "sources",
        "model",
        "variational",
        "optimization",
        "calibration",
        "sampling",
        "posterior",
        "storage",
        "reporting",
    },
    "sklearn": {"data", "model", "posterior"},  # and the public names
    "cli": {"datasets"},  # and the public names
}
USES_PUBLIC_NAMES = {"sklearn", "cli"}
# Modules beside the subpackages. Any subpackage may import the first two, and they import nothing.
SHARED = {"_version", "settings"}
DEMONSTRATION = "datasets"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)

every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each (module, name) that a file imports from the package, anywhere in it."""
    for node in ast.walk(tree):
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
    found = imports(ast.parse(path.read_text()))
    return {(module.split(".")[1:] or [name])[0] for module, name in found}


def subpackage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@every_module
def test_module_imports_only_from_subpackages_above_its_own(path):
    own = subpackage(path)
    allowed = MAY_IMPORT[own] | SHARED | {own}
    if own in USES_PUBLIC_NAMES:
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


def test_estimator_is_imported_by_no_other_part_of_the_package():
    """`import bgmm_jd` must not need scikit-learn."""
    users = {path for path in PACKAGE.rglob("*.py") if "sklearn" in origins(path)}
    assert {path.parent.name for path in users} == {"sklearn"}


# --- Private names --------------------------------------------------------------------------------

EVERY_FILE = sorted(
    path for folder in (PACKAGE, TESTS, BENCHMARKS) for path in folder.rglob("*.py")
)


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: os.path.relpath(path, TESTS.parent))
def test_file_leaves_private_names_of_others_alone(path):
    assert private_names(path.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from bgmm_jd.fitting.fit import _name",
        "from bgmm_jd.fitting.fit import _name as name",
        "from bgmm_jd.fitting import fit\nfit._name",
        "from bgmm_jd.fitting import fit as module\nmodule._name",
        "from bgmm_jd import fitting\nfitting.fit._name",
        "import bgmm_jd\nbgmm_jd.fitting.fit._name",
        "import bgmm_jd.fitting.fit\nbgmm_jd.fitting.fit._name",
        "import bgmm_jd.fitting.fit as module\nmodule._name",
        "from bgmm_jd.fitting import fit as module\nmonkeypatch.setattr(module, '_name', 1)",
        "monkeypatch.setattr('bgmm_jd.fitting.fit._name', 1)",
    ],
)
def test_private_names_are_found_however_they_are_reached(source):
    assert private_names(source) == {"bgmm_jd.fitting.fit._name"}


@pytest.mark.parametrize(
    "source",
    [
        "from bgmm_jd._version import __version__",
        "from bgmm_jd.backend import startup_log as _log\n_log.filter_startup_log()",
        "import bgmm_jd\nbgmm_jd.__version__",
        "from bgmm_jd.fitting import fit\nself._fit, fit.fit, fit(x)._name",
    ],
)
def test_public_names_and_own_private_names_are_allowed(source):
    assert private_names(source) == set()


def private_names(source: str) -> set[str]:
    """Return the private names in modules of the package that a file's source uses.

    It finds `from module import _name`, `module._name`, `setattr(module, "_name", ...)` and
    `setattr("module._name", ...)`, under any name to which the file binds the module.
    """
    tree = ast.parse(source)
    taken = {f"{module}.{name}" for module, name in imports(tree) if is_private(name)}
    modules = bound_modules(tree)
    for node in ast.walk(tree):
        owner = name = ""
        if isinstance(node, ast.Attribute):
            owner, name = in_full(node.value, modules), node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            target, second = node.args[:2]
            if isinstance(target, ast.Constant):
                owner, _, name = str(target.value).rpartition(".")
            else:
                owner, name = in_full(target, modules), getattr(second, "value", "")
        if is_module(owner) and is_private(str(name)):
            taken.add(f"{owner}.{name}")
    return taken


def bound_modules(tree: ast.AST) -> dict[str, str]:
    """Return the names that a file binds to modules of the package, with the modules in full."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            bound |= {own: f"{node.module}.{name}" for own, name in names.items()}
        elif isinstance(node, ast.Import):
            # `import a.b` binds a; `import a.b as m` binds a.b.
            for alias in node.names:
                first = alias.name.split(".")[0]
                bound[alias.asname or first] = alias.name if alias.asname else first
    return {own: module for own, module in bound.items() if is_module(module)}


def in_full(owner: ast.expr, modules: dict[str, str]) -> str:
    """Return `owner`, such as `m.part`, with the module in place of the name bound to it."""
    first, dot, rest = ast.unparse(owner).partition(".")
    return modules.get(first, "") + dot + rest


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_module(name: str) -> bool:
    """Return whether a dotted name is that of the package, a subpackage or a module in it."""
    first, *parts = name.split(".")
    path = PACKAGE.joinpath(*parts)
    return first == "bgmm_jd" and (path.is_dir() or path.with_suffix(".py").exists())


# --- What stands in one place only ----------------------------------------------------------------


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
