"""Anderson acceleration: a fixed point x = g(x) in fewer evaluations of g."""

from typing import NamedTuple

import numpy as np


class History(NamedTuple):
    """The last evaluations, the newest last: images [m, P] and residuals [m, R]."""

    images: tuple[np.ndarray, ...] = ()
    residuals: tuple[np.ndarray, ...] = ()


def remember(memory: History, image: np.ndarray, residual: np.ndarray, most: int) -> History:
    """Add an evaluation, and forget the oldest beyond `most`."""
    images = (*memory.images, image)[-most:]
    return History(images, (*memory.residuals, residual)[-most:])


def accelerated(memory: History) -> np.ndarray:
    """Where to evaluate next: the images, mixed as makes the same mixture of residuals smallest.

    Type II, without damping (Walker and Ni 2011, *Anderson acceleration for fixed-point
    iterations*). Residuals may be in other coordinates than images, in which their components are
    comparable; to first order that is only another norm.
    """
    newest, residual = memory.images[-1], memory.residuals[-1]
    if len(memory.images) == 1:
        return newest
    changes = np.diff(np.stack(memory.residuals), axis=0)
    moves = np.diff(np.stack(memory.images), axis=0)
    mixture, *_ = np.linalg.lstsq(changes.T, residual, rcond=1e-8)
    return newest - mixture @ moves
