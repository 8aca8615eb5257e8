"""Posteriors are pickled as the bytes of a file, and are their own copies."""

import copy
import functools
import pickle
from dataclasses import replace

import joblib
import own_priors
import pytest
from builders import with_problem
from equal_values import assert_same
from fits import OWN_PRIOR, fit_of
from tensorflow_probability import distributions as tfd

from bgmm_jd.storage.encoding import encode


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_posterior_is_the_same(protocol):
    posterior = fit_of("mixture")
    assert_same(posterior, pickle.loads(pickle.dumps(posterior, protocol)))


def test_posterior_inside_other_objects_is_pickled():
    posterior = fit_of("two modes")
    found = pickle.loads(pickle.dumps({"fits": [posterior, posterior]}))["fits"]
    assert found[0] is found[1]
    assert_same(posterior, found[0])


def test_joblib_keeps_a_posterior_and_knows_it_again(tmp_path):
    posterior = fit_of("frame, full, relabelled")
    joblib.dump(posterior, tmp_path / "posterior.joblib")
    found = joblib.load(tmp_path / "posterior.joblib")
    assert_same(posterior, found)
    assert joblib.hash(found) == joblib.hash(posterior)


def test_posterior_is_its_own_copy():
    for kind in ("mixture", "own prior"):
        posterior = fit_of(kind)
        assert copy.copy(posterior) is posterior
        assert copy.deepcopy([posterior])[0] is posterior


def test_own_prior_is_pickled_by_the_name_of_its_function():
    posterior = fit_of("own prior")
    found, again = (pickle.loads(pickle.dumps(posterior)) for _ in range(2))
    assert found.prior.model is own_priors.two_components
    assert found.prior is again.prior is not OWN_PRIOR
    assert encode(found) == encode(posterior)
    draws = posterior.sample(50), found.sample(50)
    for name, values in draws[0].items():
        assert values.tobytes() == draws[1][name].tobytes()


def test_partial_of_a_function_of_a_module_is_pickled():
    function = functools.partial(own_priors.two_components)
    posterior = under(tfd.JointDistributionCoroutine(function))
    found = pickle.loads(pickle.dumps(posterior))
    assert encode(found) == encode(posterior)


def test_own_prior_without_a_name_is_an_error_that_says_what_to_do():
    posterior = under(tfd.JointDistributionCoroutine(lambda: own_priors.two_components()))
    with pytest.raises(pickle.PicklingError, match=r"prior of your own.*top of a module, or use"):
        pickle.dumps(posterior)


def under(prior):
    """Return the fit under the user's own prior, as if it were another coroutine."""
    posterior = fit_of("own prior")
    model = replace(posterior.problem.model, prior=prior)
    return with_problem(posterior, replace(posterior.problem, model=model), prior=prior)
