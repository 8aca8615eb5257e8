"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bgmm_jd.sklearn import BayesianGaussianMixture

QUICK = {"execution": "graph", "finish": "none", "calibrate": False, "restarts": 1}


# As scikit-learn's own tests do: some checks fit a handful of rows, whose status need not be good.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([BayesianGaussianMixture(**QUICK)])
def test_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
