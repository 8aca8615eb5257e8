"""What is found out about a prior once, and asked for at each fit."""

import functools
from collections.abc import Callable
from typing import Any


def remembered(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Answer once for each prior, or model of one; again where it has variables, which may change.

    Parameters
    ----------
    function : of something hashable that has `variables`.
    """
    known = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def answer(subject: Any) -> Any:
        return function(subject) if _has_variables(subject) else known(subject)

    return answer


@functools.lru_cache(maxsize=64)
def _has_variables(subject: Any) -> bool:
    """Looked for once: TensorFlow searches all attributes."""
    return bool(subject.variables)
