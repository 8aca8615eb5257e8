"""Reference posteriors under other covariance forms and priors, of missing values and row weights.

Run once, kept with its results:  python make_priors.py [NAME ...]
Needs what make_reference.py needs. `settings["prior"]` of each file is the prior itself, in the
order in which its variables are drawn: a name -> [family, arguments ...]. A number serves every
entry of a variable's shape, text is a function of variables drawn before (see FUNCTIONS), and

    ["Dirichlet", c]      concentration c for every component
    ["Wishart", df]       scale matrix I / df, so that E[precision] = I
    ["Fixed", values]     not drawn: known

The rows' labels are summed out, and so are missing values, exactly: a row's density is that of
its observed values. A row's log likelihood is multiplied by its weight.
"""

import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from make_reference import HERE, summary
from numpyro.infer import MCMC, NUTS, init_to_value
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

CHAINS, WARMUP, DRAWS = 4, 1000, 5000


class Rows(NamedTuple):
    """X [N, D] in float32, NaN where missing; row_weights [N]; start: the true means [K, D]."""

    X: np.ndarray
    row_weights: np.ndarray
    start: np.ndarray


def clusters(seed, N, weights, means, sds, correlations=None):
    """Rows drawn around `means` with `sds` [K, D] and, per component, a correlation matrix."""
    rng = np.random.default_rng(seed)
    means, sds = np.array(means), np.array(sds)
    K, D = means.shape
    if correlations is None:
        correlations = np.tile(np.eye(D), (K, 1, 1))
    factors = sds[:, :, None] * np.linalg.cholesky(correlations)
    label = rng.choice(K, N, p=weights)
    noise = np.einsum("nij,nj->ni", factors[label], rng.standard_normal((N, D)))
    return Rows((means[label] + noise).astype("float32"), np.ones(N), means)


def full_three():
    """Three features, three components, correlated one way, the other and across."""
    correlations = [
        [[1.0, 0.8, 0.3], [0.8, 1.0, 0.1], [0.3, 0.1, 1.0]],
        [[1.0, -0.7, 0.2], [-0.7, 1.0, 0.3], [0.2, 0.3, 1.0]],
        [[1.0, 0.1, -0.6], [0.1, 1.0, 0.5], [-0.6, 0.5, 1.0]],
    ]
    means = [[-1.2, -0.6, 0.4], [1.1, -0.4, -0.5], [0.2, 1.5, 0.6]]
    sds = [[0.9, 0.7, 0.8], [0.7, 0.9, 0.6], [0.8, 0.7, 0.9]]
    return clusters(11, 900, [0.4, 0.35, 0.25], means, sds, correlations)


def full_five():
    """Five features: 0.8^|i - j| in one component, the same with alternating signs in the other."""
    chain = 0.8 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    sign = (-1.0) ** np.arange(5)
    means = [[-0.6, 0.5, 0.0, 0.4, -0.3], [0.6, -0.5, 0.3, -0.4, 0.5]]
    sds = [[0.9, 1.0, 0.8, 1.1, 0.9], [1.0, 0.8, 1.1, 0.9, 0.8]]
    return clusters(12, 800, [0.55, 0.45], means, sds, [chain, np.outer(sign, sign) * chain])


def plane_two():
    """Two components in the plane, moderately separated; the data of five priors."""
    return clusters(13, 400, [0.6, 0.4], [[-1.2, -0.5], [1.2, 0.8]], PLANE_TWO_SDS)


PLANE_TWO_SDS = [[0.8, 0.6], [0.6, 0.9]]


def tied_two():
    """Two components of one covariance."""
    shared = [[1.0, 0.7, -0.4], [0.7, 1.0, 0.0], [-0.4, 0.0, 1.0]]
    means, sds = [[-0.9, 0.2, 0.5], [0.9, -0.4, -0.3]], [[0.8, 0.9, 0.7]] * 2
    return clusters(14, 700, [0.6, 0.4], means, sds, [shared] * 2)


def spherical_three():
    """Three round components."""
    means, sds = [[-1.3, -0.8], [1.3, -0.6], [0.1, 1.4]], [[0.7] * 2, [0.9] * 2, [0.6] * 2]
    return clusters(15, 900, [0.4, 0.35, 0.25], means, sds)


def missing_three():
    """18 % of the values missing: a fifth, but a row that would lose all three keeps them."""
    means, sds = [[-1.0, 0.3, 0.6], [1.0, -0.6, -0.3]], [[0.9, 0.8, 0.7], [0.8, 0.7, 0.9]]
    whole = clusters(16, 500, [0.55, 0.45], means, sds)
    missing = np.arange(whole.X.size) < whole.X.size // 5
    missing = np.random.default_rng(161).permutation(missing).reshape(whole.X.shape)
    missing &= ~missing.all(axis=1, keepdims=True)
    return whole._replace(X=np.where(missing, np.float32(np.nan), whole.X))


def weighted_two():
    """Row weights uniform in [0, 3], to two decimals, of which every fifteenth is 0."""
    rows = clusters(17, 300, [0.6, 0.4], [[-1.1, -0.4], [1.0, 0.7]], [[0.8, 0.7], [0.7, 0.9]])
    row_weights = np.random.default_rng(171).uniform(0.0, 3.0, 300).round(2)
    row_weights[::15] = 0.0
    return rows._replace(row_weights=row_weights)


DIRICHLET, UNIT_NORMAL, GAMMA = ["Dirichlet", 2.0], ["Normal", 0.0, 1.0], ["Gamma", 5.0, 5.0]


def usual(precisions):
    """The published prior of weights and means, with another of the precisions."""
    return {"weights": DIRICHLET, "means": UNIT_NORMAL, "precisions": precisions}


# name: (rows, covariance, prior)
CASES = {
    "full_three": (full_three, "full", usual(["Wishart", 5.0])),
    "full_five": (full_five, "full", usual(["Wishart", 7.0])),
    "prior_half_normal": (
        plane_two,
        "diag",
        {"weights": DIRICHLET, "means": ["Normal", 0.0, 2.0], "scales": ["HalfNormal", 2.0]},
    ),
    "prior_hierarchical": (
        plane_two,
        "diag",
        {
            "spread": ["HalfNormal", 2.0],
            "means": ["Normal", 0.0, "spread"],
            "weights": DIRICHLET,
            "precisions": ["Gamma", 2.0, 1.0],
        },
    ),
    "prior_normal_gamma": (
        plane_two,
        "diag",
        {
            "precisions": ["Gamma", 3.0, 2.0],
            "means": ["Normal", 0.0, "1 / sqrt(0.2 * precisions)"],
            "weights": DIRICHLET,
        },
    ),
    "prior_fixed_sds": (
        plane_two,
        "diag",
        {"weights": DIRICHLET, "means": ["Normal", 0.0, 2.0], "scales": ["Fixed", PLANE_TWO_SDS]},
    ),
    "prior_student_lognormal": (
        plane_two,
        "diag",
        {
            "weights": ["Dirichlet", 1.0],
            "means": ["StudentT", 4.0, 0.0, 2.0],
            "scales": ["LogNormal", -0.3, 0.7],
        },
    ),
    "tied_two": (tied_two, "tied", usual(["Wishart", 5.0])),
    "spherical_three": (spherical_three, "spherical", usual(GAMMA)),
    "missing_three": (missing_three, "diag", usual(GAMMA)),
    "missing_full": (missing_three, "full", usual(["Wishart", 5.0])),
    "weighted_two": (weighted_two, "diag", usual(GAMMA)),
}

# The text that may stand for an argument, as a function of the variables drawn before.
FUNCTIONS = {
    "spread": lambda theta: theta["spread"],
    "1 / sqrt(0.2 * precisions)": lambda theta: 1.0 / jnp.sqrt(0.2 * theta["precisions"]),
}


def shape_of(name, covariance, K, D):
    """Of a variable of the prior."""
    if name in ("precisions", "scales"):
        return {"diag": (K, D), "spherical": (K, 1), "tied": (D, D), "full": (K, D, D)}[covariance]
    return {"weights": (K,), "means": (K, D), "spread": ()}[name]


def wishart(df, shape):
    """A Wishart(df, I / df) matrix's Cholesky factor: Bartlett (1933), as in Anderson (2003), 7.2.

    sqrt(df) times the factor has independent entries: on its diagonal the root of a chi-squared
    of df, df - 1, ... degrees of freedom, below it standard normals.
    """
    *batch, D, _ = shape
    squares = dist.Gamma((df - jnp.arange(D)) / 2, 0.5).expand((*batch, D)).to_event(len(batch) + 1)
    below = dist.Normal().expand((*batch, D * (D - 1) // 2)).to_event(len(batch) + 1)
    row, column = np.tril_indices(D, -1)
    root = jnp.sqrt(numpyro.sample("bartlett_squares", squares))[..., None] * jnp.eye(D)
    root = root.at[..., row, column].set(numpyro.sample("bartlett_below", below))
    return root / jnp.sqrt(df)


def draw_prior(prior, covariance, K, D):
    """theta by name, and as `factors` [K or 1, D, D] the Cholesky factors of matrix precisions."""
    theta = {}
    for name, (family, *arguments) in prior.items():
        shape = shape_of(name, covariance, K, D)
        numbers = [FUNCTIONS[a](theta) if isinstance(a, str) else jnp.array(a) for a in arguments]
        if family == "Fixed":
            theta[name] = numbers[0]
        elif family == "Wishart":
            factor = wishart(*numbers, shape)
            theta[name] = numpyro.deterministic(name, factor @ jnp.swapaxes(factor, -1, -2))
            theta["factors"] = factor.reshape(-1, D, D)
        elif family == "Dirichlet":
            theta[name] = numpyro.sample(name, dist.Dirichlet(jnp.broadcast_to(numbers[0], shape)))
        else:
            law = getattr(dist, family)(*numbers).expand(shape).to_event(len(shape))
            theta[name] = numpyro.sample(name, law)
    return theta


def log_density_diagonal(theta, X):
    """log p(observed values of x_n, given label k): [K, N]."""
    means = theta["means"]
    tau = theta["precisions"] if "precisions" in theta else theta["scales"] ** -2
    tau = jnp.broadcast_to(tau, means.shape)
    seen = ~np.isnan(X).T
    residual = jnp.where(seen, np.nan_to_num(X).T - means[..., None], 0.0)
    log_scale = 0.5 * jnp.log(tau / (2 * jnp.pi)) @ seen.astype(float)
    return log_scale - 0.5 * (tau[..., None] * residual**2).sum(1)


def log_density_matrix(theta, X):
    """log p(observed values of x_n, given label k): [K, N]; rows of one pattern at a time.

    Where P = L L', the trailing block of L is the Cholesky factor of the marginal precision of
    the trailing features (the Schur complement), so the missing ones are put first.
    """
    factors = theta["factors"]
    precisions = factors @ jnp.swapaxes(factors, -1, -2)
    patterns, which = np.unique(np.isnan(X), axis=0, return_inverse=True)
    out = jnp.zeros((theta["means"].shape[0], len(X)))
    for i, missing in enumerate(patterns):
        chosen = np.flatnonzero(which.ravel() == i)
        order, m = np.argsort(~missing, kind="stable"), missing.sum()
        seen = order[m:]
        L = factors
        if m:
            L = jnp.linalg.cholesky(precisions[:, order][:, :, order])[:, m:, m:]
        residual = X[chosen][:, seen].T - theta["means"][:, seen, None]
        # sum_i L[k, i, j] residual[k, i, n], written out: quicker than small matrix products.
        rotated = (L[..., None] * residual[:, :, None]).sum(1)
        log_scale = jnp.log(jnp.diagonal(L, axis1=1, axis2=2)).sum(1)
        log_scale -= 0.5 * len(seen) * jnp.log(2 * jnp.pi)
        out = out.at[:, chosen].set(log_scale[:, None] - 0.5 * (rotated**2).sum(1))
    return out


def log_likelihood(theta, X):
    """log p(observed values of x_n), the label summed out: [N]."""
    log_density = log_density_matrix if "factors" in theta else log_density_diagonal
    return jax.nn.logsumexp(jnp.log(theta["weights"])[:, None] + log_density(theta, X), axis=0)


def model(X, row_weights, prior, covariance, K):
    """The prior, times every row's density to the power of its weight."""
    theta = draw_prior(prior, covariance, K, X.shape[1])
    numpyro.factor("rows", (row_weights * log_likelihood(theta, X)).sum())


def check_likelihood(X, prior, covariance, K):
    """Ours against scipy's densities of the observed values, at a draw of the prior."""
    D = X.shape[1]
    with numpyro.handlers.seed(rng_seed=1):
        theta = draw_prior(prior, covariance, K, D)
    if "factors" in theta:
        precisions = np.broadcast_to(theta["precisions"], (K, D, D))
        covariances = np.linalg.inv(precisions)
    else:
        variances = theta["scales"] ** 2 if "scales" in theta else 1 / theta["precisions"]
        covariances = np.broadcast_to(variances, (K, D))[:, :, None] * np.eye(D)
    expected = [
        logsumexp(
            [
                multivariate_normal.logpdf(x[seen], mean[seen], covariance[np.ix_(seen, seen)])
                for mean, covariance in zip(np.asarray(theta["means"]), covariances, strict=True)
            ],
            b=theta["weights"],
        )
        for x, seen in zip(X, ~np.isnan(X), strict=True)
    ]
    np.testing.assert_allclose(log_likelihood(theta, X), expected, rtol=1e-8)


def sampled(rows, prior, covariance):
    """Draws [chains, draws, ...] of the prior's variables, the chains started at the true means."""
    K = len(rows.start)
    X = rows.X.astype(np.float64)
    check_likelihood(X, prior, covariance, K)
    start = {"means": jnp.array(rows.start), "weights": jnp.full(K, 1 / K)}
    family, *arguments = prior.get("precisions", [None])
    if family == "Wishart":  # the identity: from a random matrix a chain may leave its labelling
        *batch, D, _ = shape_of("precisions", covariance, *rows.start.shape)
        start["bartlett_squares"] = jnp.full((*batch, D), arguments[0])
        start["bartlett_below"] = jnp.zeros((*batch, D * (D - 1) // 2))
    strategy = init_to_value(values=start)
    kernel = NUTS(model, init_strategy=strategy, target_accept_prob=0.9, dense_mass=True)
    mcmc = MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(0), X, rows.row_weights, prior, covariance, K)
    draws = mcmc.get_samples(group_by_chain=True)
    return {name: draws[name] for name, (family, *_) in prior.items() if family != "Fixed"}


def least_ess(posterior):
    """The smallest effective sample size; raises if the draws are too few to test against."""
    for name, found in posterior.items():
        found = {kind: np.array(value) for kind, value in found.items()}
        assert (found["mcse_mean"] <= 0.02 * found["sd"]).all(), name
        assert (found["mcse_sd"] <= 0.015 * found["sd"]).all(), name
    return min(np.min(found["ess_bulk"]) for found in posterior.values())


def write(name):
    """The rows of a case, and its posterior beside them."""
    make, covariance, prior = CASES[name]
    rows = make()
    data = make.__name__
    np.savetxt(HERE / f"{data}.csv", rows.X, delimiter=",", fmt="%.9g")
    result = {
        "name": name,
        "rows": len(rows.X),
        "settings": {"K": len(rows.start), "covariance": covariance, "prior": prior},
        "data": f"{data}.csv",
        "dtype": "float32",
        "sampler": f"numpyro {numpyro.__version__} NUTS, float64, {CHAINS} chains x {DRAWS} draws",
    }
    if (rows.row_weights != 1).any():
        result["row_weights"] = f"{data}_weights.csv"
        np.savetxt(HERE / result["row_weights"], rows.row_weights, fmt="%.9g")
    result["posterior"] = summary(sampled(rows, prior, covariance))
    least = least_ess(result["posterior"])
    (HERE / f"{name}.json").write_text(json.dumps(result, indent=1))
    print(f"{name} written, least ess {least:.0f}", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        write(name)
