"""Coverage of posterior intervals on data drawn from the model's own prior.

Parameters are drawn from `bgmm_jd.mixture_prior(2, 2)`, and 200 rows given them. The model is then
fitted to the rows with that prior and default settings. The coverage is the fraction of data sets
in which the central 50 % and 90 % intervals of 2,000 posterior draws contain the parameters that
generated the data. With exact posteriors it is 50 % and 90 %, up to the binomial error
sqrt(p (1 - p) / data sets), which is shown with it. The same holds for any subset of the data sets
that is chosen by the data alone, such as those whose fit has a certain status.

All quantities are invariant to the labels of the components:

    max weight          the weight of the larger component
    mean 1, mean 2      of the whole mixture, by feature
    variance 1, 2       likewise
    log p(centre),      log density of the mixture at (0, 0) and at (2, -1)
    log p(side)
    distance            between the means of the components

`default` is `posterior.sample(n)`, calibrated and weighted, the default of the library;
`mean field` is `posterior.sample(n, calibrate=False)` of the same fit, for comparison.

All data sets have one shape and one prior, so that one program is compiled. It is a hard test: two
components drawn from this prior mostly overlap, and many posteriors given 200 rows are far from
normal.

Run it:  python benchmarks/coverage.py [--datasets 400] [--seed 0]
It prints the tables, and writes all results to benchmarks/results/coverage.json.
"""

import collections
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from _common import data_set_arguments, load, table, write_result
from _from_the_prior import D, quantities, truth_and_rows

import bgmm_jd

K, ROWS = 2, 200
DRAWS = 2_000
LEVELS = (0.5, 0.9)
KHAT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Method -> the argument `calibrate` of `posterior.sample`, whose default is None.
METHODS: Mapping[str, bool | None] = {"default": None, "mean field": False}


class Case(NamedTuple):
    """One data set.

    calibrated : whether the calibrated normal distribution was a better proposal than the
        surrogate.
    below : method -> quantity -> fraction of the draws that are below the truth.
    """

    status: str
    khat: float
    calibrated: bool
    seconds: float
    below: dict[str, dict[str, float]]


# The fits.


def run_case(seed: int, index: int) -> Case:
    """Draw a data set, fit it, and return the rank of the truth among the draws."""
    prior = bgmm_jd.mixture_prior(K, D)
    theta, rows = truth_and_rows(prior, ROWS, seed, index)
    truth = quantities(theta)
    begun = time.perf_counter()
    posterior = bgmm_jd.fit(rows, K, prior=prior, seed=index)
    draws = {m: posterior.sample(DRAWS, seed=index, calibrate=c) for m, c in METHODS.items()}
    seconds = time.perf_counter() - begun
    below = {}
    for method, drawn in draws.items():
        found = quantities(drawn)
        below[method] = {q: float((found[q] < truth[q]).mean()) for q in truth}
    calibration = posterior.approximation.calibration
    calibrated = calibration is not None and calibration.normal is not None
    return Case(posterior.status.name, posterior.khat, calibrated, seconds, below)


# Coverage.


def covered(cases: Sequence[Case], method: str, quantity: str, level: float) -> float:
    """Return the fraction of the cases whose central interval contains the truth."""
    below = np.array([case.below[method][quantity] for case in cases])
    return float((np.abs(below - 0.5) <= 0.5 * level).mean())


def binomial_error(level: float, cases: int) -> float:
    """Return the standard error of that fraction, if the intervals are exact."""
    return math.sqrt(level * (1.0 - level) / cases)


def deciles(cases: Sequence[Case], method: str, quantity: str) -> list[int]:
    """Count how often the truth is in each tenth of the posterior; uniform if that is exact."""
    below = [case.below[method][quantity] for case in cases]
    return np.histogram(below, bins=10, range=(0.0, 1.0))[0].tolist()


def coverage(cases: Sequence[Case], method: str) -> dict[str, dict[str, Any]]:
    """Return the coverage of each quantity and level, its deviation, and the deciles."""
    found: dict[str, dict[str, Any]] = {}
    for quantity in cases[0].below[method]:
        found[quantity] = {"deciles": deciles(cases, method, quantity)}
        for level in LEVELS:
            share = covered(cases, method, quantity, level)
            off = (share - level) / binomial_error(level, len(cases))
            found[quantity][f"{level:.0%}"] = {"coverage": share, "binomial_errors": off}
    return found


def groups(cases: Sequence[Case]) -> dict[str, tuple[str, list[Case]]]:
    """Return the method and the cases of each column."""
    converged = [case for case in cases if case.status == "CONVERGED"]
    named = {
        "default": ("default", list(cases)),
        "default, CONVERGED only": ("default", converged),
        "mean field": ("mean field", list(cases)),
    }
    return {column: (method, chosen) for column, (method, chosen) in named.items() if chosen}


def coverage_table(found: Mapping[str, Mapping[str, Any]], level: float, title: str) -> str:
    """Return a table of coverage at one level in per cent, with deviations in binomial errors."""
    rows = []
    for quantity in next(iter(found.values())):
        entries = [column[quantity][f"{level:.0%}"] for column in found.values()]
        shown = [f"{e['coverage']:.1%} ({e['binomial_errors']:+.1f})" for e in entries]
        rows.append([quantity, *shown])
    return table([title, *found], rows)


def report(cases: Sequence[Case]) -> dict[str, Any]:
    """Print the tables, and return their numbers."""
    chosen = groups(cases)
    found = {column: coverage(c, method) for column, (method, c) in chosen.items()}
    for level in LEVELS:
        error = binomial_error(level, len(cases))
        print(f"\nCoverage of {level:.0%} intervals; binomial error {error:.1%} for all data sets")
        print("(in brackets: deviation from the level in binomial errors)\n")
        print(coverage_table(found, level, "quantity"))
    statuses = collections.Counter(case.status for case in cases)
    print("\nStatuses: " + ", ".join(f"{s} {n}" for s, n in statuses.most_common()))
    left = sum(not case.calibrated for case in cases)
    print(f"Fits whose draws come from the surrogate, the better proposal: {left}")
    khats = np.array([case.khat for case in cases])
    quantiles = {f"{q:.0%}": float(np.nanquantile(khats, q)) for q in KHAT_QUANTILES}
    print("k-hat quantiles: " + ", ".join(f"{q} {k:.2f}" for q, k in quantiles.items()))
    seconds = [case.seconds for case in cases[1:]] or [cases[0].seconds]
    print(
        f"Seconds for a fit and its draws: median {np.median(seconds):.2f}, "
        f"longest {max(seconds):.1f}; the first, with compilation, {cases[0].seconds:.1f}"
    )
    return {
        "coverage": found,
        "cases": {column: len(c) for column, (_, c) in chosen.items()},
        "binomial_error": {f"{q:.0%}": binomial_error(q, len(cases)) for q in LEVELS},
        "statuses": dict(statuses),
        "kept_to_surrogate": left,
        "khat_quantiles": quantiles,
        "khat_above_0.5": float((khats > 0.5).mean()),
        "khat_above_0.7": float((khats > 0.7).mean()),
        "seconds_median": float(np.median(seconds)),
        "seconds_first": cases[0].seconds,
    }


def run_all(datasets: int, seed: int, report_progress: Callable[[str], None]) -> list[Case]:
    """Run all data sets, and report the time that is left after every twenty."""
    cases: list[Case] = []
    begun = time.perf_counter()
    for index in range(datasets):
        cases.append(run_case(seed, index))
        if len(cases) % 20 == 0:
            each = (time.perf_counter() - begun - cases[0].seconds) / (len(cases) - 1)
            left = each * (datasets - len(cases))
            done = f"{len(cases)} of {datasets} data sets"
            report_progress(f"{done}, {each:.2f} s each, {left:.0f} s left")
    return cases


def main() -> None:
    """Run all data sets, print the tables and write the file."""
    given = data_set_arguments("Coverage of posterior intervals.", 400)
    load_before = load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the statuses are counted instead
        cases = run_all(given.datasets, given.seed, lambda text: print(text, flush=True))
    settings = vars(given) | {"N": ROWS, "D": D, "K": K, "draws": DRAWS, "load_before": load_before}
    path = write_result("coverage", {"settings": settings, **report(cases)})
    print(f"\nWritten to {path.name}.")


if __name__ == "__main__":
    main()
