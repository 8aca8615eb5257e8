"""Problems of rows in a source, and passes over them."""

import numpy as np
import tensorflow as tf
from builders import started
from small_problems import unconstrained

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.fitting.given_rows import reader_of, rows_of_source
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.model.covariance_forms import units_of_rows
from bgmm_jd.optimization.full_data import pass_evaluator
from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.standardized import standardize_source
from bgmm_jd.variational.approximation import Approximation

SEED = stateless_seed(3)


def in_batches(X, sizes, weight=None):
    """Return the source of rows that come in batches of the given sizes, and the rest in one."""

    def scan():
        parts = np.split(X, np.cumsum(sizes))
        if weight is None:
            return parts
        return list(zip(parts, np.split(weight, np.cumsum(sizes)), strict=True))

    return batches(scan)


def sample_and_problem(source, settings, covariance="diag", missing=False, executor=None):
    """Return the rows of a source that are in memory, and the problem of fitting two components."""
    reader = reader_of(source, None, settings, executor)
    rows = rows_of_source(reader, 2, missing, 0, settings)
    data = standardize_source(
        rows.reader,
        rows.census,
        units_of_rows(covariance, complete=not missing),
        read_constant_columns=False,
        settings=settings.robust_moments,
    )
    return rows, problem_of(data, 2, covariance, None, "graph", settings)


def started_in_memory(problem, X, weight=None):
    """Return the start of the same problem with all rows in memory, in the same units."""
    rows = as_standardized_rows(X, problem.data.standardization)
    data = problem.data._replace(kept_rows=rows._replace(weight=weight))
    return started(problem.on(data))


def pass_of(problem, start):
    """Return the unconstrained parameters after one pass, and the elbo before it."""
    at = Approximation(problem=problem, params=start.params, order=start.order)
    return pass_evaluator(problem, at.params, SEED)(unconstrained(at), 0)


def assert_same(one, other, rtol, atol):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_same_bits(one, other):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)
