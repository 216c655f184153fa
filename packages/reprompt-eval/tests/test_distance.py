"""FAD and KAD against closed forms and second implementations."""

import warnings

import numpy as np
import pytest
import torch
from reprompt_eval.distance import SmallSampleWarning, fad, frechet, kad, mmd2
from reprompt_eval.errors import EvalError
from scipy.linalg import sqrtm


def _normal(n: int, d: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * scale + shift


def _exactly(x: np.ndarray, *, variance: float, mean: float) -> np.ndarray:
    """The same points, whitened and then given exactly this mean and covariance."""
    x = x - x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return (x @ vectors) / np.sqrt(values) @ vectors.T * np.sqrt(variance) + mean


def test_frechet_is_the_closed_form_of_known_gaussians() -> None:
    d, (v, w), (m, k) = 6, (2.0, 0.5), (0.3, -0.4)
    a = _exactly(_normal(200, d, seed=1), variance=v, mean=m)
    b = _exactly(_normal(300, d, seed=2), variance=w, mean=k)
    expected = d * ((m - k) ** 2 + v + w - 2 * np.sqrt(v * w))
    assert frechet(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 80, 8), (40, 40, 64), (300, 20, 16)])
def test_frechet_is_that_of_a_matrix_square_root(n: int, m: int, d: int) -> None:
    a, b = _normal(n, d, seed=3), _normal(m, d, seed=4, shift=0.2, scale=1.3)
    A, B, gap = np.cov(a.T), np.cov(b.T), a.mean(0) - b.mean(0)
    # a little on the diagonal lets the second implementation through singular matrices
    second = gap @ gap + np.trace(A + B) - 2 * np.trace(np.real(sqrtm((A + 1e-12 * np.eye(d)) @ B)))
    assert frechet(a, b) == pytest.approx(second, abs=1e-5 if min(n, m) <= d else 1e-6)


def test_frechet_of_a_set_with_itself_is_nothing_and_it_is_symmetric() -> None:
    a, b = _normal(60, 12, seed=5), _normal(70, 12, seed=6, shift=1)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), abs=1e-9)


def test_fad_of_few_samples_is_bias_and_the_extrapolation_takes_most_of_it_away() -> None:
    reference = _normal(4000, 16, seed=7)
    with pytest.warns(SmallSampleWarning, match="KAD has none"):
        small = fad(_normal(200, 16, seed=8), reference)
    assert small.value > 0.3  # of two samples of one distribution
    assert abs(small.infinite) < 0.35 * small.value
    assert small.bias == pytest.approx(small.value - small.infinite)
    assert small.r2 > 0.8
    assert (small.n, small.reference_n) == (200, 4000)


def test_fad_of_enough_samples_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fad(_normal(1000, 4, seed=9), _normal(1000, 4, seed=10)).value < 0.1


def test_kad_is_that_of_a_second_implementation() -> None:
    a, b = _normal(90, 24, seed=11), _normal(70, 24, seed=12, shift=0.3)
    found = kad(a, b)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    width = torch.pdist(y).median()  # the lower of the two middle ones where the count is even
    assert found.bandwidth == pytest.approx(float(width), rel=1e-3)

    def kernel(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return torch.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / (2 * found.bandwidth**2))

    n, m = len(x), len(y)
    expected = (
        (kernel(x, x).sum() - n) / (n * (n - 1))
        + (kernel(y, y).sum() - m) / (m * (m - 1))
        - 2 * kernel(x, y).mean()
    )  # fmt: skip
    assert found.value == pytest.approx(float(expected), abs=1e-10)
    assert found.low < found.value < found.high


def test_kad_is_the_closed_form_of_gaussians() -> None:
    d, width, shift = 3, 2.0, 0.7
    a, b = _normal(6000, d, seed=13), _normal(6000, d, seed=14, shift=shift)
    same = (width**2 / (width**2 + 2)) ** (d / 2)
    across = same * np.exp(-d * shift**2 / (2 * (width**2 + 2)))
    assert mmd2(a, b, bandwidth=width) == pytest.approx(2 * same - 2 * across, abs=0.01)


def test_kad_has_no_bias_with_few_samples_and_its_interval_covers_nothing_often() -> None:
    values, covered = [], 0
    for seed in range(200):
        found = kad(_normal(25, 32, seed=2 * seed), _normal(25, 32, seed=2 * seed + 1))
        values.append(found.value)
        covered += found.low <= 0 <= found.high
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert 0.85 < covered / 200 <= 1


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros((1, 4)), np.ones((5, 4)), "at least 2"),
        (np.zeros((5, 3)), np.ones((5, 4)), "same dimensions"),
        (np.full((5, 4), np.nan), np.ones((5, 4)), "not finite"),
        (np.zeros(5), np.ones((5, 4)), "at least 2"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_refused(a: np.ndarray, b: np.ndarray, said: str) -> None:
    for measure in (frechet, kad):
        with pytest.raises(EvalError, match=said):
            measure(a, b)


def test_a_reference_of_one_point_has_no_bandwidth() -> None:
    with pytest.raises(EvalError, match="all the same"):
        kad(_normal(5, 3, seed=1), np.ones((5, 3)))
