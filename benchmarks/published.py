"""The published procedure on its own data, beside `bgmm_jd.fit`.

A well-known TensorFlow Probability tutorial fits a Bayesian Gaussian mixture with diagonal
covariance to 3,000 points in the plane. Its procedure is reimplemented here:

    prior      means ~ Normal(0, 1) [K, D], precisions ~ Gamma(5, 5) [K, D], weights ~ Dirichlet(2)
    surrogate  Normal(locs, scales), Gamma(alpha, beta), Dirichlet(counts); the variables are these
               parameters themselves, and nothing keeps the positive ones positive
    start      locs ~ Normal(0, 1), scales ~ Gamma(5, 5)^(-1/2), alpha and beta ~ Uniform(4, 6),
               counts = 2
    loss       KL(surrogate, prior) / N - mean over 500 rows of log p(row given theta), with a
               draw of theta for each row and the label marginalised
    steps      Adam(1e-3), shuffled epochs, a Python loop over a compiled step, 1,000 epochs

It continues beyond its 1,000 epochs until its posterior agrees with the NUTS reference (every mean
within 0.1 reference sd, every sd within 5 %), a cap is reached, or a parameter leaves its domain;
it prints which. A step of Adam moves a parameter by about its rate at most. From 2 to
counts near 1,000, with six steps an epoch, that takes at least some 160,000 epochs.

For each checkpoint, and for the first call of `bgmm_jd.fit` (with compilation) and the second, the
table gives

    seconds    of training alone, with compilation and without measuring
    elbo       nats for the whole data set, constants kept, higher is better, with its standard
               error; estimated in the same way for both
    variables  max |mean - reference mean| in reference sds; min..max of sd / reference sd
               (the standard errors of the reference are near 0.006 sd and 0.8 %)

Run it:  python benchmarks/published.py [--epochs 1000] [--extra-epochs N] [--minutes M] [--seed 0]
It prints the table, and writes all results to benchmarks/results/published.json.
"""

import argparse
import dataclasses
import enum
import math
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from _common import (
    VARIABLES,
    Errors,
    Estimate,
    Reference,
    Surrogate,
    agrees,
    diagonal_log_likelihood,
    elbo,
    errors,
    load_reference,
    moments,
    table,
    write_result,
)

import bgmm_jd

tfd = tfp.distributions

BATCH_ROWS = 500
LEARNING_RATE = 1e-3
FIRST_CHECKPOINT = 100


class Outcome(enum.Enum):
    """Why the published procedure ended."""

    AGREES = "it agrees with the reference"
    EPOCH_CAP = "the cap on epochs was reached; it does not agree with the reference"
    TIME_CAP = "the cap on minutes was reached; it does not agree with the reference"
    LEFT_DOMAIN = "a parameter became NaN, infinite, or negative where it must be positive"


class Parameters(NamedTuple):
    """Variables of the published surrogate: [K, D] each, `counts` [K]."""

    locs: tf.Variable
    scales: tf.Variable
    alpha: tf.Variable
    beta: tf.Variable
    counts: tf.Variable


class Lap(NamedTuple):
    """The result of some epochs; `lost` has the names of parameters that left their domain."""

    epochs: int
    seconds: float
    lost: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    method: str
    epochs: int | None
    seconds: float
    elbo: Estimate
    errors: dict[str, Errors]
    agrees: bool
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


# The model and the published surrogate.


def prior_factors(K: int, D: int, dtype: tf.DType = tf.float32) -> dict[str, Any]:
    """Return the published prior of each variable."""
    ones = tf.ones([K, D], dtype)
    return {
        "weights": tfd.Dirichlet(tf.fill([K], tf.cast(2, dtype))),
        "means": tfd.Independent(tfd.Normal(0 * ones, ones), 2),
        "precisions": tfd.Independent(tfd.Gamma(5 * ones, 5 * ones), 2),
    }


def surrogate_factors(p: Parameters) -> dict[str, Any]:
    """Return the published surrogate of each variable, at parameters p."""
    return {
        "weights": tfd.Dirichlet(p.counts),
        "means": tfd.Independent(tfd.Normal(p.locs, p.scales), 2),
        "precisions": tfd.Independent(tfd.Gamma(p.alpha, p.beta), 2),
    }


def joint(factors: dict[str, Any]) -> Any:
    """Make one joint distribution with named variables of independent factors."""

    def model() -> Generator[Any, Any, None]:
        for name, factor in factors.items():
            yield tfd.JointDistributionCoroutine.Root(factor.copy(name=name))

    return tfd.JointDistributionCoroutine(model)


def log_joint_of(X: np.ndarray, K: int) -> Callable[[Any], tf.Tensor]:
    """Make the function theta -> log p(X, theta), in float64, traced once."""
    prior = prior_factors(K, X.shape[1], tf.float64)

    @tf.function
    def log_joint(theta: Any) -> tf.Tensor:
        log_prior = [f.log_prob(tf.cast(getattr(theta, v), tf.float64)) for v, f in prior.items()]
        return tf.add_n(log_prior) + diagonal_log_likelihood(X, theta)

    return log_joint


# The published training.


def initial_parameters(K: int, D: int) -> Parameters:
    """Draw the published start, from TensorFlow's global seed."""
    return Parameters(
        locs=tf.Variable(tf.random.normal([K, D])),
        scales=tf.Variable(tf.random.gamma([K, D], alpha=5.0, beta=5.0) ** -0.5),
        alpha=tf.Variable(tf.random.uniform([K, D], 4.0, 6.0)),
        beta=tf.Variable(tf.random.uniform([K, D], 4.0, 6.0)),
        counts=tf.Variable(tf.fill([K], 2.0)),
    )


def row_log_likelihood(rows: tf.Tensor, q: dict[str, Any]) -> tf.Tensor:
    """Return log p(row given theta) [B], each row with a theta of its own, label marginalised."""
    theta = {name: factor.sample(tf.shape(rows)[0]) for name, factor in q.items()}
    component = tfd.Independent(tfd.Normal(theta["means"], theta["precisions"] ** -0.5), 1)
    by_component = tf.math.log(theta["weights"]) + component.log_prob(rows[:, None, :])
    return tf.reduce_logsumexp(by_component, axis=-1)


def published_loss(rows: tf.Tensor, p: Parameters, prior: dict[str, Any], N: int) -> tf.Tensor:
    """Estimate -elbo / N from a batch of rows [B, D]."""
    q = surrogate_factors(p)
    kl = tf.add_n([tfd.kl_divergence(q[v], prior[v]) for v in VARIABLES])
    return kl / N - tf.reduce_mean(row_log_likelihood(rows, q))


def make_step(p: Parameters, prior: dict[str, Any], N: int) -> Callable[[tf.Tensor], None]:
    """Make a compiled step of Adam on the published loss."""
    optimizer = tf_keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(list(p))

    @tf.function
    def step(rows: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = published_loss(rows, p, prior, N)
        optimizer.apply_gradients(zip(tape.gradient(loss, list(p)), p, strict=True))

    return step


def out_of_domain(p: Parameters) -> list[str]:
    """List the parameters that are not finite, or not positive where they must be."""
    values = {name: v.numpy() for name, v in p._asdict().items()}
    valid = {name: np.isfinite(v) & ((v > 0) | (name == "locs")) for name, v in values.items()}
    return [name for name, ok in valid.items() if not ok.all()]


def train(
    step: Callable[[tf.Tensor], None],
    batches: tf.data.Dataset,
    p: Parameters,
    epochs: int,
    seconds: float,
) -> Lap:
    """Run `epochs` epochs, or fewer if `seconds` are over or a parameter leaves its domain."""
    start = time.perf_counter()
    done, elapsed = 0, 0.0
    lost: list[str] = []
    while done < epochs and elapsed < seconds and not lost:
        for rows in batches:
            step(rows)
        done += 1
        lost = out_of_domain(p)
        elapsed = time.perf_counter() - start
    return Lap(done, elapsed, lost)


def checkpoints(epochs: int, extra_epochs: int) -> list[int]:
    """List the epochs that are measured: 100, `epochs`, its doublings, and the last."""
    last = epochs + extra_epochs
    doublings = math.ceil(math.log2(last / epochs))
    marks = {FIRST_CHECKPOINT, last, *(epochs * 2**i for i in range(doublings))}
    return sorted(m for m in marks if m <= last)


def published_rows(
    reference: Reference, marks: list[int], seconds: float, seed: int
) -> tuple[list[Row], Outcome]:
    """Run the published procedure from checkpoint to checkpoint."""
    tf.random.set_seed(seed)
    N, D = reference.X.shape
    p = initial_parameters(reference.K, D)
    step = make_step(p, prior_factors(reference.K, D), N)
    batches = tf.data.Dataset.from_tensor_slices(reference.X).shuffle(N, seed).batch(BATCH_ROWS)
    rows: list[Row] = []
    epoch, elapsed = 0, 0.0
    for mark in marks:
        lap = train(step, batches, p, mark - epoch, seconds - elapsed)
        epoch, elapsed = epoch + lap.epochs, elapsed + lap.seconds
        if lap.lost:
            print(f"published, epoch {epoch:,}: out of domain: {', '.join(lap.lost)}")
            return rows, Outcome.LEFT_DOMAIN
        surrogate = joint(surrogate_factors(p))
        details = {name: v.numpy().tolist() for name, v in p._asdict().items()}
        rows.append(measure("published", surrogate, reference, epoch, elapsed, details))
        if rows[-1].agrees:
            return rows, Outcome.AGREES
        if elapsed >= seconds:
            return rows, Outcome.TIME_CAP
    return rows, Outcome.EPOCH_CAP


# bgmm_jd, and measuring.


def fit_row(reference: Reference, call: str, seed: int) -> Row:
    """Run one call of `bgmm_jd.fit` with the published prior."""
    prior = bgmm_jd.mixture_prior(reference.K, reference.X.shape[1])
    start = time.perf_counter()
    posterior = bgmm_jd.fit(reference.X, K=reference.K, prior=prior, seed=seed)
    seconds = time.perf_counter() - start
    details = {"status": str(posterior.status), "own_elbo": _number(posterior.elbo)}
    details["khat"] = _number(posterior.khat)
    method = f"bgmm_jd.fit, {call} call"
    return measure(method, posterior.surrogate, reference, None, seconds, details)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def measure(
    method: str,
    surrogate: Surrogate,
    reference: Reference,
    epochs: int | None,
    seconds: float,
    details: dict[str, Any],
) -> Row:
    """Measure the elbo and the errors of a surrogate, and print them."""
    found = errors(moments(surrogate), reference)
    row = Row(
        method=method,
        epochs=epochs,
        seconds=seconds,
        elbo=elbo(surrogate, log_joint_of(reference.X, reference.K)),
        errors=found,
        agrees=agrees(found),
        details=details,
    )
    print("  ".join(cells(row)), flush=True)
    return row


def cells(row: Row) -> list[str]:
    """Return the cells of a row, in the order of HEADER."""
    return [
        row.method,
        "-" if row.epochs is None else f"{row.epochs:,}",
        f"{row.seconds:.2f}",
        f"{row.elbo.value:.3f} +/- {row.elbo.se:.3f}",
        *(f"{e.mean:.2f}; {e.sd_min:.2f}..{e.sd_max:.2f}" for e in row.errors.values()),
        "yes" if row.agrees else "no",
    ]


HEADER = ["method", "epochs", "seconds", "elbo", *VARIABLES, "agrees"]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="The published procedure beside bgmm_jd.fit.")
    parser.add_argument("--epochs", type=int, default=1_000, help="published: 1,000")
    parser.add_argument("--extra-epochs", type=int, default=199_000, help="cap on what follows")
    parser.add_argument("--minutes", type=float, default=30.0, help="cap on training time")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.epochs < 1 or given.extra_epochs < 0 or given.minutes <= 0:
        parser.error("--epochs and --minutes must be positive, --extra-epochs not negative")
    return given


def main() -> None:
    """Run both procedures, print the table and write the file."""
    given = arguments()
    reference = load_reference("three_clusters")
    fits = [fit_row(reference, "first", given.seed), fit_row(reference, "second", given.seed + 1)]
    marks = checkpoints(given.epochs, given.extra_epochs)
    published, outcome = published_rows(reference, marks, 60 * given.minutes, given.seed)
    rows = [*published, *fits]
    print("\n" + table(HEADER, [cells(row) for row in rows]))
    print(f"\nThe published procedure ended: {outcome.value}.")
    result = {"settings": vars(given), "rows": rows, "published_outcome": outcome.value}
    print(f"Written to {write_result('published', result).name}.")


if __name__ == "__main__":
    main()
