"""The part "million" of `scaling.py`: time of fits of a million rows, and their quality."""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from _common import VARIABLES, Errors, Moments, align, cell, show
from _processes import DEFAULTS, Fitted, Peer, Shape, fitted, peer

PEER_ITERATIONS = 1_000
OPTIMUM_SEEDS = (1_001, 1_002)  # other seeds than those of the fits that are compared with it
DEFAULT = "4 starts, calibrated"


def million(given: argparse.Namespace) -> dict[str, Any]:
    """Measure fits with 1 and 4 starts, calibrated or not, and fits beside scikit-learn's."""
    shape, seed = Shape(given.rows), given.seed
    fits = {
        _name(restarts, calibrate): fitted(
            shape, seed=seed, restarts=restarts, calibrate=calibrate, calls=2
        )
        for restarts in (4, 1)
        for calibrate in (True, False)
    }
    default = fits[DEFAULT]
    double = fitted(shape._replace(dtype="float64"), seed=seed)
    optima = optimum_fits(shape, default.mean["means"])
    found = peer(shape, seed=seed, max_iter=PEER_ITERATIONS) if given.peer else None
    show("Seconds", TIME_HEADER, time_rows(fits, double, optima, found))
    averaged = DEFAULTS.averaged_passes
    print(f"In addition, {averaged} passes are averaged, and half as many estimate the elbo.")
    quality = qualities(fits, double, optima, found)
    show("Distance from the optimum", QUALITY_HEADER, quality_rows(quality))
    pairs = [Pair(default, found), *other_pairs(shape, given)] if found else []
    show_pairs(pairs)
    return {
        "fits": {name: without_moments(fit) for name, fit in fits.items()},
        "float64": without_moments(double),
        "optimum": [without_moments(fit) for fit in optima],
        "quality": quality,
        "beside scikit-learn": [
            {"fit": without_moments(fit), "scikit-learn": without_moments(other)}
            for fit, other in pairs
        ],
    }


class Pair(NamedTuple):
    """A default fit of a data set, and scikit-learn's."""

    fit: Fitted
    other: Peer


def other_pairs(shape: Shape, given: argparse.Namespace) -> Iterator[Pair]:
    """Yield fits of the other data sets."""
    for number in range(1, given.data_sets):
        data_set, seed = shape._replace(data_set=number), given.seed
        yield Pair(
            fitted(data_set, seed=seed, calls=2),
            peer(data_set, seed=seed, max_iter=PEER_ITERATIONS),
        )


def show_pairs(pairs: Sequence[Pair]) -> None:
    """Print the fits of each data set, and the median and the range of the ratios of times."""
    if not pairs:
        return
    show("Beside scikit-learn", PAIR_HEADER, [pair_cells(*one) for one in enumerate(pairs)])
    for number, call in enumerate(("a first", "a second")):
        ratios = [pair.other.seconds / pair.fit.seconds[number] for pair in pairs]
        print(
            f"scikit-learn takes {statistics.median(ratios):.1f} times as long as {call} call"
            f" ({min(ratios):.1f} to {max(ratios):.1f})."
        )


PAIR_HEADER = [
    "data set",
    "first call",
    "second call",
    "passes",
    "scikit-learn",
    "iterations",
    "of first",
    "of second",
    "ahead, nats",
]


def pair_cells(number: int, pair: Pair) -> list[str]:
    """Return the cells of a data set: the times, and by how much our log density is higher."""
    fit, other = pair
    return [
        str(number),
        *(f"{seconds:.2f}" for seconds in fit.seconds),
        str(fit.passes),
        f"{other.seconds:.1f}",
        str(other.iterations) if other.converged else f"{other.iterations}, the limit",
        *(f"{other.seconds / seconds:.1f}" for seconds in fit.seconds),
        f"{fit.log_density - other.log_density:+.1f}",
    ]


def optimum_fits(shape: Shape, means: Any) -> list[Fitted]:
    """Return float64 fits that run far longer, from these means, with draws of their own."""
    exact = shape._replace(dtype="float64")
    return [
        fitted(exact, seed=seed, restarts=1, calibrate=False, init=means, exact=True)
        for seed in OPTIMUM_SEEDS
    ]


def _name(restarts: int, calibrate: bool) -> str:
    starts = "1 start" if restarts == 1 else f"{restarts} starts"
    return f"{starts}, calibrated" if calibrate else starts


class Quality(NamedTuple):
    """Errors by variable, and the log density of all rows less that of the optimum, in nats."""

    errors: dict[str, Errors]
    log_density: float


def qualities(
    fits: Mapping[str, Fitted], double: Fitted, optima: list[Fitted], found: Peer | None
) -> dict[str, Quality]:
    """Compare each fit to the optimum, and float32 to float64."""
    first, second = (moments_in(fit) for fit in optima)
    optimum = average([first, second])
    height = statistics.mean(fit.log_density for fit in optima)

    def quality(fit: Fitted | Peer) -> Quality:
        return Quality(apart(moments_in(fit), optimum), fit.log_density - height)

    by_name = {name: quality(fit) for name, fit in fits.items()}
    by_name["float64"] = quality(double)
    if found is not None:
        by_name["scikit-learn"] = quality(found)
    by_name["optimum"] = Quality(apart(first, second), math.nan)
    default = moments_in(fits[DEFAULT])
    by_name["float32 to float64"] = Quality(apart(default, moments_in(double)), math.nan)
    return by_name


def moments_in(fit: Fitted | Peer) -> Moments:
    """Return the moments of a fit as arrays."""
    return Moments(*({v: np.asarray(x) for v, x in by.items()} for by in (fit.mean, fit.sd)))


def average(found: Sequence[Moments]) -> Moments:
    """Return the average of moments, with the components in the order of the first."""
    order = [align(m.mean["means"], found[0].mean["means"]) for m in found]

    def of(which: int) -> dict[str, np.ndarray]:
        moved = [{v: m[which][v][o] for v in VARIABLES} for m, o in zip(found, order, strict=True)]
        return {v: np.mean([m[v] for m in moved], axis=0) for v in VARIABLES}

    return Moments(of(0), of(1))


def apart(found: Moments, reference: Moments) -> dict[str, Errors]:
    """Return the errors of each variable whose sds are known, components aligned by their means."""
    order = align(found.mean["means"], reference.mean["means"])
    errors = {}
    for v in found.sd:
        off = np.abs(found.mean[v][order] - reference.mean[v]) / reference.sd[v]
        ratio = found.sd[v][order] / reference.sd[v]
        errors[v] = Errors(float(off.max()), float(ratio.min()), float(ratio.max()))
    return errors


def peer_ratios(fit: Fitted, found: Peer) -> tuple[float, float]:
    """Return the ratios of scikit-learn's time to that of a second call, and of a first."""
    return found.seconds / fit.seconds[1], found.seconds / fit.seconds[0]


def without_moments(found: Fitted | Peer) -> dict[str, Any]:
    return {name: v for name, v in found._asdict().items() if name not in ("mean", "sd")}


TIME_HEADER = [
    "method",
    "first call",
    "second call",
    "compile",
    "passes",
    "agree",
    "status",
    "ratio",
    "first",
]
QUALITY_HEADER = ["method", *VARIABLES, "log density"]


def time_rows(
    fits: Mapping[str, Fitted], double: Fitted, optima: list[Fitted], found: Peer | None
) -> list[list[str]]:
    """Return a row for each fit; scikit-learn's iterations are in the column of the passes."""
    once = [("float64", double), *(("optimum", fit) for fit in optima)]
    lines = [time_cells(name, fit, found) for name, fit in [*fits.items(), *once]]
    if found is not None:
        end = "converged" if found.converged else "limit"
        cells = [f"{found.seconds:.2f}", "-", "-", str(found.iterations), "-", end]
        lines.append(["scikit-learn", *cells, "-", "-"])
    return lines


def time_cells(name: str, fit: Fitted, found: Peer | None) -> list[str]:
    """Return the cells of a fit of one or two calls, in the order of TIME_HEADER."""
    first, second = (*fit.seconds, math.nan)[:2]
    ratios = (math.nan, math.nan)
    if found is not None and len(fit.seconds) == 2:
        ratios = peer_ratios(fit, found)
    return [
        name,
        f"{first:.2f}",
        cell(second, ".2f"),
        cell(first - second, ".2f"),
        str(fit.passes),
        f"{fit.agreeing} of {len(fit.steps)}",
        fit.status,
        *(cell(ratio, ".2f") for ratio in ratios),
    ]


def quality_rows(by_name: Mapping[str, Quality]) -> list[list[str]]:
    """Return a row for each method."""
    return [
        [
            name,
            *(_error_cell(found.errors.get(v)) for v in VARIABLES),
            cell(found.log_density, "+.2f"),
        ]
        for name, found in by_name.items()
    ]


def _error_cell(error: Errors | None) -> str:
    if error is None:
        return "-"
    return f"{error.mean:.4f}; {error.sd_min:.4f}..{error.sd_max:.4f}"
