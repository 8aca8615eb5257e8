"""Rows of four clusters, and priors of twelve components that leave superfluous ones empty."""

import numpy as np

import bgmm_jd

K_MAX, D = 12, 2
CONCENTRATION = 0.1
CENTRES = np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0], [0.0, -6.0]])
SIZES = np.array([200, 400, 600, 800])
N = SIZES.sum()


def four_clusters():
    """Return rows [2000, 2] of clusters of sd 1, at least 8 sds apart."""
    rng = np.random.default_rng(4)
    X = np.repeat(CENTRES, SIZES, axis=0) + rng.normal(size=(N, D))
    return X.astype(np.float32)


def components_in_units_of(X):
    """Return arguments for the prior of means and precisions: vague in the units of X.

    Probabilities of occupied components depend on them: the numbers that tests compare with were
    made under these.
    """
    shift, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    return {
        "mean_loc": shift,
        "mean_scale": 2.0 * scale,
        "precision_concentration": 1.0,
        "precision_rate": 0.1 * K_MAX ** (-2.0 / D) * scale**2,
    }


def emptying_prior(name):
    """Return the prior "sticks" or "sparse", which fits of `four_clusters` under it share."""
    components = components_in_units_of(four_clusters())
    if name == "sticks":
        return bgmm_jd.stick_breaking_prior(K_MAX, D, concentration=CONCENTRATION, **components)
    return bgmm_jd.mixture_prior(K_MAX, D, weight_concentration=0.01, **components)
