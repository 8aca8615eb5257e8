"""The call of a fit as text, by which it can be repeated."""

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from bgmm_jd.backend.versions import all_versions
from bgmm_jd.posterior.provenance import Provenance

_WITHOUT_EFFECT = ("progress", "callback", "checkpoint", "executor")  # on the result


def provenance_of(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Provenance:
    """Return the call of a function of X, and the versions of what runs it.

    Parameters
    ----------
    function : a public function, whose signature has the defaults.
    arguments : all of them, by name.
    """
    shown = ["X"]
    for name, parameter in inspect.signature(function).parameters.items():
        source = _as_source(name, arguments[name])
        is_default = source == _as_source(name, parameter.default)
        if name == "seed" or not (is_default or name in ("X", *_WITHOUT_EFFECT)):
            shown.append(f"{name}={source}")
    return Provenance(f"bgmm_jd.{function.__name__}({', '.join(shown)})", all_versions())


def _as_source(name: str, value: Any) -> str:
    """Return a number or text as Python writes it; any other value stands for itself."""
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, Integral):
        return repr(int(value))
    return repr(float(value)) if isinstance(value, Real) else name
