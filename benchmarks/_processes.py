"""What `scaling.py` measures in processes of their own: fits, passes, and scikit-learn's fits.

Run as a script it does one task and prints the result as its last line.
"""

import json
import math
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from _common import VARIABLES, Moments

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data import units
from bgmm_jd.data.standardize import standardize
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.model.priors import default_prior
from bgmm_jd.optimization import full_data, initialization
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.variational.approximation import Approximation
from bgmm_jd.variational.labels import permute_parameters
from bgmm_jd.variational.parameters import parameters_from_moments, to_unconstrained
from bgmm_jd.variational.structure import model_of

K, D = 10, 8
DRAWS = 2  # of a slice in a pass
# The optimum: how much nearer than a fit it stops, and how many times more passes and draws it
# takes. A slice has draws of its own, so the noise of a pass goes with 1 / sqrt(slices).
CLOSER = 0.01
LONGER = 10
FINER = 16
GIB = 2.0**30
CHUNK = 2**17  # rows at a time, so that making or judging them takes little memory


class Shape(NamedTuple):
    """A data set and the mixture that is fitted to it."""

    N: int
    K: int = K
    D: int = D
    covariance: str = "diag"
    dtype: str = "float32"

    @property
    def columns(self) -> int:
        """F, of the matrix product that the likelihood is."""
        squares = self.D * (self.D + 1) // 2 if self.covariance in MATRIX_FORMS else self.D
        return squares + self.D

    @property
    def gib(self) -> float:
        """Size of the rows."""
        return self.N * self.D * np.dtype(self.dtype).itemsize / GIB


class Memory(NamedTuple):
    """GiB resident before the first call, and at most until its end and until the last one's."""

    before: float
    first: float
    last: float


class Fitted(NamedTuple):
    """What one process did with `fit`.

    seconds : of each call, the first of which compiles.
    passes : to the fixed point; 0 where the rows were too few for any.
    steps : of each start.
    pass_seconds : median over passes after the fit; NaN where it was not asked for.
    log_density : of all rows at the posterior means; NaN for another form than "diag".
    mean, sd : of every parameter, by variable; empty for another form than "diag".
    """

    seconds: list[float]
    full_data: int
    steps: list[int]
    agreeing: int
    status: str
    elbo: float
    elbo_se: float
    khat: float
    memory: Memory
    pass_seconds: float
    log_density: float
    mean: dict[str, Any]
    sd: dict[str, Any]


class Peer(NamedTuple):
    """What one process did with scikit-learn; `mean` and `sd` as in `Fitted`, as far as known."""

    seconds: float
    iterations: int
    converged: bool
    memory: Memory
    log_density: float
    mean: dict[str, Any]
    sd: dict[str, Any]


class Pass(NamedTuple):
    """One pass and its floor, in seconds."""

    seconds: float
    floor: float
    use_statistics: bool
    slices: int
    slice_rows: int


# The rows.


def rows_of(shape: Shape) -> np.ndarray:
    """X [N, D]. The first rows of more are the same."""
    rng = np.random.default_rng(0)
    means = 1.2 * rng.standard_normal((shape.K, shape.D))
    sds = rng.uniform(0.6, 1.4, (shape.K, shape.D))
    weights = rng.dirichlet(np.full(shape.K, 5.0))
    X = np.empty((shape.N, shape.D), shape.dtype)
    for part in _chunks(shape.N):
        label = rng.choice(shape.K, CHUNK, p=weights)
        made = means[label] + sds[label] * rng.standard_normal((CHUNK, shape.D))
        # float64 holds the numbers that float32 does.
        X[part] = made[: part.stop - part.start].astype(np.float32)
    return X


def log_density_of(X: np.ndarray, mean: Mapping[str, np.ndarray]) -> float:
    """sum_n log sum_k weights[k] Normal(X[n]; means[k], 1 / precisions[k]), in float64 nats."""
    weights, means, tau = (np.asarray(mean[v], np.float64) for v in VARIABLES)
    constant = np.log(weights) + 0.5 * np.log(tau / (2.0 * math.pi)).sum(axis=1)
    constant -= 0.5 * (tau * means**2).sum(axis=1)
    total = 0.0
    for part in _chunks(len(X)):
        rows = X[part].astype(np.float64)
        labels = constant + rows @ (tau * means).T - 0.5 * rows**2 @ tau.T
        total += float(np.logaddexp.reduce(labels, axis=1).sum())
    return total


def _chunks(N: int) -> list[slice]:
    return [slice(first, min(first + CHUNK, N)) for first in range(0, N, CHUNK)]


# What a process of its own does: tasks, which take and return what JSON can hold.


def fit_task(
    shape: Shape,
    seed: int,
    restarts: int | None = None,
    calibrate: bool = True,
    calls: int = 1,
    pass_calls: int = 0,
    init: Any = None,
    exact: bool = False,
) -> Fitted:
    """Call `fit` some times with the same seed, then time passes where the last one came to."""
    if exact:
        full_data._TOLERANCE *= CLOSER
        full_data._AVERAGED *= LONGER
        full_data._SLICES *= FINER
    X = rows_of(shape)
    counts, before, seconds, peaks = count_passes(), resident(), [], []
    for _ in range(calls):
        counts.clear()
        begun = time.perf_counter()
        posterior = bgmm_jd.fit(
            X,
            shape.K,
            covariance=shape.covariance,
            seed=seed,
            restarts=restarts,
            calibrate=calibrate,
            init=init,
            max_steps=20_000 * (LONGER if exact else 1),
            progress=False,
        )
        seconds.append(time.perf_counter() - begun)
        peaks.append(peak())
    diagonal = shape.covariance == "diag"
    found = moments_of(posterior) if diagonal else Moments({}, {})
    return Fitted(
        seconds=seconds,
        passes=counts[0] if counts else 0,
        steps=[restart.steps for restart in posterior.restarts],
        agreeing=sum(restart.agrees for restart in posterior.restarts),
        status=posterior.status.name,
        elbo=posterior.elbo,
        elbo_se=posterior.elbo_se,
        khat=posterior.khat,
        memory=Memory(before, peaks[0], peaks[-1]),
        pass_seconds=pass_seconds(posterior.inside, pass_calls) if pass_calls else math.nan,
        log_density=log_density_of(X, found.mean) if diagonal else math.nan,
        mean=found.mean,
        sd=found.sd,
    )


def count_passes() -> list[int]:
    """A list that takes the number of passes of every fixed point from now on."""
    counts: list[int] = []
    polish = full_data.optimize_full_data

    def counted(
        inside: Approximation, seed: Any, report: Any, started: np.ndarray, most: int
    ) -> RunResult:
        found = polish(inside, seed, report, started, most)
        counts.append(len(found.elbos) - len(started))
        return found

    full_data.optimize_full_data = counted
    return counts


def moments_of(posterior: Posterior) -> Moments:
    """Posterior means and sds of the surrogate, exactly, in the units of X and float64."""
    inside = posterior.inside
    sites = inside.model.sites
    values = permute_parameters(sites, inside.values, inside.order)
    mean, sd = {}, {}
    for site in sites:
        exact = {name: np.asarray(v, np.float64) for name, v in values[site.name].items()}
        here, spread = (np.asarray(m) for m in site.family.moments(exact))
        change = units.affine_map(site.unit, inside.data.standardization)
        mean[site.name] = units.unstandardize(site.unit, here, inside.data.standardization)
        sd[site.name] = spread if change is None else spread * change.factor
    return Moments(mean, sd)


def pass_seconds(inside: Approximation, calls: int) -> float:
    """Median seconds of a pass over all rows, after one that compiles."""
    evaluate = full_data.pass_evaluator(inside, stateless_seed(0))
    free = tf.nest.map_structure(
        lambda t: t.numpy(), to_unconstrained(inside.model.sites, inside.values)
    )
    return median_seconds(lambda: evaluate(free, 0), calls)


def median_seconds(call: Callable[[], Any], calls: int) -> float:
    """Of so many calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def pass_task(shape: Shape, seed: int, pass_calls: int) -> Pass:
    """A pass from where a fit would start, and the floor of its slices."""
    inside = start_of(shape, seed)
    plan = full_data.plan_passes(inside)
    return Pass(
        seconds=pass_seconds(inside, pass_calls),
        floor=floor_seconds(plan, shape, pass_calls),
        use_statistics=plan.use_statistics,
        slices=plan.slices,
        slice_rows=plan.size,
    )


def start_of(shape: Shape, seed: int) -> Approximation:
    """k-means++ and a conjugate update under the default prior, as in a fit."""
    prior = default_prior(shape.K, shape.D, shape.covariance, shape.dtype)
    model = model_of(prior, shape.covariance)
    data = standardize(rows_of(shape), common=shape.covariance == "spherical")
    clusters = initialization.cluster_rows(data.rows, shape.K, np.random.default_rng(seed))
    moments = prior_moments(prior) | initialization.moments_from_clusters(
        clusters, shape.covariance
    )
    internal = units.identity_standardization(shape.D)
    values = parameters_from_moments(
        model.sites, moments, units.as_standardization_tensors(internal, shape.dtype), shape.dtype
    )
    return Approximation(model, internal, data, "xla", values, order=np.arange(shape.K))


def floor_seconds(plan: full_data.PassPlan, shape: Shape, calls: int) -> float:
    """Median seconds of the arithmetic that no pass of this plan can do without."""
    rng = np.random.default_rng(0)

    def small(*size: int) -> tf.Tensor:  # so that no exp overflows
        return tf.constant(0.1 * rng.standard_normal(size) / shape.columns, shape.dtype)

    # One slice's columns serve all: a pass makes its own, and finds them in the cache.
    columns = small(plan.size, shape.columns)
    coefficients = small(plan.slices, DRAWS * shape.K, shape.columns)

    @tf.function(jit_compile=True, autograph=False)
    def run(coefficients: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        def of_slice(weights: tf.Tensor) -> tf.Tensor:
            density = tf.exp(tf.matmul(weights, columns, transpose_b=True))
            return tf.matmul(density, columns)

        return tf.map_fn(of_slice, coefficients)

    return median_seconds(lambda: run(coefficients, columns).numpy(), calls)


def peer_task(
    shape: Shape, seed: int, max_iter: int, init_params: str = "kmeans", tol: float = 1e-3
) -> Peer:
    """Fit scikit-learn's mixture once."""
    from sklearn.mixture import BayesianGaussianMixture

    X = rows_of(shape)
    before = resident()
    mixture = BayesianGaussianMixture(
        n_components=shape.K,
        covariance_type=shape.covariance,
        max_iter=max_iter,
        tol=tol,
        n_init=1,
        init_params=init_params,
        random_state=seed,
    )
    begun = time.perf_counter()
    mixture.fit(X)
    seconds = time.perf_counter() - begun
    most = peak()
    diagonal = shape.covariance == "diag"
    found = peer_moments(mixture) if diagonal else Moments({}, {})
    return Peer(
        seconds=seconds,
        iterations=int(mixture.n_iter_),
        converged=bool(mixture.converged_),
        memory=Memory(before, most, most),
        log_density=log_density_of(X, found.mean) if diagonal else math.nan,
        mean=found.mean,
        sd=found.sd,
    )


def peer_moments(mixture: Any) -> Moments:
    """Of scikit-learn's Normal and Gamma members; its broken sticks have means alone here."""
    freedom = mixture.degrees_of_freedom_[:, np.newaxis]
    of_mean = np.sqrt(mixture.covariances_ / mixture.mean_precision_[:, np.newaxis])
    return Moments(
        mean={
            "weights": mixture.weights_,
            "means": mixture.means_,
            "precisions": mixture.precisions_,
        },
        sd={"means": of_mean, "precisions": mixture.precisions_ * np.sqrt(2.0 / freedom)},
    )


def resident() -> float:
    """GiB of the process in memory now; at most so far where the system does not tell."""
    table_of = pathlib.Path("/proc/self/statm")
    if not table_of.exists():
        return peak()
    return int(table_of.read_text().split()[1]) * resource.getpagesize() / GIB


def peak() -> float:
    """The most GiB that the process has had in memory.

    Linux begins with what the process had that started this one: imports alone, so it is less.
    """
    unit_of = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_of / GIB


TASKS: dict[str, Callable[..., Any]] = {"fit": fit_task, "peer": peer_task, "pass": pass_task}


def run_task(name: str, arguments: str) -> None:
    """In a process of its own: do it, and print the result as the last line."""
    given = json.loads(arguments)
    given["shape"] = Shape(*given["shape"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status is kept instead
        found = TASKS[name](**given)
    print(json.dumps(found._asdict(), default=lambda array: array.tolist()))


def fitted(shape: Shape, **settings: Any) -> Fitted:
    """`fit_task` in a process of its own."""
    found = Fitted(**in_process("fit", shape, settings))
    return found._replace(memory=Memory(*found.memory))


def peer(shape: Shape, **settings: Any) -> Peer:
    """`peer_task` in a process of its own."""
    found = Peer(**in_process("peer", shape, settings))
    return found._replace(memory=Memory(*found.memory))


def one_pass(shape: Shape, **settings: Any) -> Pass:
    """`pass_task` in a process of its own."""
    return Pass(**in_process("pass", shape, settings))


def in_process(task: str, shape: Shape, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task in a fresh process, and tell that it was done."""
    begun = time.perf_counter()
    arguments = json.dumps({"shape": shape, **settings})
    found = last_line([sys.executable, __file__, task, arguments])
    shown = {name: value for name, value in settings.items() if name != "init"}
    print(f"{task} {shape} {shown}: {time.perf_counter() - begun:.1f} s", flush=True)
    return found


def last_line(command: Sequence[str]) -> dict[str, Any]:
    """The last line that a process prints, read as JSON.

    Raises
    ------
    RuntimeError
        If it failed: with its exit code, a negative one being the signal that ended it.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        what = f"A process of the benchmark ended with exit code {done.returncode}."
        raise RuntimeError(f"{what}\n{done.stderr[-4_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    run_task(*sys.argv[1:])
