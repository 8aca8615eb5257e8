"""`BayesianGaussianMixture`: `bgmm_jd.fit` with the interface of a scikit-learn estimator."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.data.validation import MissingOption, as_count, as_missing_flag, as_weights
from bgmm_jd.model.covariance_forms import CovarianceForm, check_covariance
from bgmm_jd.model.prior_checks import PriorFunction, prior_of_function
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS
from bgmm_jd.posterior.prediction import sample_predictive_with_labels
from bgmm_jd.sklearn.point_estimate import (
    PointEstimate,
    parameter_count,
    posterior_means,
    precision_factors,
    precisions,
    row_log_likelihood,
)


class BayesianGaussianMixture(DensityMixin, BaseEstimator):
    """Fit a Bayesian Gaussian mixture by `bgmm_jd.fit`.

    `n_components`, `covariance_type` and `random_state` have scikit-learn's names. All other
    parameters but `draws` are those of `bgmm_jd.fit`, which describes them.

    Parameters
    ----------
    n_components : int
        K, the number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}
        The form of the components' covariances.
    prior : tfd.JointDistributionCoroutine or callable, optional
        In the units of X. A coroutine has the shapes of one K and D, and determines the form of
        the covariance. A function `prior(K, D, covariance=...)`, such as `bgmm_jd.mixture_prior`,
        makes one for each fit; a search over `n_components` needs that.
    missing : {None, "marginalize"}
        The meaning of NaN: an error, or a missing entry, which is integrated out.
    init : array-like, data frame or Posterior, optional
        What to start from: see `bgmm_jd.fit`. Labels and probabilities are of the rows of one fit;
        a cross-validation needs means or a posterior.
    random_state : int, RandomState or None
        An int is the seed of the fit. Otherwise, as in scikit-learn, the seed is drawn from the
        RandomState, or from NumPy's global one for None: set it for results that can be repeated.
    draws : int
        S, the number of posterior draws that predictions and the attributes are averaged over. Over
        200 draws, posterior means have an error of 0.07 posterior standard deviations.
    batch_size, restarts, max_steps, calibrate, optimizer, finish, execution, settings
        See `bgmm_jd.fit`. `finish="none"` saves time where many fits are compared.
    progress : bool, optional
        Whether to show progress, see `bgmm_jd.fit`; False by default, None for only on a terminal.

    Attributes
    ----------
    posterior_ : bgmm_jd.Posterior
        The fitted posterior, which all functions of `bgmm_jd` take. It has the names of the
        columns of X.
    weights_ : array [K]
        Posterior means of the weights, over `draws` draws. This and the next four are in float64.
    means_ : array [K, D]
        Posterior means of the components' means.
    covariances_ : array [K, D, D] (full), [D, D] (tied), [K, D] (diag) or [K] (spherical)
        Posterior means of the covariance matrices or variances.
    precisions_ : array, as `covariances_`
        Inverses of `covariances_`, as in scikit-learn. The posterior means of the precisions are
        larger: see `posterior_.sample`.
    precisions_cholesky_ : array, as `covariances_`
        Upper triangular U with U U^T = `precisions_`, or their square roots (diag, spherical).
    lower_bound_ : float
        `posterior_.elbo`, in nats for all rows and in the units of X, with all constants.
        scikit-learn's estimator leaves constants out: the two cannot be compared.
    converged_ : bool
        `posterior_.status.good`. Otherwise a warning says why.
    n_iter_ : int
        The number of optimiser steps that led to the solution.
    seed_ : int
        The seed of the fit, and of the draws for predictions.
    n_features_in_ : int
    feature_names_in_ : array [D] of str
        Only if all names of the columns of X are strings.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        By `fit`, in place of the StatusWarning of `bgmm_jd.fit`, if the status is not good.

    Notes
    -----
    Ctrl-C during `fit` ends it. What has been reached is kept in the attributes, and
    KeyboardInterrupt is raised, so that a search over many fits ends too.

    Examples
    --------
    ::

        from bgmm_jd.sklearn import BayesianGaussianMixture

        model = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
        labels = model.predict(X)
        idata = bgmm_jd.to_inference_data(model.posterior_)
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceForm = "full",
        prior: tfd.JointDistributionCoroutine | PriorFunction | None = None,
        missing: MissingOption | None = None,
        init: Any = None,
        random_state: int | np.random.RandomState | None = None,
        draws: int = PREDICTIVE_DRAWS,
        batch_size: int | Literal["auto"] = "auto",
        restarts: int | None = None,
        max_steps: int = 20_000,
        calibrate: bool = True,
        optimizer: Literal["natural", "adam"] = "natural",
        finish: Literal["auto", "hmc", "none"] = "auto",
        execution: Literal["xla", "graph", "eager"] = "xla",
        progress: bool | None = False,
        settings: bgmm_jd.Settings | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.prior = prior
        self.missing = missing
        self.init = init
        self.random_state = random_state
        self.draws = draws
        self.batch_size = batch_size
        self.restarts = restarts
        self.max_steps = max_steps
        self.calibrate = calibrate
        self.optimizer = optimizer
        self.finish = finish
        self.execution = execution
        self.progress = progress
        self.settings = settings

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianGaussianMixture:
        """Fit the mixture to the rows of X.

        Parameters
        ----------
        X : array-like or data frame [N, D]
            float32 is kept, and anything else converted to float64.
        y : ignored
        sample_weight : array-like [N], optional
            The power of each row's likelihood, zero or more: 2 counts a row twice.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For bad input, before anything is compiled.
        KeyboardInterrupt
            At Ctrl-C: see the notes of the class.
        """
        K = as_count(self.n_components, "n_components")
        as_count(self.draws, "draws")
        check_covariance(self.covariance_type, "covariance_type")
        rows = self._as_rows(X, reset=True, fewest=K)
        seed = _as_seed(self.random_state)
        with warnings.catch_warnings():
            # Issued below in the category that users of scikit-learn filter.
            warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
            posterior = bgmm_jd.fit(
                _with_names(rows, getattr(self, "feature_names_in_", None)),
                K,
                covariance=self._covariance(),
                prior=self._prior(rows.shape[1]),
                sample_weight=sample_weight,
                batch_size=self.batch_size,
                seed=seed,
                progress=self.progress,
                execution=self.execution,
                init=self.init,
                restarts=self.restarts,
                max_steps=self.max_steps,
                calibrate=self.calibrate,
                missing=self.missing,
                optimizer=self.optimizer,
                finish=self.finish,
                settings=self.settings,
            )
        self._set_results(posterior, seed)
        if posterior.status is bgmm_jd.Status.INTERRUPTED:
            raise KeyboardInterrupt
        if not posterior.status.good:
            warnings.warn(str(posterior.status), ConvergenceWarning, stacklevel=2)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit the mixture to X, and return the most probable component of each row: int [N]."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable component of each row: int [N]; see `predict_proba`."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the posterior probability of each component for each row, averaged over draws.

        Returns
        -------
        array [N, K], rows summing to 1; see `bgmm_jd.predict_proba`.
        """
        rows = self._as_rows(X)
        return bgmm_jd.predict_proba(self.posterior_, rows, draws=self.draws, seed=self.seed_)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log posterior predictive density of each row, in nats and the units of X.

        It is averaged over draws, and no plug-in at a point estimate: see `bgmm_jd.log_density`.

        Returns
        -------
        array [N], in the dtype of the fit.
        """
        rows = self._as_rows(X)
        return bgmm_jd.log_density(self.posterior_, rows, draws=self.draws, seed=self.seed_)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the weighted mean of `score_samples`, in nats per row.

        Parameters
        ----------
        X : array-like or data frame [N, D]
        y : ignored
        sample_weight : array-like [N], optional
            A row of weight 0 is left out.
        """
        found = self.score_samples(X).astype(np.float64)
        weight = as_weights(sample_weight, len(found), np.dtype(np.float64))
        if weight is None:
            return float(found.mean())
        return float(np.average(found[weight > 0], weights=weight[weight > 0]))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw new rows, each under parameters drawn anew from the posterior.

        As in scikit-learn, a `random_state` that is an int gives the same rows at every call.

        Returns
        -------
        X : array [n_samples, D], in the units and dtype of the rows of the fit.
        y : int array [n_samples], the component of each row. Rows are not sorted by it.
        """
        check_is_fitted(self)
        n = as_count(n_samples, "n_samples")
        return sample_predictive_with_labels(self.posterior_, n, _as_seed(self.random_state))

    def bic(self, X: Any) -> float:
        """Return the Bayesian information criterion of X; the lower, the better.

        ::

            -2 log p(X given theta) + P log N    (Schwarz 1978)

        theta is `weights_`, `means_` and `covariances_`, and P the number of its free parameters,
        as in scikit-learn's `GaussianMixture`, where theta is the maximum likelihood estimate. Rows
        count once, whatever their weights in `fit`. Constant columns that the fit has not read do
        not count. `posterior_.log_evidence` needs no such approximation.
        """
        log_likelihood, P, N = self._plug_in(X)
        return -2.0 * log_likelihood + P * float(np.log(N))

    def aic(self, X: Any) -> float:
        """Return the Akaike information criterion of X; the lower, the better.

        ::

            -2 log p(X given theta) + 2 P    (Akaike 1974)

        with theta and P as in `bic`.
        """
        log_likelihood, P, _ = self._plug_in(X)
        return -2.0 * log_likelihood + 2.0 * P

    def _set_results(self, posterior: bgmm_jd.Posterior, seed: int) -> None:
        estimate = posterior_means(posterior, self.draws, seed)
        self.posterior_ = posterior
        self.weights_ = estimate.weights
        self.means_ = estimate.means
        self.covariances_ = estimate.covariances
        self.precisions_ = precisions(estimate)
        self.precisions_cholesky_ = precision_factors(estimate)
        self.lower_bound_ = posterior.elbo
        self.converged_ = posterior.status.good
        self.n_iter_ = len(posterior.elbo_trace)
        self.seed_ = seed

    def _plug_in(self, X: Any) -> tuple[float, int, int]:
        """Return the log likelihood of X at the posterior means, and two numbers.

        Those of the free parameters and of the rows.
        """
        rows, posterior = self._as_rows(X), self.posterior_
        estimate = PointEstimate(
            self.weights_, self.means_, self.covariances_, posterior.covariance
        )
        data = posterior.problem.data
        if data.unread is not None:
            rows = np.where(data.unread, np.nan, rows)
        by_row = row_log_likelihood(posterior, estimate, rows)
        return float(by_row.sum()), parameter_count(estimate, data.informative_columns), len(rows)

    def _as_rows(self, X: Any, reset: bool = False, fewest: int = 1) -> np.ndarray:
        """Return X as an array [N, D], checked as scikit-learn does, or raise."""
        if not reset:
            check_is_fitted(self)
        rows = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=fewest,
        )
        if not as_missing_flag(self.missing) and np.isnan(rows).any():
            raise ValueError(
                "Input X contains NaN. Drop such rows, fill in the missing values, or fit with "
                "missing='marginalize', which integrates over them."
            )
        return rows

    def _covariance(self) -> CovarianceForm:
        # Of `fit`, "diag" stands for whichever form the prior has.
        is_coroutine = isinstance(self.prior, tfd.JointDistributionCoroutine)
        return "diag" if is_coroutine else self.covariance_type

    def _prior(self, D: int) -> Any:
        """Return the prior of a fit of D features."""
        if not callable(self.prior):
            return self.prior
        return prior_of_function(self.prior, self.n_components, D, self.covariance_type)

    def __sklearn_clone__(self) -> BayesianGaussianMixture:
        # scikit-learn copies parameters deeply. The copy of a coroutine is another prior, for which
        # everything would be compiled again.
        without_prior = copy.copy(self)
        without_prior.prior = None
        clone = BaseEstimator.__sklearn_clone__(without_prior)
        clone.prior = self.prior
        return clone

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing is not None
        return tags


def _as_seed(random_state: Any) -> int:
    """Return the seed that scikit-learn's `random_state` stands for."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _with_names(rows: np.ndarray, names: np.ndarray | None) -> Any:
    """Return the rows as a data frame if their columns have names."""
    return rows if names is None else pd.DataFrame(rows, columns=names, copy=False)
