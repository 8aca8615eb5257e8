"""What the arguments of `fit` stand for, checked at the door."""

from typing import Any

import tensorflow as tf

from bgmm_jd.backend.execution import EXECUTIONS, Execution
from bgmm_jd.data.validation import as_count
from bgmm_jd.fitting.given_rows import GivenRows
from bgmm_jd.fitting.initial_values import Init, as_init, as_start
from bgmm_jd.fitting.search import subsample_size
from bgmm_jd.model.covariance_forms import CovarianceForm
from bgmm_jd.settings import OptimizationSettings, Settings


def as_given(
    init: Any,
    start: Any,
    restarts: int | None,
    shape: tuple[int, int],
    K: int,
    form: CovarianceForm,
    names: tuple[str, ...] | None,
) -> Init | None:
    """Return what the fit is given to start from, if anything."""
    if start is None:
        return None if init is None else as_init(init, shape, K, form, names)
    if init is not None:
        raise ValueError(
            "start and init both say what to start from; got both. Leave init out to go on from "
            "an earlier fit, or start to begin anew."
        )
    if restarts not in (None, 1):
        raise ValueError(
            f"start makes one run, from where the earlier fit ended; got restarts={restarts!r}. "
            "Leave restarts out, or use init=start for several runs."
        )
    return as_start(start, shape[1], K, form, names)


def as_settings(settings: Any) -> Settings:
    """Return settings, by default those of `Settings()`, or raise TypeError."""
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise TypeError(
            f"settings must be a bgmm_jd.Settings; got {type(settings).__name__}. "
            "Use, for example, bgmm_jd.Settings("
            "optimization=bgmm_jd.settings.OptimizationSettings(restarts=8))."
        )
    return settings


def as_choice(value: Any, name: str, choices: tuple[str, ...]) -> Any:
    """Return a value that is one of the choices, or raise ValueError."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}; got {value!r}.")
    return value


def as_execution(execution: Any) -> Execution:
    """Return a mode of execution, or raise.

    Raises
    ------
    RuntimeError
        If TensorFlow has been told to run compiled programs step by step in Python. A step of a
        fit then takes about a second.
    """
    found: Execution = as_choice(execution, "execution", EXECUTIONS)
    if tf.config.functions_run_eagerly() and found != "eager":
        raise RuntimeError(
            f"execution={found!r} compiles programs, and tf.config.run_functions_eagerly(True) "
            "forbids it. Call tf.config.run_functions_eagerly(False), or pass execution='eager' to "
            "run every operation from Python, which takes hundreds of times as long."
        )
    return found


def as_batch_size(batch_size: Any, rows: GivenRows, K: int, settings: Settings) -> int | None:
    """Return the rows of a step; None for a subsample first and then passes over all rows."""
    if not rows.are_in_memory:
        return None
    N, D = rows.values.shape
    if isinstance(batch_size, str):
        if batch_size != "auto":
            raise ValueError(f"batch_size must be 'auto' or an integer; got {batch_size!r}.")
        most = subsample_size(K, D, settings)
        if settings.optimization.full_batch_numbers >= N * K * D:
            most = max(most, settings.optimization.full_batch_rows)
        return N if most >= N else None
    return as_count(batch_size, "batch_size", most=N)


def as_restarts(
    restarts: Any, batch_size: Any, N: int, has_init: bool, settings: OptimizationSettings
) -> int:
    """Return the largest number of runs."""
    if restarts is not None:
        return as_count(restarts, "restarts")
    return settings.restarts if batch_size in ("auto", N) and not has_init else 1
