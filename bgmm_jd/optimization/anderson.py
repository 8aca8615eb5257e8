"""Anderson acceleration: a fixed point x = g(x) in fewer evaluations of g."""

from typing import NamedTuple

import numpy as np


class History(NamedTuple):
    """The last evaluations, the newest last: images [m, P] and residuals [m, R]."""

    images: tuple[np.ndarray, ...] = ()
    residuals: tuple[np.ndarray, ...] = ()


def remember(history: History, image: np.ndarray, residual: np.ndarray, most: int) -> History:
    """Add an evaluation, and drop the oldest ones beyond `most`."""
    images = (*history.images, image)[-most:]
    return History(images, (*history.residuals, residual)[-most:])


def accelerated(history: History) -> np.ndarray:
    """Return the next point: the combination of images that minimises that of the residuals.

    Type II, without damping (Walker and Ni 2011, *Anderson acceleration for fixed-point
    iterations*). Residuals may be in other coordinates than images, in which their components are
    comparable; to first order that is only another norm.
    """
    newest, residual = history.images[-1], history.residuals[-1]
    if len(history.images) == 1:
        return newest
    changes = np.diff(np.stack(history.residuals), axis=0)
    moves = np.diff(np.stack(history.images), axis=0)
    coefficients, *_ = np.linalg.lstsq(changes.T, residual, rcond=1e-8)
    return newest - coefficients @ moves
