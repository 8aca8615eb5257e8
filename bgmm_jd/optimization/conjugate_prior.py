"""The conjugate prior under which starts are found, in standardised units."""

from dataclasses import dataclass

from bgmm_jd.settings import DefaultPriorSettings


@dataclass(frozen=True, kw_only=True)
class ConjugatePrior:
    """A prior of weights, means and precisions, isotropic in the standardised units.

    ::

        weights   ~ Dirichlet(weights)
        means_k   ~ Normal(0, mean_variance I)
        Lambda_k  ~ Wishart(df, inverse scale B + scale I)
        B         ~ Wishart(shared_df, inverse scale shared_scale I),   B = 0 if shared_df = 0

    B is the shape that clusters have in common; it is learned. A precision p of the forms "diag"
    and "spherical" is a 1 x 1 Wishart matrix, p ~ Gamma(df / 2, rate (b + scale) / 2).

    With B, `scale` multiplies the density by exp(-scale tr(Lambda_k) / 2), a floor for variances,
    and the density is not normalised: the constant depends on K and D alone, and starts are
    compared for one K. Without the floor, rows that lie in a plane would let one covariance
    collapse onto it.

    Attributes
    ----------
    weights : float
        Concentration of the Dirichlet distribution, the same for all components.
    mean_variance : float
        Variance of each entry of the means.
    df, scale : float
        Degrees of freedom and inverse scale of the precisions.
    shared_df, shared_scale : float
        The same of B.
    """

    weights: float
    mean_variance: float
    df: float
    scale: float
    shared_df: float = 0.0
    shared_scale: float = 0.0


def conjugate_prior(
    K: int, D: int, form: str, settings: DefaultPriorSettings, informative: int | None = None
) -> ConjugatePrior:
    """Return the prior of starts for K components of D features: see `weakly_informative_prior`.

    It is the default prior in standardised units, but for the normalising constant of the form
    "full", and without the mean's dependence on far rows.

    Parameters
    ----------
    informative : int, optional
        Number of features that are read; by default all.
    """
    volume = K ** (-2.0 / (informative or D))
    weights = settings.weight_concentration
    if form == "full":
        return ConjugatePrior(
            weights=weights,
            mean_variance=settings.means_variance,
            df=D + settings.excess_df,
            scale=settings.floor * volume,
            shared_df=float(D),
            shared_scale=D / settings.scale_mean,
        )
    mean_variance = settings.shared_means_variance
    if form == "tied":
        df, scale = D + settings.tied_excess_df, volume
    else:
        df = 2.0 * settings.precision_concentration
        scale = 2.0 * settings.precision_rate * volume
    return ConjugatePrior(weights=weights, mean_variance=mean_variance, df=df, scale=scale)
