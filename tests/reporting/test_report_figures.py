"""Names that fit beside the axes of a report's plots."""

import dataclasses

import pytest
from figures import fit_of_groups

from bgmm_jd.reporting.report_figures import with_short_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("low", "a name of many letters"), ("low", "a name of many …")),
        (("Population North 1", "Population North 2"), ("Populat… North 1", "Populat… North 2")),
        (("a long name with 1 in it, cm", "a long name with 2 in it, cm"), None),
    ],
)
def test_long_names_are_shortened_and_stay_different(names, short):
    posterior = dataclasses.replace(fit_of_groups(1), component_names=names)
    assert with_short_names(posterior).component_names == (names if short is None else short)
