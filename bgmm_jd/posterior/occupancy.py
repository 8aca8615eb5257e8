"""The number of occupied components: the posterior of the number of clusters in the data.

A model may have more components than the data need, and a prior that leaves the superfluous ones
empty. The quantity of interest is then the number of components that at least one of the N rows
belongs to: Malsiner-Walli, Fruehwirth-Schnatter and Gruen (2016), Model-based clustering based on
sparse finite Gaussian mixtures, Statistics and Computing 26.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.model import likelihood
from bgmm_jd.posterior.densities import map_rows
from bgmm_jd.posterior.draws import draw_mixtures
from bgmm_jd.posterior.normal_mixtures import draw_labels_by_component
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior


@runs_tensorflow
def occupied_components(
    posterior: Posterior, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Return the posterior probability of each number of occupied components.

    ::

        p(number) = (1/S) sum_s [z_s has that many different labels],    z_s ~ p(z given X, theta_s)

    over draws theta_s of the posterior. The labels, which the fit has summed out, are drawn for
    all N rows of the fit, exactly and independently given theta_s. A row of weight 0 does not
    occupy a component. The standard error of a probability p is about sqrt(p (1 - p) / S).

    Parameters
    ----------
    posterior : Posterior
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal results.

    Returns
    -------
    array [K + 1]
        Probabilities of the numbers 0 to K, which sum to 1. The number 0 has probability zero.

    Raises
    ------
    TypeError, ValueError
        If `draws` is not a positive integer, or `seed` not a non-negative one.
    """
    draws, seed = as_count(draws, "draws"), as_seed(seed)
    blocks = _label_probabilities(posterior, draws, seed)
    numbers = components_with_rows(blocks, draws, posterior.K, seed).sum(axis=1)
    return np.bincount(numbers, minlength=posterior.K + 1) / draws


def _label_probabilities(posterior: Posterior, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield p(label_n = k given x_n, theta_s) for the rows of the fit of positive weight.

    As arrays [S, K, n], some rows at a time.
    """
    theta = draw_mixtures(posterior, draws, seed).theta
    rows = posterior.problem.data.rows
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        yield block if rows.weight is None else block[:, :, rows.weight[part] > 0]


def components_with_rows(blocks: Iterable[np.ndarray], S: int, K: int, seed: int) -> np.ndarray:
    """Draw a label for each row under each draw of theta, and return which components have rows.

    Reads no further block once all components have rows under all draws.

    Parameters
    ----------
    blocks : iterable of arrays [S, K, n]
        Probabilities of the labels, which sum to 1 over K, for consecutive blocks of the N rows.
        The result does not depend on their sizes.
    S, K : int
    seed : int

    Returns
    -------
    bool array [S, K]
    """
    rng = np.random.default_rng([seed, 6])
    occupied = np.zeros((S, K), bool)
    for block in blocks:
        u = rng.random((block.shape[2], S)).T  # row by row, whatever the sizes of the blocks
        undecided = np.flatnonzero(~occupied.all(axis=1))
        labels = draw_labels_by_component(block[undecided], u[undecided])
        occupied[undecided[:, np.newaxis], labels] = True
        if occupied.all():
            break
    return occupied
