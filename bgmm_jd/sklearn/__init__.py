"""A scikit-learn estimator over `bgmm_jd.fit`. `import bgmm_jd` does not import it."""

try:
    from sklearn.utils.validation import validate_data as _validate_data  # noqa: F401  since 1.6
except ImportError as error:
    raise ImportError(
        "bgmm_jd.sklearn needs scikit-learn 1.6 or later, which is not a dependency of bgmm_jd. "
        "Install it with: pip install 'bgmm_jd[sklearn]'"
    ) from error

from bgmm_jd.sklearn.estimator import BayesianGaussianMixture

__all__ = ["BayesianGaussianMixture"]
