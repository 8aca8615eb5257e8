"""scikit-learn's own checks of estimators."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from bgmm_jd.sklearn import BayesianGaussianMixture

QUICK = {"execution": "graph", "finish": "none", "calibrate": False, "max_steps": 100}
# Of the interface alone; the others fit many shapes of data, each of which is compiled.
WITHOUT_FITS = {
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
}


def name_of(check):
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize("name", sorted(WITHOUT_FITS))
def test_estimator_passes_the_checks_of_its_interface(name):
    checks = list(estimator_checks_generator(BayesianGaussianMixture(**QUICK)))
    chosen = [(estimator, check) for estimator, check in checks if name_of(check) == name]
    assert chosen
    for estimator, check in chosen:
        check(estimator)


# As scikit-learn's own tests do: some checks fit a handful of rows, whose status need not be good.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.slow
@parametrize_with_checks([BayesianGaussianMixture(**QUICK)])
def test_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
