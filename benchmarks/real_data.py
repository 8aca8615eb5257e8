"""The optimum that fits of real and simulated data sets reach, from every seed.

Each data set is fitted with the numbers of components around that of its classes, in each form of
covariance, under the default prior and settings, from several seeds. All searches for starts
together have tried some hundreds of starts, so the best elbo of all seeds stands for the optimum.

    reached   fits whose elbo is within 0.5 nats of the best, plus three standard errors of the
              difference
    below     nats by which the worst fit is below the best
    ARI       adjusted Rand index of the labels and the classes: of the worst and of the best fit
    sklearn   ARI and seconds of scikit-learn's GaussianMixture with ten starts, where it is
              installed
    mclust    ARI and seconds of R's mclust with the same form, where it is installed
    steps     most steps of a fit, all runs together
    seconds   of the first fit, which compiles, and the median of the others
    status    every status but CONVERGED, with the number of fits

Run it:  python benchmarks/real_data.py [--seeds 10] [--sets crabs wine ...] [--forms full ...]
                                        [--finish none] [--keep]
It prints the table, and writes all results to benchmarks/results/real_data.json, case by case; with
--keep, those of other sets from an earlier run stay there. It needs scikit-learn for the larger
data sets.
"""

import argparse
import importlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from _common import HERE, REFERENCES, RESULTS, installed, show, write_result
from _inside import FORMS
from _mclust import labels_by_mclust, mclust_is_installed
from _seeds import Fit, adjusted_rand_index, cells, fit_once, number_reaching

REAL = HERE.parent / "tests" / "real"
ROWS = 1_000  # of a simulated data set
HEADER = (
    *("set", "form", "K", "reached", "below", "ARI", "sklearn", "mclust"),
    *("steps", "seconds", "status"),
)


class DataSet(NamedTuple):
    """Rows X [N, D], the class of each row (None if unknown), and the numbers of components."""

    X: np.ndarray
    classes: np.ndarray | None
    numbers: tuple[int, ...]


# The data.


def from_file(name: str, classes: int) -> DataSet:
    """Read `tests/real/NAME.csv`."""
    table = np.genfromtxt(REAL / f"{name}.csv", delimiter=",", skip_header=1, dtype=str)
    X = table[:, :-1].astype(float)
    labels = None if (table[:, -1] == "").all() else table[:, -1]
    return DataSet(X, labels, around(classes))


def reference_rows(name: str, header_lines: int = 0) -> np.ndarray:
    """Read the rows of `tests/reference/NAME.csv`."""
    return np.loadtxt(REFERENCES / f"{name}.csv", delimiter=",", skiprows=header_lines)


def from_sklearn(name: str) -> DataSet:
    """Load a data set that scikit-learn ships."""
    found = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    classes = len(np.unique(found.target))
    if classes > 20:  # a regression
        return DataSet(found.data, None, (1, 2, 3))
    return DataSet(found.data, found.target, around(classes))


def digits_in_components(features: int) -> DataSet:
    """Return the first principal components of scikit-learn's handwritten digits 0 to 4."""
    found = importlib.import_module("sklearn.datasets").load_digits(n_class=5)
    centred = found.data - found.data.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return DataSet(centred @ axes[:features].T, found.target, (5,))


def around(classes: int) -> tuple[int, ...]:
    """Return the number of classes, one fewer and one more."""
    return tuple(K for K in (classes - 1, classes, classes + 1) if K > 1)


def correlated(K: int, D: int, seed: int, distance: float = 2.0) -> DataSet:
    """Draw clusters with means `distance` times standard normal and Wishart covariances."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(K, ROWS, p=rng.dirichlet(np.full(K, 5.0)))
    means = distance * rng.standard_normal((K, D))
    roots = rng.standard_normal((K, D, D + 2)) / (D + 2) ** 0.5
    noise = np.einsum("nde,ne->nd", roots[labels], rng.standard_normal((ROWS, D + 2)))
    mixing = rng.standard_normal((D, D))
    return DataSet((means[labels] + noise) @ mixing, labels, around(K))


def heavy_tailed(K: int, D: int, seed: int) -> DataSet:
    """Draw clusters of Student's t distributions with four degrees of freedom."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(K, ROWS)
    means = 4.0 * rng.standard_normal((K, D))
    return DataSet(means[labels] + rng.standard_t(4.0, (ROWS, D)), labels, around(K))


def noise(D: int, seed: int) -> DataSet:
    """Draw rows of one normal distribution."""
    return DataSet(np.random.default_rng(seed).standard_normal((ROWS, D)), None, (2, 3))


SETS: dict[str, Callable[[], DataSet]] = {
    "crabs": lambda: from_file("crabs", 4),
    "diabetes": lambda: from_file("diabetes", 3),
    "geyser": lambda: from_file("geyser", 3),
    "iris": lambda: from_file("iris", 3),
    "faithful": lambda: DataSet(reference_rows("faithful_raw", header_lines=1), None, (2, 3, 4)),
    "wine": lambda: from_sklearn("wine"),
    "breast_cancer": lambda: from_sklearn("breast_cancer"),
    "linnerud": lambda: from_sklearn("linnerud")._replace(numbers=(1, 2)),
    "diabetes progression": lambda: from_sklearn("diabetes"),
    "digits 12": lambda: digits_in_components(12),
    "three clusters": lambda: DataSet(reference_rows("three_clusters"), None, (2, 3, 4)),
    "correlated 3 x 2": lambda: correlated(3, 2, seed=1),
    "correlated 4 x 6": lambda: correlated(4, 6, seed=2),
    "correlated 3 x 12": lambda: correlated(3, 12, seed=3),
    "correlated 4 x 15": lambda: correlated(4, 15, seed=4, distance=1.0),
    "overlapping 3 x 3": lambda: correlated(3, 3, seed=5, distance=0.8),
    "heavy tails 3 x 4": lambda: heavy_tailed(3, 4, seed=6),
    "noise 3": lambda: noise(3, seed=7),
}
NEED_SKLEARN = {"wine", "breast_cancer", "linnerud", "diabetes progression", "digits 12"}


# The fits.


def by_sklearn(data: DataSet, K: int, form: str) -> tuple[float, float]:
    """Return ARI and seconds of scikit-learn's EM with ten starts."""
    mixture = importlib.import_module("sklearn.mixture")
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = mixture.GaussianMixture(K, covariance_type=form, n_init=10).fit_predict(data.X)
    return ari_of(data, labels), time.perf_counter() - begun


def by_mclust(data: DataSet, K: int, form: str) -> tuple[float, float]:
    """Return ARI and seconds of mclust."""
    labels, seconds = labels_by_mclust(data.X, K, form)
    return ari_of(data, labels), seconds


def ari_of(data: DataSet, labels: np.ndarray | None) -> float:
    """Return the ARI of labels and classes; NaN without either."""
    if data.classes is None or labels is None:
        return np.nan
    return adjusted_rand_index(data.classes, labels)


def others_of(data: DataSet, K: int, form: str) -> dict[str, tuple[float, float]]:
    """Return ARI and seconds of the other libraries."""
    return {
        "sklearn": by_sklearn(data, K, form) if installed("sklearn") else (np.nan, np.nan),
        "mclust": by_mclust(data, K, form) if mclust_is_installed() else (np.nan, np.nan),
    }


def row_of(
    name: str, form: str, K: int, fits: list[Fit], others: dict[str, tuple[float, float]]
) -> list[str]:
    best = max(fits, key=lambda fit: fit.elbo)
    aris = [fit.ari for fit in fits]
    times, statuses = cells(fits)
    return [
        name,
        form,
        str(K),
        f"{number_reaching(fits, best)}/{len(fits)}",
        f"{best.elbo - min(fit.elbo for fit in fits):.2f}",
        f"{min(aris):.2f} {max(aris):.2f}",
        *(f"{ari:.2f}, {seconds:.1f} s" for ari, seconds in others.values()),
        str(max(fit.steps for fit in fits)),
        times,
        statuses,
    ]


def results_of_others(names: list[str]) -> list[dict[str, Any]]:
    """Return the cases of an earlier run that are of other data sets than these."""
    path = RESULTS / "real_data.json"
    if not path.exists():
        return []
    cases = json.loads(path.read_text())["cases"]
    return [case for case in cases if case["set"] not in names]


def combinations(arguments: argparse.Namespace) -> Iterator[tuple[str, DataSet, str, int]]:
    """Yield the name and rows of each data set with each form and number of components."""
    for name in arguments.sets:
        if name in NEED_SKLEARN and not installed("sklearn"):
            print(f"{name} is left out: it needs scikit-learn.")
            continue
        data = SETS[name]()
        for form in arguments.forms:
            for K in data.numbers:
                yield name, data, form, K


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--finish", default="auto", choices=("auto", "none"))
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    results = results_of_others(arguments.sets) if arguments.keep else []
    rows, count, total = [], 0, 0
    for name, data, form, K in combinations(arguments):
        fits = [
            fit_once(data.X, data.classes, K, covariance=form, seed=seed, finish=arguments.finish)
            for seed in range(arguments.seeds)
        ]
        others = others_of(data, K, form)
        rows.append(row_of(name, form, K, fits, others))
        print("  ".join(rows[-1]), flush=True)
        results.append({"set": name, "form": form, "K": K, **others, "fits": fits})
        write_result("real_data", {"settings": vars(arguments), "cases": results})
        count += number_reaching(fits, max(fits, key=lambda fit: fit.elbo))
        total += len(fits)
    show("Optima reached", HEADER, rows)
    print(f"{count} of {total} fits reached the best optimum, {count / max(total, 1):.1%}.")


if __name__ == "__main__":
    main()
