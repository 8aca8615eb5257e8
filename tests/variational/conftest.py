"""Fixtures that repeat a test for each prior of `known_priors`."""

import pytest
from known_priors import (
    FORM_OF,
    PRIORS,
    STANDARDIZATION,
    STANDARDIZATION_OF,
    standardized_model,
)


@pytest.fixture(scope="module", params=PRIORS)
def prior_name(request):
    return request.param


@pytest.fixture(scope="module")
def prior(prior_name):
    return PRIORS[prior_name]


@pytest.fixture(scope="module")
def model(prior, prior_name):
    """The prior's model, bound to `STANDARDIZATION` or to whitened units."""
    standardization = STANDARDIZATION_OF.get(prior_name, STANDARDIZATION)
    return standardized_model(prior, FORM_OF.get(prior_name, "diag"), standardization)
