"""Random calls: no NaN without a status that says so, and no errors but the documented ones.

`benchmarks/fuzz.py` tries many more, of more shapes, priors and programs.
"""

import pytest
from fuzzing.cases import SMALL_FRAMES, any_case, small_space
from fuzzing.operations import QUICK_OPERATIONS
from fuzzing.outcomes import outcomes_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

CASES_PER_FRAME = 51  # 204 in all


@pytest.mark.parametrize("frame", SMALL_FRAMES, ids=lambda frame: "-".join(vars(frame).values()))
@settings(
    max_examples=CASES_PER_FRAME,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_random_calls_end_with_a_status_or_a_documented_error(frame, data):
    space = small_space(frame, QUICK_OPERATIONS)
    case = any_case(lambda values: data.draw(st.sampled_from(values)), frame, space)
    assert [one for one in outcomes_of(case) if one.kind == "violation"] == []
