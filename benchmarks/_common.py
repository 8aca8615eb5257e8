"""Shared by the benchmarks: reference posteriors, errors against them, the elbo, tables, results.

A surrogate is any named joint distribution with `sample(n, seed=...)` and `log_prob(draws)` whose
draws have the attributes `weights` [S, K], `means` [S, K, D] and `precisions`.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

import bgmm_jd

HERE = pathlib.Path(__file__).parent
REFERENCES = HERE.parent / "tests" / "reference"
RESULTS = HERE / "results"
VARIABLES = ("weights", "means", "precisions")
PACKAGES = (
    "tensorflow",
    "tensorflow-probability",
    "tf_keras",
    "numpy",
    "scipy",
    "arviz",
    "numpyro",
    "scikit-learn",
    "jax",
)

# Limits within which every parameter agrees with the reference.
MEAN_TOLERANCE = 0.1  # of a reference sd
SD_TOLERANCE = 0.05  # of the reference sd


class Surrogate(Protocol):
    """A joint distribution with the variables of VARIABLES."""

    def sample(self, sample_shape: int, seed: Any) -> Any: ...

    def log_prob(self, value: Any) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A reference posterior: its rows X [N, D], and the mean and sd of every parameter."""

    name: str
    X: np.ndarray
    settings: Mapping[str, Any]
    mean: Mapping[str, np.ndarray]
    sd: Mapping[str, np.ndarray]

    @property
    def K(self) -> int:
        return self.settings["K"]


class Moments(NamedTuple):
    """Means and sds of every parameter, by variable."""

    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]


class Errors(NamedTuple):
    """The largest errors of one variable against the reference, over its elements."""

    mean: float  # max |mean - reference mean| / reference sd
    sd_min: float  # min of sd / reference sd
    sd_max: float  # max of sd / reference sd


class Estimate(NamedTuple):
    """A Monte Carlo estimate and its standard error."""

    value: float
    se: float


def load_reference(name: str) -> Reference:
    """Read `tests/reference/NAME.json` and the data it names, in the dtype it names."""
    stored = json.loads((REFERENCES / f"{name}.json").read_text())
    posterior = stored["posterior"]
    X = np.loadtxt(REFERENCES / stored["data"], delimiter=",", ndmin=2)
    return Reference(
        name=name,
        X=X.astype(stored["dtype"]),
        settings=stored["settings"],
        mean={v: np.asarray(posterior[v]["mean"]) for v in VARIABLES},
        sd={v: np.asarray(posterior[v]["sd"]) for v in VARIABLES},
    )


def diagonal_references() -> list[str]:
    """List the references with diagonal covariances and the published prior.

    Any other prior is named in a reference's settings, and so is the prior of those with row
    weights or missing values.
    """
    stored = {path.stem: json.loads(path.read_text()) for path in REFERENCES.glob("*.json")}
    settings = {name: reference["settings"] for name, reference in stored.items()}
    return sorted(
        name for name, s in settings.items() if s["covariance"] == "diag" and "prior" not in s
    )


def moments(surrogate: Surrogate, *, draws: int = 50_000, seed: int = 0) -> Moments:
    """Estimate the mean and sd of every parameter under the surrogate, from `draws` draws.

    With 50,000 draws the standard error of a mean is 0.004 sd and that of an sd 0.3 %, less than
    those of the reference.
    """
    theta = surrogate.sample(draws, seed=(seed, 1))
    return moments_of({v: np.asarray(getattr(theta, v)) for v in VARIABLES})


def moments_of(theta: Mapping[str, np.ndarray]) -> Moments:
    """Return the mean and sd of every parameter, from draws [S, ...] by variable."""
    values = {v: np.asarray(theta[v], np.float64) for v in VARIABLES}
    return Moments(
        mean={v: x.mean(axis=0) for v, x in values.items()},
        sd={v: x.std(axis=0) for v, x in values.items()},
    )


def align(means: np.ndarray, reference_means: np.ndarray) -> np.ndarray:
    """Return the order of components [K] that brings `means` [K, D] closest to the reference's."""
    gap = means[None, :, :] - reference_means[:, None, :]
    _, order = linear_sum_assignment(np.sum(gap**2, axis=-1))
    return order


def errors(found: Moments, reference: Reference) -> dict[str, Errors]:
    """Return the errors of each variable against the reference, components aligned by means."""
    order = align(found.mean["means"], reference.mean["means"])
    return {v: _variable_errors(v, found, reference, order) for v in VARIABLES}


def _variable_errors(v: str, found: Moments, reference: Reference, order: np.ndarray) -> Errors:
    off = np.abs(found.mean[v][order] - reference.mean[v]) / reference.sd[v]
    ratio = found.sd[v][order] / reference.sd[v]
    return Errors(mean=float(off.max()), sd_min=float(ratio.min()), sd_max=float(ratio.max()))


def agrees(found: Mapping[str, Errors]) -> bool:
    """Whether every mean and sd is within MEAN_TOLERANCE and SD_TOLERANCE of the reference."""
    return all(
        e.mean <= MEAN_TOLERANCE and e.sd_min >= 1 - SD_TOLERANCE and e.sd_max <= 1 + SD_TOLERANCE
        for e in found.values()
    )


def diagonal_log_likelihood(X: np.ndarray, theta: Any) -> tf.Tensor:
    """Return sum_n log sum_k weights[k] Normal(X[n]; means[k], 1 / precisions[k]): float64 [S]."""
    weights, means, precisions = (tf.cast(getattr(theta, v), tf.float64) for v in VARIABLES)
    tau = precisions[:, None, :, :]
    gap = tf.cast(X, tf.float64)[:, None, :] - means[:, None, :, :]  # [S, N, K, D]
    log_normal = 0.5 * (tf.math.log(tau / (2 * math.pi)) - tau * gap**2)
    by_component = tf.math.log(weights)[:, None, :] + tf.reduce_sum(log_normal, axis=-1)
    return tf.reduce_sum(tf.reduce_logsumexp(by_component, axis=-1), axis=-1)


def log_joint_of(X: np.ndarray, K: int) -> Callable[[Any], tf.Tensor]:
    """Make the function theta -> log p(X, theta) under the published prior, in float64."""
    prior = bgmm_jd.mixture_prior(K, X.shape[1], dtype="float64")

    @tf.function
    def log_joint(theta: Any) -> tf.Tensor:
        log_prior = prior.log_prob(*(tf.cast(getattr(theta, v), tf.float64) for v in VARIABLES))
        return log_prior + diagonal_log_likelihood(X, theta)

    return log_joint


def elbo(
    surrogate: Surrogate,
    log_joint: Callable[[Any], tf.Tensor],
    *,
    draws: int = 2_000,
    chunk: int = 100,
    seed: int = 0,
) -> Estimate:
    """Estimate the elbo, in nats for the whole data set, with all constants kept.

    `log_joint` takes draws theta with a leading axis, `chunk` of them at a time, and returns a
    value for each.
    """
    parts = []
    for start in range(0, draws, chunk):
        theta = surrogate.sample(min(chunk, draws - start), seed=(seed, 2 + start))
        log_q = tf.cast(surrogate.log_prob(theta), tf.float64)
        parts.append(np.asarray(log_joint(theta) - log_q))
    terms = np.concatenate(parts)
    return Estimate(value=float(terms.mean()), se=float(terms.std(ddof=1) / math.sqrt(draws)))


def data_set_arguments(description: str, datasets: int) -> argparse.Namespace:
    """Parse the command line of a benchmark that draws its data sets."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--datasets", type=int, default=datasets, help="number of data sets")
    parser.add_argument("--seed", type=int, default=0, help="of the data sets")
    given = parser.parse_args()
    if given.datasets < 1 or given.seed < 0:
        parser.error("--datasets must be positive, --seed not negative")
    return given


def installed(package: str) -> bool:
    """Whether a package can be imported that only benchmarks use."""
    return importlib.util.find_spec(package) is not None


def load() -> float:
    """Return the load average of the last minute; before a run it is that of other processes."""
    return os.getloadavg()[0]


def versions() -> dict[str, str]:
    """Return the versions of Python and of packages, and the machine, that a result depends on."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    own = {"bgmm_jd": bgmm_jd.__version__, "python": platform.python_version(), "machine": machine}
    return own | {p: _version(p) for p in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, padded so that it can be read as plain text too."""
    lines = [list(header), *(list(r) for r in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * w for w in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title."""
    print(f"\n{title}\n\n{table(header, rows)}", flush=True)


def cell(value: float, form: str) -> str:
    """Return a number as text; NaN, which was not measured, becomes a dash."""
    return "-" if math.isnan(value) else format(value, form)


def write_result(name: str, result: Mapping[str, Any]) -> pathlib.Path:
    """Write `benchmarks/results/NAME.json` with the versions; NaN and infinity become null."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = _plain({"name": name, "versions": versions(), **result})
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def _plain(value: Any) -> Any:
    """Return dataclasses and NamedTuples as dicts, and NaN and infinity as None, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    as_dict = getattr(value, "_asdict", None)
    if as_dict is not None:
        return _plain(as_dict())
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
