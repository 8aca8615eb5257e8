import numpy as np
import pytest

from bgmm_jd.model.covariance_forms import (
    FORMS,
    SCALE_VARIABLES,
    check_covariance,
    fits_form,
    forms_with_shape,
    scale_shape,
    scale_variable,
)


@pytest.mark.parametrize("covariance", ["Full", "banded", "", None, 1])
def test_unknown_form_of_covariance_is_refused(covariance):
    message = r"covariance must be one of \('diag', 'full', 'tied', 'spherical'\)"
    with pytest.raises(ValueError, match=message):
        check_covariance(covariance)


@pytest.mark.parametrize("form", FORMS)
def test_shape_of_scales_belongs_to_one_form_where_k_and_d_differ(form):
    check_covariance(form)
    assert forms_with_shape(scale_shape(form, 2, 3), 2, 3) == [form]


def test_shape_belongs_to_several_forms_where_sizes_coincide():
    assert forms_with_shape((2, 2), 2, 2) == ["diag", "tied"]
    assert forms_with_shape((3, 1), 3, 1) == ["diag", "spherical"]
    assert forms_with_shape((4,), 2, 3) == []


@pytest.mark.parametrize("name", SCALE_VARIABLES)
def test_scale_variable_is_the_one_that_is_there(name):
    assert scale_variable({"weights": None, name: None, "means": None}) == name


def test_matrices_may_be_asymmetric_by_the_rounding_of_their_diagonal_only():
    """As inverses of nearly diagonal matrices are in float32, whatever is left off the diagonal."""
    matrix = np.float32([[[2.0, 1e-7], [1.2e-7, 3.0]]])
    assert fits_form("precisions", matrix, "full")
    assert not fits_form("precisions", matrix + np.float32([[0.0, 0.1], [0.0, 0.0]]), "full")
