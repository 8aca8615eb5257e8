"""Hard posteriors with a known answer: several modes, overlap, and components to spare.

The cases are in tests/hard, with the answers of two independent samplers. Each is fitted under its
own prior with default settings from several seeds. All quantities are invariant to the labels.

    evidence  log evidence less that of the answer, in nats: the largest of all seeds
    mean      largest |mean - answer| in sds of the answer, over sorted weights and the logs of the
              largest and smallest sd of a component (over the seeds, as is each of the next two)
    sd        smallest and largest sd over that of the answer
    density   largest |log predictive density - answer|, in nats, at the points of the case where it
              is within 5 nats of its highest value
    right     fits with an evidence within 0.15 nats and three standard errors of the answer, means
              within 0.15 sds, sds within 12 %, and densities within 0.08 nats
    untold    fits with a good status that are far from right: means beyond 0.25 sds, an sd 20 % too
              small or 25 % too large, or a density beyond 0.15 nats
    alarms    fits with another status that are not far from right

Run it:  python benchmarks/hard.py [NAME ...] [--seeds 10] [--draws 4000] [--density-draws 2000]
It prints the table, and writes all results to benchmarks/results/hard.json.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from _common import show, write_result

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from hard_cases import HARD, fit_case, invariants

import bgmm_jd

NAMES = sorted(path.stem for path in HARD.glob("*.json"))
HEADER = ("case", "right", "untold", "alarms", "evidence", "mean", "sd", "density", "seconds")


class Fit(NamedTuple):
    """Differences of one fit from the answer, as in the table, and how the fit ended."""

    evidence: float
    mean: float
    sd: tuple[float, float]
    density: float
    allowance: float  # nats that the answer's own evidence may be off
    status: str
    is_good: bool
    seconds: float

    @property
    def is_right(self) -> bool:
        return (
            abs(self.evidence) <= 0.15 + self.allowance
            and self.mean <= 0.15
            and 0.88 <= self.sd[0] <= self.sd[1] <= 1.12
            and self.density <= 0.08
        )

    @property
    def is_far(self) -> bool:
        return self.mean > 0.25 or self.sd[0] < 0.8 or self.sd[1] > 1.25 or self.density > 0.15


def run_case(case: Mapping[str, Any], seed: int, draws: int, density_draws: int) -> Fit:
    """Fit a case, and compare with the refined one of its two answers."""
    answer = case["refined"]
    names, sds = answer["names"], np.array(answer["sd"])
    kept = [i for i, sd in enumerate(sds) if names[i] != "n_occupied" and sd > 1e-3]
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the statuses are counted instead
        posterior = fit_case(case, seed)
    found = invariants({k: v.astype(float) for k, v in posterior.sample(draws, seed=1).items()})
    seconds = time.perf_counter() - begun
    found = found[:, kept]
    ratio = found.std(axis=0) / sds[kept]
    return Fit(
        evidence=posterior.log_evidence - answer["log_evidence"],
        mean=float(np.abs((found.mean(axis=0) - np.array(answer["mean"])[kept]) / sds[kept]).max()),
        sd=(float(ratio.min()), float(ratio.max())),
        density=density_error(posterior, case, density_draws),
        allowance=3.0 * answer["log_evidence_se"],
        status=posterior.status.name,
        is_good=posterior.status.good,
        seconds=round(seconds, 2),
    )


def density_error(posterior: bgmm_jd.Posterior, case: Mapping[str, Any], draws: int) -> float:
    """Return the largest error of the log predictive density, where that is not very low."""
    answer = np.array(case["refined"]["predictive"])
    points = np.array(case["points"], np.float32).reshape(len(answer), -1)
    found = bgmm_jd.log_density(posterior, points, draws=draws, seed=1)
    return float(np.abs(found - answer)[answer > answer.max() - 5.0].max())


def row_of(name: str, fits: list[Fit]) -> tuple[str, ...]:
    return (
        name,
        f"{sum(fit.is_right for fit in fits)}/{len(fits)}",
        str(sum(fit.is_far and fit.is_good for fit in fits)),
        str(sum(not fit.is_far and not fit.is_good for fit in fits)),
        f"{max((fit.evidence for fit in fits), key=abs):+.2f}",
        f"{max(fit.mean for fit in fits):.2f}",
        f"{min(fit.sd[0] for fit in fits):.2f} {max(fit.sd[1] for fit in fits):.2f}",
        f"{max(fit.density for fit in fits):.2f}",
        f"{np.median([fit.seconds for fit in fits[1:] or fits]):.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--density-draws", type=int, default=2_000)
    arguments = parser.parse_args()
    rows, results = [], {}
    for name in arguments.names or NAMES:
        case = json.loads((HARD / f"{name}.json").read_text())
        results[name] = [
            run_case(case, seed, arguments.draws, arguments.density_draws)
            for seed in range(arguments.seeds)
        ]
        rows.append(row_of(name, results[name]))
        print("  ".join(rows[-1]), flush=True)
    show("Hard posteriors", HEADER, rows)
    fits = [fit for found in results.values() for fit in found]
    print(f"{sum(fit.is_right for fit in fits)} of {len(fits)} fits are right.")
    write_result("hard", {"settings": vars(arguments), "cases": results})


if __name__ == "__main__":
    main()
