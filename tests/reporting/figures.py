"""Fits that tests of several plots share, and what their figures contain."""

import functools

import numpy as np
from matplotlib.collections import LineCollection, PathCollection

import bgmm_jd

FAST = {"execution": "graph", "restarts": 1, "progress": False, "calibrate": False}


def groups(N, D, missing=False):
    """Return rows of two groups 6 sds apart in each feature: [N, D], float64."""
    rng = np.random.default_rng(5)
    X = 6.0 * (np.arange(N) % 2)[:, np.newaxis] + rng.standard_normal((N, D))
    if missing:
        X[:4, 0] = np.nan
        X[3:6, 1] = np.nan
    return X


@functools.cache
def fit_of_groups(D, covariance="diag", missing=False):
    """Return the fit of 60 such rows, made once a process."""
    option = "marginalize" if missing else None
    X = groups(60, D, missing)
    return bgmm_jd.fit(X, 2, covariance=covariance, missing=option, **FAST)


def symbols(ax):
    """Return the collections of symbols on the axes, in the order in which they were drawn."""
    return [one for one in ax.collections if isinstance(one, PathCollection)]


def ellipses(ax):
    """Return the outlines of each component: a list of collections of two lines."""
    return [one for one in ax.collections if isinstance(one, LineCollection)]


def points(ax):
    """Return all points on the axes, sorted: [n, 2]."""
    found = np.concatenate([np.asarray(one.get_offsets()) for one in symbols(ax)])
    return found[np.lexsort(found.T)]


def in_order(rows):
    return rows[np.lexsort(np.asarray(rows).T)]


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def note(ax):
    return ax.get_title(loc="right")


def draw(ax):
    """Draw the whole figure: warnings are errors."""
    ax.figure.canvas.draw()
