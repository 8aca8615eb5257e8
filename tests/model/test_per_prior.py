"""Functions of a prior that are called once, unless the prior has variables."""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.model.per_prior import cached_per_prior, variables_of_prior


def counted(returned):
    """A cached function that counts its calls, and the list of what it was called with."""
    called = []

    @cached_per_prior
    def function(prior):
        """A docstring."""
        called.append(prior)
        return returned(prior)

    return function, called


def test_function_of_a_prior_without_variables_is_called_once():
    function, called = counted(lambda prior: float(prior.mean()))
    first, second = tfd.Normal(1.0, 2.0), tfd.Normal(3.0, 2.0)
    assert [function(prior) for prior in (first, second, first, second)] == [1.0, 3.0, 1.0, 3.0]
    assert called == [first, second]
    assert function.__doc__ == "A docstring."


def test_function_of_a_prior_with_variables_sees_their_new_values():
    function, called = counted(lambda prior: float(prior.mean()))
    loc = tf.Variable(1.0)
    prior = tfd.Normal(loc, 2.0)
    assert function(prior) == 1.0
    loc.assign(5.0)
    assert function(prior) == 5.0
    assert len(called) == 2


def test_variables_of_a_prior_of_the_library_are_known_without_a_draw(monkeypatch):
    prior = bgmm_jd.mixture_prior(2, 1)

    def drawn(*arguments, **options):
        raise AssertionError("the prior was drawn from")

    monkeypatch.setattr(tfd.JointDistributionCoroutine, "_get_single_sample_distributions", drawn)
    assert variables_of_prior(prior) == ()
