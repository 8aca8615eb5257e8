"""What the plots of rows have in common: the features, the rows, the components and their names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.normal_mixtures import ComponentDraws, marginal_components
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.density_geometry import axis_limits
from bgmm_jd.reporting.names import component_labels, feature_labels
from bgmm_jd.reporting.plot_features import as_features
from bgmm_jd.reporting.shown_rows import ShownRows, shown_rows

_PANEL_FEATURES = 2  # that one panel shows, and that must be observed in a row


class RowPlot(NamedTuple):
    """What a plot of rows shows.

    names [d], labels [K] : of the features that are shown, and of the components.
    rows : those in which the features are observed.
    components : draws of all components, marginal over the features that are not shown.
    rng : for what else is random in the plot.
    """

    names: Sequence[str]
    labels: Sequence[str]
    rows: ShownRows
    components: ComponentDraws
    rng: np.random.Generator

    @property
    def limits(self) -> list[tuple[float, float]]:
        """Return the limits of the axis of each feature, where all of them are observed."""
        values = self.rows.values.T
        return [axis_limits(column, self.components, i) for i, column in enumerate(values)]


def row_plot(
    posterior: Posterior,
    X: Any,
    features: Any,
    names: Any,
    draws: Any,
    seed: Any,
    most: int = 2,
) -> RowPlot:
    """Check the arguments of a plot of rows, and return what it shows, or raise.

    Parameters
    ----------
    posterior, X, features, names, draws, seed : the arguments of the plot.
    most : number of features that it can show.
    """
    shown = as_features(features, posterior, most)
    rng = np.random.default_rng(as_seed(seed))
    rows = shown_rows(posterior, X, shown, rng, fewest=min(len(shown), _PANEL_FEATURES))
    all_names = feature_labels(posterior, X, names)
    components = draw_components(posterior, as_count(draws, "draws"), seed)
    return RowPlot(
        names=[all_names[feature] for feature in shown],
        labels=component_labels(posterior),
        rows=rows,
        components=marginal_components(components, shown),
        rng=rng,
    )
