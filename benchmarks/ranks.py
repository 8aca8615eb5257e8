"""Simulation-based calibration: ranks of the truth among posterior draws, in every form.

Parameters are drawn from `bgmm_jd.mixture_prior(K, 2, covariance=form)`, rows given them, and the
model is fitted to the rows with that prior and default settings. With exact posteriors the fraction
of the posterior's draws that are below the truth is uniform, for every quantity that does not
depend on the labels (Cook, Gelman and Rubin 2006; Talts et al. 2018). In each form a quarter of the
data sets has K = 2 and 50 rows, a quarter 2 and 200, 3 and 50, 3 and 200: ranks are uniform in
each, and so are all together.

The test is that of Säilynoja, Bürkner and Vehtari (2022), by ArviZ: the empirical distribution of
the ranks has to stay within a simultaneous band, whose level is 5 % divided by the number of
tests, one for each form and quantity. So the false-alarm rate of the whole is 5 % at most.

Run it:  python benchmarks/ranks.py [--datasets 500] [--seed 0] [--processes 2] [--figure ranks.png]
It needs arviz below 1. It prints the table, and writes all ranks to benchmarks/results/ranks.json.
"""

import argparse
import collections
import multiprocessing
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from _common import show, write_result
from _from_the_prior import D, quantities, truth_and_rows
from _inside import FORMS
from arviz.stats.ecdf_utils import ecdf_confidence_band
from matplotlib import pyplot as plt

import bgmm_jd

CELLS = ((2, 50), (2, 200), (3, 50), (3, 200))  # K and rows of each fourth data set
DRAWS = 2_000
AT_ONCE = 20  # data sets that a process takes together
LEVEL = 0.05  # false-alarm rate of all tests together
POINTS = np.linspace(0.01, 0.99, 99)  # where the distribution of the ranks is looked at


class Case(NamedTuple):
    """One data set: the fraction of draws below the truth by quantity, and how the fit ended."""

    K: int
    rows: int
    below: dict[str, float]
    status: str
    seconds: float


def run_case(form: str, K: int, rows: int, seed: int, index: int) -> Case:
    """Draw a data set, fit it, and return the ranks of the truth among the draws."""
    prior = bgmm_jd.mixture_prior(K, D, covariance=form)
    theta, X = truth_and_rows(prior, rows, seed, index, form)
    begun = time.perf_counter()
    posterior = bgmm_jd.fit(X, K, covariance=form, prior=prior, seed=index, progress=False)
    draws = quantities(posterior.sample(DRAWS, seed=index), form)
    seconds = time.perf_counter() - begun
    truth = quantities(theta, form)
    below = {name: float((draws[name] < truth[name]).mean()) for name in truth}
    return Case(K, rows, below, posterior.status.name, round(seconds, 2))


def run_cases(form: str, indices: Sequence[int], seed: int) -> list[Case]:
    """Run some of the data sets of a form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the statuses are counted instead
        return [run_case(form, *CELLS[i % len(CELLS)], seed, i) for i in indices]


# The test.


def departure(ranks: Sequence[float], level: float) -> float:
    """Return how far the ranks leave their band, in widths of it: above 1 they are not uniform.

    Where the band ends at 0 or 1, a distribution function cannot leave it.
    """
    away, (low, high) = difference(ranks), band(len(ranks), level)
    above = np.where(high < 1.0 - POINTS, away / high, 0.0)
    below = np.where(low > -POINTS, away / low, 0.0)
    return float(np.max([above, below]))


def difference(ranks: Sequence[float]) -> np.ndarray:
    """Return the distribution of the ranks at POINTS, less that of uniform ones."""
    return (np.asarray(ranks)[:, np.newaxis] <= POINTS).mean(axis=0) - POINTS


def band(count: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the simultaneous band of that difference, for uniform ranks."""
    low, high = ecdf_confidence_band(count, POINTS, POINTS, prob=1.0 - level)
    return low - POINTS, high - POINTS


def figure(cases: Mapping[str, Sequence[Case]], level: float, path: str) -> None:
    """Draw the differences of all quantities in their band, a panel for each form."""
    fig, axes = plt.subplots(1, len(cases), figsize=(12, 3.2), sharey=True, layout="constrained")
    for ax, (form, found) in zip(np.atleast_1d(axes), cases.items(), strict=True):
        low, high = band(len(found), level)
        ax.fill_between(POINTS, low, high, color="0.9", lw=0)
        for name in found[0].below:
            ax.plot(POINTS, difference([case.below[name] for case in found]), lw=1, label=name)
        ax.axhline(0.0, color="0.5", lw=0.6)
        ax.set_title(f"{form}, {len(found)} data sets")
        ax.set_xlabel("rank of the truth")
    np.atleast_1d(axes)[0].set_ylabel("ECDF - uniform")
    legends = [ax.get_legend_handles_labels() for ax in np.atleast_1d(axes)]
    fig.legend(*max(legends, key=lambda named: len(named[1])), loc="outside right center")
    fig.savefig(path, dpi=110)


def row_of(form: str, found: Sequence[Case], level: float) -> tuple[str, ...]:
    far = {name: departure([case.below[name] for case in found], level) for name in found[0].below}
    worst = max(far, key=lambda name: far[name])
    statuses = collections.Counter(case.status for case in found)
    return (
        form,
        str(len(found)),
        f"{far[worst]:.2f} ({worst})",
        str(sum(value > 1.0 for value in far.values())),
        ", ".join(f"{name} {count}" for name, count in statuses.most_common()),
        f"{np.median([case.seconds for case in found]):.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=500, help="of each form")
    parser.add_argument("--seed", type=int, default=0, help="of the data sets")
    parser.add_argument("--processes", type=int, default=1, help="that share the data sets")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--figure", help="a file to draw the ranks in")
    arguments = parser.parse_args()
    every = range(arguments.datasets)
    parts = [every[first : first + AT_ONCE] for first in every[::AT_ONCE]]
    cases: dict[str, list[Case]] = {}
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        found = {
            form: [pool.submit(run_cases, form, part, arguments.seed) for part in parts]
            for form in arguments.forms
        }
        for form, results in found.items():
            cases[form] = [case for result in results for case in result.result()]
            report(cases, arguments)


def report(cases: Mapping[str, Sequence[Case]], arguments: Any) -> None:
    """Print the table, draw the figure if it is asked for, and write all ranks so far."""
    level = LEVEL / sum(len(found[0].below) for found in cases.values())
    header = ("form", "data sets", "farthest, of its band", "outside", "status", "seconds")
    show("Ranks", header, [row_of(form, found, level) for form, found in cases.items()])
    if arguments.figure:
        figure(cases, level, arguments.figure)
    settings = {"seed": arguments.seed, "draws": DRAWS, "level": level}
    write_result("ranks", {"settings": settings, "cases": cases})


if __name__ == "__main__":
    main()
