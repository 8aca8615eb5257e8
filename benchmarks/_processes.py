"""Measurements that `scaling.py` makes in separate processes: fits, passes, scikit-learn's fits.

Run as a script, it does one task and prints the result as its last line.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from _common import VARIABLES, Moments
from _inside import (
    MATRIX_FORMS,
    PassPlan,
    Problem,
    VariationalParameters,
    affine_map,
    pass_evaluator,
    permute_parameters,
    plan_passes,
    problem_of,
    search,
    standardize,
    start_at,
    stateless_seed,
    unconstrained_arrays,
    units_of_rows,
    unstandardize,
)

import bgmm_jd
from bgmm_jd.settings import (
    DefaultPriorSettings,
    FullDataSettings,
    OptimizationSettings,
    Settings,
)

K, D = 10, 8
DRAWS = 2  # of a slice in a pass
# The optimum is found with a hundredth of the tolerance and ten times the steps and averaged passes
# of a fit, and with 16 times the slices. Each slice has draws of its own, so that the noise of a
# pass is proportional to 1 / sqrt(slices).
LONGER = 10
DEFAULTS = FullDataSettings()
WEIGHT_CONCENTRATION = DefaultPriorSettings().weight_concentration
OPTIMUM_SETTINGS = Settings(
    full_data=FullDataSettings(
        tolerance=0.01 * DEFAULTS.tolerance,
        averaged_passes=LONGER * DEFAULTS.averaged_passes,
        slices=16 * DEFAULTS.slices,
    )
)
# A pass is timed near any start; one seeding of k-means++ is enough for that.
ONE_SEEDING = Settings(optimization=OptimizationSettings(first_start_seedings=1))
GIB = 2.0**30
CHUNK = 2**17  # rows that are made or evaluated at a time, to save memory


class Shape(NamedTuple):
    """A data set and the mixture that is fitted to it.

    data_set : number of the data set, the seed of its parameters and rows.
    """

    N: int
    K: int = K
    D: int = D
    covariance: str = "diag"
    dtype: str = "float32"
    data_set: int = 0

    @property
    def columns(self) -> int:
        """Number of columns F of the sufficient statistics, without the constant."""
        squares = self.D * (self.D + 1) // 2 if self.covariance in MATRIX_FORMS else self.D
        return squares + self.D

    @property
    def gib(self) -> float:
        """Size of the rows."""
        return self.N * self.D * np.dtype(self.dtype).itemsize / GIB


class Memory(NamedTuple):
    """Resident GiB before the first call, and the peaks until the first and the last call ended."""

    before: float
    first: float
    last: float


class Fitted(NamedTuple):
    """The calls of `fit` in one process.

    seconds : of each call, the first of which compiles.
    passes : to the fixed point; 0 where there were too few rows for any.
    steps : of each start.
    pass_seconds : median over passes after the fit; NaN where it was not asked for.
    log_density : of all rows at the posterior means; NaN for any form but "diag".
    mean, sd : of every parameter, by variable; empty for any form but "diag".
    """

    seconds: list[float]
    passes: int
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
    """A fit by scikit-learn in one process; `mean` and `sd` as in `Fitted`, where known."""

    seconds: float
    iterations: int
    converged: bool
    memory: Memory
    log_density: float
    mean: dict[str, Any]
    sd: dict[str, Any]


class Pass(NamedTuple):
    """Seconds of one pass, and of the lower limit of its arithmetic (`floor`)."""

    seconds: float
    floor: float
    use_statistics: bool
    slices: int
    slice_rows: int


# The rows.


def rows_of(shape: Shape) -> np.ndarray:
    """Return X [N, D]; a larger data set begins with the same rows."""
    X = np.empty((shape.N, shape.D), shape.dtype)
    for part, rows in chunks_of_rows(shape):
        X[part] = rows
    return X


def chunks_of_rows(shape: Shape) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows some at a time: which they are, and an array [n, D]."""
    rng = np.random.default_rng(shape.data_set)
    means = 1.2 * rng.standard_normal((shape.K, shape.D))
    sds = rng.uniform(0.6, 1.4, (shape.K, shape.D))
    weights = rng.dirichlet(np.full(shape.K, 5.0))
    for part in _chunks(shape.N):
        label = rng.choice(shape.K, CHUNK, p=weights)
        made = means[label] + sds[label] * rng.standard_normal((CHUNK, shape.D))
        # Rounded to float32 in either dtype, so that both have the same rows.
        yield part, made[: part.stop - part.start].astype(np.float32).astype(shape.dtype)


def log_density_of(X: np.ndarray, mean: Mapping[str, np.ndarray]) -> float:
    """Return sum_n log sum_k weights[k] Normal(X[n]; means[k], 1 / precisions[k]), in nats.

    In float64.
    """
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


# The tasks of separate processes. They take and return values that JSON can represent.


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
    """Call `fit` a number of times with the same seed, then time passes at the optimum it found.

    Parameters
    ----------
    pass_calls : number of timed passes; 0 for none.
    exact : whether to use `OPTIMUM_SETTINGS`.
    """
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
            settings=OPTIMUM_SETTINGS if exact else None,
        )
        seconds.append(time.perf_counter() - begun)
        peaks.append(peak())
    diagonal = shape.covariance == "diag"
    found = moments_of(posterior) if diagonal else Moments({}, {})
    problem, params = posterior.problem, posterior.approximation.params
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
        pass_seconds=pass_seconds(problem, params, pass_calls) if pass_calls else math.nan,
        log_density=log_density_of(X, found.mean) if diagonal else math.nan,
        mean=found.mean,
        sd=found.sd,
    )


def count_passes() -> list[int]:
    """Return a list to which the number of passes of every full-data phase is added from now on.

    A `Posterior` does not have that number, so the function that makes the passes is replaced by
    one that counts them too.
    """
    counts: list[int] = []
    optimize = search.optimize_full_data

    def counted(
        problem: Problem,
        start: VariationalParameters,
        seed: tf.Tensor,
        report: Any,
        elbos_before: np.ndarray,
        limit: int,
        *state: Any,
    ) -> Any:
        found = optimize(problem, start, seed, report, elbos_before, limit, *state)
        counts.append(len(found.elbos) - len(elbos_before))
        return found

    search.optimize_full_data = counted
    return counts


def moments_of(posterior: bgmm_jd.Posterior) -> Moments:
    """Return the means and sds of the surrogate, exactly, in the units of X and float64."""
    sites, units = posterior.problem.model.sites, posterior.problem.data.standardization
    approximation = posterior.approximation
    params = permute_parameters(sites, approximation.params, approximation.order)
    mean, sd = {}, {}
    for site in sites:
        exact = {name: np.asarray(v, np.float64) for name, v in params[site.name].items()}
        centre, spread = (np.asarray(m) for m in site.family.moments(exact))
        change = affine_map(site.transformation, units)
        mean[site.name] = unstandardize(site.transformation, centre, units)
        sd[site.name] = spread if change is None else spread * change.factor
    return Moments(mean, sd)


def pass_seconds(problem: Problem, params: VariationalParameters, calls: int) -> float:
    """Return the median seconds of a pass over all rows, after one that compiles."""
    evaluate = pass_evaluator(problem, params, stateless_seed(0))
    free = unconstrained_arrays(problem.model.sites, params)
    return median_seconds(lambda: evaluate(free, 0), calls)


def median_seconds(call: Callable[[], Any], calls: int) -> float:
    """Return the median seconds of so many calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def pass_task(shape: Shape, seed: int, pass_calls: int) -> Pass:
    """Time a pass at the start of a fit, and the lower limit of its arithmetic."""
    data = standardize(rows_of(shape), units=units_of_rows(shape.covariance))
    problem = problem_of(data, shape.K, shape.covariance, None, "xla", ONE_SEEDING)
    params = start_at(problem, None, 0, seed)
    plan = plan_passes(problem, params)
    return Pass(
        seconds=pass_seconds(problem, params, pass_calls),
        floor=floor_seconds(plan, shape, pass_calls),
        use_statistics=plan.use_statistics,
        slices=plan.slices,
        slice_rows=plan.parts * plan.size,
    )


def floor_seconds(plan: PassPlan, shape: Shape, calls: int) -> float:
    """Return the median seconds of the arithmetic that every pass of this plan has to do."""
    rng = np.random.default_rng(0)

    def small(*size: int) -> tf.Tensor:  # so that no exp overflows
        return tf.constant(0.1 * rng.standard_normal(size) / shape.columns, shape.dtype)

    # All parts of slices share one part's columns: a pass makes those of each, and finds them in
    # the processor's cache.
    columns = small(plan.size, shape.columns)
    coefficients = small(plan.parts * plan.slices, DRAWS * shape.K, shape.columns)

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
    """Fit a mixture by scikit-learn once, with the default prior of the weights here."""
    from sklearn.mixture import BayesianGaussianMixture

    X = rows_of(shape)
    before = resident()
    mixture = BayesianGaussianMixture(
        n_components=shape.K,
        covariance_type=shape.covariance,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=WEIGHT_CONCENTRATION,
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
    """Return moments of scikit-learn's Normal and Gamma members, and the means of its weights."""
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
    """Return the resident GiB of the process; their peak so far where /proc does not exist."""
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        return peak()
    return int(statm.read_text().split()[1]) * resource.getpagesize() / GIB


def peak() -> float:
    """Return the peak of the resident GiB of the process.

    On Linux by what the kernel says of this program alone: `ru_maxrss` begins with the memory of
    the parent process.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 2**10 / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


TASKS: dict[str, Callable[..., Any]] = {"fit": fit_task, "peer": peer_task, "pass": pass_task}


def run_task(name: str, arguments: str) -> None:
    """Do a task in this process, and print the result as the last line."""
    given = json.loads(arguments)
    given["shape"] = Shape(*given["shape"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status is stored instead
        found = TASKS[name](**given)
    print(json.dumps(found._asdict(), default=lambda array: array.tolist()))


def fitted(shape: Shape, **options: Any) -> Fitted:
    """Run `fit_task` in a separate process."""
    found = Fitted(**in_process("fit", shape, options))
    return found._replace(memory=Memory(*found.memory))


def peer(shape: Shape, **options: Any) -> Peer:
    """Run `peer_task` in a separate process."""
    found = Peer(**in_process("peer", shape, options))
    return found._replace(memory=Memory(*found.memory))


def one_pass(shape: Shape, **options: Any) -> Pass:
    """Run `pass_task` in a separate process."""
    return Pass(**in_process("pass", shape, options))


def in_process(task: str, shape: Shape, options: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task in a fresh process, and print how long it took."""
    begun = time.perf_counter()
    arguments = json.dumps({"shape": shape, **options})
    found = last_line([sys.executable, __file__, task, arguments])
    shown = {name: value for name, value in options.items() if name != "init"}
    print(f"{task} {shape} {shown}: {time.perf_counter() - begun:.1f} s", flush=True)
    return found


def last_line(command: Sequence[str]) -> dict[str, Any]:
    """Run a command, and return the last line that it prints, read as JSON.

    Raises
    ------
    RuntimeError
        If it failed, with its exit code; a negative one is the signal that ended it.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        what = f"A process of the benchmark ended with exit code {done.returncode}."
        raise RuntimeError(f"{what}\n{done.stderr[-4_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    run_task(*sys.argv[1:])
