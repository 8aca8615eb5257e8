"""Fits of many clusters, beside fits that begin at the truth.

Clusters of one normal distribution each, sd 1 in every feature, in a cube in which their centres
are at least a given distance apart: 8 sds (apart), or 3 (overlapping). Each data set is fitted in
the diagonal form under the default prior from several seeds, once as a user would, and once from
the classes of the rows (`init`).

    at truth  fits whose elbo is above that of the fit from the truth, or below it by at most 0.5
              nats and three standard errors of the difference
    below     nats by which the worst fit is below it; negative where all are above
    ARI       adjusted Rand index of the labels and the classes: of the worst fit, and of the fit
              from the truth
    seconds   of the first fit, which compiles, and the median of the others
    status    every status but CONVERGED, with the number of fits

Run it:  python benchmarks/many_clusters.py [--seeds 5] [--numbers 10 20 50] [--rows 2000 50000]
                                            [--finish none]
It prints the table, and writes all results to benchmarks/results/many_clusters.json.
"""

import argparse
import itertools
from typing import NamedTuple

import numpy as np
from _common import show, write_result
from _seeds import Fit, cells, fit_once, number_reaching

DISTANCES = {"apart": 8.0, "overlapping": 3.0}  # sds of a cluster between the closest centres
HEADER = ("K", "D", "rows", "clusters", "at truth", "below", "ARI", "seconds", "status")


class Clusters(NamedTuple):
    """Rows X [N, D] and the class of each."""

    X: np.ndarray
    classes: np.ndarray


# The data.


def draw_clusters(K: int, D: int, rows: int, distance: float) -> Clusters:
    """Draw rows of K clusters of unequal sizes."""
    rng = np.random.default_rng(K * D)
    centres = draw_centres(rng, K, D, distance)
    classes = rng.choice(K, rows, p=rng.dirichlet(np.full(K, 10.0)))
    X = centres[classes] + rng.standard_normal((rows, D))
    return Clusters(X.astype(np.float32), classes)


def draw_centres(rng: np.random.Generator, K: int, D: int, distance: float) -> np.ndarray:
    """Draw centres [K, D] one by one, none close to another, in a cube that grows as it fills."""
    side = distance
    centres = np.empty((0, D))
    while len(centres) < K:
        centre = side * rng.random(D)
        if (np.linalg.norm(centres - centre, axis=1) >= distance).all():
            centres = np.vstack([centres, centre])
        else:
            side *= 1.02
    return centres


def row_of(
    K: int, D: int, rows: int, clusters: str, fits: list[Fit], truth: Fit
) -> tuple[str, ...]:
    return (
        *(str(K), str(D), f"{rows:,}", clusters),
        f"{number_reaching(fits, truth)}/{len(fits)}",
        f"{truth.elbo - min(fit.elbo for fit in fits):.2f}",
        f"{min(fit.ari for fit in fits):.3f} {truth.ari:.3f}",
        *cells(fits),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--numbers", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--features", nargs="+", type=int, default=[2, 10])
    parser.add_argument("--rows", nargs="+", type=int, default=[2_000, 50_000])
    parser.add_argument("--finish", default="auto", choices=("auto", "none"))
    arguments = parser.parse_args()
    table, results = [], []
    cases = itertools.product(arguments.rows, arguments.numbers, arguments.features, DISTANCES)
    for rows, K, D, clusters in cases:
        X, classes = draw_clusters(K, D, rows, DISTANCES[clusters])
        fits = [
            fit_once(X, classes, K, seed=seed, finish=arguments.finish)
            for seed in range(arguments.seeds)
        ]
        truth = fit_once(X, classes, K, init=classes, finish=arguments.finish)
        table.append(row_of(K, D, rows, clusters, fits, truth))
        print("  ".join(table[-1]), flush=True)
        result = {"K": K, "D": D, "rows": rows, "clusters": clusters}
        results.append({**result, "fits": fits, "truth": truth})
        write_result("many_clusters", {"settings": vars(arguments), "cases": results})
    show("Many clusters", HEADER, table)


if __name__ == "__main__":
    main()
