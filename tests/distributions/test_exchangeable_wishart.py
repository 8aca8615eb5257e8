"""The exchangeable Wishart: its normalisation by quadrature, draws, units, and modes of execution.

See `numerical_checks` for false alarms and tolerances.
"""

import numpy as np
import pytest
import tensorflow as tf
from numerical_checks import DTYPES, FALSE_ALARM, ROUNDINGS, assert_mean, eps, in_every_mode
from scipy import special, stats

from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart


def make(K, D, factor=None, floor=0.01, dtype=tf.float64, **options):
    factor = np.eye(D) if factor is None else factor
    return ExchangeableWishart(
        K,
        tf.constant(factor, dtype),
        df=D + 4.0,
        scale_df=float(D),
        scale_mean=4.0,
        floor=floor,
        **options,
    )


def upper_factor(D, seed=0):
    """An upper triangular factor of columns of different scales."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 1, D)
    return scale[:, None] * (np.eye(D) + np.triu(rng.normal(size=(D, D)), 1))


def random_precisions(shape, D, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(*shape, D, 2 * D + 2))
    return rows @ rows.swapaxes(-1, -2) / D


# --- The density --------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_density_of_one_number_integrates_to_one(floor, scale):
    law = make(1, 1, [[scale]], floor)

    # The tail of log x is exp(-t / 2) without a floor, so 5e-9 is left at t = 38.
    parts = np.linspace(-30.0, 40.0, 71)
    t, w = np.polynomial.legendre.leggauss(8)
    nodes = (parts[:-1, None] + 0.5 * (t + 1)).ravel()
    x = np.exp(nodes) / scale**2
    values = np.exp(law.log_prob(tf.constant(x[:, None, None, None])).numpy()) * x
    np.testing.assert_allclose(values @ np.tile(0.5 * w, 70), 1.0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("floor", [0.01, 0.5])
def test_density_of_two_numbers_integrates_to_one(floor):
    law = make(2, 1, floor=floor)
    t, w = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(-25.0, 12.0, 75)  # the floor leaves nothing above exp(8)
    half = 0.5 * (edges[1] - edges[0])
    nodes = (edges[:-1, None] + half * (t + 1)).ravel()
    weights = np.tile(half * w, len(edges) - 1)
    pairs = np.stack(np.meshgrid(nodes, nodes), axis=-1)
    log_density = law.log_prob(tf.constant(np.exp(pairs)[..., None, None])).numpy()
    values = np.exp(log_density + pairs.sum(axis=-1))
    np.testing.assert_allclose(weights @ values @ weights, 1.0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("floor", [0.01, 0.3])
def test_density_of_one_matrix_integrates_to_one(floor):
    """By importance sampling from the law without floor, drawn by its definition.

    Draws of B ~ W and Lam | B ~ W by scipy; the density of the proposal is the closed form of
    Gupta and Nagar (2000), theorem 5.2.2, written out. The weights are at most 1 / Z.
    """
    D, n = 2, 40_000
    g, nu, h = D, D + 4, D / 4
    rng = np.random.default_rng(3)
    B = stats.wishart(g, np.eye(D) / h).rvs(n, random_state=rng)
    standard = stats.wishart(nu, np.eye(D)).rvs(n, random_state=rng)
    root = np.linalg.inv(np.linalg.cholesky(B))
    lam = root.swapaxes(-1, -2) @ standard @ root
    log_proposal = (
        special.multigammaln((g + nu) / 2, D)
        - special.multigammaln(g / 2, D)
        - special.multigammaln(nu / 2, D)
        + g * D / 2 * np.log(h)
        + (nu - D - 1) / 2 * np.linalg.slogdet(lam)[1]
        - (g + nu) / 2 * np.linalg.slogdet(h * np.eye(D) + lam)[1]
    )
    log_density = make(1, D, floor=floor).log_prob(tf.constant(lam[:, None])).numpy()
    assert_mean(np.exp(log_density - log_proposal), 1.0)


@pytest.mark.parametrize("K", [1, 4])
def test_density_without_floor_is_the_average_over_scale_matrices(K):
    """Of one set of matrices: E_B prod_k W(Lam_k; nu, inverse scale B), by scipy's draws of B."""
    D, n = 2, 40_000
    lam = random_precisions((K,), D)
    B = stats.wishart(D, np.eye(D) * 4 / D).rvs(n, random_state=np.random.default_rng(4))
    nu = D + 4
    log_density = (
        0.5 * (nu - D - 1) * np.linalg.slogdet(lam)[1].sum()
        + 0.5 * K * nu * np.linalg.slogdet(B)[1]
        - 0.5 * np.einsum("nij,ji->n", B, lam.sum(axis=0))
        - 0.5 * K * nu * D * np.log(2)
        - K * special.multigammaln(nu / 2, D)
    )
    found = make(K, D, floor=0.0).log_prob(tf.constant(lam)).numpy()
    assert_mean(np.exp(log_density - found), 1.0)


@pytest.mark.parametrize("lower", [False, True])
def test_density_in_other_units_is_that_of_the_matrices_in_units_of_the_factor(lower):
    """By the Jacobian |F|^(D + 1) for each of the K matrices; for either kind of triangle."""
    K, D = 3, 4
    F = upper_factor(D).T if lower else upper_factor(D)
    x = random_precisions((5, K), D)
    inverse = np.linalg.inv(F)
    moved = inverse.T @ x @ inverse
    expected = make(K, D).log_prob(x) + K * (D + 1) * np.linalg.slogdet(F)[1]
    np.testing.assert_allclose(make(K, D, F).log_prob(moved), expected, rtol=1e-11)


def test_density_does_not_depend_on_the_order_of_the_components():
    x = random_precisions((3,), 3)
    law = make(3, 3, upper_factor(3))
    np.testing.assert_allclose(law.log_prob(x[[2, 0, 1]]), law.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_density_at_cholesky_factors_is_that_of_the_matrices(dtype):
    """Relative to the size of the terms, which are K D logs of order 10 and a constant."""
    K, D = 3, 3
    law = make(K, D, upper_factor(D), dtype=dtype)
    factors = np.linalg.cholesky(random_precisions((6, K), D))
    factors = tf.constant(factors, dtype)
    at_factors = law.copy(input_output_cholesky=True)
    wide = tf.cast(factors, tf.float64)
    exact = make(K, D, upper_factor(D)).log_prob(tf.matmul(wide, wide, transpose_b=True))
    # A rounding of the factor F or of x moves each of the logs by its condition, below 100.
    allowed = 100 * ROUNDINGS * K * D**2 * eps(dtype)
    assert at_factors.log_prob(factors).dtype == dtype
    np.testing.assert_allclose(at_factors.log_prob(factors), exact, rtol=0, atol=allowed)


def test_gradient_is_that_of_differences():
    K, D = 2, 3
    law = make(K, D, upper_factor(D), input_output_cholesky=True)
    x = np.linalg.cholesky(random_precisions((K,), D))
    with tf.GradientTape() as tape:
        point = tf.constant(x)
        tape.watch(point)
        density = law.log_prob(point)
    gradient = tape.gradient(density, point).numpy()
    rng = np.random.default_rng(0)
    for _ in range(4):
        direction = np.tril(rng.normal(size=x.shape))
        step = 1e-5
        slope = (law.log_prob(x + step * direction) - law.log_prob(x - step * direction)) / 2 / step
        expected = (gradient * direction).sum()
        # Third derivatives times step^2, and the rounding of a density of some 100 nats over step.
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6)


def test_density_and_gradient_are_the_same_in_every_mode():
    law = make(3, 4, upper_factor(4))
    x = tf.constant(random_precisions((5, 3), 4))

    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            density = law.log_prob(x)
        return density, tape.gradient(density, x)

    first, *others = in_every_mode(value_and_gradient, x)
    for other in others:
        np.testing.assert_allclose(other[0], first[0], rtol=1e-11)
        np.testing.assert_allclose(other[1], first[1], rtol=1e-8, atol=1e-8)


def test_floor_bounds_the_density_of_a_matrix_that_grows_along_a_direction():
    """With one row in a plane for each degree of freedom of the density, a rank-one likelihood."""
    K, D = 2, 2
    grown = np.array([np.diag([10.0**power, 1.0]) for power in (2, 4, 6, 8)])
    x = np.stack([np.broadcast_to(np.eye(2), grown.shape), grown], axis=1)
    rows = 20 * 0.5 * np.log(grown[:, 0, 0])
    assert np.all(np.diff(make(K, D, floor=0.0).log_prob(x) + rows) > 0)
    assert np.argmax(make(K, D).log_prob(x) + rows) < 3


# --- Draws --------------------------------------------------------------------------------------


def exact_draws(n, K, D, floor, seed):
    """Draws in units where S = I by rejection: B ~ W accepted with (|B| / |B + floor I|)^a."""
    rng = np.random.default_rng(seed)
    nu = D + 4
    B = stats.wishart(D, np.eye(D) * 4 / D).rvs(5 * n, random_state=rng).reshape(-1, D, D)
    logs = -0.5 * K * nu * np.log1p(floor / np.linalg.eigvalsh(B)).sum(axis=1)
    B = B[rng.uniform(size=len(B)) < np.exp(logs)][:n] + floor * np.eye(D)
    assert len(B) == n
    standard = stats.wishart(nu, np.eye(D)).rvs(n * K, random_state=rng).reshape(n, K, D, D)
    root = np.linalg.inv(np.linalg.cholesky(B))[:, np.newaxis]
    return root.swapaxes(-1, -2) @ standard @ root


@pytest.mark.parametrize(
    ("K", "D", "floor"), [(1, 1, 0.01), (5, 1, 0.05), (1, 2, 0.01), (3, 2, 0.05)]
)
def test_draws_have_the_distribution_of_exact_ones(K, D, floor):
    """Two-sample Kolmogorov-Smirnov tests of log-determinants, an entry and a ratio."""
    n = 4_000
    F = upper_factor(D)
    found = F.T @ make(K, D, F, floor).sample(n, seed=5).numpy() @ F
    exact = exact_draws(n, K, D, floor, seed=6)
    statistics = (
        lambda x: np.linalg.slogdet(x[:, 0])[1],
        lambda x: np.linalg.slogdet(x.sum(axis=1))[1],
        lambda x: np.log(x[:, -1, 0, 0]),
        lambda x: np.linalg.slogdet(x[:, 0])[1] - np.linalg.slogdet(x.sum(axis=1))[1],
    )
    for statistic in statistics[: 4 if K > 1 else 3]:
        assert stats.ks_2samp(statistic(found), statistic(exact)).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("K", "D"), [(2, 10), (20, 3)])
def test_draws_have_the_mean_trace_that_the_density_implies(K, D):
    """The mean of the score under a change of scale of all matrices is zero.

    Lam -> exp(t) Lam has the Jacobian exp(t K D (D + 1) / 2), so E[d log p / dt] is minus that
    exponent. Within 5 standard errors.
    """
    law = make(K, D, floor=0.01 * K ** (-2.0 / D))
    x = law.sample(2_000, seed=7)
    with tf.GradientTape() as tape:
        t = tf.zeros([2_000], tf.float64)
        tape.watch(t)
        density = law.log_prob(tf.exp(t)[:, None, None, None] * x)
    score = tape.gradient(density, t).numpy()
    assert_mean(score, -K * D * (D + 1) / 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_are_fixed_by_the_seed_and_the_same_in_a_graph(dtype):
    law = make(2, 3, upper_factor(3), dtype=dtype)
    first = law.sample(4, seed=9)
    assert first.dtype == dtype
    assert first.shape == (4, 2, 3, 3)
    np.testing.assert_array_equal(law.sample(4, seed=9), first)
    np.testing.assert_allclose(
        tf.function(lambda: law.sample(4, seed=9))(), first, rtol=1e4 * eps(dtype)
    )
    assert not np.array_equal(law.sample(4, seed=10), first)
    lower = law.copy(input_output_cholesky=True).sample(4, seed=9)
    np.testing.assert_array_equal(lower, np.tril(lower))
    assert np.all(np.einsum("...ii->...i", lower) > 0)


# --- As a distribution of TFP --------------------------------------------------------------------


def test_shapes_parameters_and_copy_are_those_of_tfp():
    law = make(2, 3, name="precisions")
    assert law.batch_shape == []
    assert law.event_shape == [2, 3, 3]
    assert law.batch_shape_tensor().shape == [0]
    assert law.event_shape_tensor().numpy().tolist() == [2, 3, 3]
    assert law.sample(seed=0).shape == [2, 3, 3]
    assert law.sample([4, 5], seed=0).shape == [4, 5, 2, 3, 3]
    other = law.copy(components=4, floor=0.3)
    assert other.event_shape == [4, 3, 3]
    assert other.name == "precisions"
    x = random_precisions((4,), 3)
    np.testing.assert_array_equal(other.log_prob(x), make(4, 3, floor=0.3).log_prob(x))


@pytest.mark.parametrize("factors", [False, True])
def test_event_space_bijector_makes_matrices_or_factors(factors):
    law = make(2, 3, input_output_cholesky=factors)
    bijector = law.experimental_default_event_space_bijector()
    x = law.sample(seed=1)
    point = bijector.inverse(x)
    assert point.shape == [2, 6]
    np.testing.assert_allclose(bijector.forward(point), x, rtol=1e-9, atol=1e-12)
