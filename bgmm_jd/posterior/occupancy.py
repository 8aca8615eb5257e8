"""How many components hold rows: the posterior of the number of clusters in the data.

A model may be given more components than the data need, and a prior that leaves the spare ones
empty. Of interest is then the number of components that hold at least one of the N rows:
Malsiner-Walli, Fruehwirth-Schnatter and Gruen (2016), Model-based clustering based on sparse
finite Gaussian mixtures, Statistics and Computing 26.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.model import likelihood
from bgmm_jd.posterior.densities import map_rows
from bgmm_jd.posterior.normal_mixtures import draw_labels
from bgmm_jd.posterior.posterior import Posterior, draw_standardized

_DRAWS = 200


def occupied_components(posterior: Posterior, draws: int = _DRAWS, seed: int = 0) -> np.ndarray:
    """Posterior probability of each number of occupied components.

    ::

        p(number) = (1/S) sum_s [z_s has that many different labels],    z_s ~ p(z given X, theta_s)

    over draws theta_s of the posterior. The labels, which the fit has summed out, are drawn for
    all N rows of the fit, exactly and independently given theta_s. A row of weight 0 holds no
    component. The standard error of a probability p is about sqrt(p (1 - p) / S).

    Parameters
    ----------
    draws : int
        S, how many draws to average over.
    seed : int
        Equal seeds give equal results.

    Returns
    -------
    array [K + 1]
        For the numbers 0 to K; sums to 1. The number 0 has none.

    Raises
    ------
    TypeError, ValueError
        If `draws` is not a positive integer, or `seed` a non-negative one.
    """
    draws, seed = as_count(draws, "draws"), as_seed(seed)
    blocks = _label_probabilities(posterior, draws, seed)
    numbers = components_with_rows(blocks, draws, posterior.K, seed).sum(axis=1)
    return np.bincount(numbers, minlength=posterior.K + 1) / draws


def _label_probabilities(posterior: Posterior, draws: int, seed: int) -> Iterator[np.ndarray]:
    """p(label_n = k given x_n and theta_s) for draws of the posterior and all rows of the fit.

    Yields arrays [S, K, n], some rows at a time.
    """
    theta = draw_standardized(posterior, draws, seed).theta
    rows = posterior.problem.data.rows
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        yield block if rows.weight is None else block[:, :, rows.weight[part] > 0]


def components_with_rows(blocks: Iterable[np.ndarray], S: int, K: int, seed: int) -> np.ndarray:
    """Draw a label for each row given each theta, and tell which components hold one.

    Parameters
    ----------
    blocks : arrays [S, K, n] of label probabilities, summing to 1 over k
        Together they have the N rows; how they are cut does not matter.

    Returns
    -------
    bool array [S, K]
    """
    rng = np.random.default_rng([seed, 6])
    found = np.zeros((S, K), bool)
    for block in blocks:
        uniform = rng.random((block.shape[2], S)).T  # row by row: however they are cut
        waiting = np.flatnonzero(~found.all(axis=1))
        labels = draw_labels(block[waiting], uniform[waiting])
        found[waiting[:, np.newaxis], labels] = True
        if found.all():
            break
    return found
