"""Numbers with as many digits as they are known to."""

import math

import pytest

from bgmm_jd.reporting.rounding import counted, rounded, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (54.7512, 0.71, "54.75"),
        (54.7512, 7.1, "54.8"),
        (54.7512, 71.0, "55"),
        (-1234.56, 123.0, "-1,235"),
        (0.000123456, 0.0000071, "1.235e-04"),
        (3.2e9, 4.1e7, "3.200e+09"),
        (2.0, 0.0, "2"),
        (2.0, math.nan, "2"),
        (math.nan, 1.0, "not known"),
        (math.inf, 1.0, "not known"),
    ],
)
def test_two_digits_of_the_error_decide(value, error, text):
    assert rounded(value, error) == text


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (-1162.523, 0.021, "-1,162.52 ± 0.02"),
        (-1162.523, 0.0004, "-1,162.52 ± 0.01"),
        (-1136.98, 17.2, "-1,137 ± 17"),
        (-4.63, 3.8, "-4.6 ± 3.8"),
        (0.0, 0.0, "0.00"),
        (-3.5, math.nan, "-3.50"),
        (math.nan, math.nan, "not known"),
        (-1.234567e71, 3.2e60, "-1.23457e+71 ± 3.2e+60"),
        (-1.234567e71, math.nan, "-1.23457e+71"),
    ],
)
def test_nats_have_at_most_two_decimals(value, se, text):
    assert with_error(value, se) == text


def test_nouns_agree_with_their_number():
    assert counted(1, "row") == "1 row"
    assert counted(1_000, "row") == "1,000 rows"
