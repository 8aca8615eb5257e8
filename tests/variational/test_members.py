"""The parameters of a surrogate's members are those of TFP's distributions, in the units of X."""

import numpy as np
from known_priors import D, K, prior_of, random_params, standardized_model
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.variational.members import joint_distribution, members_in_data_units
from bgmm_jd.variational.supports import unwrap


def log_density_of_breaks(concentration, weights):
    """Return the density of stick-breaking proportions by that of each break."""
    rest = np.cumsum(weights[:, ::-1], axis=1)[:, :0:-1]
    breaks = tfd.Beta(concentration[:, 0], concentration[:, 1]).log_prob(weights[:, :-1] / rest)
    return (breaks - np.log(rest)).numpy().sum(axis=1)


def log_density_by_tfp(parameters, prior_distribution, draws):
    """Return log densities [S] of one variable by TFP's own distribution with these parameters."""
    p = dict(parameters)
    if set(p) == {"loc", "scale"}:
        base = tfd.Independent(tfd.Normal(**p), p["loc"].ndim)
        is_positive = isinstance(unwrap(prior_distribution), tfd.HalfNormal)
        default = prior_distribution.experimental_default_event_space_bijector
        bijector = tfb.Exp() if is_positive else default()
        return tfd.TransformedDistribution(base, bijector).log_prob(draws).numpy()
    if p.get("concentration", np.empty(0)).ndim == 2 and set(p) == {"concentration"}:
        return log_density_of_breaks(p["concentration"], draws)
    family = {
        ("loc", "scale_tril"): tfd.MultivariateNormalTriL,
        ("concentration", "rate"): tfd.Gamma,
        ("df", "scale_tril"): tfd.WishartTriL,
        ("concentration",): tfd.Dirichlet,
        ("loc",): tfd.Deterministic,
    }[tuple(p)]
    by_entry = family(**p).log_prob(draws).numpy()
    return by_entry.reshape(len(draws), -1).sum(axis=1)


def params_for_tfp(model):
    """Return random parameters, with at least D degrees of freedom, as `tfd.WishartTriL` asks."""
    params = random_params(model)
    return {
        name: {**p, "excess": 1.0 + p["excess"]} if "excess" in p else p
        for name, p in params.items()
    }


def test_tfps_distributions_with_the_parameters_have_the_density_of_the_surrogate(prior, model):
    members = members_in_data_units(model, params_for_tfp(model))
    surrogate = joint_distribution(members)
    draws = surrogate.sample(5, seed=(0, 1))
    by_prior = prior.sample_distributions(seed=(0, 0))[0]
    found = 0.0
    for member, draw, distribution in zip(members, draws, by_prior, strict=True):
        parameters = member.family.tfp_parameters(member.parameters)
        arrays = {name: np.asarray(v) for name, v in parameters.items()}
        found += log_density_by_tfp(arrays, distribution, draw.numpy())
    # The change of units and the logs of small proportions lose some digits of float64.
    np.testing.assert_allclose(found, surrogate.log_prob(draws), rtol=1e-9, atol=1e-9)


def test_value_that_the_prior_fixes_is_a_parameter_in_the_units_of_x():
    """A mean of 7, of rows with the shift 50 and 3."""
    value = np.full((K, D), 7.0)
    model = standardized_model(prior_of(means=tfd.Deterministic(value)))
    (member,) = members_in_data_units(model, random_params(model))
    found = member.family.tfp_parameters(member.parameters)
    np.testing.assert_array_equal(found["loc"], value)
