"""One optimisation step in eager mode, as a graph and under XLA, and the same step by NumPyro.

The model is the published one on the three clusters (N = 3,000, D = 2, K = 3). A step takes S = 8
draws, on B = 500 rows and on all rows. The program is the one that `bgmm_jd.fit` runs. In every
mode it starts at the same parameters, with the same seed, and takes the same number of steps, so
that all modes must reach the same parameters.

    trace      seconds to trace the Python function into a graph
    compile    seconds of the first call beyond those of tracing and of a later call
    step       milliseconds: the median over calls of (time of a call / its steps), after warm-up
    ratio      this step over that of XLA
    elbo       of the surrogate after the first call; nats for the whole data set, higher is better
    apart      the largest difference from the result of XLA over all parameters: of posterior
               means in posterior sds, and of posterior sds in logs

NumPyro's SVI takes steps of Adam from the same start, with a guide of the same families and
S vectorized particles, in one compiled `lax.scan`. It does so in two forms:

    numpyro            as its documentation shows it: `plate(subsample_size=)` and
                       `MixtureSameFamily`
    numpyro, tuned     with the memory layout of the likelihood in `bgmm_jd`, and batches from
                       reshuffled epochs that all particles share

The tuned form is there because the layout alone makes it several times faster; what remains is the
cost of the draws and their gradients. Without NumPyro installed these rows are left out.

Run it:  python benchmarks/execution.py [--steps 60] [--calls 20] [--seed 0]
It prints the table, and writes all results to benchmarks/results/execution.json.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from _common import (
    Estimate,
    Reference,
    elbo,
    installed,
    load,
    load_reference,
    log_joint_of,
    table,
    write_result,
)
from _inside import (
    Problem,
    Standardization,
    VariationalParameters,
    as_row_tensors,
    as_standardization_tensors,
    compiled,
    equal_batches,
    identity_standardization,
    parameter_moments,
    problem_of,
    standardize,
    start_at,
    stateless_seed,
    step_size,
    surrogate_in_data_units,
    svi,
)

import bgmm_jd

MODES = ("xla", "graph", "eager")
PEERS = ("numpyro", "numpyro, tuned")
BATCH_ROWS = 500
DRAWS = 8
EAGER_CALLS = 1  # one takes some 10 s
ADAM_RATE = 0.01


class Start(NamedTuple):
    """The common start: the problem, and the parameters of the surrogate."""

    problem: Problem
    params: VariationalParameters


class Clock(NamedTuple):
    """Seconds to trace and to compile, and milliseconds of a step for each call."""

    trace: float | None
    compile: float | None
    steps: list[float]

    @property
    def step(self) -> float:
        return float(np.median(self.steps))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    B: int
    method: str
    clock: Clock
    step: float
    elbo: Estimate
    means_apart: float | None
    sds_apart: float | None


def start_of(reference: Reference, seed: int) -> Start:
    """Return the first start of a fit under the published prior."""
    prior = bgmm_jd.mixture_prior(reference.K, reference.X.shape[1])
    data = standardize(reference.X)
    problem = problem_of(data, reference.K, "diag", prior, "xla", bgmm_jd.Settings())
    return Start(problem, start_at(problem, None, 0, seed))


# The three modes of bgmm_jd.


def timed_mode(start: Start, plan: svi.Schedule, calls: int, seed: int) -> tuple[Clock, svi.Block]:
    """Return the times of one mode, and the result of its first call."""
    problem = start.problem
    program, tracing = timed_program(problem, plan)
    draw_seed, size = stateless_seed(seed), step_size(problem, plan, 0)

    def call(params: VariationalParameters, first: int) -> svi.Block:
        return program.run(
            as_row_tensors(problem.data.rows),
            problem.prior_standardization,
            params,
            draw_seed,
            first,
            size,
        )

    begun = time.perf_counter()
    block = call(start.params, 0)
    first_call = time.perf_counter() - begun
    params, seconds = block.params, []
    for n in range(1, calls + 1):
        begun = time.perf_counter()
        params = call(params, n * plan.steps).params
        seconds.append(time.perf_counter() - begun)
    if not tracing:
        return Clock(None, None, _by_step(seconds, plan.steps)), block
    compiling = first_call - tracing[0] - float(np.median(seconds))
    return Clock(tracing[0], compiling, _by_step(seconds, plan.steps)), block


def timed_program(problem: Problem, plan: svi.Schedule) -> tuple[svi.Program, list[float]]:
    """Make the program of a fit, and a list to which its first call adds the seconds of tracing.

    Nothing is traced in eager mode, and the list stays empty.
    """
    tracing: list[float] = []

    def timed(function: Callable[..., Any], execution: str) -> Callable[..., Any]:
        program: Any = compiled(function, execution)

        def call(*arguments: Any) -> Any:
            if not tracing:
                begun = time.perf_counter()
                program.get_concrete_function(*arguments)
                tracing.append(time.perf_counter() - begun)
            return program(*arguments)

        return program if execution == "eager" else call

    with mock.patch.object(svi, "compiled", timed):
        return svi.Program(problem.model, plan), tracing


def _by_step(seconds: list[float], steps: int) -> list[float]:
    return [1e3 * s / steps for s in seconds]


def mode_rows(
    reference: Reference, start: Start, B: int, settings: argparse.Namespace
) -> list[Row]:
    """Return a row for each mode, for batches of B rows."""
    rows: list[Row] = []
    blocks: list[svi.Block] = []
    for mode in MODES:
        data = start.problem.data
        batches = equal_batches(data.shape[0], B)
        # As in a fit: sufficient statistics of all rows, which are accurate enough here.
        dtype, use_statistics = data.dtype.name, batches.count == 1
        plan = svi.Schedule(
            batches, DRAWS, settings.steps, dtype, mode, use_statistics=use_statistics
        )
        calls = EAGER_CALLS if mode == "eager" else settings.calls
        clock, block = timed_mode(start, plan, calls, settings.seed)
        blocks.append(block)
        means, sds = apart(start, block.params, blocks[0].params)
        units = as_standardization_tensors(data.standardization, data.dtype)
        rows.append(
            Row(
                B=B,
                method=mode,
                clock=clock,
                step=clock.step,
                elbo=elbo_of(reference, start, block.params, units),
                means_apart=means,
                sds_apart=sds,
            )
        )
        print("  ".join(cells(rows[-1], rows[0].step)), flush=True)
    return rows


def apart(
    start: Start, params: VariationalParameters, others: VariationalParameters
) -> tuple[float, float]:
    """Return the largest |difference of posterior means| / sd, and |log ratio of sds|."""
    sites = start.problem.model.sites
    here, there = (parameter_moments(sites, p) for p in (params, others))
    means = np.abs(here[0] - there[0]) / there[1]
    return float(means.max()), float(np.abs(np.log(here[1] / there[1])).max())


def elbo_of(
    reference: Reference, start: Start, params: VariationalParameters, units: Standardization
) -> Estimate:
    """Estimate the elbo of the surrogate in the units of X.

    Parameters
    ----------
    units : between the units of `params` and those of X, as tensors.
    """
    q = surrogate_in_data_units(start.problem.model.standardized(units), params)
    return elbo(q, log_joint_of(reference.X, reference.K))


# The same step by NumPyro.


def peer_row(
    reference: Reference, start: Start, B: int, method: str, settings: argparse.Namespace
) -> Row:
    """Return the row of NumPyro's SVI on batches of B rows."""
    params = params_in_data_units(start)
    model = peer_model(reference, B, tuned=method == "numpyro, tuned")
    clock, found = timed_peer(reference, params, model, B, settings)
    identity = identity_standardization(reference.X.shape[1])
    return Row(
        B=B,
        method=method,
        clock=clock,
        step=clock.step,
        elbo=elbo_of(reference, start, found, as_standardization_tensors(identity, "float32")),
        means_apart=None,
        sds_apart=None,
    )


def params_in_data_units(start: Start) -> dict[str, dict[str, np.ndarray]]:
    """Return the parameters of the start in the units of X."""
    q = start.params
    shift, scale = start.problem.data.standardization
    return {
        "weights": {"concentration": np.asarray(q["weights"]["concentration"])},
        "means": {
            "loc": shift + scale * np.asarray(q["means"]["loc"]),
            "scale": scale * np.asarray(q["means"]["scale"]),
        },
        "precisions": {
            "concentration": np.asarray(q["precisions"]["concentration"]),
            "mean": np.asarray(q["precisions"]["mean"]) / scale**2,
        },
    }


def timed_peer(
    reference: Reference, params: Any, model: Any, B: int, settings: argparse.Namespace
) -> tuple[Clock, dict[str, dict[str, np.ndarray]]]:
    """Return NumPyro's times, and the parameters after its first call, in the units of X."""
    import jax

    run, state = peer_program(reference, params, model, B, settings)
    key = jax.random.PRNGKey(settings.seed)
    begun = time.perf_counter()
    lowered = run.lower(state, key)
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()
    state, found = jax.block_until_ready(program(state, key))
    seconds = []
    for n in range(settings.calls):
        at = time.perf_counter()
        state, _ = jax.block_until_ready(program(state, jax.random.fold_in(key, n)))
        seconds.append(time.perf_counter() - at)
    clock = Clock(traced - begun, compiled - traced, _by_step(seconds, settings.steps))
    return clock, {
        site: {name: np.asarray(found[f"{site}_{name}"]) for name in parameters}
        for site, parameters in params.items()
    }


def peer_program(
    reference: Reference, params: Any, model: Any, B: int, settings: argparse.Namespace
) -> tuple[Any, Any]:
    """Make (state, key) -> (state, parameters) after all steps of a call, and the first state."""
    import jax
    from jax import lax, random
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.optim import Adam

    X = jax.numpy.asarray(reference.X)
    N = len(X)
    svi_of = SVI(model, peer_guide(params), Adam(ADAM_RATE), Trace_ELBO(num_particles=DRAWS))

    def step(state: Any, batch: Any) -> Any:
        return svi_of.update(state, X[batch] if B < N else X)

    def epoch(state: Any, key: Any) -> Any:
        return lax.scan(step, state, random.permutation(key, N).reshape(N // B, B))

    @jax.jit
    def run(state: Any, key: Any) -> Any:
        epochs = random.split(key, settings.steps * B // N)
        state, _ = lax.scan(epoch, state, epochs)
        return state, svi_of.get_params(state)

    return run, svi_of.init(random.PRNGKey(settings.seed), X[:B])


def peer_model(reference: Reference, B: int, tuned: bool) -> Callable[[Any], None]:
    """Make the published model in NumPyro, for batches of B rows."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.scipy.special import logsumexp

    X, K = jnp.asarray(reference.X), reference.K
    N, D = X.shape

    def by_library(weights: Any, means: Any, tau: Any) -> None:
        component = dist.Normal(means, tau**-0.5).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), component)
        with numpyro.plate("row", N, subsample_size=B) as chosen:
            numpyro.sample("x", mixture, obs=X[chosen] if B < N else X)

    def by_hand(weights: Any, means: Any, tau: Any, rows: Any) -> None:
        squares = (tau[:, :, None] * (rows.T - means[:, :, None]) ** 2).sum(axis=1)
        scale = jnp.log(weights) + 0.5 * jnp.log(tau / (2 * jnp.pi)).sum(axis=1)
        likelihood = logsumexp(scale[:, None] - 0.5 * squares, axis=0)
        numpyro.factor("x", N / B * likelihood.sum())

    def model(rows: Any) -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(K)))
        means = numpyro.sample("means", dist.Normal(jnp.zeros((K, D)), 1.0).to_event(2))
        tau = numpyro.sample("precisions", dist.Gamma(5.0 * jnp.ones((K, D)), 5.0).to_event(2))
        if tuned:
            by_hand(weights, means, tau, rows)
        else:
            by_library(weights, means, tau)

    return model


def peer_guide(params: dict[str, dict[str, np.ndarray]]) -> Callable[[Any], None]:
    """Make the surrogate in NumPyro: Dirichlet, Normal and Gamma, in the same parameters."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def parameter(site: str, name: str) -> Any:
        start = jnp.asarray(params[site][name], jnp.float32)
        constraint = dist.constraints.real if name == "loc" else dist.constraints.positive
        return numpyro.param(f"{site}_{name}", start, constraint=constraint)

    def guide(rows: Any) -> None:
        numpyro.sample("weights", dist.Dirichlet(parameter("weights", "concentration")))
        normal = dist.Normal(parameter("means", "loc"), parameter("means", "scale"))
        numpyro.sample("means", normal.to_event(2))
        a = parameter("precisions", "concentration")
        gamma = dist.Gamma(a, a / parameter("precisions", "mean"))
        numpyro.sample("precisions", gamma.to_event(2))

    return guide


# The table.

HEADER = [
    "B",
    "method",
    "trace s",
    "compile s",
    "step ms",
    "ratio",
    "elbo",
    "means apart",
    "sds apart",
]


def cells(row: Row, xla: float) -> list[str]:
    """Return the cells of a row, in the order of HEADER."""

    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        f"{row.B:,}",
        row.method,
        text(row.clock.trace, ".2f"),
        text(row.clock.compile, ".2f"),
        f"{row.step:.3f}",
        f"{row.step / xla:.1f}",
        f"{row.elbo.value:.3f} +/- {row.elbo.se:.3f}",
        text(row.means_apart, ".1e"),
        text(row.sds_apart, ".1e"),
    ]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="One step in eager, graph and XLA mode.")
    parser.add_argument("--steps", type=int, default=60, help="steps of a call; a multiple of 6")
    parser.add_argument("--calls", type=int, default=20, help="timed calls, except in eager mode")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.steps < 1 or given.steps % 6 or given.calls < 1:
        parser.error("--steps must be a positive multiple of 6, --calls must be positive")
    return given


def main() -> None:
    """Run all modes and NumPyro, print the table and write the file."""
    given = arguments()
    load_before = load()
    reference = load_reference("three_clusters")
    start = start_of(reference, given.seed)
    sizes = (BATCH_ROWS, len(reference.X))
    rows = [row for B in sizes for row in mode_rows(reference, start, B, given)]
    xla = {row.B: row.step for row in rows if row.method == "xla"}
    if installed("numpyro"):
        for B in sizes:
            for method in PEERS:
                rows.append(peer_row(reference, start, B, method, given))
                print("  ".join(cells(rows[-1], xla[B])), flush=True)
    else:
        print("NumPyro is not installed, so its rows are left out: pip install numpyro")
    rows.sort(key=lambda row: row.B)
    print("\n" + table(HEADER, [cells(row, xla[row.B]) for row in rows]))
    ratios = {B: {r.method: r.step / xla[B] for r in rows if r.B == B} for B in sizes}
    for B, ratio in ratios.items():
        print(f"B = {B:,}: " + "; ".join(f"{name} {r:.1f}" for name, r in ratio.items()))
    settings = vars(given) | {"S": DRAWS, "adam_rate": ADAM_RATE, "load_before": load_before}
    path = write_result("execution", {"settings": settings, "rows": rows, "ratios": ratios})
    print(f"Written to {path.name}.")


if __name__ == "__main__":
    main()
