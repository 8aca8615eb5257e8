"""The tempered density and its gradient at many points, and trajectories through it."""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled, map_chunks
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.units import Standardization
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.evaluation import points_per_call
from bgmm_jd.variational.log_joint import log_likelihood, log_prior
from bgmm_jd.variational.structure import Model, StandardizedModel


class Tempered(NamedTuple):
    """Densities at points [S, P], over the points themselves: float64, in nats.

    log_prior, log_likelihood [S], and their gradients prior_slope, likelihood_slope [S, P] : apart,
    so that they tell the density with the likelihood to any power.
    """

    log_prior: np.ndarray
    log_likelihood: np.ndarray
    prior_slope: np.ndarray
    likelihood_slope: np.ndarray

    def slope(self, temperature: float) -> np.ndarray:
        """Return the gradient of log prior + temperature * log likelihood, [S, P]."""
        with np.errstate(all="ignore"):  # a point may be out of the range of the dtype
            return self.prior_slope + temperature * self.likelihood_slope


class TemperedDensity(NamedTuple):
    """Prior times likelihood to a power, for all rows, as a function of unconstrained coordinates.

    temperature : the power of the likelihood.
    statistics : dtype of the matrix product by which the likelihood is computed; by differences
        if None. See `evaluation.dtype_of_statistics`.
    most_points : of a call, where many calls have few points: a program of its own is compiled for
        this number, instead of one that all calls share.
    """

    problem: Problem
    temperature: float = 1.0
    statistics: tf.DType | None = None
    most_points: int | None = None

    def at(self, temperature: float) -> "TemperedDensity":
        """Return the density with the likelihood to another power."""
        return self._replace(temperature=temperature)

    def density(self, points: np.ndarray) -> Tempered:
        """Return the prior, the likelihood and their gradients at points [S, P]."""
        still = np.zeros_like(points)
        lengths = np.zeros((len(points), 1))
        return self.follow(points, still, still, lengths, np.eye(points.shape[1]), 1)[2]

    def follow(
        self,
        points: np.ndarray,
        velocity: np.ndarray,
        slope: np.ndarray,
        lengths: np.ndarray,
        scale: np.ndarray,
        leapfrogs: int,
    ) -> tuple[np.ndarray, np.ndarray, Tempered]:
        """Follow trajectories of Hamiltonian dynamics (Neal 2011), all in one call of the program.

        Parameters
        ----------
        points [S, P] : in unconstrained coordinates.
        velocity [S, P] : in coordinates in which the points have unit scale.
        slope [S, P] : of the tempered density, at the points.
        lengths [S, 1] : of one leapfrog.
        scale [P, P] : a matrix M; the mass matrix is (M M^T)^-1.
        leapfrogs : their number, at least 1.

        Returns
        -------
        points and velocities at the end, and the densities there.
        """
        problem, form = self.problem, self.problem.compiled_form
        program = _trajectory_program(form.model, form.size[0], self.statistics, problem.execution)
        beta = tf.constant(self.temperature, tf.float64)
        matrix = tf.constant(form.pad_matrix(scale), tf.float64)
        count = tf.constant(leapfrogs)

        def call(part: tf.Tensor) -> tf.Tensor:
            return program(part, form.rows, form.values, beta, matrix, count)

        size = points_per_call(problem, self.statistics is not None)
        size = size if self.most_points is None else min(size, self.most_points)
        begun = [form.pad_points(points), *map(form.pad_directions, (velocity, slope)), lengths]
        P = begun[0].shape[1]
        found = map_chunks(call, np.concatenate(begun, axis=1, dtype=np.float64), size)
        *ended, values = np.split(found, [P, 2 * P, 3 * P, 4 * P], axis=1)
        points, velocity, *slopes = map(form.crop, ended)
        return points, velocity, Tempered(values[:, 0], values[:, 1], *slopes)


@functools.lru_cache(maxsize=32)
def _trajectory_program(
    model: Model, N: int, statistics: tf.DType | None, execution: str
) -> Callable[..., tf.Tensor]:
    """Make the compiled trajectories: points, velocities, slopes and lengths [S, 3 P + 1].

    The density is in the program once, as the body of a loop, so that one program serves single
    densities too. Returned are points, velocities, slopes of the prior and of the likelihood, log
    priors and log likelihoods [S, 4 P + 2].

    Cached per number of rows, so that a new N builds a new `tf.function` instead of triggering a
    retracing warning.
    """

    def run(
        state: tf.Tensor,
        rows: Rows,
        standardization: Standardization,
        temperature: tf.Tensor,
        scale: tf.Tensor,
        leapfrogs: tf.Tensor,
    ) -> tf.Tensor:
        standardized, P = model.standardized(standardization), scale.shape[0]
        points, velocity, slope, lengths = tf.split(state, [P, P, P, 1], axis=1)

        def density(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return _densities(standardized, points, rows, statistics)

        def leapfrog(state: Iterable[tf.Tensor]) -> tuple[tf.Tensor, ...]:
            points, velocity, force, *_ = state
            velocity += 0.5 * lengths * force
            points += lengths * tf.matmul(velocity, scale, transpose_b=True)
            of_prior, of_likelihood, values = density(points)
            slope = of_prior + temperature * of_likelihood
            force = tf.matmul(slope, scale)  # of this leapfrog and the next
            velocity += 0.5 * lengths * force
            return points, velocity, force, of_prior, of_likelihood, values

        nothing = tf.zeros_like(slope)
        values = tf.zeros([tf.shape(state)[0], 2], tf.float64)
        begun = (points, velocity, tf.matmul(slope, scale), nothing, nothing, values)
        _, (points, velocity, _, *found) = tf.while_loop(
            lambda i, _: i < leapfrogs, lambda i, state: (i + 1, leapfrog(state)), (0, begun)
        )
        return tf.concat([points, velocity, *found], axis=1)

    return compiled(run, execution)


def _densities(
    model: StandardizedModel, points: tf.Tensor, rows: Rows, statistics: tf.DType | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the gradients of prior and likelihood [S, P] at points, and both logs [S, 2]."""
    points = tf.cast(points, model.dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(points)
        theta, log_det_jacobian = unflatten(model, points)
        prior = log_prior(model, theta) + log_det_jacobian
        likelihood = log_likelihood(model, theta, rows, tf.float64, statistics)
    of_prior, of_likelihood = (
        tf.cast(tape.gradient(value, points), tf.float64) for value in (prior, likelihood)
    )
    return of_prior, of_likelihood, tf.stack([tf.cast(prior, tf.float64), likelihood], axis=1)
