"""Posterior means and sds against NUTS: mean field, calibrated, weighted; and the time of each.

For every reference posterior with diagonal covariances (tests/reference), with the published
prior, default settings and several seeds:

    mean field          `fit(..., calibrate=False)`: draws of the surrogate
    calibrated          draws of the calibrated normal distribution, without weights
    weighted            `posterior.sample(n)`, the default of the library; 4,000 draws
    weighted, 20,000    the same with more draws, and so with less Monte Carlo error

    weights, means,     max |mean - reference mean| in reference sds; min..max of
    precisions          sd / reference sd; the largest errors over all elements and seeds
    k-hat               the largest over seeds, of the proposal before weighting, which is slightly
                        wider than the calibrated normal distribution
    elbo                of the surrogate, the smallest over seeds; nats, higher is better

The standard errors of the references are near 0.01 sd and 1 %. Those of 4,000 draws are 0.016 sd of
a mean and 1.1 % of an sd, so that the largest error of 15 parameters is some 0.04 sd and 3 %.

Times, in seconds, all of one run on one machine:

    first call          `fit` and 4,000 draws, the first time for a data set, with compilation
    second call         the median over the other seeds, without compilation
    NUTS                NumPyro, 4 chains of 1,000 draws after 500 of warm-up, default settings,
                        float32, from the reference's means; one chain at a time on each processor.
                        The time of compiling one chain is in the next column
    ratio, first        NUTS over second call; and with its compilation, over first call

Effective draws: the bulk effective sample size of ArviZ (Vehtari et al. 2021), the smallest of all
parameters. Draws of `sample` are in the order of their proposals, so that copies of one, which
importance weights make, stand together and count as correlated.

    effective           of the 4,000 draws of `sample`, the median over the seeds; of those of NUTS
    per second          over the time of a second call, and over that of NUTS without compilation
    draws alone         over the time that `sample(4000)` takes after the fit
    ratio               of a second call over the better form of NUTS

NUTS runs with the likelihood in two forms, as in execution.py: `MixtureSameFamily`, and with the
memory layout of `bgmm_jd`. Without NumPyro installed it is left out.

Run it:  python benchmarks/accuracy.py [NAME ...] [--seeds 5] [--nuts both|library|tuned|none]
It prints the tables, and writes all results to benchmarks/results/accuracy.json.
"""

import argparse
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from _common import (
    VARIABLES,
    Errors,
    Reference,
    diagonal_references,
    errors,
    installed,
    load,
    load_reference,
    moments,
    moments_of,
    table,
    write_result,
)
from _inside import draw_mean_field, draw_proposal, in_data_units, surrogate_khat

import bgmm_jd

USER_DRAWS = 4_000  # as many as NUTS makes
MANY_DRAWS = 20_000
KHAT_DRAWS = 2_000
CHAINS, WARM_UP, CHAIN_DRAWS = 4, 500, 1_000
METHODS = ("mean field", "calibrated", "weighted", f"weighted, {MANY_DRAWS:,}")
NUTS_FORMS = ("library", "tuned")


class Quality(NamedTuple):
    """Errors of one method by variable, and k-hat of its draws before weighting."""

    errors: dict[str, Errors]
    khat: float | None


class Seed(NamedTuple):
    """Results of one seed; seconds of the fit, of 4,000 draws, of the fit without calibration."""

    fit: float
    sample: float
    mean_field_fit: float
    elbo: float
    elbo_se: float
    status: str
    effective: float
    quality: dict[str, Quality]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nuts:
    """One run of NUTS with all chains; `seconds` does not include compilation."""

    form: str
    seconds: float
    compile: float
    divergences: int
    effective: float
    errors: dict[str, Errors]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Results on one data set: of all seeds, and of NUTS."""

    name: str
    N: int
    D: int
    K: int
    seeds: list[Seed]
    nuts: list[Nuts]

    @property
    def first_call(self) -> float:
        return self.seeds[0].fit + self.seeds[0].sample

    @property
    def second_call(self) -> float:
        """Return the median over all seeds but the first; NaN for a single seed."""
        later = [s.fit + s.sample for s in self.seeds[1:]]
        return float(np.median(later)) if later else float("nan")

    @property
    def mean_field_call(self) -> float:
        return float(np.median([s.mean_field_fit for s in self.seeds]))


# bgmm_jd.


def run_seed(reference: Reference, seed: int) -> Seed:
    """Fit, draw, and compare to the reference."""
    prior = bgmm_jd.mixture_prior(reference.K, reference.X.shape[1])

    def fit(calibrate: bool) -> tuple[bgmm_jd.Posterior, float]:
        begun = time.perf_counter()
        found = bgmm_jd.fit(reference.X, reference.K, prior=prior, seed=seed, calibrate=calibrate)
        return found, time.perf_counter() - begun

    posterior, seconds = fit(calibrate=True)
    begun = time.perf_counter()
    theta = posterior.sample(USER_DRAWS, seed=seed)
    sample_seconds = time.perf_counter() - begun
    surrogate, mean_field_seconds = fit(calibrate=False)
    return Seed(
        fit=seconds,
        sample=sample_seconds,
        mean_field_fit=mean_field_seconds,
        elbo=posterior.elbo,
        elbo_se=posterior.elbo_se,
        status=posterior.status.name,
        effective=fewest_effective({name: draws[np.newaxis] for name, draws in theta.items()}),
        quality={
            "mean field": Quality(
                errors(moments(surrogate.surrogate), reference), mean_field_khat(surrogate, seed)
            ),
            "calibrated": Quality(
                errors(moments_of(proposals(posterior, seed)), reference), posterior.khat
            ),
            "weighted": Quality(errors(moments_of(theta), reference), None),
            METHODS[-1]: Quality(
                errors(moments_of(posterior.sample(MANY_DRAWS, seed=seed)), reference), None
            ),
        },
    )


def mean_field_khat(posterior: bgmm_jd.Posterior, seed: int) -> float:
    """Return the k-hat of the surrogate as a proposal for the posterior."""
    draws = draw_mean_field(posterior.problem, posterior.approximation.params, KHAT_DRAWS, seed)
    return surrogate_khat(posterior.approximation, draws, seed)


def proposals(posterior: bgmm_jd.Posterior, seed: int) -> dict[str, np.ndarray]:
    """Draw without weights, in the units of X; from the surrogate if it is the better proposal."""
    calibration = posterior.approximation.calibration
    if calibration is None or calibration.normal is None:
        return posterior.sample(MANY_DRAWS, seed=seed)
    rng = np.random.default_rng(seed)
    draws = draw_proposal(posterior.approximation, MANY_DRAWS, rng, widened=False)
    return in_data_units(posterior, draws.theta)


def fewest_effective(by_chain: Mapping[str, np.ndarray]) -> float:
    """Return the smallest effective sample size of all parameters, draws [chains, draws, ...]."""
    import arviz as az

    flat = [
        np.asarray(draws, np.float64).reshape(*draws.shape[:2], -1) for draws in by_chain.values()
    ]
    return min(float(az.ess(one)) for draws in flat for one in np.moveaxis(draws, -1, 0))


def worst(found: Sequence[Mapping[str, Errors]]) -> dict[str, Errors]:
    """Return the largest errors over several seeds."""
    return {
        v: Errors(
            mean=max(e[v].mean for e in found),
            sd_min=min(e[v].sd_min for e in found),
            sd_max=max(e[v].sd_max for e in found),
        )
        for v in VARIABLES
    }


# NUTS.


def run_nuts(reference: Reference, form: str, seed: int) -> Nuts:
    """Run NumPyro's NUTS on the published model.

    One chain is compiled, and run with as many keys at a time as there are processors.
    """
    import jax

    chain = jax.jit(nuts_chain(reference, form))
    keys = list(jax.random.split(jax.random.PRNGKey(seed), CHAINS))
    begun = time.perf_counter()
    program = chain.lower(keys[0]).compile()
    compiled = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chains = list(threads.map(lambda key: jax.block_until_ready(program(key)), keys))
    seconds = time.perf_counter() - compiled
    by_chain = {v: np.stack([draws[v] for draws, _ in chains]) for v in VARIABLES}
    theta = {v: np.concatenate(draws) for v, draws in by_chain.items()}
    return Nuts(
        form=form,
        seconds=seconds,
        compile=compiled - begun,
        divergences=int(sum(diverging.sum() for _, diverging in chains)),
        effective=fewest_effective(by_chain),
        errors=errors(moments_of(theta), reference),
    )


def nuts_chain(reference: Reference, form: str) -> Callable[[Any], Any]:
    """Make the function key -> draws of one chain, and which of them diverged."""
    import jax
    from numpyro.infer import MCMC, NUTS, init_to_value

    start = {v: jax.numpy.asarray(reference.mean[v], "float32") for v in VARIABLES}
    kernel = NUTS(nuts_model(reference, form == "tuned"), init_strategy=init_to_value(values=start))

    def chain(key: Any) -> Any:
        mcmc = MCMC(kernel, num_warmup=WARM_UP, num_samples=CHAIN_DRAWS, progress_bar=False)
        mcmc.run(key)
        return mcmc.get_samples(), mcmc.get_extra_fields()["diverging"]

    return chain


def nuts_model(reference: Reference, tuned: bool) -> Any:
    """Make the published model in NumPyro, with its likelihood in one of two forms."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.scipy.special import logsumexp

    X, K = jnp.asarray(reference.X), reference.K
    N, D = X.shape

    def by_library(weights: Any, means: Any, tau: Any) -> None:
        component = dist.Normal(means, tau**-0.5).to_event(1)
        with numpyro.plate("row", N):
            mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), component)
            numpyro.sample("x", mixture, obs=X)

    def by_hand(weights: Any, means: Any, tau: Any) -> None:
        squares = (tau[:, :, None] * (X.T - means[:, :, None]) ** 2).sum(axis=1)
        scale = jnp.log(weights) + 0.5 * jnp.log(tau / (2 * jnp.pi)).sum(axis=1)
        numpyro.factor("x", logsumexp(scale[:, None] - 0.5 * squares, axis=0).sum())

    def model() -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(K)))
        means = numpyro.sample("means", dist.Normal(jnp.zeros((K, D)), 1.0).to_event(2))
        tau = numpyro.sample("precisions", dist.Gamma(5.0 * jnp.ones((K, D)), 5.0).to_event(2))
        (by_hand if tuned else by_library)(weights, means, tau)

    return model


# The tables.

QUALITY_HEADER = ["data", "N, D, K", "method", *VARIABLES, "k-hat", "elbo"]
TIME_HEADER = [
    "data",
    "mean field",
    "second call",
    "first call",
    "NUTS",
    "compile",
    "ratio",
    "first",
    "NUTS, tuned",
    "compile",
    "ratio",
    "first",
]
EFFECTIVE_HEADER = [
    "data",
    "effective",
    "per second",
    "draws alone",
    "NUTS",
    "per second",
    "NUTS, tuned",
    "per second",
    "ratio",
]


def quality_rows(case: Case) -> list[list[str]]:
    """Return a row for each method, and one for NUTS, which shows its Monte Carlo error."""
    shape = f"{case.N:,}, {case.D}, {case.K}"
    rows = []
    for method in METHODS:
        found = [s.quality[method] for s in case.seeds]
        khats = [q.khat for q in found if q.khat is not None]
        rows.append(
            [
                case.name,
                shape,
                method,
                *_error_cells(worst([q.errors for q in found])),
                f"{max(khats):.2f}" if khats else "-",
                f"{min(s.elbo for s in case.seeds):.2f}" if method == "mean field" else "-",
            ]
        )
    for nuts in case.nuts:
        rows.append([case.name, shape, f"NUTS, {nuts.form}", *_error_cells(nuts.errors), "-", "-"])
    return rows


def _error_cells(found: Mapping[str, Errors]) -> list[str]:
    return [f"{e.mean:.3f}; {e.sd_min:.3f}..{e.sd_max:.3f}" for e in found.values()]


def time_row(case: Case) -> list[str]:
    """Return the cells of times, and the ratios of NUTS to `fit` with as many draws."""
    row = [
        case.name,
        f"{case.mean_field_call:.2f}",
        f"{case.second_call:.2f}",
        f"{case.first_call:.1f}",
    ]
    by_form = {n.form: n for n in case.nuts}
    for form in NUTS_FORMS:
        if form in by_form:
            nuts = by_form[form]
            row += [f"{nuts.seconds:.2f}", f"{nuts.compile:.1f}"]
            row += [f"{r:.1f}" for r in ratios(case, nuts)]
        else:
            row += ["-"] * 4
    return row


def effective_row(case: Case) -> list[str]:
    """Return the cells of effective draws, and those of one second."""
    effective = float(np.median([s.effective for s in case.seeds]))
    sampling = float(np.median([s.sample for s in case.seeds[1:] or case.seeds]))
    rate = effective / case.second_call
    row = [case.name, f"{effective:,.0f}", f"{rate:,.0f}", f"{effective / sampling:,.0f}"]
    by_form = {n.form: n for n in case.nuts}
    for form in NUTS_FORMS:
        nuts = by_form.get(form)
        row += ["-"] * 2 if nuts is None else [f"{nuts.effective:,.0f}", f"{nuts_rate(nuts):,.0f}"]
    return [*row, f"{rate / max(map(nuts_rate, case.nuts)):.1f}" if case.nuts else "-"]


def nuts_rate(nuts: Nuts) -> float:
    """Return the effective draws of a second of NUTS, without compilation."""
    return nuts.effective / nuts.seconds


def ratios(case: Case, nuts: Nuts) -> tuple[float, float]:
    """Return NUTS over `fit` and its draws: both without compilation, and both with it."""
    return nuts.seconds / case.second_call, (nuts.seconds + nuts.compile) / case.first_call


def summary(case: Case) -> dict[str, Any]:
    """Return the numbers in the tables, for the JSON file."""
    return {
        "data": case,
        "worst": {m: worst([s.quality[m].errors for s in case.seeds]) for m in METHODS},
        "first_call": case.first_call,
        "second_call": case.second_call,
        "nuts_over_second_and_first_call": {n.form: ratios(case, n) for n in case.nuts},
    }


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = diagonal_references()
    parser = argparse.ArgumentParser(description="Posteriors against NUTS.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"data sets: {', '.join(known)}")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0 on")
    parser.add_argument("--nuts", choices=("both", *NUTS_FORMS, "none"), default="both")
    given = parser.parse_args()
    given.names = given.names or known
    if given.seeds < 1 or not set(given.names) <= set(known):
        parser.error(f"--seeds must be positive, and each NAME one of {', '.join(known)}")
    return given


def nuts_forms(given: argparse.Namespace) -> Sequence[str]:
    """Return the forms of the likelihood that NUTS runs with; none where it is not installed."""
    if given.nuts == "none":
        return ()
    if not installed("numpyro"):
        print("NumPyro is not installed, so NUTS is left out: pip install numpyro")
        return ()
    return NUTS_FORMS if given.nuts == "both" else (given.nuts,)


def run_case(name: str, seeds: int) -> Case:
    """Run all seeds on one data set."""
    reference = load_reference(name)
    N, D = reference.X.shape
    found = []
    for seed in range(seeds):
        found.append(run_seed(reference, seed))
        print(f"{name}, seed {seed}: {found[-1].fit:.2f} s, {found[-1].status}", flush=True)
    return Case(name=name, N=N, D=D, K=reference.K, seeds=found, nuts=[])


def with_nuts(case: Case, forms: Sequence[str]) -> Case:
    """Return the results with those of NUTS."""
    found = []
    for form in forms:
        found.append(run_nuts(load_reference(case.name), form, seed=0))
        print(f"{case.name}, NUTS, {form}: {found[-1].seconds:.1f} s", flush=True)
    return dataclasses.replace(case, nuts=found)


def main() -> None:
    """Run all data sets, print the tables and write the file."""
    given = arguments()
    load_before = load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the status is stored instead
        cases = [run_case(name, given.seeds) for name in given.names]
    # After all fits, because JAX's threads would slow them down.
    forms = nuts_forms(given)
    cases = [with_nuts(case, forms) for case in cases]
    print("\n" + table(QUALITY_HEADER, [row for case in cases for row in quality_rows(case)]))
    print("\nSeconds\n\n" + table(TIME_HEADER, [time_row(case) for case in cases]))
    print("\nEffective draws\n")
    print(table(EFFECTIVE_HEADER, [effective_row(case) for case in cases]))
    settings = vars(given) | {"load_before": load_before, "user_draws": USER_DRAWS}
    path = write_result(
        "accuracy", {"settings": settings, "cases": [summary(case) for case in cases]}
    )
    print(f"\nWritten to {path.name}.")


if __name__ == "__main__":
    main()
