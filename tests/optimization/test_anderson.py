"""Anderson acceleration on linear maps, where it is a Krylov method: exact in P dimensions."""

import numpy as np
import pytest

from bgmm_jd.optimization.anderson import History, accelerated, remember

P = 6


def linear(seed=0, radius=0.9):
    """Return x -> A x + b with eigenvalues up to `radius` in modulus, and its fixed point."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(P, P))
    eigenvalues = radius * np.array([1.0, -0.8, 0.6, 0.3, -0.2, 0.1])
    A = vectors @ np.diag(eigenvalues) @ np.linalg.inv(vectors)
    b = rng.normal(size=P)
    return (lambda x: A @ x + b), np.linalg.solve(np.eye(P) - A, b)


def evaluations(g, most, limit=500, coordinates=None, tolerance=1e-8):
    """Count evaluations of g until a step is shorter than `tolerance`; return the point too."""
    coordinates = np.eye(P) if coordinates is None else coordinates
    x, history = np.zeros(P), History()
    for count in range(1, limit + 1):
        image = g(x)
        residual = image - x
        if np.abs(residual).max() < tolerance:
            return count, image
        history = remember(history, image, coordinates @ residual, most)
        x = accelerated(history)
    raise AssertionError(f"no fixed point after {limit} evaluations")


@pytest.mark.parametrize("seed", range(5))
def test_linear_map_is_solved_in_two_more_evaluations_than_dimensions(seed):
    """Six changes span all six dimensions: the eighth evaluation is at the fixed point.

    Plain iteration needs log(1e-8 / first) / log(0.9), some 180.
    """
    g, fixed = linear(seed)
    count, found = evaluations(g, most=8)
    assert count <= P + 2
    # The residual is (A - 1) times the error; (1 - A)^-1 is some ten times the vectors' condition.
    np.testing.assert_allclose(found, fixed, atol=1e-5)
    plain, _ = evaluations(g, most=1)
    assert plain > 100


def test_history_of_one_is_plain_iteration():
    g, _ = linear()
    image = g(np.zeros(P))
    history = remember(History(), image, image, 1)
    np.testing.assert_array_equal(accelerated(history), image)
    history = remember(history, g(image), g(image) - image, 1)
    np.testing.assert_array_equal(accelerated(history), g(image))


def test_oldest_evaluations_are_dropped():
    history = History()
    for i in range(7):
        history = remember(history, np.full(2, float(i)), np.full(3, -float(i)), 4)
    assert [v[0] for v in history.images] == [3.0, 4.0, 5.0, 6.0]
    assert [v[0] for v in history.residuals] == [-3.0, -4.0, -5.0, -6.0]
    assert History() == ((), ())


def test_short_history_is_faster_than_plain_iteration():
    g, fixed = linear()
    count, found = evaluations(g, most=3)
    plain, _ = evaluations(g, most=1)
    assert count < plain / 2
    np.testing.assert_allclose(found, fixed, atol=1e-5)


def test_residuals_may_be_in_other_coordinates():
    """Another norm of the residual, and more residuals than parameters: as few evaluations."""
    g, fixed = linear()
    rng = np.random.default_rng(1)
    for coordinates in (np.diag(10.0 ** rng.uniform(-2, 2, P)), rng.normal(size=(2 * P, P))):
        count, found = evaluations(g, most=8, coordinates=coordinates)
        assert count <= P + 3  # one more where unequal scales cost digits
        np.testing.assert_allclose(found, fixed, atol=1e-5)


def test_accelerated_point_has_the_smallest_residual_of_all_combinations():
    """Of all affine combinations in the history, against least squares with a constraint."""
    rng = np.random.default_rng(2)
    images, residuals = rng.normal(size=(4, 5)), rng.normal(size=(4, 7))
    history = History()
    for image, residual in zip(images, residuals, strict=True):
        history = remember(history, image, residual, 8)
    gram = residuals @ residuals.T
    share = np.linalg.solve(gram, np.ones(4))  # by Lagrange: the shares sum to one
    share /= share.sum()
    np.testing.assert_allclose(accelerated(history), share @ images, rtol=1e-10)


def test_equal_residuals_keep_the_newest_image():
    """Changes that are all zero have no inverse."""
    history = History()
    for image in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]):
        history = remember(history, np.array(image), np.ones(2), 8)
    np.testing.assert_allclose(accelerated(history), [5.0, 6.0])
