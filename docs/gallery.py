"""Draw the picture at the head of the README: `python docs/gallery.py` writes docs/gallery.png."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd.datasets import old_faithful

TITLES = (
    "Density and components",
    "The same in one feature",
    "How many components",
    "Most probable components",
    "How unsure they are",
    "Regions, and where they are unsure",
)


def draw() -> Figure:
    """Return six plots of Old Faithful."""
    X = pd.DataFrame(old_faithful().X, columns=["eruption", "waiting"])
    chosen = bgmm_jd.select(X, K=(1, 2, 3, 4), covariance=("diag", "full"), progress=True)
    posterior = chosen.posteriors[2, "full"]
    figure = Figure(figsize=(15, 8), dpi=100, layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    bgmm_jd.plot_density(posterior, X, ax=axes[0])
    bgmm_jd.plot_density(posterior, X, features="waiting", ax=axes[1])
    bgmm_jd.plot_selection(chosen, ax=axes[2])
    bgmm_jd.plot_classification(posterior, X, ax=axes[3])
    bgmm_jd.plot_uncertainty(posterior, X, ax=axes[4])
    bgmm_jd.plot_boundaries(posterior, X, ax=axes[5])
    for ax, title in zip(axes, TITLES, strict=True):
        ax.set_title(title, loc="left")
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_name("gallery.png"))
