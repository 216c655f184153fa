"""How far a set of sounds lies from a reference set, by any embedding: FAD and KAD.

FAD: Kilgour et al. 2019, arXiv:1812.08466. Its bias with few samples, and the extrapolation to infinitely many
(FAD-inf): Gui et al. 2024, arXiv:2311.01616. KAD, an unbiased maximum mean discrepancy: Chung et al. 2025,
arXiv:2502.15602; the estimator: Gretton et al. 2012, JMLR 13, eq. 3.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import EvalError

__all__ = ["Fad", "Kad", "SmallSampleWarning", "fad", "frechet", "kad", "mmd2"]

Vectors = npt.NDArray[np.floating[Any]]
SMALL = 1000  # embeddings below which FAD is mostly bias
_POINTS = 15  # of the extrapolation
_SMALLEST = 0.2  # of all, the smallest subset of the extrapolation
_BLOCK = 1024  # rows of a kernel matrix at once


class SmallSampleWarning(UserWarning):
    """FAD of so few samples is mostly bias; use KAD."""


@dataclass(frozen=True, slots=True)
class Fad:
    """A Fréchet distance, with what its sample size does to it."""

    value: float  # of these samples: biased upwards
    infinite: float  # extrapolated to infinitely many samples; unbiased to the first order
    slope: float  # of the distance over 1 / n
    r2: float  # of that line: near 1, or the extrapolation says little
    n: int  # the smaller set
    reference_n: int

    @property
    def bias(self) -> float:
        """What the small number of samples adds."""
        return self.value - self.infinite


@dataclass(frozen=True, slots=True)
class Kad:
    """An unbiased squared maximum mean discrepancy; it may be below 0 where the sets are alike."""

    value: float
    low: float  # 95 % interval, by a jackknife over samples
    high: float
    bandwidth: float  # of the Gaussian kernel: the median distance within the reference
    n: int
    reference_n: int


def frechet(a: Vectors, b: Vectors) -> float:
    """Between Gaussians fitted to two sets [n, dimensions].

    Raises:
        EvalError: fewer than two samples, other dimensions, or values that are not finite.
    """
    a, b = _checked(a, b)
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False, ddof=1), np.cov(b, rowvar=False, ddof=1)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    # tr sqrt(A B) by eigenvalues of sqrt(A) B sqrt(A): symmetric, so it stays real where a matrix is singular
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ cov_b @ root).clip(0)
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross).sum())


def fad(sounds: Vectors, reference: Vectors, *, seed: int = 0) -> Fad:
    """FAD and FAD-inf of sounds against a reference, [n, dimensions] each.

    Raises:
        EvalError: as `frechet`.
    """
    sounds, reference = _checked(sounds, reference)
    n = len(sounds)
    if min(n, len(reference)) < SMALL:
        warnings.warn(
            f"FAD of {n} against {len(reference)} samples: below {SMALL:,} it is mostly bias. KAD has none.",
            SmallSampleWarning,
            stacklevel=2,
        )
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(max(2, round(_SMALLEST * n)), n, _POINTS).astype(int))
    values = np.array([frechet(sounds[rng.choice(n, size, replace=False)], reference) for size in sizes])
    whole = frechet(sounds, reference)
    if len(sizes) < 3:
        return Fad(whole, float("nan"), float("nan"), float("nan"), n, len(reference))
    slope, infinite = np.polyfit(1 / sizes, values, 1)
    fitted = infinite + slope / sizes
    total = float(((values - values.mean()) ** 2).sum())
    r2 = 1 - float(((values - fitted) ** 2).sum()) / total if total else 1.0
    return Fad(whole, float(infinite), float(slope), r2, n, len(reference))


def kad(sounds: Vectors, reference: Vectors, *, bandwidth: float | None = None) -> Kad:
    """KAD of sounds against a reference, [n, dimensions] each.

    Args:
        sounds, reference: the embeddings.
        bandwidth: of the Gaussian kernel exp(-d^2 / (2 bandwidth^2)); None: the median distance within the reference.

    Raises:
        EvalError: as `frechet`; or all of the reference is one point.
    """
    sounds, reference = _checked(sounds, reference)
    width = bandwidth if bandwidth is not None else _median_distance(reference)
    if not width > 0:
        raise EvalError("The samples of the reference are all the same: no bandwidth can be had from them.")
    n, m = len(sounds), len(reference)
    within = _kernel_sums(sounds, sounds, width) - 1  # each with all the others
    among = _kernel_sums(reference, reference, width) - 1
    across = _kernel_sums(sounds, reference, width)
    back = _kernel_sums(reference, sounds, width)
    value = _mmd2(within.sum(), among.sum(), across.sum(), n, m)
    # leave-one-out values in closed form
    left = [
        _mmd2(within.sum() - 2 * w, among.sum(), across.sum() - c, n - 1, m)
        for w, c in zip(within, across, strict=True)
    ]
    right = [
        _mmd2(within.sum(), among.sum() - 2 * a, across.sum() - c, n, m - 1) for a, c in zip(among, back, strict=True)
    ]
    error = 0.0
    for values in (left, right):
        k = len(values)
        error += (k - 1) / k * float(((np.array(values) - np.mean(values)) ** 2).sum()) if k > 2 else float("nan")
    half = 1.959963984540054 * float(np.sqrt(error))
    return Kad(value, value - half, value + half, width, n, m)


def mmd2(sounds: Vectors, reference: Vectors, *, bandwidth: float) -> float:
    """The unbiased squared maximum mean discrepancy with a Gaussian kernel of this bandwidth."""
    return kad(sounds, reference, bandwidth=bandwidth).value


def _mmd2(within: float, among: float, across: float, n: int, m: int) -> float:
    if n < 2 or m < 2:
        return float("nan")
    return float(within / (n * (n - 1)) + among / (m * (m - 1)) - 2 * across / (n * m))


def _kernel_sums(a: Vectors, b: Vectors, width: float) -> npt.NDArray[np.float64]:
    """For each of a, the sum of the kernel over b."""
    blocks = (a[i : i + _BLOCK] for i in range(0, len(a), _BLOCK))
    sums: npt.NDArray[np.float64] = np.concatenate([np.exp(-_squared(x, b) / (2 * width**2)).sum(1) for x in blocks])
    return sums


def _squared(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b, "sqeuclidean"), np.float64)


def _median_distance(points: Vectors) -> float:
    from scipy.spatial.distance import pdist

    some = points if len(points) <= 2 * _BLOCK else np.random.default_rng(0).choice(points, 2 * _BLOCK, replace=False)
    return float(np.median(pdist(some)))


def _checked(a: Vectors, b: Vectors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    pair = [np.asarray(x, np.float64) for x in (a, b)]
    if any(x.ndim != 2 or len(x) < 2 for x in pair) or pair[0].shape[1] != pair[1].shape[1]:
        raise EvalError(
            "Two sets of at least 2 embeddings of the same dimensions are needed, "
            f"not {pair[0].shape} and {pair[1].shape}."
        )
    if not all(np.isfinite(x).all() for x in pair):
        raise EvalError("An embedding holds values that are not finite.")
    return pair[0], pair[1]  # pyright: ignore[reportReturnType]
