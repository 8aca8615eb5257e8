"""Random calls of `fit`: one generator for the test of hypothesis and for `benchmarks/fuzz.py`.

A case is made of choices. Whoever asks for one passes a function `choose` that takes one of several
values: hypothesis, which can make a failing case simpler, or a random number generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fuzzing.priors import OWN_PRIORS
from fuzzing.rows import LAYOUTS, MISSING, ORDERS, WEIGHTS, in_order

Value = TypeVar("Value")
Choose = Callable[[Sequence[Value]], Value]

FORMS = ("diag", "full", "tied", "spherical")
DTYPES = ("float32", "float64")
SCALES = (1.0, 1e-30, 1e-20, 1e-10, 1e-3, 1e3, 1e10, 1e20, 1e30)
OFFSETS = (0.0, 1.0, -1e3, 1e6, 1e12)  # in units of the scale
# (N, D, K): more rows than components, just as many, fewer; more features than rows.
SHAPES = ((40, 2, 2), (64, 2, 2), (3, 2, 2), (2, 2, 2), (1, 2, 2), (5, 2, 1), (4, 2, 3), (1, 2, 1))
WIDE_SHAPES = (*SHAPES, (60, 1, 2), (20, 1, 4), (30, 3, 2), (6, 8, 2), (12, 5, 3), (40, 2, 6))


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What decides which programs a fit compiles, apart from its data."""

    dtype: str
    covariance: str
    prior: str
    execution: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of `fit`, and what is done with the posterior."""

    frame: Frame
    shape: tuple[int, int, int]
    layout: str
    scale: float
    offset: float
    order: str
    missing: str
    allows_missing: bool
    weights: str
    max_steps: int
    restarts: int | None
    calibrate: bool
    finish: str
    optimizer: str
    batch_size: int | str
    seed: int
    operations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is chosen from, besides rows and weights: the fewer, the fewer programs are compiled."""

    shapes: Sequence[tuple[int, int, int]]
    operations: Sequence[str]
    optimizers: Sequence[str] = ("natural",)
    batch_sizes: Sequence[int | str] = ("auto",)
    finishes: Sequence[str] = ("none",)
    restarts: Sequence[int | None] = (1,)
    missing: Sequence[str] = tuple(MISSING)
    calibrates: Sequence[bool] = (True, True, False)
    operations_per_case: int = 2


# The priors of "default" share programs; each of the others has its own.
SMALL_FRAMES = tuple(
    Frame(dtype=dtype, covariance=form, prior=prior, execution="graph")
    for dtype, form, prior in (
        ("float32", "diag", "default"),
        ("float64", "full", "default"),
        ("float32", "tied", "published"),
        ("float64", "diag", "half-Cauchy"),
    )
)


def small_space(frame: Frame, operations: Sequence[str]) -> Space:
    """Return a space of two features that needs few programs.

    There are two components. Fits of the first frame are calibrated, and those in float64 may have
    missing values.
    """
    has_missing = frame.dtype == "float64"
    return Space(
        shapes=[shape for shape in SHAPES if shape[2] == 2],
        operations=operations,
        missing=tuple(MISSING) if has_missing else ("a column", "infinite"),
        calibrates=(frame == SMALL_FRAMES[0],),
        operations_per_case=1,
    )


def wide_space(choose: Choose, operations: Sequence[str]) -> Space:
    """Choose two numbers of features and components, with all options."""
    D, K = (choose([shape[axis] for shape in WIDE_SHAPES]) for axis in (1, 2))
    rows = (K - 1, K, K + 1, 2 * K, 12, 40, 40, 60, 60, 64, 200)
    return Space(
        shapes=[(N, D, K) for N in rows if N > 0],
        operations=operations,
        optimizers=("natural",) * 9 + ("adam",),
        batch_sizes=("auto",) * 9 + (3,),
        finishes=("none",) * 49 + ("auto",),
        restarts=(1, 1, 1, None),
    )


def any_frame(choose: Choose) -> Frame:
    """Choose among all frames."""
    prior = choose(("default", "default", "default", "published", "sticks", *OWN_PRIORS))
    return Frame(
        dtype=choose(DTYPES),
        covariance="diag" if prior in OWN_PRIORS else choose(FORMS),
        prior=prior,
        execution=choose(("graph", "graph", "graph", "xla")),
    )


def any_case(choose: Choose, frame: Frame, space: Space) -> Case:
    """Choose a case in a frame; most of its choices are the plain ones."""

    def seldom(usual: Any, others: Sequence[Any]) -> Any:
        return choose((*[usual] * (2 * len(others)), *others))

    missing = seldom("none", space.missing)
    return Case(
        frame=frame,
        shape=choose(space.shapes),
        layout=choose(tuple(LAYOUTS)),
        scale=seldom(1.0, SCALES),
        offset=seldom(0.0, OFFSETS),
        order=choose(ORDERS),
        missing=missing,
        allows_missing=missing != "none" and choose((True,) * 9 + (False,)),
        weights=seldom("none", tuple(WEIGHTS)),
        max_steps=choose((100, 400, 1)),
        restarts=choose(space.restarts),
        calibrate=choose(space.calibrates),
        finish=choose(space.finishes),
        optimizer=choose(space.optimizers),
        batch_size=choose(space.batch_sizes),
        seed=choose(range(1_000)),
        operations=tuple(choose(space.operations) for _ in range(space.operations_per_case)),
    )


def rows_of(case: Case) -> np.ndarray:
    """Return the rows of a case: [N, D]."""
    N, D, _ = case.shape
    rng = np.random.default_rng(case.seed)
    rows = LAYOUTS[case.layout](rng, N, D)
    rows = MISSING[case.missing](rng, rows) if case.missing != "none" else rows
    with np.errstate(over="ignore", under="ignore"):
        scaled = (case.scale * (rows + case.offset)).astype(case.frame.dtype)
    return in_order(scaled, case.order)


def weights_of(case: Case) -> np.ndarray | None:
    """Return the weights of the rows, or None."""
    if case.weights == "none":
        return None
    return WEIGHTS[case.weights](np.random.default_rng((case.seed, 1)), case.shape[0])
