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
    "rows": set(),
    "units": set(),
    "status": set(),
    "arviz_line": set(),
    "disk_cache": set(),
    "compiled": {"disk_cache", "native_log"},
    "progress": set(),
    "remembered": set(),
    "draws": set(),
    "examples": set(),
    "csv_file": set(),
    "anderson": set(),
    "covariance": {"units"},
    "spread": {"covariance"},
    "pareto": set(),
    "importance": {"pareto"},
    "gamma": {"draws"},
    "sticks": {"draws", "gamma"},
    "wishart": {"draws", "gamma"},
    "data": {"draws", "rows", "units"},
    "prior": {"covariance", "data", "native_log", "remembered", "sticks", "units"},
    "mixture": {"covariance", "rows"},
    "initial": {"covariance", "rows"},
    "quadratic": {"covariance", "mixture"},
    "families": {"draws", "gamma", "sticks", "units", "wishart"},
    "surrogate": {"covariance", "draws", "families", "units", "wishart"},
    "objective": {
        "covariance",
        "families",
        "mixture",
        "quadratic",
        "rows",
        "surrogate",
        "units",
        "wishart",
    },
    "settle": {"surrogate"},
    "labels": {"families", "mixture", "objective", "remembered", "surrogate", "units"},
    "coordinates": {"covariance", "surrogate", "units"},
    "natural": {"families", "surrogate"},
    "svi": {
        "compiled",
        "data",
        "draws",
        "native_log",
        "natural",
        "objective",
        "rows",
        "surrogate",
        "units",
    },
    "curvature": {
        "compiled",
        "coordinates",
        "covariance",
        "mixture",
        "objective",
        "rows",
        "surrogate",
        "units",
    },
    "spare": {
        "curvature",
        "data",
        "families",
        "mixture",
        "objective",
        "rows",
        "sticks",
        "surrogate",
        "units",
    },
    "placed": {"covariance", "spare", "spread", "sticks", "surrogate"},
    "calibrate": {"compiled", "coordinates", "objective", "rows", "units"},
    "state": {
        "calibrate",
        "compiled",
        "coordinates",
        "data",
        "draws",
        "mixture",
        "objective",
        "quadratic",
        "rows",
        "spare",
        "surrogate",
        "units",
    },
    "sampling": {
        "calibrate",
        "coordinates",
        "importance",
        "placed",
        "spare",
        "state",
        "surrogate",
    },
    "dependence": {
        "calibrate",
        "curvature",
        "data",
        "rows",
        "sampling",
        "spare",
        "state",
    },
    "run": {
        "data",
        "natural",
        "objective",
        "rows",
        "settle",
        "state",
        "status",
        "surrogate",
        "svi",
    },
    "restarts": {"labels", "objective", "run", "settle", "status", "surrogate"},
    "verdict": {"importance", "restarts", "run", "status"},
    "passes": {
        "anderson",
        "compiled",
        "draws",
        "mixture",
        "natural",
        "objective",
        "quadratic",
        "rows",
        "run",
        "settle",
        "state",
        "status",
        "surrogate",
        "units",
    },
    "posterior": {
        "compiled",
        "data",
        "dependence",
        "labels",
        "mixture",
        "restarts",
        "rows",
        "sampling",
        "spread",
        "state",
        "status",
        "surrogate",
        "units",
    },
    "fit": {
        "compiled",
        "covariance",
        "data",
        "dependence",
        "draws",
        "initial",
        "labels",
        "objective",
        "passes",
        "posterior",
        "prior",
        "progress",
        "restarts",
        "run",
        "sampling",
        "state",
        "status",
        "surrogate",
        "svi",
        "units",
        "verdict",
    },
    "occupancy": {"data", "mixture", "posterior"},
    "regression": set(),
    "predictive": {"data", "posterior", "regression"},
    "conditionals": {"data", "posterior", "predictive"},
    "imputation": {"data", "posterior", "regression"},
    "leave_one_out": {"arviz_line", "posterior", "sampling"},
    "comparison": {"arviz_line", "data", "importance", "labels", "leave_one_out", "posterior"},
    "selection": {
        "comparison",
        "covariance",
        "data",
        "fit",
        "leave_one_out",
        "posterior",
        "prior",
        "progress",
        "status",
    },
    "inference_data": {
        "_version",
        "arviz_line",
        "covariance",
        "data",
        "draws",
        "labels",
        "posterior",
        "spread",
    },
    "plots": {"data", "posterior"},
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
