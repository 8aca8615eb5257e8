"""The conjugate prior under which starts are found, in standardised units."""

from dataclasses import dataclass


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

    weights: float = 2.0
    mean_variance: float = 4.0
    df: float
    scale: float
    shared_df: float = 0.0
    shared_scale: float = 0.0


def default_conjugate_prior(K: int, D: int, form: str) -> ConjugatePrior:
    """Return the prior of starts for K components of D features.

    K^(-2/D) is the variance of K clusters that together have the volume of the rows (Fraley and
    Raftery 2007, *Bayesian regularization for normal mixture estimation*, section 3).

    full : the prior of Stephens (1997), the matrix form of that of Richardson and Green (1997),
        which learns how thin the clusters are. B has the mean 4 I, so that a covariance has the
        prior mean 4 / 3 I; the floor is a hundredth of K^(-2/D).
    tied : Fraley and Raftery's Wishart(D + 2), with their scale.
    diag, spherical : Gamma(1.5, K^(-2/D) / 4), whose mode is the precision 2 K^(2/D).
    """
    volume = K ** (-2.0 / D)
    if form == "full":
        return ConjugatePrior(
            mean_variance=16.0,
            df=D + 4.0,
            scale=0.01 * volume,
            shared_df=float(D),
            shared_scale=D / 4.0,
        )
    if form == "tied":
        return ConjugatePrior(df=D + 2.0, scale=volume)
    return ConjugatePrior(df=3.0, scale=0.5 * volume)
