"""What a table of scores says about rewriting: every comparison with its n, its interval and its tests.

The unit is the prompt; the seeds that both arms have are averaged within it first. The primary outcome is the person's
own text on the arm's audio minus the same text on the baseline's audio: one thing changes, the audio. The comparison
of the refined text on its audio with the own text on its audio, in which two things change, is computed on request
only and says so.

What is tested together is adjusted together (Holm 1979): all arms and checkpoints are one family, and all strata of
one column are one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from .errors import OptionError
from .json_values import plain_values
from .mixed_model import MixedModel, fit
from .paired import Interval, Mean, Paired, Sampling, Test, compare, rms_d, summarize
from .scores import BASELINE, LeftOut, Scores, Text

__all__ = ["TWO_THINGS", "Analysis", "Cell", "Comparison", "Control", "Pair", "TwoThings", "Unpaired", "analyse"]

TWO_THINGS = (
    "This changes two things at once, the text and the audio: it cannot say whether the audio fits the person's "
    "words better."
)
Seeds = Mapping[str, float]  # seed -> score


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt in two arms, its seeds averaged."""

    prompt_id: str
    first: float
    second: float
    seeds: tuple[str, ...]  # those that both have
    differences: tuple[float, ...]  # second - first of each of these seeds


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A prompt that is not in the paired analysis, and why."""

    prompt_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The person's own text on two audios: `arm` minus the baseline."""

    arm: str
    checkpoint: str
    stratum: tuple[str, str] | None  # (column, value); None: all prompts
    paired: Paired
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]
    seeds: tuple[int, int]  # fewest and most of a prompt
    seeds_dropped: int  # scores whose seed the other arm has not
    seed_sd: float | None  # of one seed's difference within a prompt; None: one seed
    mixed_model: MixedModel | None  # None: not asked for, as in strata


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the four cells of text x audio, over the prompts and seeds of the comparison."""

    text: Text
    audio: str  # an arm
    mean: Mean | None  # None: not measured


@dataclass(frozen=True, slots=True)
class Control:
    """Matched minus mismatched: the prompt's own words against the words of other prompts, on the same audio."""

    arm: str
    checkpoint: str
    matched: Paired  # second: own words, first: the others'
    specific: Paired | None  # the arm's matched minus mismatched, minus the baseline's; None for the baseline


@dataclass(frozen=True, slots=True)
class TwoThings:
    """Refined text on refined audio against own text on own audio."""

    arm: str
    checkpoint: str
    label: str
    paired: Paired
    d: float | None  # difference / root mean square of the two SDs, as if the prompts were not the same
    d_ci: Interval | None


@dataclass(frozen=True)
class Analysis:
    """All that was computed."""

    source: str
    prompts: int
    bound: float | None
    sampling: Sampling
    comparisons: tuple[Comparison, ...]  # the first is the primary one
    strata: Mapping[str, tuple[Comparison, ...]]  # column -> its values
    without_stratum: Mapping[str, int]  # column -> prompts that have no value
    cells: Mapping[tuple[str, str], tuple[Cell, ...]]  # (arm, checkpoint) -> own/raw, own/arm, refined/raw, refined/arm
    controls: tuple[Control, ...]
    two_things: tuple[TwoThings, ...]
    left_out: tuple[LeftOut, ...]
    versions: Mapping[str, str]

    @property
    def primary(self) -> Comparison:
        """The comparison that the answer is about."""
        return self.comparisons[0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the prompts' own values stay in the table of scores."""
        from .answer import answer

        given = plain_values(self)
        for comparison in [*given["comparisons"], *(c for column in given["strata"].values() for c in column)]:
            del comparison["pairs"]
        given["cells"] = [
            {"arm": arm, "checkpoint": checkpoint, "cells": plain_values(cells)}
            for (arm, checkpoint), cells in self.cells.items()
        ]
        found = answer(self)
        told = [*found.further, *found.others]
        return {"answer": found.sentence, "verdict": found.verdict, "further": told, **given}


def analyse(
    scores: Scores,
    *,
    bound: float | None = None,
    strata: Sequence[str] = (),
    two_things: bool = False,
    arm: str | None = None,
    checkpoint: str | None = None,
    sampling: Sampling | None = None,
) -> Analysis:
    """Compares every arm with the baseline, for every checkpoint.

    Args:
        bound: of equivalence, set before the scores were seen; None: equivalence is not tested.
        strata: columns of the table; each of their values is analysed by itself, too.
        two_things: compute the comparison that changes text and audio at once.
        arm: the primary one; None: the first in the table.
        checkpoint: the primary one; None: the first in the table.

    Raises:
        ScoresError: a stratum that cannot be used.
        OptionError: a bound that is not above zero, an arm or checkpoint that is not there, or no prompt is in both.
    """
    if bound is not None and not (math.isfinite(bound) and bound > 0):
        raise OptionError(f"The bound of equivalence must be above 0, not {bound:g}.")
    sampling = sampling or Sampling()
    groups = {name: scores.stratum(name) for name in strata}
    arms = _first(scores.arms, arm, "arm")
    checkpoints = _first(scores.checkpoints, checkpoint, "checkpoint")
    how = (bound, sampling)
    comparisons: list[Comparison] = []
    for at in checkpoints:
        for a in arms:
            made = _comparison(scores, a, at, how)
            if made is not None:
                comparisons.append(made)
    if not comparisons or (comparisons[0].arm, comparisons[0].checkpoint) != (arms[0], checkpoints[0]):
        raise OptionError(
            f"{scores.source}: no prompt has the person's own text on the audio of both {BASELINE!r} and {arms[0]!r} "
            f"with the same seed{f' by {checkpoints[0]!r}' if checkpoints[0] else ''}: there is nothing to compare."
        )
    return Analysis(
        source=scores.source,
        prompts=len(scores.prompts),
        bound=bound,
        sampling=sampling,
        comparisons=_holm(comparisons),
        strata={name: _holm(_strata(comparisons, name, group, how)) for name, group in groups.items()},
        without_stratum={name: sum(p not in group for p in scores.prompts) for name, group in groups.items()},
        cells={(c.arm, c.checkpoint): _cells(scores, c, sampling) for c in comparisons},
        controls=tuple(_controls(scores, comparisons, sampling)),
        two_things=tuple(_two_things(scores, comparisons, sampling)) if two_things else (),
        left_out=scores.left_out,
        versions={name: version(name) for name in ("numpy", "scipy", "statsmodels")},
    )


def _first(names: Sequence[str], chosen: str | None, what: str) -> list[str]:
    """The names, the chosen one first."""
    if chosen is None:
        return list(names)
    if chosen not in names:
        there = ", ".join(repr(n) for n in names)
        raise OptionError(f"There is no {what} {chosen!r} in the scores; there are {there}.")
    return [chosen, *(n for n in names if n != chosen)]


# pairs


def _pair_up(
    first: Mapping[str, Seeds], second: Mapping[str, Seeds], names: tuple[str, str]
) -> tuple[tuple[Pair, ...], tuple[Unpaired, ...], int]:
    """Prompts that both have, over the seeds that both have; those that are not, and how many scores were dropped."""
    pairs: list[Pair] = []
    unpaired: list[Unpaired] = []
    dropped = 0
    for prompt in sorted({*first, *second}):  # whatever the order of the rows, the bootstrap draws the same
        a, b = first.get(prompt, {}), second.get(prompt, {})
        both = tuple(sorted((seed for seed in a if seed in b), key=lambda s: (len(s), s)))
        if both:
            dropped += len(a) + len(b) - 2 * len(both)
            means = (_mean([a[s] for s in both]), _mean([b[s] for s in both]))
            pairs.append(Pair(prompt, *means, both, tuple(b[s] - a[s] for s in both)))
        else:
            missing = [name for name, seeds in zip(names, (a, b), strict=True) if not seeds]
            unpaired.append(Unpaired(prompt, f"no score of {missing[0]}" if missing else "no seed in both arms"))
    return tuple(pairs), tuple(unpaired), dropped


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _own(scores: Scores, arm: str, checkpoint: str) -> dict[str, dict[str, float]]:
    return scores.cells(arm=arm, text="own", checkpoint=checkpoint)


def _comparison(scores: Scores, arm: str, checkpoint: str, how: tuple[float | None, Sampling]) -> Comparison | None:
    first, second = _own(scores, BASELINE, checkpoint), _own(scores, arm, checkpoint)
    pairs, unpaired, dropped = _pair_up(first, second, (BASELINE, arm))
    if not pairs:
        return None
    every = [(p.prompt_id, [first[p.prompt_id][s] for s in p.seeds], [second[p.prompt_id][s] for s in p.seeds])
             for p in pairs]  # fmt: skip
    within = [np.array(p.differences) for p in pairs if len(p.seeds) > 1]
    squares = math.fsum(float(((d - d.mean()) ** 2).sum()) for d in within)
    return Comparison(
        arm=arm,
        checkpoint=checkpoint,
        stratum=None,
        paired=_compare(pairs, how),
        pairs=pairs,
        unpaired=unpaired,
        seeds=(min(len(p.seeds) for p in pairs), max(len(p.seeds) for p in pairs)),
        seeds_dropped=dropped,
        seed_sd=math.sqrt(squares / sum(len(d) - 1 for d in within)) if within else None,
        mixed_model=fit(every),
    )


def _compare(pairs: Sequence[Pair], how: tuple[float | None, Sampling]) -> Paired:
    bound, sampling = how
    return compare([p.first for p in pairs], [p.second for p in pairs], bound=bound, sampling=sampling)


def _strata(
    comparisons: Sequence[Comparison], name: str, group: Mapping[str, str], how: tuple[float | None, Sampling]
) -> list[Comparison]:
    """Each comparison again, within each value of a column."""
    made: list[Comparison] = []
    for c in comparisons:
        for value in sorted(set(group.values())):
            pairs = tuple(p for p in c.pairs if group.get(p.prompt_id) == value)
            if not pairs:
                continue
            unpaired = tuple(u for u in c.unpaired if group.get(u.prompt_id) == value)
            seeds = (min(len(p.seeds) for p in pairs), max(len(p.seeds) for p in pairs))
            made.append(
                replace(
                    c, stratum=(name, value), paired=_compare(pairs, how), pairs=pairs, unpaired=unpaired, seeds=seeds,
                    seeds_dropped=0, seed_sd=None, mixed_model=None,
                )
            )  # fmt: skip
    return made


def _holm(family: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The family with the p-values of its t-tests, and of its Wilcoxon tests, adjusted for each other."""
    from statsmodels.stats.multitest import multipletests

    def adjusted(tests: Sequence[Test | None]) -> list[Test | None]:
        made = [t for t in tests if t is not None]
        if len(made) < 2:  # there is nothing to adjust it for
            return list(tests)
        result: Any = multipletests([t.p for t in made], method="holm")
        values = iter(result[1])
        return [replace(t, p_holm=float(next(values))) if t else None for t in tests]

    ts = adjusted([c.paired.t for c in family])
    ws = adjusted([c.paired.wilcoxon for c in family])
    return tuple(replace(c, paired=replace(c.paired, t=t, wilcoxon=w)) for c, t, w in zip(family, ts, ws, strict=True))


# beside the primary outcome


def _cells(scores: Scores, c: Comparison, sampling: Sampling) -> tuple[Cell, ...]:
    made: list[Cell] = []
    texts: tuple[Text, Text] = ("own", "refined")
    for text, audio in itertools.product(texts, (BASELINE, c.arm)):
        text_of = c.arm if text == "refined" else ""
        there = scores.cells(arm=audio, text=text, checkpoint=c.checkpoint, text_of=text_of)
        seeds = [[v for s, v in there.get(p.prompt_id, {}).items() if s in p.seeds] for p in c.pairs]
        means = [_mean(values) for values in seeds if values]
        made.append(Cell(text, audio, summarize(means, sampling=sampling) if means else None))
    return tuple(made)


def _controls(scores: Scores, comparisons: Sequence[Comparison], sampling: Sampling) -> list[Control]:
    made: list[Control] = []
    for at in dict.fromkeys(c.checkpoint for c in comparisons):
        baseline: dict[str, Pair] = {}
        for arm in (BASELINE, *(c.arm for c in comparisons if c.checkpoint == at)):
            others = scores.cells(arm=arm, text="shuffled", checkpoint=at)
            pairs, _, _ = _pair_up(others, _own(scores, arm, at), ("the shuffled text", arm))
            if not pairs:
                continue
            specific = None
            if arm == BASELINE:
                baseline = {p.prompt_id: p for p in pairs}
            elif both := [(baseline[p.prompt_id], p) for p in pairs if p.prompt_id in baseline]:
                gaps = [(b.second - b.first, p.second - p.first) for b, p in both]
                specific = compare([g[0] for g in gaps], [g[1] for g in gaps], sampling=sampling)
            made.append(Control(arm, at, _compare(pairs, (None, sampling)), specific))
    return made


def _two_things(scores: Scores, comparisons: Sequence[Comparison], sampling: Sampling) -> list[TwoThings]:
    made: list[TwoThings] = []
    for c in comparisons:
        first = _own(scores, BASELINE, c.checkpoint)
        second = scores.cells(arm=c.arm, text="refined", checkpoint=c.checkpoint, text_of=c.arm)
        pairs, _, _ = _pair_up(first, second, (BASELINE, c.arm))
        if not pairs:
            continue
        paired = _compare(pairs, (None, sampling))
        d, d_ci = rms_d([p.first for p in pairs], [p.second for p in pairs], sampling=sampling)
        made.append(TwoThings(c.arm, c.checkpoint, TWO_THINGS, paired, d, d_ci))
    return made
