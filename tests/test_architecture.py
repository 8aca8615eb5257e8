"""Who may import whom: nothing flows back, and the expensive things come late."""

import ast
from pathlib import Path

import pytest

import bgmm_jd

PACKAGE = Path(bgmm_jd.__file__).parent

# A room may import from the rooms above it in this table, of those that it names.
ROOMS = {
    "_version": set(),
    "native_log": set(),
    "units": set(),
    "status": set(),
    "arviz_line": set(),
    "compiled": set(),
    "progress": set(),
    "draws": set(),
    "examples": set(),
    "initial": set(),
    "mixture": set(),
    "importance": {"arviz_line"},
    "gamma": {"draws"},
    "data": {"draws", "units"},
    "prior": {"data", "native_log", "units"},
    "families": {"draws", "gamma", "units"},
    "surrogate": {"draws", "families", "units"},
    "objective": {"mixture", "surrogate", "units"},
    "settle": {"surrogate"},
    "labels": {"surrogate"},
    "coordinates": {"surrogate", "units"},
    "svi": {"compiled", "data", "draws", "native_log", "objective", "surrogate", "units"},
    "calibrate": {"compiled", "coordinates", "objective", "surrogate", "units"},
    "sampling": {
        "calibrate",
        "compiled",
        "coordinates",
        "data",
        "draws",
        "importance",
        "objective",
        "surrogate",
        "units",
    },
    "run": {"data", "sampling", "settle", "status", "surrogate", "svi"},
    "restarts": {"labels", "run", "settle", "status", "surrogate"},
    "verdict": {"restarts", "run", "status"},
    "posterior": {
        "data",
        "labels",
        "mixture",
        "restarts",
        "sampling",
        "status",
        "surrogate",
        "units",
    },
    "fit": {
        "draws",
        "compiled",
        "data",
        "initial",
        "labels",
        "objective",
        "posterior",
        "prior",
        "progress",
        "restarts",
        "run",
        "sampling",
        "status",
        "surrogate",
        "svi",
        "units",
        "verdict",
    },
    "inference_data": {"_version", "arviz_line", "data", "draws", "labels", "posterior"},
    "plots": {"data", "posterior"},
    "csv_file": set(),
}
PUBLIC = {"__init__", "__main__"}


def imported(path: Path) -> set[str]:
    """The rooms that a file names in its import statements."""
    rooms = {room.stem for room in PACKAGE.glob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "bgmm_jd":
            found |= {alias.name for alias in node.names} & rooms
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bgmm_jd."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_import_table(path):
    if path.stem in PUBLIC:
        return
    assert imported(path) <= ROOMS[path.stem]


def test_table_has_no_way_back():
    order = list(ROOMS)
    for room, others in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in others), room


def test_variables_and_optimizers_live_in_one_room():
    """Whatever can be changed is in `svi`; `surrogate` makes it there."""
    users = {
        path.stem
        for path in PACKAGE.glob("*.py")
        if "tf.Variable(" in path.read_text() or "apply_gradients" in path.read_text()
    }
    assert users == {"svi"}
