"""Two measurements of each prompt: how far they lie apart, how surely, and whether the difference could be chance.

scipy and statsmodels do the mathematics. What cannot be said (an interval of one prompt, a test of differences that are
all zero) is None, with a note that says why.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import OptionError

__all__ = [
    "ALPHA",
    "LEVEL",
    "Detectable",
    "Equivalence",
    "Interval",
    "Mean",
    "Paired",
    "Sampling",
    "Test",
    "Wins",
    "bootstrap",
    "compare",
    "detectable_difference",
    "rms_d",
    "share",
    "summarize",
]

LEVEL = 0.95
ALPHA = 0.05
_SAME = 1e-12  # of the largest: two scores nearer than this are a tie, and differ by how computers add
_FEW = 40  # under so many prompts the bootstrap held 90 % (10) to 93 % (30) in simulations, instead of 95
_AT_ONCE = 4_000_000  # resampled values held in memory at once
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the bootstrap draws: the same seed gives the same interval."""

    seed: int = 0
    resamples: int = 9999


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true value lies, as far as the data can say."""

    low: float
    high: float
    method: str
    level: float = LEVEL

    @property
    def excludes_zero(self) -> bool:
        """The whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over prompts."""

    n: int
    mean: float
    sd: float | None  # with n - 1
    ci: Interval | None  # over prompts


@dataclass(frozen=True, slots=True)
class Test:
    """A two-sided test of no difference."""

    statistic: float
    p: float
    p_holm: float | None = None  # adjusted within its family; None: it belongs to none
    df: int | None = None


@dataclass(frozen=True, slots=True)
class Wins:
    """On how many prompts the second is better. The rate is that among the prompts that are not tied."""

    better: int
    worse: int
    ties: int
    rate: float | None
    ci: Interval | None


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided t-tests (Schuirmann 1987, doi:10.1007/BF01068419) against a bound that was set beforehand."""

    bound: float
    p: float
    ci: Interval  # of 90 %: both tests reject at 5 % when it lies within the bound
    equivalent: bool  # the difference is smaller than the bound, either way


@dataclass(frozen=True, slots=True)
class Detectable:
    """The smallest true difference that a paired t-test would find."""

    difference: float  # if more seeds bring nothing: prompts differ, takes do not
    at_best: float  # if all spread is that of takes, so that seeds average it out
    n: int
    sd: float  # of the differences of one seed
    seeds: int
    power: float
    alpha: float


@dataclass(frozen=True, slots=True)
class Paired:
    """The second minus the first, over the same prompts. Every figure stands on `n` prompts."""

    n: int
    first: Mean
    second: Mean
    difference: float
    sd: float | None  # of the differences, with n - 1
    ci: Interval | None  # BCa bootstrap over prompts
    ci_percentile: Interval | None  # of the same draws, as a check
    ci_t: Interval | None  # of the paired t-test, as a check: for few prompts the one to look at
    dz: float | None  # difference / sd
    dz_ci: Interval | None
    t: Test | None
    wilcoxon: Test | None
    wins: Wins
    r: float | None  # Pearson, between first and second
    r_ci: Interval | None
    equivalence: Equivalence | None  # None: no bound was given, or too few prompts
    detectable: float | None  # the true difference that this n and this sd find 8 times in 10
    notes: tuple[str, ...]


def compare(
    first: Sequence[float], second: Sequence[float], *, bound: float | None = None, sampling: Sampling | None = None
) -> Paired:
    """Everything about the paired differences second - first; position i of both is the same prompt.

    Args:
        bound: differences smaller than this, either way, count as none; to be set before the data are seen.

    Raises:
        OptionError: the bound is not above zero.
    """
    from scipy import stats

    if bound is not None and not (math.isfinite(bound) and bound > 0):
        raise OptionError(f"The bound of equivalence must be above 0, not {bound:g}.")
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"Pairs are needed, not {a.shape} and {b.shape}.")
    sampling = sampling or Sampling()
    n, d = len(a), b - a
    grain = _SAME * float(np.abs([a, b]).max())
    d[np.abs(d) <= grain] = 0.0
    notes: list[str] = []
    spread = _sd(d)
    same = n > 1 and float(np.ptp(d)) <= grain
    if n == 1:
        notes.append("one prompt: no interval and no test")
    elif same:
        notes.append("all differences are the same: intervals have no width, and nothing can be tested")
    elif n < _FEW:
        notes.append(f"{n} prompts: under {_FEW} bootstrap intervals are somewhat too narrow; the interval by t is not")
    testable = n > 1 and not same
    ci, percentile = bootstrap(d, sampling=sampling)
    t = dz = dz_ci = ci_t = None
    if testable:
        assert spread
        result: Any = stats.ttest_1samp(d, 0.0)
        t = Test(float(result.statistic), float(result.pvalue), df=n - 1)
        dz = float(d.mean()) / spread
        dz_ci = _dz_interval(t.statistic, n)
        of_t = result.confidence_interval(LEVEL)
        ci_t = Interval(float(of_t.low), float(of_t.high), "t")
    wilcoxon = None
    if testable:
        # in grains: .3 - .2 and .2 - .1 have one rank
        signed: Any = stats.wilcoxon(np.round(d / grain), zero_method="wilcox")
        wilcoxon = Test(float(signed.statistic), float(signed.pvalue))
    r, r_ci = _correlation(a, b, notes)
    return Paired(
        n=n,
        first=summarize(a, sampling=sampling),
        second=summarize(b, sampling=sampling),
        difference=float(d.mean()),
        sd=spread,
        ci=ci,
        ci_percentile=percentile,
        ci_t=ci_t,
        dz=dz,
        dz_ci=dz_ci,
        t=t,
        wilcoxon=wilcoxon,
        wins=_wins(d),
        r=r,
        r_ci=r_ci,
        equivalence=_equivalence(d, bound) if testable and bound is not None else None,
        detectable=detectable_difference(n, spread).difference if testable and spread else None,
        notes=tuple(notes),
    )


def summarize(values: Sequence[float] | Values, *, sampling: Sampling | None = None) -> Mean:
    """Mean, standard deviation and the bootstrap interval of the mean."""
    x = np.asarray(values, np.float64)
    return Mean(len(x), float(x.mean()), _sd(x), bootstrap(x, sampling=sampling)[0])


def bootstrap(
    values: Sequence[float] | Values, *, sampling: Sampling | None = None
) -> tuple[Interval | None, Interval | None]:
    """Two 95 % intervals of the mean from resampled values: BCa (Efron 1987, doi:10.2307/2289144), and percentile.

    None for fewer than two values; without any width where all values are the same.
    """
    from scipy import stats

    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return None, None
    if _all_same(x):
        at = float(x[0])
        return Interval(at, at, "BCa bootstrap"), Interval(at, at, "percentile bootstrap")
    sampling = sampling or Sampling()
    # BCa's jackknife has n values for each of its n samples
    batch = max(1, _AT_ONCE // len(x))
    with warnings.catch_warnings():
        # its warning of degenerate data: what it cannot say is NaN and taken up below
        warnings.simplefilter("ignore")
        bca = stats.bootstrap(
            (x,), np.mean, n_resamples=sampling.resamples, batch=batch,
            method="BCa", rng=sampling.seed, confidence_level=LEVEL,
        )  # fmt: skip
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(bca.bootstrap_distribution, [tail, 1 - tail])
    percentile = Interval(float(low), float(high), "percentile bootstrap")
    low, high = (float(v) for v in bca.confidence_interval)
    # with next to no spread the acceleration is 0 / 0
    exact = math.isfinite(low) and math.isfinite(high)
    return Interval(low, high, "BCa bootstrap") if exact else percentile, percentile


def share(successes: int, n: int) -> tuple[float | None, Interval | None]:
    """A share with its Wilson interval (Wilson 1927, doi:10.1080/01621459.1927.10502953); None of nothing."""
    from scipy import stats

    if n == 0:
        return None, None
    ci = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return successes / n, Interval(float(ci.low), float(ci.high), "Wilson")


def rms_d(
    first: Sequence[float], second: Sequence[float], *, sampling: Sampling | None = None
) -> tuple[float | None, Interval | None]:
    """The difference of the means in units of the root mean square of the two standard deviations.

    Cohen's d as for two samples that have nothing to do with each other; `dz` is the one for pairs. The interval is
    that of prompts resampled with both their scores.
    """
    from scipy import stats

    def d(x: Values, y: Values, axis: int = -1) -> Any:
        spread = np.sqrt((x.var(axis=axis, ddof=1) + y.var(axis=axis, ddof=1)) / 2)
        return (y.mean(axis=axis) - x.mean(axis=axis)) / spread

    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) < 3 or _all_same(a) or _all_same(b):
        return None, None
    sampling = sampling or Sampling()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # resamples of one prompt only have no spread: NaN
        result = stats.bootstrap(
            (a, b), d, paired=True, vectorized=True, n_resamples=sampling.resamples, batch=max(1, _AT_ONCE // len(a)),
            method="BCa", rng=sampling.seed, confidence_level=LEVEL,
        )  # fmt: skip
    low, high = (float(v) for v in result.confidence_interval)
    told = math.isfinite(low) and math.isfinite(high)
    return float(d(a, b)), Interval(low, high, "BCa bootstrap") if told else None


def detectable_difference(n: int, sd: float, *, seeds: int = 1, power: float = 0.8, alpha: float = ALPHA) -> Detectable:
    """What a paired t-test, two-sided at `alpha`, finds with this power.

    Args:
        n: prompts.
        sd: standard deviation of the paired differences of one seed.
        seeds: takes of each prompt and arm, averaged within the prompt. How far they help depends on how much of the
            spread is theirs: the answer gives both ends.

    Raises:
        OptionError: fewer than two prompts, no seed, or a standard deviation, power or level that is none.
    """
    if n < 2:
        raise OptionError(f"At least 2 prompts are needed to detect anything, not {n}.")
    if seeds < 1:
        raise OptionError(f"At least 1 seed is needed, not {seeds}.")
    if not (math.isfinite(sd) and sd > 0):
        raise OptionError(f"The standard deviation must be above 0, not {sd:g}.")
    if not (0 < alpha < power < 1):
        raise OptionError(f"0 < alpha < power < 1 is needed, not alpha {alpha:g} and power {power:g}.")
    effect = _detectable_effect(n, power, alpha)
    return Detectable(effect * sd, effect * sd / math.sqrt(seeds), n, sd, seeds, power, alpha)


def _detectable_effect(n: int, power: float, alpha: float) -> float:
    """The smallest dz that is found, from the noncentral t distribution."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=n, alpha=alpha, power=power, alternative="two-sided"))


def _dz_interval(t: float, n: int) -> Interval | None:
    """From the noncentral t distribution: the effects under which t is at the edge of what is likely."""
    from scipy import optimize, stats

    df, tail = n - 1, (1 - LEVEL) / 2
    error = math.sqrt(1 + t * t / (2 * df))  # of the noncentrality, about

    def edge(quantile: float, side: int) -> float:
        def over(noncentrality: float) -> float:
            # of |t|: the distribution function is NaN far out on the left
            return float(stats.nct.cdf(abs(t), df, noncentrality)) - quantile

        for reach in (3, 5, 8, 12):
            ends = sorted((abs(t), abs(t) + side * reach * error))
            if over(ends[0]) * over(ends[1]) < 0:
                root: Any = optimize.brentq(over, ends[0], ends[1])
                return float(root) / math.sqrt(n)
        raise ValueError("It cannot be computed.")

    try:
        low, high = edge(1 - tail, -1), edge(tail, 1)
    except ValueError:  # differences that are all but the same
        return None
    return Interval(low, high, "noncentral t") if t >= 0 else Interval(-high, -low, "noncentral t")


def _all_same(x: Values) -> bool:
    return float(np.ptp(x)) <= _SAME * float(np.abs(x).max())


def _sd(x: Values) -> float | None:
    return float(x.std(ddof=1)) if len(x) > 1 else None


def _wins(d: Values) -> Wins:
    better, worse = int((d > 0).sum()), int((d < 0).sum())
    return Wins(better, worse, len(d) - better - worse, *share(better, better + worse))


def _correlation(a: Values, b: Values, notes: list[str]) -> tuple[float | None, Interval | None]:
    from scipy import stats

    if len(a) < 3:
        return None, None
    if _all_same(a) or _all_same(b):
        notes.append("all scores of one side are the same: no correlation")
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant input: r may be inexact
        result: Any = stats.pearsonr(a, b)
        ci = result.confidence_interval(LEVEL)
    # Fisher's z has a standard error from four pairs on
    told = len(a) > 3 and math.isfinite(float(ci.low)) and math.isfinite(float(ci.high))
    return float(result.statistic), Interval(float(ci.low), float(ci.high), "Fisher z") if told else None


def _equivalence(d: Values, bound: float) -> Equivalence:
    from statsmodels.stats.weightstats import DescrStatsW

    described = DescrStatsW(d)
    p = float(described.ttost_mean(-bound, bound)[0])
    low, high = described.tconfint_mean(alpha=2 * ALPHA)
    return Equivalence(bound, p, Interval(float(low), float(high), "t", 1 - 2 * ALPHA), p < ALPHA)
