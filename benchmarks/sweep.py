"""Sweeps over K and covariance, and fits of many groups: the first time in a process, and again.

    faithful    `select` on Old Faithful, K = 1 to 6, diagonal and full covariances
    iris        `select` on iris, K = 1 to 9, all four forms
    groups      `fit` with two clusters to forty groups of 50 to 500 rows, and then to forty others
                of the same sizes

Beside the first two is scikit-learn's BayesianGaussianMixture with the same numbers and forms
(`weight_concentration_prior_type="dirichlet_distribution"`, four starts, 2,000 iterations at most),
where it is installed. It gives a bound of the evidence at one optimum, and no draws.

Run it:  python benchmarks/sweep.py [--part faithful iris groups]
Each part runs in the same process, after the others, and so finds programs compiled that they
share. It prints the table, and writes benchmarks/results/sweep.json.
"""

import argparse
import importlib
import time
import warnings
from collections.abc import Callable

import numpy as np
from _common import HERE, REFERENCES, cell, installed, load, show, write_result
from _inside import FORMS

import bgmm_jd

PARTS = ("faithful", "iris", "groups")
GROUPS = 40
HEADER = ("part", "fits", "first, s", "again, s", "statuses", "best", "scikit-learn, s", "ratio")


def seconds_of(call: Callable[[], object]) -> tuple[float, object]:
    """Return how long a call takes, and what it returns."""
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = call()
    return time.perf_counter() - begun, found


def swept(X: np.ndarray, K: range, forms: tuple[str, ...]) -> dict[str, object]:
    """Time `select` twice, and scikit-learn's fits of the same combinations."""
    (first, _), (again, found) = (
        seconds_of(lambda: bgmm_jd.select(X, K, forms, progress=False)) for _ in range(2)
    )
    statuses = [posterior.status.name for posterior in found.posteriors.values()]
    return {
        "fits": len(statuses),
        "first": first,
        "again": again,
        "converged": statuses.count("CONVERGED"),
        "statuses": statuses,
        "best": found.table.index[0],
        "sklearn": by_sklearn(X, K, forms) if installed("sklearn") else np.nan,
    }


def by_sklearn(X: np.ndarray, K: range, forms: tuple[str, ...]) -> float:
    """Return the seconds of scikit-learn's fits."""
    mixture = importlib.import_module("sklearn.mixture")

    def fits() -> None:
        for form in forms:
            for k in K:
                mixture.BayesianGaussianMixture(
                    n_components=k,
                    covariance_type=form,
                    weight_concentration_prior_type="dirichlet_distribution",
                    n_init=4,
                    max_iter=2_000,
                ).fit(X)

    return seconds_of(fits)[0]


def grouped() -> dict[str, object]:
    """Time fits to forty groups, and to forty others of the same sizes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 501, GROUPS)

    def fits() -> list[str]:
        found = []
        for N in sizes:
            X = rng.standard_normal((N, 2)) + 5.0 * rng.integers(0, 2, (N, 1))
            found.append(bgmm_jd.fit(X, 2, progress=False).status.name)
        return found

    (first, _), (again, statuses) = (seconds_of(fits) for _ in range(2))
    return {
        "fits": GROUPS,
        "first": first,
        "again": again,
        "converged": statuses.count("CONVERGED"),
        "statuses": statuses,
        "best": "",
        "sklearn": np.nan,
    }


def iris() -> np.ndarray:
    """Return the four columns of numbers of iris [150, 4]."""
    path = HERE.parent / "tests" / "real" / "iris.csv"
    return np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(4))


def measured(part: str) -> dict[str, object]:
    if part == "groups":
        return grouped()
    if part == "iris":
        return swept(iris(), range(1, 10), FORMS)
    X = np.loadtxt(REFERENCES / "faithful_raw.csv", delimiter=",", skiprows=1)
    return swept(X, range(1, 7), ("diag", "full"))


def row_of(part: str, found: dict[str, object]) -> list[str]:
    other = found["sklearn"]
    return [
        part,
        str(found["fits"]),
        f"{found['first']:.1f}",
        f"{found['again']:.1f}",
        f"{found['converged']} CONVERGED",
        str(found["best"]),
        cell(other, ".1f"),
        cell(found["again"] / other, ".0f"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parts, busy = parser.parse_args().part, load()
    found = {}
    for part in parts:
        found[part] = measured(part)
        show("So far", HEADER, [row_of(*one) for one in found.items()])
    write_result("sweep", {"load": busy, "parts": found})


if __name__ == "__main__":
    main()
