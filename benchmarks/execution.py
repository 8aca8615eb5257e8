"""One step of the fit in eager mode, as a graph and under XLA; and the same step by NumPyro.

The model is the published one on the three clusters (N = 3,000, D = 2, K = 3), a step takes S = 8
draws, on B = 500 rows and on all. The program is the one that `bgmm_jd.fit` runs. In every mode
it starts at the same values, with the same seed, and takes the same number of steps; so all must
come to the same place.

    trace      seconds to trace the Python function into a graph
    compile    seconds that the first call takes beyond that, and beyond what a later call takes
    step       milliseconds: the median over calls of (time of a call / its steps), after warm-up
    ratio      this step over that of XLA
    elbo       of the surrogate after the first call; nats for the whole data set, higher is better
    apart      how far from where XLA came: the largest difference over all parameters, posterior
               means in posterior sds, and posterior sds in logs

NumPyro's SVI takes steps of Adam from the same start, with a guide of the same families and
S vectorized particles, in one compiled `lax.scan`. It does so in two forms:

    numpyro            as its documentation writes it: `plate(subsample_size=)` and
                       `MixtureSameFamily`
    numpyro, tuned     the likelihood as `bgmm_jd` lays it out in memory, the batch shared by all
                       particles and drawn from reshuffled epochs

The tuned form is there because layout alone makes it several times faster: what remains after it
is what the draws and their gradients cost. Without NumPyro installed these rows are left out.

Run it:  python benchmarks/execution.py [--steps 60] [--calls 20] [--seed 0]
The table is printed and everything is kept in benchmarks/results/execution.json.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

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

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import Data, standardize
from bgmm_jd.data.units import (
    Standardization,
    as_standardization_tensors,
    identity_standardization,
)
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.optimization import convergence, initialization, svi
from bgmm_jd.variational import parameters as parameters_module
from bgmm_jd.variational import surrogate
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.structure import Model, model_of

MODES = ("xla", "graph", "eager")
PEERS = ("numpyro", "numpyro, tuned")
BATCH_ROWS = 500
DRAWS = 8
EAGER_CALLS = 1  # of some 10 s
ADAM_RATE = 0.01


class Start(NamedTuple):
    """Where all begin: the model, rows in internal units, parameters of the surrogate there."""

    model: Model
    data: Data
    values: parameters_module.VariationalParameters


class Clock(NamedTuple):
    """Seconds to trace and to compile, and milliseconds of a step, one value for each call."""

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
    """k-means++ and a conjugate update, under the published prior, as in a fit."""
    prior = bgmm_jd.mixture_prior(reference.K, reference.X.shape[1])
    model = model_of(prior, "diag")
    data = standardize(reference.X)
    clusters = initialization.cluster_rows(
        data.rows, reference.K, np.random.default_rng(seed), trials=8
    )
    moments = prior_moments(prior) | initialization.moments_from_clusters(
        clusters, model.covariance
    )
    units = as_standardization_tensors(data.standardization, data.dtype)
    values = parameters_module.parameters_from_moments(model.sites, moments, units, data.dtype)
    return Start(model, data, values)


# The three modes of bgmm_jd.


def timed_mode(start: Start, plan: svi.Schedule, calls: int, seed: int) -> tuple[Clock, svi.Block]:
    """The clock of one mode, and where its first call came to."""
    program = svi.program(start.model, plan)
    rows, draw_seed = as_row_tensors(start.data.rows), stateless_seed(seed)
    stride = stride_of(start, plan.batches.count)

    def call(values: parameters_module.VariationalParameters, first: int) -> svi.Block:
        return program.run(rows, start.data.standardization, values, draw_seed, first, stride)

    trace, first_call, block = _first_call(program, lambda: call(start.values, 0))
    values, seconds = block.values, []
    for n in range(1, calls + 1):
        begun = time.perf_counter()
        values = call(values, n * plan.steps).values
        seconds.append(time.perf_counter() - begun)
    if trace is None:
        return Clock(None, None, _by_step(seconds, plan.steps)), block
    compiling = first_call - trace - float(np.median(seconds))
    return Clock(trace, compiling, _by_step(seconds, plan.steps)), block


def stride_of(start: Start, batches: int) -> StepSize:
    """As in the first steps of a fit: a full step on all rows, a share of one on a batch."""
    spread = (start.data.total_weight / start.model.K) ** 0.5
    return StepSize(1.0 if batches == 1 else 0.25 / batches, 0.3 * spread, 0.3)


def _first_call(
    program: svi.Program, call: Callable[[], svi.Block]
) -> tuple[float | None, float, svi.Block]:
    """Seconds of tracing (None in eager mode) and of the whole first call, and what it gave."""
    function: Any = program._call
    tracing: list[float] = []

    def traced(*arguments: Any) -> Any:
        begun = time.perf_counter()
        function.get_concrete_function(*arguments)
        tracing.append(time.perf_counter() - begun)
        return function(*arguments)

    if hasattr(function, "get_concrete_function"):
        program._call = traced
    begun = time.perf_counter()
    block = call()
    seconds = time.perf_counter() - begun
    program._call = function
    return (tracing[0] if tracing else None), seconds, block


def _by_step(seconds: list[float], steps: int) -> list[float]:
    return [1e3 * s / steps for s in seconds]


def mode_rows(
    reference: Reference, start: Start, B: int, settings: argparse.Namespace
) -> list[Row]:
    """One row for each mode, for batches of B rows."""
    rows: list[Row] = []
    blocks: list[svi.Block] = []
    for mode in MODES:
        batches = equal_batches(start.data.shape[0], B)
        # As a fit has it: of all rows the expanded square, for which these are wide enough.
        dtype, use_statistics = start.data.dtype.name, batches.count == 1
        plan = svi.Schedule(
            batches, DRAWS, settings.steps, dtype, mode, use_statistics=use_statistics
        )
        calls = EAGER_CALLS if mode == "eager" else settings.calls
        clock, block = timed_mode(start, plan, calls, settings.seed)
        blocks.append(block)
        means, sds = apart(start, block.values, blocks[0].values)
        units = as_standardization_tensors(start.data.standardization, start.data.dtype)
        rows.append(
            Row(
                B=B,
                method=mode,
                clock=clock,
                step=clock.step,
                elbo=elbo_of(reference, start, block.values, units),
                means_apart=means,
                sds_apart=sds,
            )
        )
        print("  ".join(cells(rows[-1], rows[0].step)), flush=True)
    return rows


def apart(
    start: Start,
    values: parameters_module.VariationalParameters,
    others: parameters_module.VariationalParameters,
) -> tuple[float, float]:
    """Largest |difference of posterior means| / sd, and of |log ratio of sds|."""
    here, there = (convergence.parameter_moments(start.model.sites, v) for v in (values, others))
    means = np.abs(here[0] - there[0]) / there[1]
    return float(means.max()), float(np.abs(np.log(here[1] / there[1])).max())


def elbo_of(
    reference: Reference,
    start: Start,
    values: parameters_module.VariationalParameters,
    units: Standardization,
) -> Estimate:
    """The elbo of the surrogate with these parameters, in the given units."""
    q = surrogate.surrogate_in_data_units(start.model.sites, values, units)
    return elbo(q, log_joint_of(reference.X, reference.K))


# The same by NumPyro.


def peer_row(
    reference: Reference, start: Start, B: int, method: str, settings: argparse.Namespace
) -> Row:
    """NumPyro's SVI on batches of B rows."""
    values = user_values(start)
    model = peer_model(reference, B, tuned=method == "numpyro, tuned")
    clock, found = timed_peer(reference, values, model, B, settings)
    D = reference.X.shape[1]
    return Row(
        B=B,
        method=method,
        clock=clock,
        step=clock.step,
        elbo=elbo_of(
            reference,
            start,
            found,
            as_standardization_tensors(identity_standardization(D), "float32"),
        ),
        means_apart=None,
        sds_apart=None,
    )


def user_values(start: Start) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of the start in the units of X."""
    q = start.values
    scale, shift = start.data.standardization.scale, start.data.standardization.shift
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
    reference: Reference, values: Any, model: Any, B: int, settings: argparse.Namespace
) -> tuple[Clock, dict[str, dict[str, np.ndarray]]]:
    """NumPyro's clock, and the parameters that its first call came to, in the units of X."""
    import jax

    run, state = peer_program(reference, values, model, B, settings)
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
        for site, parameters in values.items()
    }


def peer_program(
    reference: Reference, values: Any, model: Any, B: int, settings: argparse.Namespace
) -> tuple[Any, Any]:
    """(state, key) -> (state, parameters) after all steps of a call, and the first state."""
    import jax
    from jax import lax, random
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.optim import Adam

    X = jax.numpy.asarray(reference.X)
    N = len(X)
    svi_of = SVI(model, peer_guide(values), Adam(ADAM_RATE), Trace_ELBO(num_particles=DRAWS))

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
    """The published model in NumPyro, for batches of B rows."""
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


def peer_guide(values: dict[str, dict[str, np.ndarray]]) -> Callable[[Any], None]:
    """The surrogate in NumPyro: Dirichlet, Normal and Gamma, in the same parameters."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def parameter(site: str, name: str) -> Any:
        start = jnp.asarray(values[site][name], jnp.float32)
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
    """A row as the text of its cells, in the order of HEADER."""

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
    """The command line."""
    parser = argparse.ArgumentParser(description="One step in eager, graph and XLA mode.")
    parser.add_argument("--steps", type=int, default=60, help="of one call; a multiple of 6")
    parser.add_argument("--calls", type=int, default=20, help="timed calls, not in eager mode")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.steps < 1 or given.steps % 6 or given.calls < 1:
        parser.error("--steps must be a positive multiple of 6, --calls must be positive")
    return given


def main() -> None:
    """All modes and NumPyro, the table and the file."""
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
    print(f"Kept in {path.name}.")


if __name__ == "__main__":
    main()
