"""`fit` on very many rows: time, memory and quality, beside scikit-learn; what a pass costs.

The rows come from K overlapping components in D features: means 1.2 times standard normal, sds
from 0.6 to 1.4, weights Dirichlet(5); float32, the same numbers in every part. The prior and all
settings are the defaults. More than 4,096 rows of this shape are fitted in a sample of so many
first, then in accelerated passes over all. Each figure comes from a process of its own, started for it, so that
no measurement finds programs compiled, or memory taken, by another.

    million   The first and the second call with the same seed: `compile` is the difference.
              `passes` is how many the fixed point took; as many more as the table's last line
              says are averaged, or tell the elbo. scikit-learn: BayesianGaussianMixture(
              covariance_type="diag", max_iter=1000), all else as it comes: tolerance 1e-3 on the
              bound, one start by k-means, and its own prior. `ratio` is its time over that of a
              second call, and of a first.
              Then the quality: largest |posterior mean - optimum's| in the optimum's sds, and
              min..max of sd / the optimum's. The optimum is the average of two float64 fits of the
              same rows from the means of the float32 fit, each with draws of its own, 16 times as
              many of them, a hundredth of the tolerance and ten times the passes that are
              averaged; the line `optimum` has the first against the second, twice the noise of
              their average. `float64` is a fit of the same rows in float64, and `float32 to
              float64` the two at the same settings.
              `log density` is that of all rows at the posterior means, above or below the
              optimum's, in nats: a line far below it is at another solution.
    memory    The most memory that the process had resident (`ru_maxrss`), over what it had with
              everything imported and the rows in place: GiB, and as a multiple of the rows.
              scikit-learn's after three iterations.
    rows      From 10,000 rows on. `pass` is the median time of one after the fit, `ns` that time
              by row.
    shapes    One pass for several K and D, diagonal and full, beside a floor measured in the same
              process: per slice of the rows, the product of [2 K, F] with [F, rows], an exp of
              each number in it, and the product of these [2 K, rows] with [rows, F], as the
              gradient takes it; with the 2 draws of a slice, F = 2 D columns (diagonal) or
              D (D + 1) / 2 + D (full), compiled by XLA as the pass is. The floor makes neither the
              draws nor the columns nor the sums over components. `expanded` says whether the pass
              is a product of matrices at all.
    forms     Each form of covariance: one pass, and a second call, as multiples of the diagonal
              ones. scikit-learn's iteration of the same form is timed as a difference of two fits
              from random responsibilities, which cost nothing, with 1 and with 4 iterations.
    fresh     Seconds in a fresh process: importing tensorflow and tensorflow_probability alone;
              importing bgmm_jd, and the first and second fit of the three clusters (N = 3,000,
              D = 2, K = 3); and the same with the programs that an earlier process left on disk
              (`bgmm_jd.keep_compiled`). Medians of three.

Run it:  python benchmarks/scaling.py [--part million memory rows shapes forms fresh] [--rows 1e6]
         [--cap 1e7] [--shape-rows 2e5] [--pass-calls 10] [--seed 0]
The tables are printed, and each part is kept in benchmarks/results/scaling_PART.json.
"""

import argparse
import importlib.metadata
import json
import math
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from _common import VARIABLES, Errors, Moments, align, installed, load, table, write_result

import bgmm_jd
from bgmm_jd import initial, passes, units
from bgmm_jd.covariance import MATRIX_FORMS
from bgmm_jd.data import centre_and_scale
from bgmm_jd.draws import stateless_seed
from bgmm_jd.labels import arrange_values
from bgmm_jd.natural import free_of
from bgmm_jd.objective import model_of
from bgmm_jd.posterior import Posterior
from bgmm_jd.prior import default_prior, prior_moments
from bgmm_jd.sampling import Inside
from bgmm_jd.status import Status
from bgmm_jd.surrogate import start_values

K, D = 10, 8
FORMS = ("diag", "full", "tied", "spherical")
ROWS = (10**4, 10**5, 10**6, 10**7)
SIZES = (2, 4, 8, 16, 32, 64)
SHAPE_FORMS = ("diag", "full")
OTHER_K, OTHER_D = 8, 8  # what is held while the other goes through SIZES
PEER_ITERATIONS = 1_000
DRAWS = 2  # of a slice in a pass
FRESH_RUNS = 3
# The optimum: how much nearer than a fit it stops, and how many times more passes and draws it
# takes. A slice has draws of its own, so the noise of a pass goes with 1 / sqrt(slices).
CLOSER = 0.01
LONGER = 10
FINER = 16
OPTIMUM_SEEDS = (1_001, 1_002)  # none that a fit to be judged has
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
    expanded: bool
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
        passes._TOLERANCE *= CLOSER
        passes._AVERAGED *= LONGER
        passes._MOST_PASSES *= LONGER
        passes._SLICES *= FINER
    X = rows_of(shape)
    before, seconds, peaks = resident(), [], []
    for _ in range(calls):
        begun = time.perf_counter()
        posterior = bgmm_jd.fit(
            X,
            shape.K,
            covariance=shape.covariance,
            seed=seed,
            restarts=restarts,
            calibrate=calibrate,
            init=init,
            progress=False,
        )
        seconds.append(time.perf_counter() - begun)
        peaks.append(peak())
    diagonal = shape.covariance == "diag"
    found = moments_of(posterior) if diagonal else Moments({}, {})
    return Fitted(
        seconds=seconds,
        passes=passes_of(posterior),
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


def passes_of(posterior: Posterior) -> int:
    """How many steps the trace has beyond those of the start that was kept."""
    kept = max(posterior.restarts, key=lambda r: (r.status is Status.CONVERGED, r.elbo))
    return len(posterior.elbo_trace) - kept.steps


def moments_of(posterior: Posterior) -> Moments:
    """Posterior means and sds of the surrogate, exactly, in the units of X and float64."""
    inside = posterior.inside
    sites = inside.model.sites
    values = arrange_values(sites, inside.values, inside.order)
    mean, sd = {}, {}
    for site in sites:
        exact = {name: np.asarray(v, np.float64) for name, v in values[site.name].items()}
        here, spread = (np.asarray(m) for m in site.family.moments(exact))
        change = units.affine(site.unit, inside.data.units)
        mean[site.name] = units.to_user(site.unit, here, inside.data.units)
        sd[site.name] = spread if change is None else spread * change.factor
    return Moments(mean, sd)


def pass_seconds(inside: Inside, calls: int) -> float:
    """Median seconds of a pass over all rows, after one that compiles."""
    evaluate = passes._evaluator(inside, stateless_seed(0))
    free = tf.nest.map_structure(lambda t: t.numpy(), free_of(inside.model.sites, inside.values))
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
    plan = passes._plan(inside)
    return Pass(
        seconds=pass_seconds(inside, pass_calls),
        floor=floor_seconds(plan, shape, pass_calls),
        expanded=plan.expanded,
        slices=plan.slices,
        slice_rows=plan.size,
    )


def start_of(shape: Shape, seed: int) -> Inside:
    """k-means++ and a conjugate update under the default prior, as in a fit."""
    prior = default_prior(shape.K, shape.D, shape.covariance, shape.dtype)
    model = model_of(prior, shape.covariance)
    data = centre_and_scale(rows_of(shape), common=shape.covariance == "spherical")
    clusters = initial.cluster(data.rows, shape.K, np.random.default_rng(seed))
    moments = prior_moments(prior) | initial.moments(clusters, shape.covariance)
    internal = units.unit(shape.D)
    values = start_values(
        model.sites, moments, units.as_tensors(internal, shape.dtype), shape.dtype
    )
    return Inside(model, internal, data, "xla", values, order=np.arange(shape.K))


def floor_seconds(plan: passes.Plan, shape: Shape, calls: int) -> float:
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
    found = last_line([sys.executable, __file__, "--task", task, arguments])
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


# A million rows.

DEFAULT = "4 starts, calibrated"


def million(given: argparse.Namespace) -> dict[str, Any]:
    """Time and quality of a fit with 1 and 4 starts, calibrated or not, and of scikit-learn's."""
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
    print(f"Beside these passes: {passes._AVERAGED} averaged, and as many for the elbo.")
    quality = qualities(fits, double, optima, found)
    show("Distance from the optimum", QUALITY_HEADER, quality_rows(quality))
    return {
        "fits": {name: _without_moments(fit) for name, fit in fits.items()},
        "float64": _without_moments(double),
        "optimum": [_without_moments(fit) for fit in optima],
        "quality": quality,
        **(peer_summary(fits, found) if found else {}),
    }


def peer_summary(fits: Mapping[str, Fitted], found: Peer) -> dict[str, Any]:
    """scikit-learn's fit, and its time over ours, for the file."""
    return {
        "scikit-learn": _without_moments(found),
        "scikit-learn over second and first call": {
            name: peer_ratios(fit, found) for name, fit in fits.items()
        },
    }


def optimum_fits(shape: Shape, means: Any) -> list[Fitted]:
    """float64 fits that run far longer, from these means, with draws of their own."""
    exact = shape._replace(dtype="float64")
    return [
        fitted(exact, seed=seed, restarts=1, calibrate=False, init=means, exact=True)
        for seed in OPTIMUM_SEEDS
    ]


def _name(restarts: int, calibrate: bool) -> str:
    starts = "1 start" if restarts == 1 else f"{restarts} starts"
    return f"{starts}, calibrated" if calibrate else starts


class Quality(NamedTuple):
    """Errors by variable, and the log density of all rows above that of the optimum, in nats."""

    errors: dict[str, Errors]
    log_density: float


def qualities(
    fits: Mapping[str, Fitted], double: Fitted, optima: list[Fitted], found: Peer | None
) -> dict[str, Quality]:
    """Everything against the optimum; float32 against float64 too."""
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
    """As arrays again."""
    return Moments(*({v: np.asarray(x) for v, x in by.items()} for by in (fit.mean, fit.sd)))


def average(found: Sequence[Moments]) -> Moments:
    """Of several with their components in the order of the first."""
    order = [align(m.mean["means"], found[0].mean["means"]) for m in found]

    def of(which: int) -> dict[str, np.ndarray]:
        moved = [{v: m[which][v][o] for v in VARIABLES} for m, o in zip(found, order, strict=True)]
        return {v: np.mean([m[v] for m in moved], axis=0) for v in VARIABLES}

    return Moments(of(0), of(1))


def apart(found: Moments, reference: Moments) -> dict[str, Errors]:
    """Errors of each variable whose sds are known, components aligned on their means."""
    order = align(found.mean["means"], reference.mean["means"])
    errors = {}
    for v in found.sd:
        off = np.abs(found.mean[v][order] - reference.mean[v]) / reference.sd[v]
        ratio = found.sd[v][order] / reference.sd[v]
        errors[v] = Errors(float(off.max()), float(ratio.min()), float(ratio.max()))
    return errors


def peer_ratios(fit: Fitted, found: Peer) -> tuple[float, float]:
    """scikit-learn's seconds over those of a second call, and of a first."""
    return found.seconds / fit.seconds[1], found.seconds / fit.seconds[0]


def _without_moments(found: Fitted | Peer) -> dict[str, Any]:
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
    """One line for each way to fit, and scikit-learn's, whose iterations stand under passes."""
    once = [("float64", double), *(("optimum", fit) for fit in optima)]
    lines = [time_cells(name, fit, found) for name, fit in [*fits.items(), *once]]
    if found is not None:
        end = "converged" if found.converged else "limit"
        cells = [f"{found.seconds:.2f}", "-", "-", str(found.iterations), "-", end]
        lines.append(["scikit-learn", *cells, "-", "-"])
    return lines


def time_cells(name: str, fit: Fitted, found: Peer | None) -> list[str]:
    """A fit of one or two calls as the text of its cells, in the order of TIME_HEADER."""
    first, second = (*fit.seconds, math.nan)[:2]
    ratios = (math.nan, math.nan)
    if found is not None and len(fit.seconds) == 2:
        ratios = peer_ratios(fit, found)
    return [
        name,
        f"{first:.2f}",
        _text(second, ".2f"),
        _text(first - second, ".2f"),
        str(fit.passes),
        f"{fit.agreeing} of {len(fit.steps)}",
        fit.status,
        *(_text(ratio, ".2f") for ratio in ratios),
    ]


def quality_rows(by_name: Mapping[str, Quality]) -> list[list[str]]:
    """One line for each method."""
    return [
        [
            name,
            *(_error_cell(found.errors.get(v)) for v in VARIABLES),
            _text(found.log_density, "+.2f"),
        ]
        for name, found in by_name.items()
    ]


def _error_cell(error: Errors | None) -> str:
    if error is None:
        return "-"
    return f"{error.mean:.4f}; {error.sd_min:.4f}..{error.sd_max:.4f}"


def _text(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title."""
    print(f"\n{title}\n\n{table(header, rows)}", flush=True)


# Memory.


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """The peak of a first call, of two, and of scikit-learn's."""
    shape = Shape(given.rows)
    found = {"bgmm_jd": fitted(shape, seed=given.seed, calls=2).memory}
    if given.peer:
        found["scikit-learn"] = peer(shape, seed=given.seed, max_iter=3).memory
    show("GiB", MEMORY_HEADER, [memory_cells(name, m, shape) for name, m in found.items()])
    return {"rows_gib": shape.gib, "memory": found}


MEMORY_HEADER = ["method", "rows", "before", "first call", "of rows", "all calls", "of rows"]


def memory_cells(name: str, found: Memory, shape: Shape) -> list[str]:
    """A method's memory as the text of its cells, in the order of MEMORY_HEADER."""
    cells = [name, f"{shape.gib:.4f}", f"{found.before:.3f}"]
    for most in (found.first, found.last):
        over = most - found.before
        cells += [f"{over:.3f}", f"{over / shape.gib:.1f}"]
    return cells


# Numbers of rows.


def rows(given: argparse.Namespace) -> dict[str, Any]:
    """From ten thousand rows to the cap."""
    found = {
        N: fitted(Shape(N), seed=given.seed, calls=2, pass_calls=given.pass_calls)
        for N in filter(given.cap.__ge__, ROWS)
    }
    show("By rows", ROWS_HEADER, [rows_cells(N, fit) for N, fit in found.items()])
    return {"fits": {N: _without_moments(fit) for N, fit in found.items()}}


ROWS_HEADER = [
    "N",
    "pass ms",
    "ns",
    "passes",
    "first call",
    "second call",
    "status",
    "rows GiB",
    "peak GiB",
]


def rows_cells(N: int, fit: Fitted) -> list[str]:
    """A number of rows as the text of its cells, in the order of ROWS_HEADER."""
    return [
        f"{N:,}",
        f"{1e3 * fit.pass_seconds:.1f}",
        f"{1e9 * fit.pass_seconds / N:.0f}",
        str(fit.passes),
        f"{fit.seconds[0]:.2f}",
        f"{fit.seconds[1]:.2f}",
        fit.status,
        f"{Shape(N).gib:.4f}",
        f"{fit.memory.first - fit.memory.before:.3f}",
    ]


# Shapes.


def shapes(given: argparse.Namespace) -> dict[str, Any]:
    """K at one D, then D at one K, diagonal and full."""
    by_K = [(k, OTHER_D) for k in SIZES]
    by_D = [(OTHER_K, d) for d in SIZES if d != OTHER_D]
    measured = []
    for covariance in SHAPE_FORMS:
        for k, d in by_K + by_D:
            shape = Shape(given.shape_rows, K=k, D=d, covariance=covariance)
            try:
                found = one_pass(shape, seed=given.seed, pass_calls=given.pass_calls)
            except RuntimeError as error:  # one shape too large for a machine leaves the others
                print(f"{shape} is left out. {error}", flush=True)
                continue
            measured.append((shape, found))
            print("  ".join(shape_cells(shape, found)), flush=True)
    show("One pass", SHAPE_HEADER, [shape_cells(*pair) for pair in measured])
    return {
        "passes": [
            {"shape": shape, "found": found, "ratio": found.seconds / found.floor}
            for shape, found in measured
        ]
    }


SHAPE_HEADER = ["covariance", "K", "D", "F", "expanded", "pass ms", "floor ms", "ratio"]


def shape_cells(shape: Shape, found: Pass) -> list[str]:
    """A shape as the text of its cells, in the order of SHAPE_HEADER."""
    return [
        shape.covariance,
        str(shape.K),
        str(shape.D),
        f"{shape.columns:,}",
        "yes" if found.expanded else "no",
        f"{1e3 * found.seconds:.1f}",
        f"{1e3 * found.floor:.1f}",
        f"{found.seconds / found.floor:.2f}",
    ]


# Forms of covariance.


class Form(NamedTuple):
    """One form: a fit, and seconds of an iteration of scikit-learn's, NaN without it."""

    fit: Fitted
    iteration: float


def forms(given: argparse.Namespace) -> dict[str, Any]:
    """Each form of covariance on the same rows."""
    found = {covariance: one_form(covariance, given) for covariance in FORMS}
    show("By form", FORM_HEADER, form_rows(found))
    return {
        "forms": {
            name: {"fit": _without_moments(form.fit), "iteration": form.iteration}
            for name, form in found.items()
        }
    }


def one_form(covariance: str, given: argparse.Namespace) -> Form:
    """A fit of this form, two calls of it, and scikit-learn's iteration."""
    shape = Shape(given.rows, covariance=covariance)
    fit = fitted(shape, seed=given.seed, calls=2, pass_calls=given.pass_calls)
    return Form(fit, iteration_seconds(shape, given.seed) if given.peer else math.nan)


def iteration_seconds(shape: Shape, seed: int, more: int = 4) -> float:
    """What an iteration of scikit-learn's takes: a fit with more of them, less one with one.

    From random responsibilities, which k-means, whose time differs from run to run, does not make;
    with a tolerance of 0, so that none stops early.
    """
    few, many = (
        peer(shape, seed=seed, max_iter=n, init_params="random", tol=0.0) for n in (1, more)
    )
    return (many.seconds - few.seconds) / (many.iterations - few.iterations)


FORM_HEADER = [
    "covariance",
    "pass ms",
    "of diag",
    "passes",
    "first call",
    "second call",
    "of diag",
    "status",
    "scikit-learn's iteration ms",
    "of diag",
    "of a pass",
]


def form_rows(found: Mapping[str, Form]) -> list[list[str]]:
    """One line for each form."""
    diag = found["diag"]
    return [
        [
            name,
            f"{1e3 * fit.pass_seconds:.0f}",
            f"{fit.pass_seconds / diag.fit.pass_seconds:.2f}",
            str(fit.passes),
            f"{fit.seconds[0]:.2f}",
            f"{fit.seconds[1]:.2f}",
            f"{fit.seconds[1] / diag.fit.seconds[1]:.2f}",
            fit.status,
            _text(1e3 * iteration, ".0f"),
            _text(iteration / diag.iteration, ".2f"),
            _text(iteration / fit.pass_seconds, ".2f"),
        ]
        for name, (fit, iteration) in found.items()
    ]


# A fresh process.

IMPORT = """
import json, time
begun = time.perf_counter()
import tensorflow, tensorflow_probability
print(json.dumps({"tensorflow": time.perf_counter() - begun}))
"""
FIRST_FIT = """
import json, sys, time
times = [time.perf_counter()]
import bgmm_jd
from bgmm_jd.examples import three_clusters
times.append(time.perf_counter())
if sys.argv[1:]:
    bgmm_jd.keep_compiled(sys.argv[1])
X = three_clusters().X
for _ in range(2):
    bgmm_jd.fit(X, 3, progress=False)
    times.append(time.perf_counter())
names = ("bgmm_jd", "first", "second")
print(json.dumps({n: b - a for n, a, b in zip(names, times, times[1:])}))
"""


def fresh(given: argparse.Namespace) -> dict[str, Any]:
    """What a user waits for who starts anew; imports and fits take turns."""
    with tempfile.TemporaryDirectory() as folder:
        last_line([sys.executable, "-c", FIRST_FIT, folder])  # leaves its programs
        runs = [_fresh_run(folder) for _ in range(FRESH_RUNS)]
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    show("Seconds in a fresh process", FRESH_HEADER, fresh_rows(found))
    return {"runs": runs, "medians": found}


def _fresh_run(folder: str) -> dict[str, float]:
    """Seconds of the imports alone, of imports and fits, and of these with programs on disk."""
    plain = last_line([sys.executable, "-c", FIRST_FIT])
    kept = last_line([sys.executable, "-c", FIRST_FIT, folder])
    found = last_line([sys.executable, "-c", IMPORT])
    return found | plain | {f"{name}, kept": value for name, value in kept.items()}


FRESH_HEADER = [
    "programs",
    "import tensorflow, tfp",
    "import bgmm_jd",
    "first fit",
    "import and first fit",
    "ratio",
    "second fit",
    "over first",
]


def fresh_rows(found: Mapping[str, float]) -> list[list[str]]:
    """Compiled anew, and read from the disk."""
    rows = []
    for name, suffix in (("compiled", ""), ("from disk", ", kept")):
        alone = found["tensorflow"]
        begun, first, second = (found[n + suffix] for n in ("bgmm_jd", "first", "second"))
        cells = [alone, begun, first, begun + first, (begun + first) / alone]
        rows.append([name, *(f"{cell:.2f}" for cell in [*cells, second, second / first])])
    return rows


# The command line.

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "million": million,
    "memory": memory,
    "rows": rows,
    "shapes": shapes,
    "forms": forms,
    "fresh": fresh,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fits of very many rows.")
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--rows", type=_count, default=10**6, help="of million, memory and forms")
    parser.add_argument("--cap", type=_count, default=10**7, help="on the numbers of rows of rows")
    parser.add_argument("--shape-rows", type=_count, default=200_000, help="of shapes")
    parser.add_argument("--pass-calls", type=_count, default=10, help="timed passes")
    parser.add_argument("--seed", type=int, default=0, help="of the fits")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)  # of a process of its own
    given = parser.parse_args()
    if given.seed in OPTIMUM_SEEDS or given.seed < 0 or given.cap < ROWS[0]:
        parser.error(f"--seed must be 0 or more and none of {OPTIMUM_SEEDS}, --cap {ROWS[0]:,}")
    given.peer = installed("sklearn")
    return given


def _count(text: str) -> int:
    """A positive whole number, also as 1e6."""
    value = float(text)
    if value < 1 or value != int(value):
        raise ValueError(text)
    return int(value)


def main() -> None:
    """The parts that were asked for: their tables, and a file each."""
    given = arguments()
    if given.task:
        run_task(*given.task)
        return
    if not given.peer:
        print("scikit-learn is not installed, so it is left out: pip install scikit-learn")
    for part in given.part:
        settings = {name: v for name, v in vars(given).items() if name not in ("part", "task")}
        settings |= {"K": K, "D": D, "load_before": load()}
        if given.peer:
            settings["scikit-learn"] = importlib.metadata.version("scikit-learn")
        path = write_result(f"scaling_{part}", {"settings": settings, **PARTS[part](given)})
        print(f"\nKept in {path.name}.\n", flush=True)


if __name__ == "__main__":
    main()
