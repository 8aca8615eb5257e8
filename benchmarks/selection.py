"""Numbers of clusters and forms of covariance that are found in data where both are known.

Each data set has 2,000 rows of 4 clusters in 3 features: means 3 times standard normal, weights
Dirichlet(10), covariances of one form. Diagonal and spherical sds are uniform from 0.5 to 1.5; a
matrix has such sds, and the correlations of a Wishart draw with 6 degrees of freedom. Some of these
data sets have clusters that overlap by chance; none is left out.

    select      over K from 2 to 6 and all four forms: the combination with the highest evidence
                (`best`) and, for comparison, the one with the highest elpd_loo. "right" means both
                K and form, "K" the number of clusters alone.
    unknown K   one fit of the diagonal data with 12 components, under a stick-breaking prior
                (concentration 0.1) and under a sparse Dirichlet (0.01): the most probable number of
                occupied components, its probability, and the k-hat of the fit; seconds of a second
                call, and those of a fit of the same rows with K=4 and the default prior.

Run it:  python benchmarks/selection.py [--datasets 3] [--seed 0]
It prints the tables, and writes all results to benchmarks/results/selection.json.
"""

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from _common import data_set_arguments, load, show, write_result
from _inside import FORMS

import bgmm_jd
from bgmm_jd.settings import DefaultPriorSettings

N, D, CLUSTERS = 2_000, 3, 4
NUMBERS = range(2, 7)
K_MAX = 12
STICKS, SPARSE = 0.1, 0.01  # concentrations; ten times larger ones make five components probable
COUNT_DRAWS = 1_000


class Choice(NamedTuple):
    """The choice of `select` for one data set: K and form by evidence and by leave-one-out.

    margin : nats of evidence between the best and the second best.
    """

    form: str
    by_evidence: tuple[int, str]
    by_loo: tuple[int, str]
    margin: float
    status: str
    seconds: float


class Occupied(NamedTuple):
    """One fit with empty components; `number` is the most probable number of occupied ones."""

    prior: str
    number: int
    probability: float
    khat: float
    status: str
    seconds: float


# The data.


def rows_of(form: str, seed: int) -> np.ndarray:
    """Draw X [N, D], float32."""
    rng = np.random.default_rng([FORMS.index(form), seed])
    means = 3.0 * rng.standard_normal((CLUSTERS, D))
    weights = rng.dirichlet(np.full(CLUSTERS, 10.0))
    roots = np.linalg.cholesky(covariances_of(form, rng))
    label = rng.choice(CLUSTERS, N, p=weights)
    noise = np.einsum("nij,nj->ni", roots[label], rng.standard_normal((N, D)))
    return (means[label] + noise).astype(np.float32)


def covariances_of(form: str, rng: np.random.Generator) -> np.ndarray:
    """Draw covariance matrices [CLUSTERS, D, D] of a form."""
    if form == "spherical":
        sds = np.repeat(rng.uniform(0.5, 1.5, (CLUSTERS, 1)), D, axis=1)
    else:
        sds = rng.uniform(0.5, 1.5, (CLUSTERS, D))
    if form in ("diag", "spherical"):
        correlations = np.broadcast_to(np.eye(D), (CLUSTERS, D, D))
    else:
        factor = rng.standard_normal((CLUSTERS, D, 2 * D))
        product = factor @ factor.swapaxes(1, 2)
        length = np.sqrt(np.diagonal(product, axis1=1, axis2=2))
        correlations = product / (length[:, :, np.newaxis] * length[:, np.newaxis, :])
    found = correlations * sds[:, :, np.newaxis] * sds[:, np.newaxis, :]
    return np.repeat(found[:1], CLUSTERS, axis=0) if form == "tied" else found


# The fits.


def choice(form: str, seed: int) -> Choice:
    """Run `select` on one data set."""
    begun = time.perf_counter()
    found = bgmm_jd.select(rows_of(form, seed), NUMBERS, FORMS, seed=seed)
    seconds = time.perf_counter() - begun
    evidence = found.table["log_evidence"].to_numpy()
    return Choice(
        form=form,
        by_evidence=(found.best.K, found.best.covariance),
        by_loo=_parsed(found.table["elpd_loo"].idxmax()),
        margin=float(evidence[0] - evidence[1]),
        status=found.best.status.name,
        seconds=seconds,
    )


def _parsed(name: str) -> tuple[int, str]:
    number, form = name.split()
    return int(number), form


def priors_with_empty_components(X: np.ndarray) -> dict[str, Any]:
    """Return two priors that leave components empty, with means and precisions as in `fit`.

    The sd of a mean is twice that of its column, and the prior of the precisions is that of the
    form "diag".
    """
    scale = X.std(axis=0)
    settings = DefaultPriorSettings()
    components = {
        "mean_loc": X.mean(axis=0),
        "mean_scale": 2.0 * scale,
        "precision_concentration": settings.precision_concentration,
        "precision_rate": settings.precision_rate * K_MAX ** (-2.0 / D) * scale**2,
    }
    return {
        "stick breaking": bgmm_jd.stick_breaking_prior(
            K_MAX, D, concentration=STICKS, **components
        ),
        "sparse Dirichlet": bgmm_jd.mixture_prior(
            K_MAX, D, weight_concentration=SPARSE, **components
        ),
    }


def occupied(name: str, prior: Any, X: np.ndarray, seed: int) -> Occupied:
    """Fit with K_MAX components twice, and time the second call."""
    bgmm_jd.fit(X, K_MAX, prior=prior, seed=seed)
    begun = time.perf_counter()
    posterior = bgmm_jd.fit(X, K_MAX, prior=prior, seed=seed)
    seconds = time.perf_counter() - begun
    numbers = bgmm_jd.occupied_components(posterior, draws=COUNT_DRAWS)
    most = int(numbers.argmax())
    return Occupied(
        name, most, float(numbers[most]), posterior.khat, posterior.status.name, seconds
    )


def plain_seconds(X: np.ndarray, seed: int) -> float:
    """Return the seconds of a second call with as many components as there are clusters."""
    bgmm_jd.fit(X, CLUSTERS, seed=seed)
    begun = time.perf_counter()
    bgmm_jd.fit(X, CLUSTERS, seed=seed)
    return time.perf_counter() - begun


# The tables.

CHOICE_HEADER = ["data", "right", "K", "right by elpd_loo", "K by elpd_loo", "least margin", "s"]
OCCUPIED_HEADER = ["prior", "mode at 4", "probability of the mode", "k-hat", "s", "s, K=4"]


def choice_row(form: str, found: Sequence[Choice]) -> list[str]:
    """Return the row of all data sets of one form."""
    truth = (CLUSTERS, form)

    def share(right: Sequence[bool]) -> str:
        return f"{sum(right)} of {len(right)}"

    return [
        form,
        share([c.by_evidence == truth for c in found]),
        share([c.by_evidence[0] == CLUSTERS for c in found]),
        share([c.by_loo == truth for c in found]),
        share([c.by_loo[0] == CLUSTERS for c in found]),
        f"{min(c.margin for c in found):.1f}",
        f"{min(c.seconds for c in found):.0f}",
    ]


def occupied_row(name: str, found: Sequence[Occupied], plain: Sequence[float]) -> list[str]:
    """Return the row of all data sets under one prior."""
    probabilities = [o.probability for o in found]
    khats = [o.khat for o in found]
    return [
        name,
        f"{sum(o.number == CLUSTERS for o in found)} of {len(found)}",
        f"{min(probabilities):.2f} to {max(probabilities):.2f}",
        f"{min(khats):.2f} to {max(khats):.2f}",
        f"{np.median([o.seconds for o in found]):.1f}",
        f"{np.median(plain):.1f}",
    ]


def choices(datasets: int, seed: int) -> dict[str, list[Choice]]:
    """Run `select` on the data sets of every form, and print each result."""
    found: dict[str, list[Choice]] = {form: [] for form in FORMS}
    for form, which in ((f, seed + i) for f in FORMS for i in range(datasets)):
        found[form].append(choice(form, which))
        print(f"{form}, data set {which}: {found[form][-1]}", flush=True)
    return found


def unknown(datasets: int, seed: int) -> tuple[dict[str, list[Occupied]], list[float]]:
    """Fit the diagonal data under both priors, and return the seconds of plain fits too."""
    found: dict[str, list[Occupied]] = {}
    plain = []
    for which in range(seed, seed + datasets):
        X = rows_of("diag", which)
        plain.append(plain_seconds(X, which))
        for name, prior in priors_with_empty_components(X).items():
            found.setdefault(name, []).append(occupied(name, prior, X, which))
            print(f"data set {which}: {found[name][-1]}", flush=True)
    return found, plain


def run(given: argparse.Namespace) -> Mapping[str, Any]:
    """Run both parts, and print their tables."""
    by_prior, plain = unknown(given.datasets, given.seed)
    rows = [occupied_row(name, found, plain) for name, found in by_prior.items()]
    show("Unknown K", OCCUPIED_HEADER, rows)
    chosen = choices(given.datasets, given.seed)
    show("select", CHOICE_HEADER, [choice_row(form, found) for form, found in chosen.items()])
    return {"unknown_K": by_prior, "plain_seconds": plain, "select": chosen}


def main() -> None:
    """Run both parts and write the file."""
    given = data_set_arguments("Numbers of clusters and forms of covariance.", 3)
    settings = vars(given) | {"N": N, "D": D, "clusters": CLUSTERS, "load_before": load()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the statuses are stored instead
        found = run(given)
    path = write_result("selection", {"settings": settings, **found})
    print(f"Written to {path.name}.")


if __name__ == "__main__":
    main()
