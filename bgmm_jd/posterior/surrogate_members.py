"""The members of a fitted surrogate in the units of X, in the order of output."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from bgmm_jd.data.units import as_standardization_tensors
from bgmm_jd.variational.approximation import Approximation
from bgmm_jd.variational.labels import is_permutable, permute_parameters
from bgmm_jd.variational.members import Member, members_in_data_units
from bgmm_jd.variational.parameters import as_parameter_tensors


def surrogate_members(approximation: Approximation) -> tuple[Member, ...]:
    """Return the members of the surrogate, one for each variable of the prior.

    Components are in the order of output, unless they cannot be permuted in the surrogate.
    """
    problem, params = approximation.problem, approximation.params
    model, data = problem.model, problem.data
    if is_permutable(model):
        params = permute_parameters(model.sites, params, approximation.order)
    tensors = as_standardization_tensors(data.standardization, data.dtype)
    return members_in_data_units(model.standardized(tensors), as_parameter_tensors(params))


def parameter_arrays(members: tuple[Member, ...]) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Return TFP's parameters of each member, as arrays that cannot be written."""
    return MappingProxyType({one.name: MappingProxyType(_arrays(one)) for one in members})


def _arrays(member: Member) -> dict[str, np.ndarray]:
    parameters = member.family.tfp_parameters(member.parameters)
    arrays = {name: np.array(v) for name, v in parameters.items()}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays
