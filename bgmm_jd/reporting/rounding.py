"""Numbers as texts, with as many digits as they are known to."""

import math

_MOST_DECIMALS, _LONGEST = 6, 1e7
_DECIMALS_OF_NATS, _MOST_NATS = 2, 1e12


def rounded(value: float, error: float) -> str:
    """Return a number with two significant digits of its error.

    "not known" where it is not finite; six significant digits where the error is not known, or the
    number too large or too small to be written out.
    """
    if not math.isfinite(value):
        return "not known"
    if not (math.isfinite(error) and error > 0.0):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(error))
    if decimals > _MOST_DECIMALS or abs(value) >= _LONGEST:
        digits = 1 + max(1, decimals + math.floor(math.log10(max(abs(value), error))))
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(decimals, 0)}f}"


def in_nats(value: float) -> str:
    """Return a number in nats with two decimals, or six digits if it is too long for a label."""
    return f"{value:,.{_DECIMALS_OF_NATS}f}" if abs(value) < _MOST_NATS else f"{value:.6g}"


def with_error(value: float, se: float) -> str:
    """Return a number in nats with its standard error, if that is known and not zero.

    Both have two decimals, or fewer where the error has more than two digits before these.
    """
    if not math.isfinite(value):
        return "not known"
    if not (math.isfinite(se) and se > 0.0):
        return in_nats(value)
    if max(abs(value), se) >= _MOST_NATS:
        return f"{value:.6g} ± {se:.2g}"
    decimals = min(max(1 - math.floor(math.log10(se)), 0), _DECIMALS_OF_NATS)
    return f"{value:,.{decimals}f} ± {max(se, 10.0**-_DECIMALS_OF_NATS):,.{decimals}f}"


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with the noun in the singular or the plural."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
