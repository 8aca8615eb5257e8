"""The fitted posterior: draws from it, as a value that does not change."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.data.validation import as_count, as_probability
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.description import as_html, as_text
from bgmm_jd.posterior.draws import draw_standardized, in_data_units, in_data_units_exactly
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.posterior.provenance import Provenance
from bgmm_jd.posterior.summary import summary_table
from bgmm_jd.posterior.surrogate_members import parameter_arrays, surrogate_members
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.draws import has_whole_posterior, only_mode
from bgmm_jd.sampling.evidence import log_labellings_of_surrogate
from bgmm_jd.sampling.modes import LEAST_SHARE
from bgmm_jd.settings import Settings
from bgmm_jd.variational.approximation import (
    MEAN_FIELD,
    Approximation,
    Mixing,
    Problem,
    draw_mean_field,
)
from bgmm_jd.variational.members import joint_distribution

if TYPE_CHECKING:
    import pandas as pd

PREDICTIVE_DRAWS = 200  # posterior means over them have an error of 0.07 posterior sds


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Posterior:
    """A fitted surrogate posterior of a Gaussian mixture.

    Attributes
    ----------
    prior : tfd.JointDistributionCoroutine
        In the units of X.
    K, D : int
        Numbers of components and of features.
    covariance : str
        The form of the components' covariances.
    missing : str or None
        What NaN means in the fit, and in predictions.
    elbo : float
        Evidence lower bound in nats for the whole data set, all constants kept, in the units of X;
        higher is better. Estimated anew after the fit, with standard error `elbo_se`, which is NaN
        where Ctrl-C came before that. Both are NaN after `update`.
    log_evidence, log_evidence_se : float
        Log marginal likelihood in nats and the units of X, of all labellings of the components, by
        importance weights or, with Markov chains, bridge sampling, and its standard error. NaN
        where these are out of reach or not reliable; `evidence_bound` is then a lower bound.
    khat : float
        Pareto k-hat of the best proposal before importance weighting: below 0.5 reliable, above 0.7
        not; NaN if too expensive to compute.
    elbo_trace : array [steps]
        The noisy estimate of the elbo in each step.
    status : Status
        The outcome of the fit; its text is advice.
    batch_size : int
        The largest number of rows that a step read.
    restarts : tuple of Restart
        How each run ended; `agrees` says which reached the solution that was kept, and `starts` how
        many starts of variational EM led to where it began. A later run ends as soon as it is at
        the optimum of an earlier one, whose elbo it is given. Elbos are in the units of X, from the
        noisy ones of steps; parameters are in standardised units.
    modes : tuple of Mode
        The solutions that runs converged to, the one with the largest share of the posterior first.
    seconds : mapping of str to float
        What the parts of the fit took: "search", "calibration", "whole posterior" and "chains"; of
        the last call of `update`, "update".
    feature_names : tuple of str [D], or None
        The names of the columns of X, if X was a data frame.
    component_names : tuple of str [K], or None
        The names that `relabel` has given to the components, in their present order.
    provenance : Provenance, or None
        The `call` of the fit and the `versions` that ran it; None if its file has neither.
    approximation : Approximation
        The problem, the surrogate's parameters and the calibration, in standardised units. Not a
        part of the public interface: it may change in any version.
    """

    prior: tfd.JointDistributionCoroutine
    K: int
    D: int
    covariance: str
    missing: str | None
    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    khat: float
    elbo_trace: np.ndarray
    status: Status
    batch_size: int
    restarts: tuple[Restart, ...]
    modes: tuple[Mode, ...]
    seconds: Mapping[str, float]
    feature_names: tuple[str, ...] | None = None
    component_names: tuple[str, ...] | None = None
    provenance: Provenance | None = None
    approximation: Approximation = field(repr=False)

    @property
    def problem(self) -> Problem:
        """Return the model and the rows of the fit, in standardised units."""
        return self.approximation.problem

    @property
    def settings(self) -> Settings:
        """Return the settings of the fit."""
        return self.problem.settings

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the fit, float32 or float64."""
        return self.problem.data.dtype

    @property
    def calibrated(self) -> bool:
        """Return whether draws are of the calibrated posterior, or of the mean-field surrogate."""
        approximation = self.approximation
        return approximation.calibration is not None or has_whole_posterior(approximation)

    @property
    def calibration(self) -> str:
        """Return the source of the draws' dependence between parameters.

        "averaged curvature", over the posterior; "curvature at the mean", a cheaper form for more
        than 500 parameters or very many rows; or "mean field", none.
        """
        calibration = self.approximation.calibration
        return MEAN_FIELD if calibration is None else calibration.kind

    @functools.cached_property
    def evidence_bound(self) -> float:
        """Return a lower bound of the log evidence, in nats and the units of X.

        The elbo, and what other labellings add to it: log K! where the components do not overlap.
        Not finite where the elbo is not.
        """
        if not np.isfinite(self.elbo):
            return self.elbo
        params = self.approximation.params
        draws = draw_mean_field(self.problem, params, PREDICTIVE_DRAWS, seed=0)
        return self.elbo + log_labellings_of_surrogate(self.problem, params, draws)

    @property
    def method(self) -> str:
        """Return what makes the draws.

        "hmc", Hamiltonian Monte Carlo, which has moved draws of a proposal for all modes, or run
        Markov chains at each; "mixture", one or several t distributions over all modes, with
        importance weights; "importance", the calibrated normal distribution with such weights;
        "normal", that distribution without; or "mean field", the surrogate.
        """
        approximation = self.approximation
        if self.mixing is not None:
            return "hmc"
        if approximation.proposal is not None:
            return "mixture"
        if approximation.calibration is None:
            return MEAN_FIELD
        return "importance" if approximation.calibration.is_weighted else "normal"

    @property
    def mixing(self) -> Mixing | None:
        """Return how well the chains, or the groups of moved draws, agree that made the draws.

        None if the draws are not of Hamiltonian Monte Carlo. `rhat` and `effective` are the largest
        R-hat and the smallest effective sample size. They decide on the draws instead of k-hat.
        """
        bank = self.approximation.bank
        return None if bank is None else bank.mixing

    @property
    def diagnostic(self) -> str:
        """Return what the verdict on the draws rests on: R-hat where there is one, or k-hat."""
        mixing = self.mixing
        if mixing is None:
            return "k-hat not known" if np.isnan(self.khat) else f"k-hat {self.khat:.2f}"
        return f"R-hat {mixing.rhat:.3f}, {mixing.effective:,.0f} effective draws"

    @property
    def is_reliable(self) -> bool:
        """Return whether that diagnostic finds no fault with the draws."""
        if self.mixing is None:
            return not self.khat > KHAT_LIMIT
        return is_sound(self.mixing, self.settings.chains)

    @property
    def has_chains(self) -> bool:
        """Return whether the draws are Markov chains: those of a single mode are."""
        bank = self.approximation.bank
        return bank is not None and bank.chains > 1

    def at_mode(self, number: int) -> Posterior:
        """Return the posterior whose draws are only those that belong to `modes[number]`.

        All other attributes, such as `log_evidence`, stay those of the whole posterior.

        Raises
        ------
        IndexError
            If there is no such mode.
        ValueError
            If draws do not come from all modes (`method` is neither "mixture" nor "hmc"), or the
            share of this mode is below 1 %, of which there would be too few.
        """
        mode, approximation = self.modes[number], self.approximation
        if mode.region is None or not has_whole_posterior(approximation):
            raise ValueError(
                f"modes[{number}] has no draws of its own: draws come from one mode only, by the "
                f"method {self.method!r}. See restarts[...].params for the surrogate there."
            )
        if mode.share < LEAST_SHARE:
            raise ValueError(
                f"modes[{number}] has hardly any draws: at_mode needs a share of at least "
                f"{LEAST_SHARE}; got {mode.share:.2g}."
            )
        return replace(self, approximation=only_mode(approximation, mode.region))

    @property
    def surrogate(self) -> tfd.JointDistributionCoroutine:
        """Return the trained surrogate: the prior's names, order and shapes, in the units of X.

        Its components are in the order of the draws, unless `relabel` has moved components whose
        weights have no parameters of their own, as under `stick_breaking_prior`.
        """
        return joint_distribution(surrogate_members(self.approximation))

    @property
    def parameters(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Return the variational parameters of `surrogate`: by variable, then by parameter.

        Read-only arrays in the units and dtype of X, under TFP's names, such as `means` -> `loc`,
        `scale`; `precisions` -> `concentration`, `rate`, or `df`, `scale_tril` of a matrix. Of a
        variable whose prior is of another family they are `loc` and `scale` of a normal on the real
        line, of the logarithm of a positive variable, or before the default event-space bijector of
        the prior's distribution.
        """
        return parameter_arrays(surrogate_members(self.approximation))

    @runs_tensorflow
    def sample(
        self, n: int, *, seed: int = 0, calibrate: bool | None = None
    ) -> dict[str, np.ndarray]:
        """Draw from the posterior.

        Parameters
        ----------
        n : int
        seed : int
            Equal seeds give equal draws.
        calibrate : bool, optional
            Whether to draw from the calibrated posterior, or from the mean-field surrogate; by
            default the former where the fit was calibrated.

        Returns
        -------
        dict of arrays [n, ...] by the prior's names, in the units and dtype of X.

        Raises
        ------
        ValueError
            If calibrated draws are requested from a fit without calibration.
        """
        return in_data_units(self, draw_standardized(self, as_count(n, "n"), seed, calibrate).theta)

    @runs_tensorflow
    def summary(self, *, draws: int = 1000, seed: int = 0, prob: float = 0.94) -> pd.DataFrame:
        """Return a table of the weights, means and standard deviations of the components.

        Parameters
        ----------
        draws : int
            S, the number of draws that the table is computed from.
        seed : int
            Equal seeds give equal tables. The draws are those of `sample(draws, seed=seed)`.
        prob : float
            Posterior probability of the interval, greater than 0 and less than 1.

        Returns
        -------
        pandas.DataFrame [K + 2 K D, 4]
            The columns `mean`, `sd`, `lower` and `upper`: posterior mean and standard deviation,
            and the ends of the equal-tailed interval, by quantiles of the draws; in the units of X.
            The index has the levels `variable`, `component` and `feature`: first `weights`, whose
            feature is "", then `means` and `sds`, the standard deviations of the features within
            a component for any form of the covariance. Components and features have their names,
            and are numbered 0, 1, 2, ... where they have none.

        Raises
        ------
        ValueError, TypeError
            If `draws` is not a positive integer, `seed` is negative, or `prob` not between 0 and 1.
        """
        prob = as_probability(prob, "prob")
        drawn = draw_standardized(self, as_count(draws, "draws"), seed)
        return summary_table(
            in_data_units_exactly(self, drawn.theta),
            self.covariance,
            self.component_names or range(self.K),
            self.feature_names or range(self.D),
            prob,
        )

    def __copy__(self) -> Posterior:
        return self  # it never changes

    def __deepcopy__(self, memo: Any) -> Posterior:
        return self

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)
