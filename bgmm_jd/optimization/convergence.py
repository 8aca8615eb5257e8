"""Convergence of a run, in units of the parameters' own posterior standard deviations.

The iterates of a stochastic optimiser end in a cloud around the optimum. The run is cut into blocks
of steps, and its second half is taken for that cloud. The run has converged when the two halves of
the cloud agree. It returns the mean of the cloud, which is far nearer to the optimum than the last
step is (Polyak and Juditsky 1992; for variational inference Dhaka et al. 2020, *Robust, accurate
stochastic optimization for variational inference*).
"""

import numpy as np
import tensorflow as tf

from bgmm_jd.variational.parameters import VariationalParameters, constrained_arrays
from bgmm_jd.variational.structure import Site

MomentVectors = tuple[np.ndarray, np.ndarray]  # means and sds of all coordinates, in a row each

_FEWEST_BLOCKS = 4  # in the second half: two to compare with two


def is_check_due(blocks: int, times: int = 8) -> bool:
    """Return whether to check convergence after that many blocks.

    So many times (a power of two) in each doubling of the run: eight times is after each of the
    first 15 blocks, after every second of the next 16, and so on.
    """
    return blocks % max(1, 2 ** (blocks.bit_length() - 1) // times) == 0


def second_half(blocks: list[VariationalParameters]) -> list[VariationalParameters]:
    """Return the second half of the run, of an even number of blocks."""
    return blocks[-2 * (len(blocks) // 4) :] if len(blocks) >= 4 else blocks[-1:]


def halves(
    blocks: list[VariationalParameters],
) -> tuple[list[VariationalParameters], list[VariationalParameters]]:
    """Return the two halves of the run's second half."""
    chosen = second_half(blocks)
    return chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]


def drift(sites: tuple[Site, ...], blocks: list[VariationalParameters]) -> float:
    """Return how far apart the two halves of the run's second half are.

    The largest over all parameters of |difference of posterior means| / sd and |difference of log
    sds|; infinite for short runs.
    """
    early, late = halves(blocks)
    if len(early) < _FEWEST_BLOCKS // 2:
        return np.inf
    moments = [parameter_moments(sites, average_parameters(sites, part)) for part in (early, late)]
    return float(np.abs(standardized_difference(moments[1], moments[0])).max())


def standardized_difference(here: MomentVectors, there: MomentVectors) -> np.ndarray:
    """Return differences of means in the sds of `here`, and then differences of log sds.

    Not finite for parameters that have left the range of the dtype.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.concatenate([(there[0] - here[0]) / here[1], np.log(there[1] / here[1])])


def average_parameters(
    sites: tuple[Site, ...], blocks: list[VariationalParameters]
) -> VariationalParameters:
    """Return the parameters at the mean of the blocks, which are in unconstrained coordinates."""
    average = tf.nest.map_structure(lambda *leaves: np.mean(leaves, axis=0), *blocks)
    return constrained_arrays(sites, average)


def parameter_moments(sites: tuple[Site, ...], params: VariationalParameters) -> MomentVectors:
    """Return the means and the sds of every entry of the surrogate, in a row each.

    In float64: the weight of the last of many broken sticks has a variance below the smallest
    float32.
    """
    pairs = []
    for site in sites:
        wide = {name: np.asarray(v, np.float64) for name, v in params[site.name].items()}
        pairs.append(site.family.moments(wide))
    return (
        np.concatenate([np.ravel(mean) for mean, _ in pairs]),
        np.concatenate([np.ravel(sd) for _, sd in pairs]),
    )
