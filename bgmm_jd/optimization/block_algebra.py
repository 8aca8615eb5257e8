"""Linear algebra of batches of scale matrices, for full and for diagonal ones.

A Wishart distribution of a full matrix has one block of size D; precisions of the features are D
blocks of size 1. Variational EM is written once for both.
"""

import functools

import numpy as np
from scipy.special import digamma

from bgmm_jd.model.covariance_forms import MATRIX_FORMS

_LOG_2 = float(np.log(2.0))


def expected_log_det(df: np.ndarray | float, log_det: np.ndarray, p: int) -> np.ndarray:
    """Return E[log |Lambda|] under a Wishart distribution of p x p matrices."""
    steps = np.arange(p)
    value: np.ndarray = (
        digamma((np.asarray(df)[..., None] - steps) / 2.0).sum(axis=-1) + p * _LOG_2 - log_det
    )
    return value


@functools.lru_cache(maxsize=64)
def _positions_of_products(D: int) -> np.ndarray:
    """Return where the product of each two of D features is among those of i <= j: [D, D]."""
    position = np.zeros((D, D), int)
    i, j = np.triu_indices(D)
    position[i, j] = position[j, i] = np.arange(len(i))
    return position


class Matrices:
    """Linear algebra of batches of matrices [..., D, D], one block of size D each."""

    inverse = staticmethod(np.linalg.inv)

    @staticmethod
    def identity(D: int) -> np.ndarray:
        """Return the identity."""
        return np.eye(D)

    @staticmethod
    def scale_shape(D: int, form: str) -> tuple[int, ...]:
        """Return the shape of one scale matrix."""
        return (D, D)

    @staticmethod
    def widen(numbers: np.ndarray) -> np.ndarray:
        """Return numbers that multiply whole matrices."""
        return numbers[..., None, None]

    @staticmethod
    def beside(df: np.ndarray) -> np.ndarray:
        """Return degrees of freedom in a shape that broadcasts with one number for each block."""
        return df

    @staticmethod
    def size(scale: np.ndarray) -> int:
        """Return the size of a block."""
        return scale.shape[-1]

    @staticmethod
    def apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Return products with vectors [..., D]."""
        return (matrix @ vector[..., None])[..., 0]

    @staticmethod
    def packed(matrix: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return coefficients of the products x_i x_j."""
        return matrix[..., i, j] * np.where(i == j, 1.0, 2.0)

    @staticmethod
    def scatter(
        count: np.ndarray, first: np.ndarray, second: np.ndarray, mean: np.ndarray
    ) -> np.ndarray:
        """Return sums of squares about the means, from sums of the features."""
        position = _positions_of_products(mean.shape[-1])
        cross = first[..., :, None] * mean[..., None, :]
        square = mean[..., :, None] * mean[..., None, :]
        return (
            second[..., position] - cross - cross.swapaxes(-1, -2) + count[..., None, None] * square
        )

    @staticmethod
    def trace(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the trace of the product of two symmetric matrices."""
        return (a * b).sum(axis=(-2, -1))

    block_trace = trace

    @staticmethod
    def total(matrix: np.ndarray) -> np.ndarray:
        """Return the trace."""
        return np.trace(matrix, axis1=-2, axis2=-1)

    block_sum = total

    @staticmethod
    def log_det(matrix: np.ndarray) -> np.ndarray:
        """Return the log determinant."""
        return np.linalg.slogdet(matrix)[1]

    block_log_det = log_det

    @staticmethod
    def expected_log_det(df: np.ndarray, scale: np.ndarray, D: int) -> np.ndarray:
        """Return E[log |Lambda|] under Wishart distributions with these scales."""
        return expected_log_det(df, np.linalg.slogdet(scale)[1], D)

    @staticmethod
    def sum_blocks(values: np.ndarray) -> np.ndarray:
        """Return the sum over components and blocks: [S]."""
        return values.sum(axis=1)


class Diagonals:
    """Linear algebra of diagonal matrices: [..., D], or [..., 1] if all D entries are equal."""

    @staticmethod
    def inverse(diagonal: np.ndarray) -> np.ndarray:
        """Return the inverses."""
        return 1.0 / diagonal

    @staticmethod
    def identity(D: int) -> np.ndarray:
        """Return the identity."""
        return np.ones(D)

    @staticmethod
    def scale_shape(D: int, form: str) -> tuple[int, ...]:
        """Return the shape of one scale matrix."""
        return (1,) if form == "spherical" else (D,)

    @staticmethod
    def widen(numbers: np.ndarray) -> np.ndarray:
        """Return numbers that multiply whole matrices."""
        return numbers[..., None]

    beside = widen

    @staticmethod
    def size(scale: np.ndarray) -> int:
        """Return the size of a block."""
        return 1

    @staticmethod
    def apply(diagonal: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Return products with vectors [..., D]."""
        return diagonal * vector

    @staticmethod
    def packed(diagonal: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return coefficients of the products x_i x_j."""
        return np.broadcast_to(diagonal, (*diagonal.shape[:-1], len(i)))

    @staticmethod
    def scatter(
        count: np.ndarray, first: np.ndarray, second: np.ndarray, mean: np.ndarray
    ) -> np.ndarray:
        """Return sums of squares about the means, from sums of the features.

        Rounding of large terms that cancel may leave less than nothing.
        """
        return np.maximum(second - 2.0 * first * mean + count[..., None] * mean**2, 0.0)

    @staticmethod
    def trace(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the trace of the product of two symmetric matrices."""
        return (a * b).sum(axis=-1)

    @staticmethod
    def block_trace(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the trace of the product within each block."""
        return a * b

    @staticmethod
    def total(diagonal: np.ndarray) -> np.ndarray:
        """Return the trace."""
        return diagonal.sum(axis=-1)

    @staticmethod
    def block_sum(diagonal: np.ndarray) -> np.ndarray:
        """Return the trace of each block."""
        return diagonal

    @staticmethod
    def log_det(diagonal: np.ndarray) -> np.ndarray:
        """Return the log determinant."""
        return np.log(diagonal).sum(axis=-1)

    @staticmethod
    def block_log_det(diagonal: np.ndarray) -> np.ndarray:
        """Return the log of each entry."""
        return np.log(diagonal)

    @staticmethod
    def expected_log_det(df: np.ndarray, scale: np.ndarray, D: int) -> np.ndarray:
        """Return E[log |Lambda|] under Wishart distributions with these scales."""
        each = expected_log_det(df[..., None], np.log(scale), 1)
        return np.broadcast_to(each, (*scale.shape[:-1], D)).sum(axis=-1)

    @staticmethod
    def sum_blocks(values: np.ndarray) -> np.ndarray:
        """Return the sum over components and blocks: [S]."""
        return values.sum(axis=(1, 2))


Algebra = Matrices | Diagonals


def algebra_of(form: str) -> Algebra:
    """Return the algebra of a form of covariance."""
    return Matrices() if form in MATRIX_FORMS else Diagonals()
