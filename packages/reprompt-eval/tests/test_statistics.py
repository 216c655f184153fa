"""The statistics: the published study, figures worked out another way, simulations, and data that break formulas."""

import json
import math
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_eval.answer import answer, verdict
from reprompt_eval.errors import OptionError, ScoresError
from reprompt_eval.mixed_model import fit
from reprompt_eval.paired import Sampling, bootstrap, compare, detectable_difference, rms_d, share
from reprompt_eval.scores import Score, Scores, read_scores
from reprompt_eval.statistics import TWO_THINGS, Analysis, Comparison, analyse
from scipy import stats

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT.parent / "shared/data/published_clap_scores.csv"
SLOW = bool(os.environ.get("REPROMPT_SLOW"))  # read before the tests clear the environment
QUICK = Sampling(resamples=999)

Row = tuple[str, str, str, str, str, str, float]  # prompt, arm, seed, text, text_of, checkpoint, score


def scores(rows: Iterable[Row], **columns: dict[str, str]) -> Scores:
    made = tuple(
        Score(prompt, arm, text, text_of, seed, checkpoint, value, "line 1")  # pyright: ignore[reportArgumentType]
        for prompt, arm, seed, text, text_of, checkpoint, value in rows
    )
    others = {name: {p: (v,) for p, v in values.items()} for name, values in columns.items()}
    return Scores("scores.csv", made, (), others)


def own(arm: str, values: Iterable[float], *, seed: str = "0", checkpoint: str = "", start: int = 0) -> list[Row]:
    return [(f"p{i:03}", arm, seed, "own", "", checkpoint, float(v)) for i, v in enumerate(values, start)]


def two(first: Iterable[float], second: Iterable[float], **options: Any) -> Analysis:
    return analyse(scores([*own("raw", first), *own("rules", second)]), sampling=QUICK, **options)


# -- the published study ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> Analysis:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published scores are not at hand ({PUBLISHED.name} in shared/data beside the checkout)")
    return analyse(read_scores(PUBLISHED), bound=0.02, two_things=True)


def test_published_means_and_spreads(published: Analysis) -> None:
    raw, cross, missing, refined = (cell.mean for cell in published.cells["refined", ""])
    assert missing is None  # refined text on raw audio was not published
    for cell, mean, sd in ((raw, 0.1047, 0.1040), (cross, 0.1071, 0.0918), (refined, 0.2224, 0.1512)):
        assert cell is not None
        assert cell.n == 80
        assert cell.mean == pytest.approx(mean, abs=0.0005)
        assert cell.sd == pytest.approx(sd, abs=0.0005)


def test_published_scores_of_the_own_text(published: Analysis) -> None:
    p = published.primary.paired
    assert p.n == 80
    assert p.difference == pytest.approx(0.0024, abs=0.00005)
    assert p.sd == pytest.approx(0.096, abs=0.0005)
    assert p.dz == pytest.approx(0.025, abs=0.0005)
    assert (p.wins.better, p.wins.worse, p.wins.ties) == (36, 44, 0)
    assert p.r == pytest.approx(0.522, abs=0.0005)
    assert p.ci_percentile
    assert p.ci
    # the interval of the bar is the percentile one; BCa moves it by the skew of the differences (.83)
    assert (round(p.ci_percentile.low, 3), round(p.ci_percentile.high, 3)) == (-0.018, 0.024)
    assert (p.ci.low, p.ci.high) == (pytest.approx(-0.018, abs=0.002), pytest.approx(0.024, abs=0.002))
    assert p.detectable == pytest.approx(0.030, abs=0.001)
    assert p.equivalence
    assert not p.equivalence.equivalent  # not even shown to be nothing


def test_published_comparison_of_two_things(published: Analysis) -> None:
    (both,) = published.two_things
    assert both.paired.t
    assert both.paired.t.statistic == pytest.approx(5.7, abs=0.05)
    assert both.paired.t.df == 79
    # .907 comes out of the published means and SDs, which are rounded; out of the scores as read off, .909
    assert both.d == pytest.approx(0.907, abs=0.003)
    assert (0.2224 - 0.1047) / math.sqrt((0.1040**2 + 0.1512**2) / 2) == pytest.approx(0.907, abs=0.0005)
    assert both.label == TWO_THINGS


def test_published_answer(published: Analysis) -> None:
    found = answer(published)
    assert found.verdict == "none"
    assert found.sentence.startswith("No evidence that rewriting helped on the person's own words: the score moved by "
                                     "+0.0024 (95 % CI -0.0")  # fmt: skip
    assert found.sentence.endswith("80 prompts: 36 better, 44 worse).")


# -- figures worked out another way ----------------------------------------------------------------------------------


def test_every_figure_of_a_small_table() -> None:
    first = [0.10, 0.20, 0.05, 0.30, 0.15, 0.22, 0.18, 0.08, 0.12, 0.25, 0.11]
    second = [0.16, 0.19, 0.15, 0.33, 0.15, 0.30, 0.16, 0.18, 0.21, 0.27, 0.20]
    p = two(first, second, bound=0.1).primary.paired
    d = [b - a for a, b in zip(first, second, strict=True)]
    mean = sum(d) / 11
    sd = math.sqrt(sum((x - mean) ** 2 for x in d) / 10)
    t = mean / (sd / math.sqrt(11))
    assert p.difference == pytest.approx(mean)
    assert p.sd == pytest.approx(sd)
    assert p.dz == pytest.approx(mean / sd)
    assert p.t
    assert (p.t.statistic, p.t.df) == (pytest.approx(t), 10)
    assert p.t.p == pytest.approx(2 * stats.t.sf(abs(t), 10))
    assert p.ci_t
    assert p.ci_t.high == pytest.approx(mean + stats.t.ppf(0.975, 10) * sd / math.sqrt(11))
    assert (p.wins.better, p.wins.worse, p.wins.ties) == (8, 2, 1)
    # Wilson's formula, of those that are not tied
    z, n, rate = stats.norm.ppf(0.975), 10, 0.8
    middle, reach = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    assert p.wins.rate == rate
    assert p.wins.ci
    assert p.wins.ci.low == pytest.approx((middle - reach) / (1 + z * z / n))
    assert p.wins.ci.high == pytest.approx((middle + reach) / (1 + z * z / n))
    # the ranks of the ten that differ, by hand: -.01 1, -.02 and +.02 2.5 each, .03 4, .06 5, ...
    assert p.wilcoxon
    assert p.wilcoxon.statistic == pytest.approx(1 + 2.5)
    assert p.equivalence
    assert p.equivalence.p == pytest.approx(stats.t.sf((0.1 - mean) / (sd / math.sqrt(11)), 10))
    assert p.equivalence.equivalent
    reach = stats.t.ppf(0.95, 10) * sd / math.sqrt(11)
    assert (p.equivalence.ci.low, p.equivalence.ci.high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))
    assert p.r == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert p.r_ci
    assert p.r_ci.low == pytest.approx(math.tanh(math.atanh(p.r) - stats.norm.ppf(0.975) / math.sqrt(8)))


def test_the_interval_of_dz_holds_its_level() -> None:
    """Under the effect at its ends, a dz as far out as this one has 2.5 % each."""
    first = np.zeros(25)
    second = np.random.default_rng(5).normal(0.4, 1, 25)
    p = two(first, second).primary.paired
    assert p.dz
    assert p.dz_ci
    draws = np.random.default_rng(6).normal(0, 1, (20_000, 25))
    for end, above in ((p.dz_ci.low, True), (p.dz_ci.high, False)):
        x = draws + end
        dz = x.mean(axis=1) / x.std(axis=1, ddof=1)
        assert np.mean(dz > p.dz if above else dz < p.dz) == pytest.approx(0.025, abs=0.005)
    mirrored = two(second, first).primary.paired
    assert mirrored.dz_ci
    assert (mirrored.dz_ci.low, mirrored.dz_ci.high) == (pytest.approx(-p.dz_ci.high), pytest.approx(-p.dz_ci.low))


def test_the_bca_interval_is_that_of_efron() -> None:
    """Bias and acceleration worked out from their definitions, on the same draws."""
    x = np.random.default_rng(2).lognormal(size=30)
    ci, percentile = bootstrap(x, sampling=Sampling(0, 50_000))
    assert ci
    assert percentile
    means = x[np.random.default_rng(0).integers(0, 30, (200_000, 30))].mean(axis=1)
    bias = stats.norm.ppf((means < x.mean()).mean())
    left_one_out = (x.sum() - x) / 29
    u = left_one_out.mean() - left_one_out
    acceleration = (u**3).sum() / (6 * ((u**2).sum()) ** 1.5)
    for end, z in ((ci.low, stats.norm.ppf(0.025)), (ci.high, stats.norm.ppf(0.975))):
        level = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        assert end == pytest.approx(np.quantile(means, level), abs=0.03)
    assert percentile.high == pytest.approx(np.quantile(means, 0.975), abs=0.03)
    assert ci.high > percentile.high + 0.05  # the correction is seen on skewed data


def test_holm_adjusts_what_is_tested_together() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(0.1, 0.1, 40)
    arms = {name: first + rng.normal(shift, 0.1, 40) for name, shift in (("a", 0.06), ("b", 0.04), ("c", 0.0))}
    table = scores([*own("raw", first), *(row for arm, v in arms.items() for row in own(arm, v))])
    analysis = analyse(table, sampling=QUICK)
    ps = [c.paired.t.p for c in analysis.comparisons if c.paired.t]
    order = sorted(range(3), key=ps.__getitem__)
    expected, least = [0.0] * 3, 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (3 - rank) * ps[i]))
        expected[i] = least
    assert [c.paired.t.p_holm for c in analysis.comparisons if c.paired.t] == pytest.approx(expected)
    assert all(c.paired.wilcoxon and c.paired.wilcoxon.p_holm is not None for c in analysis.comparisons)
    alone = analyse(scores([*own("raw", first), *own("a", arms["a"])]), sampling=QUICK).primary.paired.t
    assert alone
    assert alone.p_holm is None


def test_detectable_difference_is_found_as_often_as_it_says() -> None:
    found = detectable_difference(80, 0.096)
    assert found.difference == pytest.approx(0.0304, abs=0.0001)
    draws = np.random.default_rng(0).normal(found.difference, 0.096, (20_000, 80))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)
    seeds = detectable_difference(80, 0.096, seeds=4)
    assert seeds.difference == pytest.approx(found.difference)  # at worst seeds bring nothing
    assert seeds.at_best == pytest.approx(found.difference / 2)
    assert detectable_difference(20, 0.096).difference > found.difference


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1, 0.1), "2 prompts"), ((80, 0.0), "above 0"), ((80, math.nan), "above 0"), ((80, -1.0), "above 0"),
    ],
)  # fmt: skip
def test_detectable_difference_of_nonsense(arguments: tuple[int, float], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        detectable_difference(*arguments)
    with pytest.raises(OptionError, match="seed"):
        detectable_difference(80, 0.1, seeds=0)
    with pytest.raises(OptionError, match="power"):
        detectable_difference(80, 0.1, power=0.01)


# -- the unit is the prompt ------------------------------------------------------------------------------------------


def test_seeds_are_averaged_first() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.1, 0.1, (4, 30)), rng.normal(0.12, 0.1, (4, 30))
    rows = [row for s in range(4) for row in own("raw", first[s], seed=str(s)) + own("rules", second[s], seed=str(s))]
    many = analyse(scores(rows), sampling=QUICK).primary
    one = two(first.mean(axis=0), second.mean(axis=0)).primary
    assert many.paired.n == 30
    assert many.seeds == (4, 4)
    assert many.paired.ci
    assert one.paired.ci
    assert many.paired.ci.low == pytest.approx(one.paired.ci.low)
    assert many.paired.t
    assert one.paired.t
    assert many.paired.t.p == pytest.approx(one.paired.t.p)
    within = (second - first).var(axis=0, ddof=1).mean()
    assert many.seed_sd == pytest.approx(math.sqrt(within))


def test_only_seeds_and_prompts_that_both_arms_have() -> None:
    rows = [
        ("a", "raw", "0", "own", "", "", 0.1), ("a", "raw", "1", "own", "", "", 0.9),
        ("a", "rules", "0", "own", "", "", 0.2),
        ("b", "raw", "0", "own", "", "", 0.3), ("b", "rules", "0", "own", "", "", 0.5),
        ("c", "raw", "0", "own", "", "", 0.3),
        ("d", "rules", "0", "own", "", "", 0.3),
        ("e", "raw", "0", "own", "", "", 0.3), ("e", "rules", "1", "own", "", "", 0.3),
    ]  # fmt: skip
    c = analyse(scores(rows), sampling=QUICK).primary
    assert [(p.prompt_id, p.first, p.second, p.seeds) for p in c.pairs] == [
        ("a", 0.1, 0.2, ("0",)), ("b", 0.3, 0.5, ("0",)),
    ]  # fmt: skip
    assert c.seeds_dropped == 1
    assert {(u.prompt_id, u.reason) for u in c.unpaired} == {
        ("c", "no score of rules"), ("d", "no score of raw"), ("e", "no seed in both arms"),
    }  # fmt: skip
    further = answer(analyse(scores(rows), sampling=QUICK)).further
    assert any("3 prompts not in the comparison" in line for line in further)


def test_the_order_of_the_rows_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    rows = own("raw", rng.normal(size=25)) + own("rules", rng.normal(size=25))
    mixed = rows.copy()
    random.Random(0).shuffle(mixed)
    first, second = (analyse(scores(r), sampling=QUICK).to_dict() for r in (rows, mixed))
    assert first == second


# -- what it says ----------------------------------------------------------------------------------------------------


def shifted(shift: float, n: int = 40, seed: int = 0) -> Analysis:
    rng = np.random.default_rng(seed)
    first = rng.normal(0.1, 0.1, n)
    return two(first, first + rng.normal(shift, 0.05, n), bound=0.03)


def test_it_says_when_it_helped_and_when_it_did_harm() -> None:
    better, worse, nothing = (answer(shifted(s)) for s in (0.1, -0.1, 0.0))
    assert (better.verdict, worse.verdict, nothing.verdict) == ("helped", "worse", "none")
    assert better.sentence.startswith("Rewriting helped on the person's own words: the score moved by +0.")
    assert worse.sentence.startswith("Rewriting made the fit to the person's own words worse: the score moved by -0.")
    assert "The difference is smaller than 0.0300 either way" in nothing.further[0]
    assert "It is not shown" in better.further[0]


def test_an_interval_and_a_test_that_disagree_are_no_finding() -> None:
    c = shifted(0.02, n=40, seed=1).primary
    assert c.paired.t
    assert c.paired.ci
    unclear = replace(c, paired=replace(c.paired, ci=replace(c.paired.ci, low=0.001, high=0.04),
                                        t=replace(c.paired.t, p=0.02, p_holm=0.2)))  # fmt: skip
    assert verdict(unclear) == "unclear"
    assert verdict(replace(unclear, paired=replace(unclear.paired, t=replace(c.paired.t, p=0.02)))) == "helped"


def test_every_other_arm_and_checkpoint_is_told() -> None:
    rng = np.random.default_rng(8)
    first = rng.normal(0.1, 0.1, 30)
    rows = [row for at in ("music", "630k") for arm, shift in (("raw", 0.0), ("rules", 0.0), ("llm", 0.2))
            for row in own(arm, first + shift + rng.normal(0, 0.02, 30), checkpoint=at)]  # fmt: skip
    analysis = analyse(scores(rows), arm="llm", checkpoint="630k", sampling=QUICK)
    assert [(c.arm, c.checkpoint) for c in analysis.comparisons] == [
        ("llm", "630k"), ("rules", "630k"), ("llm", "music"), ("rules", "music"),
    ]  # fmt: skip
    found = answer(analysis)
    assert found.sentence.startswith("Rewriting with “llm” helped")
    assert len(found.others) == 3
    assert "with “llm” helped on the person's own words, by music" in found.others[1]
    with pytest.raises(OptionError, match="no arm 'rag' in the scores; there are 'rules', 'llm'"):
        analyse(scores(rows), arm="rag")
    with pytest.raises(OptionError, match="no checkpoint"):
        analyse(scores(rows), checkpoint="other")


def test_no_prompt_in_common() -> None:
    with pytest.raises(OptionError, match="no prompt has the person's own text on the audio of both 'raw' and 'rules'"):
        analyse(scores([*own("raw", [0.1]), *own("rules", [0.2], start=5)]))


# -- data that break formulas ----------------------------------------------------------------------------------------


def test_one_prompt() -> None:
    analysis = two([0.1], [0.2], bound=0.05)
    p = analysis.primary.paired
    assert (p.n, p.difference) == (1, pytest.approx(0.1))
    assert (p.ci, p.ci_t, p.sd, p.dz, p.t, p.wilcoxon, p.r, p.equivalence, p.detectable) == (None,) * 9
    assert answer(analysis).verdict == "too few"
    assert p.notes == ("one prompt: no interval and no test",)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_all_differences_the_same(shift: float) -> None:
    first = [0.1, 0.2, 0.3, 0.4]
    analysis = two(first, [v + shift for v in first], bound=0.1)
    p = analysis.primary.paired
    assert p.ci
    assert (p.ci.low, p.ci.high) == (pytest.approx(shift), pytest.approx(shift))
    assert (p.t, p.wilcoxon, p.dz, p.equivalence) == (None,) * 4
    assert p.wins.ties == (4 if shift == 0 else 0)
    assert p.wins.rate == (None if shift == 0 else 1.0)
    assert "nothing can be tested" in p.notes[0]
    assert answer(analysis).verdict == ("none" if shift == 0 else "unclear")
    json.dumps(analysis.to_dict(), allow_nan=False)


def test_scores_that_do_not_vary() -> None:
    p = two([0.1] * 12, [0.1, 0.2] * 6).primary.paired
    assert p.r is None
    assert any("no correlation" in note for note in p.notes)
    assert p.t is not None


def test_small_samples_say_so() -> None:
    notes = two([0.1, 0.2, 0.3], [0.2, 0.25, 0.5]).primary.paired.notes
    assert notes == ("3 prompts: under 40 bootstrap intervals are somewhat too narrow; the interval by t is not",)


@pytest.mark.parametrize("bound", [0.0, -0.1, math.nan, math.inf])
def test_a_bound_that_is_none(bound: float) -> None:
    with pytest.raises(OptionError, match="bound"):
        compare([0.1, 0.2], [0.2, 0.1], bound=bound)


@pytest.mark.parametrize("spread", [1e-11, 1e-7, 1e7])
def test_scores_of_any_size(spread: float) -> None:
    rng = np.random.default_rng(9)
    first = 0.3 * spread + rng.normal(0, spread, 40)
    p = two(first, first + rng.normal(0.5 * spread, spread, 40)).primary
    assert p.paired.dz is None or p.paired.dz == pytest.approx(0.5, abs=0.4)
    assert p.mixed_model
    assert all(math.isfinite(v) for v in (p.paired.difference, p.paired.first.mean))


# -- strata, control, two things -------------------------------------------------------------------------------------


def test_strata_are_a_family_of_their_own() -> None:
    rng = np.random.default_rng(110)
    first = rng.normal(0.1, 0.05, 40)
    second = first + np.where(np.arange(40) < 20, 0.1, 0.0) + rng.normal(0, 0.03, 40)
    taste = {f"p{i:03}": "sweet" if i < 20 else "sour" for i in range(38)}
    table = scores([*own("raw", first), *own("rules", second)], taste=taste)
    analysis = analyse(table, strata=["taste"], sampling=QUICK)
    sour, sweet = analysis.strata["taste"]
    assert (sour.stratum, sour.paired.n) == (("taste", "sour"), 18)
    assert (sweet.stratum, sweet.paired.n) == (("taste", "sweet"), 20)
    assert (verdict(sour), verdict(sweet)) == ("none", "helped")
    assert sweet.paired.t
    assert sweet.paired.t.p_holm == pytest.approx(2 * sweet.paired.t.p)
    assert analysis.without_stratum == {"taste": 2}
    assert analysis.primary.paired.t
    assert analysis.primary.paired.t.p_holm is None  # the strata do not touch the main comparison
    with pytest.raises(ScoresError, match="kind"):
        analyse(table, strata=["kind"])


def test_the_shuffled_control() -> None:
    """The rewrite lifts every text by .05 and the own one by .02 more."""
    rng = np.random.default_rng(11)
    level = rng.normal(0.1, 0.05, 50)

    def noise() -> Any:
        return rng.normal(0, 0.01, 50)

    rows = own("raw", level + 0.08 + noise()) + own("rules", level + 0.15 + noise())
    for arm, lift in (("raw", 0.0), ("rules", 0.05)):
        values = level + lift + noise()
        rows += [(f"p{i:03}", arm, "0", "shuffled", f"p{(i + 1) % 50:03}", "", float(v)) for i, v in enumerate(values)]
    raw, rules = analyse(scores(rows), sampling=QUICK).controls
    assert raw.matched.difference == pytest.approx(0.08, abs=0.006)
    assert raw.specific is None
    assert rules.matched.difference == pytest.approx(0.10, abs=0.006)
    assert rules.specific
    assert rules.specific.difference == pytest.approx(0.02, abs=0.008)
    assert rules.specific.n == 50


def test_two_things_only_on_request() -> None:
    rng = np.random.default_rng(12)
    first, second = rng.normal(0.1, 0.1, 30), rng.normal(0.1, 0.1, 30)
    rows: list[Row] = own("raw", first) + own("rules", second)
    rows += [(p, arm, s, "refined", "rules", at, v + 0.1) for p, arm, s, _, _, at, v in rows if arm == "rules"]
    assert analyse(scores(rows), sampling=QUICK).two_things == ()
    assert "two_things" in analyse(scores(rows), sampling=QUICK).to_dict()
    (both,) = analyse(scores(rows), two_things=True, sampling=QUICK).two_things
    assert both.paired.difference == pytest.approx(second.mean() + 0.1 - first.mean())
    assert both.d == pytest.approx(both.paired.difference / math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))
    assert both.d_ci
    assert both.d_ci.low < both.d < both.d_ci.high
    assert "two things at once" in both.label
    assert rms_d([0.1, 0.1, 0.1], [0.1, 0.2, 0.3]) == (None, None)


# -- the mixed model -------------------------------------------------------------------------------------------------


def test_the_mixed_model_agrees_with_the_paired_test_on_balanced_data() -> None:
    """Its standard error is that of the prompts' mean differences, not of as many prompts as there are scores."""
    rng = np.random.default_rng(13)
    n, seeds = 40, 6
    level, effect = rng.normal(0.1, 0.1, (n, 1)), rng.normal(0.03, 0.08, (n, 1))
    first = level + rng.normal(0, 0.05, (n, seeds))
    second = level + effect + rng.normal(0, 0.05, (n, seeds))
    model = fit([(str(i), first[i], second[i]) for i in range(n)])
    d = (second - first).mean(axis=1)
    assert model.converged
    assert (model.n, model.rows, model.arm_varies) == (n, 2 * n * seeds, True)
    assert model.difference == pytest.approx(d.mean(), abs=1e-4)
    assert model.ci
    width = model.ci.high - model.ci.low
    assert width == pytest.approx(2 * stats.norm.ppf(0.975) * d.std(ddof=1) / math.sqrt(n), rel=0.03)


def test_the_mixed_model_of_one_seed() -> None:
    rng = np.random.default_rng(14)
    first = rng.normal(0.1, 0.1, 30)
    second = first + rng.normal(0.02, 0.05, 30)
    analysis = two(first, second)
    model = analysis.primary.mixed_model
    assert model
    assert not model.arm_varies
    assert model.difference == pytest.approx(analysis.primary.paired.difference, abs=1e-6)
    assert model.p is not None
    assert analysis.primary.paired.t
    assert model.p == pytest.approx(analysis.primary.paired.t.p, abs=0.02)


def test_a_fit_that_fails_says_so() -> None:
    """Seeds without any spread: the residual variance is zero, and there is nothing to maximise."""
    model = fit([(str(i), [0.1 * i] * 3, [0.1 * i + (0.02 if i % 2 else 0.03)] * 3) for i in range(6)])
    assert model.notes
    assert not model.converged or "boundary" in " ".join(model.notes) or model.difference is not None
    few = fit([("a", [0.1], [0.2]), ("b", [0.2], [0.3])])
    assert few.notes == ("not fitted: fewer than 3 prompts",)
    same = fit([(str(i), [0.1], [0.1]) for i in range(5)])
    assert (same.converged, same.difference, same.notes) == (False, None, ("not fitted: all scores are the same",))


def test_a_fit_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    real = MixedLM.fit
    monkeypatch.setattr(MixedLM, "fit", lambda self, **k: real(self, maxiter=1, method="nm", **k))
    rng = np.random.default_rng(15)
    model = fit([(str(i), rng.normal(size=4), rng.normal(size=4)) for i in range(20)])
    assert not model.converged
    assert model.notes[0] == "it did not converge: its figures are not to be relied on"


# -- simulations -----------------------------------------------------------------------------------------------------

DRAWS: dict[str, tuple[Callable[[np.random.Generator, int], Any], float]] = {
    "normal": (lambda rng, n: rng.normal(0.1, 1, n), 0.1),
    "t with 5 df": (lambda rng, n: rng.standard_t(5, n), 0.0),
    "skewed": (lambda rng, n: rng.gumbel(0, 1, n), float(np.euler_gamma)),
    "lumpy": (lambda rng, n: np.round(rng.normal(0.2, 1, n), 1), 0.2),
}


def coverage(
    draw: Callable[[np.random.Generator, int], Any], truth: float, n: int, times: int, resamples: int
) -> float:
    """How often the interval of n draws holds their true mean."""
    rng = np.random.default_rng(20)
    held = 0
    for i in range(times):
        ci, _ = bootstrap(draw(rng, n), sampling=Sampling(i, resamples))
        assert ci
        held += ci.low <= truth <= ci.high
    return held / times


def test_the_bootstrap_interval_covers_as_often_as_it_says() -> None:
    draw, truth = DRAWS["normal"]
    assert 0.93 <= coverage(draw, truth, n=80, times=1000, resamples=599) <= 0.97


@pytest.mark.skipif(not SLOW, reason="minutes; REPROMPT_SLOW=1 runs it")
@pytest.mark.parametrize(("name", "n"), [("normal", 40), *((name, 80) for name in DRAWS)])
def test_the_bootstrap_interval_covers_on_other_data(name: str, n: int) -> None:
    draw, truth = DRAWS[name]
    assert 0.93 <= coverage(draw, truth, n=n, times=5000, resamples=1999) <= 0.97


def test_wilson_of_nothing_and_of_all() -> None:
    assert share(0, 0) == (None, None)
    rate, ci = share(5, 5)
    assert rate == 1
    assert ci
    assert ci.high == pytest.approx(1)
    assert 0.5 < ci.low < 0.6


# -- out -------------------------------------------------------------------------------------------------------------


def test_json_holds_everything_with_its_n_and_interval() -> None:
    rng = np.random.default_rng(16)
    rows = own("raw", rng.normal(size=20)) + own("rules", rng.normal(size=20))
    taste = {f"p{i:03}": "sweet" if i % 2 else "sour" for i in range(20)}
    given = json.loads(json.dumps(analyse(scores(rows, taste=taste), strata=["taste"], sampling=QUICK).to_dict(),
                                  allow_nan=False))  # fmt: skip
    assert given["answer"].startswith("No evidence")
    assert given["verdict"] == "none"
    comparisons: list[Any] = [*given["comparisons"], *given["strata"]["taste"]]
    assert len(comparisons) == 3
    for c in comparisons:
        assert "pairs" not in c
        for mean in (c["paired"]["first"], c["paired"]["second"]):
            assert mean["n"] == c["paired"]["n"]
            assert mean["ci"]["low"] < mean["mean"] < mean["ci"]["high"]
        assert c["paired"]["ci"]["low"] < c["paired"]["difference"] < c["paired"]["ci"]["high"]
    assert {cell["mean"] is None for cell in given["cells"][0]["cells"]} == {False, True}


def test_a_comparison_is_frozen() -> None:
    c: Any = two([0.1, 0.2], [0.2, 0.4]).primary
    assert isinstance(c, Comparison)
    with pytest.raises(AttributeError):
        c.arm = "other"
