"""Fits against exact answers, from quadrature or from symmetry."""

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

import bgmm_jd
from bgmm_jd.calibration.importance_sampling import draw_proposal
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.variational.approximation import draw_mean_field

pytestmark = pytest.mark.slow

# One component in one dimension under the published prior: mean ~ N(0, 1), precision ~
# Gamma(5, 5), independent, so that there is no closed form.
ROWS = np.array([1.3, 0.2, 2.1, 1.0, 0.4, 1.9, -0.5, 1.1])
N = len(ROWS)
SHIFT, SCALE = 5000.0, 1000.0


def log_joint(mean, log_tau):
    """Return log p(X, mean, log tau); the last term is the log Jacobian of the logarithm."""
    tau = np.exp(log_tau)
    likelihood = stats.norm.logpdf(ROWS[:, None, None], mean, tau**-0.5).sum(axis=0)
    prior = stats.norm.logpdf(mean) + stats.gamma.logpdf(tau, 5.0, scale=0.2)
    return likelihood + prior + log_tau


class Exact:
    """The posterior by quadrature on a grid.

    For such smooth densities the error of the trapezoid rule falls like exp(-n).
    """

    def __init__(self, points):
        self.mean = np.linspace(-3, 4, points)
        self.log_tau = np.linspace(-5, 4, points)
        density = log_joint(*np.meshgrid(self.mean, self.log_tau, indexing="ij"))
        self.weight = np.exp(density - density.max())
        total = self._integral(self.weight)
        self.log_evidence = np.log(total) + density.max()
        self.weight /= total

    def _integral(self, values):
        inner = integrate.trapezoid(values, self.log_tau, axis=1)
        return integrate.trapezoid(inner, self.mean)

    def expectation(self, function):
        """Return the expectation of a function of the mean and the precision."""
        grid = np.meshgrid(self.mean, np.exp(self.log_tau), indexing="ij")
        return self._integral(self.weight * function(*grid))


@pytest.fixture(scope="module")
def exact():
    return Exact(401)


def fit_one(rows, **prior):
    model = bgmm_jd.mixture_prior(1, 1, dtype="float64", **prior)
    return bgmm_jd.fit(rows[:, np.newaxis], 1, prior=model, progress=False, restarts=1)


@pytest.fixture(scope="module")
def posterior():
    return fit_one(ROWS)


def parameters(posterior):
    """Return loc, scale, concentration and mean of the surrogate's two members, in units of X."""
    members = posterior.surrogate.sample_distributions(seed=(0, 0))[0]
    mean = members.precisions.mean().numpy().item()
    concentration = (mean / members.precisions.stddev().numpy().item()) ** 2
    return (
        members.means.mean().numpy().item(),
        members.means.stddev().numpy().item(),
        concentration,
        mean,
    )


def exact_elbo(loc, scale, concentration, mean):
    """Return E[log p(X, mean, tau) - log q], q = Normal(loc, scale) Gamma(concentration, mean)."""
    log_tau = special.digamma(concentration) - np.log(concentration / mean)
    squares = ((ROWS - loc) ** 2 + scale**2).sum()
    likelihood = 0.5 * N * (log_tau - np.log(2 * np.pi)) - 0.5 * mean * squares
    prior_mean = -0.5 * np.log(2 * np.pi) - 0.5 * (loc**2 + scale**2)
    prior_tau = 5 * np.log(5) - special.gammaln(5) + 4 * log_tau - 5 * mean
    entropy = stats.norm(loc, scale).entropy()
    entropy += stats.gamma(concentration, scale=mean / concentration).entropy()
    return likelihood + prior_mean + prior_tau + entropy


def test_quadrature_has_converged(exact):
    coarse = Exact(201)
    assert coarse.log_evidence == pytest.approx(exact.log_evidence, abs=1e-10)
    # Given the precision, the mean can be integrated out analytically: X ~ N(0, 1 / tau + 1 1^T).
    line = np.linspace(-5, 4, 401)
    density = [
        stats.multivariate_normal(cov=np.exp(-u) * np.eye(N) + 1).logpdf(ROWS)
        + stats.gamma.logpdf(np.exp(u), 5.0, scale=0.2)
        + u
        for u in line
    ]
    expected = np.log(integrate.trapezoid(np.exp(density), line))
    assert exact.log_evidence == pytest.approx(expected, abs=1e-8)


def test_elbo_of_the_fitted_surrogate_is_just_below_the_log_evidence(exact, posterior):
    """The closed form of the elbo has no noise."""
    elbo = exact_elbo(*parameters(posterior))
    assert exact.log_evidence - 0.1 < elbo < exact.log_evidence


def test_reported_elbo_equals_the_closed_form_within_its_standard_error(exact, posterior):
    """The limit of 5 standard errors has a false-alarm rate of 6e-7."""
    elbo = exact_elbo(*parameters(posterior))
    assert abs(posterior.elbo - elbo) < 5 * posterior.elbo_se
    assert posterior.elbo_se < 0.05  # a larger error would make the test weak
    assert posterior.elbo < exact.log_evidence + 5 * posterior.elbo_se


def test_surrogate_is_the_optimum_that_a_general_optimizer_finds(posterior):
    """SciPy maximises the closed form of the elbo."""

    def unpack(p):
        return p[0], np.exp(p[1]), np.exp(p[2]), np.exp(p[3])

    best = optimize.minimize(lambda p: -exact_elbo(*unpack(p)), np.zeros(4), tol=1e-10)
    loc, scale, concentration, mean = unpack(best.x)
    found = parameters(posterior)
    # A run has converged when its halves agree to 0.05 sds, so 0.1 is ample for each parameter. The
    # elbo is flat there, and is too low by at most 4 times 0.1^2 / 2.
    assert abs(found[0] - loc) < 0.1 * scale
    assert abs(np.log(found[1] / scale)) < 0.1
    assert abs(np.log(found[2] / concentration)) < 0.2  # sd = mean / sqrt(concentration)
    assert abs(found[3] - mean) < 0.1 * mean / np.sqrt(concentration)
    assert 0 <= -best.fun - exact_elbo(*found) + 1e-9 < 0.02


def test_calibrated_draws_have_the_moments_of_the_exact_posterior(exact, posterior):
    """Each mean and variance is tested at 5 standard errors, a false-alarm rate of 6e-7.

    The n draws are resampled from 3 n weighted proposals, so their means have at most twice the
    variance of those of n independent draws.
    """
    n = 20_000
    theta = posterior.sample(n, seed=3)
    np.testing.assert_array_equal(theta["weights"], 1)
    for draws, of in (
        (theta["means"].ravel(), lambda mean, tau: mean),
        (theta["precisions"].ravel(), lambda mean, tau: tau),
        (np.log(theta["precisions"]).ravel(), lambda mean, tau: np.log(tau)),
        ((theta["means"] * theta["precisions"]).ravel(), lambda mean, tau: mean * tau),
    ):
        centre = exact.expectation(of)
        variance = exact.expectation(lambda m, t, of=of, c=centre: (of(m, t) - c) ** 2)
        fourth = exact.expectation(lambda m, t, of=of, c=centre: (of(m, t) - c) ** 4)
        assert abs(draws.mean() - centre) < 5 * np.sqrt(2 * variance / n)
        found = np.mean((draws - centre) ** 2)
        assert abs(found - variance) < 5 * np.sqrt(2 * (fourth - variance**2) / n)


@pytest.mark.parametrize("kind", ["surrogate", "calibrated"])
def test_mean_importance_ratio_is_the_evidence(exact, posterior, kind):
    """E_q[p(X, theta) / q(theta)] = p(X), with all constants kept, in the units of X.

    The limit of 5 standard errors has a false-alarm rate of 6e-7.
    """
    n = 20_000
    if kind == "surrogate":
        params = posterior.approximation.params
        draws = draw_mean_field(posterior.problem, params, n, seed=5)
    else:
        draws = draw_proposal(posterior.approximation, n, np.random.default_rng(5))
    log_joint, log_q = log_densities(posterior, draws)
    ratio = np.exp(log_joint - log_q - exact.log_evidence)
    error = ratio.std() / np.sqrt(n)
    assert error < 0.01
    assert abs(ratio.mean() - 1) < 5 * error


def test_log_density_is_that_of_the_exact_posterior_predictive(exact, posterior):
    """A plug-in estimate at the posterior mean has a larger error than the average over draws."""
    new = np.array([-2.0, 0.9, 4.0])
    S = 4000
    found = bgmm_jd.log_density(posterior, new[:, np.newaxis], draws=S)
    theta = posterior.sample(S)
    for x, value in zip(new, found, strict=True):

        def density(mean, tau, x=x):
            return stats.norm.pdf(x, mean, tau**-0.5)

        expected = np.log(exact.expectation(density))
        each = density(theta["means"].ravel(), theta["precisions"].ravel())
        # 5 standard errors of a mean of draws, with at most twice the variance: see above.
        error = 5 * np.sqrt(2 / S) * each.std() / each.mean()
        assert abs(value - expected) < error
    plug_in = stats.norm.logpdf(4.0, theta["means"].mean(), theta["precisions"].mean() ** -0.5)
    assert plug_in < found[2] - 0.3


def test_rows_and_prior_in_other_units_give_the_posterior_in_those_units(posterior):
    """1000 X + 5000, and the published prior transformed likewise: equal to float tolerance."""
    moved = fit_one(
        SHIFT + SCALE * ROWS,
        mean_loc=SHIFT,
        mean_scale=SCALE,
        precision_rate=5.0 * SCALE**2,
    )
    loc, scale, concentration, mean = parameters(posterior)
    expected = SHIFT + SCALE * loc, SCALE * scale, concentration, mean / SCALE**2
    # In standardised units rows and prior are equal up to some eps of the shift, and the fit is a
    # contraction.
    np.testing.assert_allclose(parameters(moved), expected, rtol=1e-8)
    np.testing.assert_allclose(moved.elbo, posterior.elbo - N * np.log(SCALE), rtol=1e-9)
    assert moved.khat == pytest.approx(posterior.khat, abs=1e-6)


# --- Symmetries of the fit, on two clusters ---------------------------------------------------

INIT = np.array([[-4.0, 0.0], [4.0, 0.0]])


@pytest.fixture(scope="module")
def given(two_clusters):
    return bgmm_jd.fit(two_clusters, 2, init=INIT, progress=False)


def moments(posterior):
    members = posterior.surrogate.sample_distributions(seed=(0, 0))[0]
    return {
        name: (member.mean().numpy(), member.stddev().numpy())
        for name, member in members._asdict().items()
    }


def test_shift_and_scale_of_x_shift_and_scale_the_posterior(two_clusters, given):
    """Under the default prior, which is scaled to X, equal seeds agree to float tolerance."""
    other = bgmm_jd.fit(SHIFT + SCALE * two_clusters, 2, init=SHIFT + SCALE * INIT, progress=False)
    found, expected = moments(other), moments(given)
    for (name, (mean, sd)), factor in zip(expected.items(), (1, SCALE, SCALE**-2), strict=True):
        shift = SHIFT if name == "means" else 0.0
        np.testing.assert_allclose(found[name][0], shift + factor * mean, rtol=1e-8)
        np.testing.assert_allclose(found[name][1], factor * sd, rtol=1e-8)
    jacobian = two_clusters.size * np.log(SCALE)
    np.testing.assert_allclose(other.elbo, given.elbo - jacobian, rtol=1e-9)
    np.testing.assert_allclose(other.elbo_trace, given.elbo_trace - jacobian, rtol=1e-8)
    for name, draws in other.sample(100, seed=1).items():
        shift = SHIFT if name == "means" else 0.0
        factor = {"weights": 1, "means": SCALE, "precisions": SCALE**-2}[name]
        same = shift + factor * given.sample(100, seed=1)[name]
        np.testing.assert_allclose(draws, same, rtol=1e-6)


def test_shift_and_scale_of_x_leave_predicted_labels_unchanged(two_clusters):
    """Fits begin with k-means++ and have several restarts."""
    labels = [
        bgmm_jd.predict(bgmm_jd.fit(X, 2, progress=False), X)
        for X in (two_clusters, SHIFT + SCALE * two_clusters)
    ]
    np.testing.assert_array_equal(*labels)
    np.testing.assert_array_equal(labels[0], np.repeat([0, 1], 20))


def test_order_of_rows_does_not_matter(two_clusters, given):
    """A full batch is a sum over rows, equal in any order to float tolerance."""
    shuffled = np.random.default_rng(0).permutation(two_clusters)
    other = bgmm_jd.fit(shuffled, 2, init=INIT, progress=False)
    found, expected = moments(other), moments(given)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8)
    np.testing.assert_allclose(other.elbo, given.elbo, rtol=1e-10)


def test_reversed_init_reverses_the_components(two_clusters, given):
    """Each component then gets other random numbers.

    By their own criterion both runs are within 0.05 sds of the optimum; here their difference may
    be 0.2 sds.
    """
    other = bgmm_jd.fit(two_clusters, 2, init=INIT[::-1], progress=False)
    found, expected = moments(other), moments(given)
    for name, (mean, sd) in expected.items():
        assert np.all(np.abs(found[name][0][::-1] - mean) < 0.2 * sd)
        assert np.all(np.abs(np.log(found[name][1][::-1] / sd)) < 0.2)
    assert abs(other.elbo - given.elbo) < 5 * np.hypot(other.elbo_se, given.elbo_se)
    np.testing.assert_array_equal(bgmm_jd.predict(given, INIT), [0, 1])
    np.testing.assert_array_equal(bgmm_jd.predict(other, INIT), [1, 0])


def test_equal_seeds_give_equal_results_and_other_seeds_do_not(two_clusters, given):
    again = bgmm_jd.fit(two_clusters, 2, init=INIT, progress=False)
    assert again.elbo == given.elbo
    for name, draws in again.sample(10, seed=1).items():
        np.testing.assert_array_equal(draws, given.sample(10, seed=1)[name])
    other = bgmm_jd.fit(two_clusters, 2, init=INIT, seed=1, progress=False)
    assert not np.array_equal(other.elbo_trace[:5], given.elbo_trace[:5])
