"""The answer in one sentence, with its uncertainty; and what must be said beside it."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from .figures import between, count, level, number, p_value, signed
from .paired import ALPHA, Paired
from .scores import BASELINE
from .statistics import Analysis, Comparison

__all__ = ["Answer", "Verdict", "answer", "verdict"]

Verdict = Literal["helped", "worse", "unclear", "none", "too few"]
_FINDINGS: dict[Verdict, str] = {
    "helped": "{Arm} helped on the person's own words",
    "worse": "{Arm} made the fit to the person's own words worse",
    "unclear": "No clear evidence that {arm} changed the fit to the person's own words",
    "none": "No evidence that {arm} helped on the person's own words",
    "too few": "Too few prompts to say whether {arm} helped on the person's own words",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the data say."""

    verdict: Verdict
    finding: str  # about the primary comparison
    evidence: str  # the difference, its interval, and the prompts it stands on
    further: tuple[str, ...]  # equivalence, what could have been found, what is left out
    others: tuple[str, ...]  # a sentence for each other arm and checkpoint

    @property
    def sentence(self) -> str:
        """The answer, with its uncertainty."""
        return f"{self.finding}: {self.evidence}."


def answer(analysis: Analysis) -> Answer:
    """The primary comparison in a sentence, and the others beside it."""
    primary, *others = analysis.comparisons
    name_arm = len({c.arm for c in analysis.comparisons}) > 1
    name_checkpoint = len({c.checkpoint for c in analysis.comparisons}) > 1
    return Answer(
        verdict=verdict(primary),
        finding=_finding(primary, name_arm=name_arm),
        evidence=_evidence(primary),
        further=(*_equivalence(primary.paired, analysis.bound), *_power(primary.paired), *_left_out(analysis)),
        others=tuple(
            f"{_finding(c, name_arm=name_arm, name_checkpoint=name_checkpoint)}: {_evidence(c)}." for c in others
        ),
    )


def verdict(c: Comparison) -> Verdict:
    """Helped or worse only where the interval excludes zero and the t-test, adjusted for its family, agrees."""
    ci, t = c.paired.ci, c.paired.t
    if c.paired.n < 2 or ci is None:
        return "too few"
    if t is None:  # all differences are the same
        return "none" if c.paired.difference == 0 else "unclear"
    p = t.p if t.p_holm is None else t.p_holm
    if ci.excludes_zero and p < ALPHA:
        return "helped" if c.paired.difference > 0 else "worse"
    return "unclear" if ci.excludes_zero or p < ALPHA else "none"


def _finding(c: Comparison, *, name_arm: bool, name_checkpoint: bool = False) -> str:
    arm = f"rewriting with “{c.arm}”" if name_arm else "rewriting"
    by = f", by {c.checkpoint or 'the checkpoint without a name'}" if name_checkpoint else ""
    return _FINDINGS[verdict(c)].format(arm=arm, Arm=arm[0].upper() + arm[1:]) + by


def _evidence(c: Comparison) -> str:
    p = c.paired
    tied = f", {p.wins.ties} the same" if p.wins.ties else ""
    interval = f"{level(p.ci)} {between(p.ci, sign=True)}" if p.ci else "no interval"
    said = (
        f"the score moved by {signed(p.difference)} ({interval}, {count(p.n, 'prompt')}: {p.wins.better} better, "
        f"{p.wins.worse} worse{tied})"
    )
    if verdict(c) == "unclear":
        why = f"the test ({p_value(p.t.p if p.t.p_holm is None else p.t.p_holm)}) do not agree" if p.t else ""
        said += f"; the interval and {why}" if why else "; all prompts moved alike, so that nothing can be tested"
    return said


def _equivalence(p: Paired, bound: float | None) -> list[str]:
    if bound is None:
        return ["No bound of equivalence was given: whether the difference is too small to matter is untested."]
    e = p.equivalence
    if e is None:
        return [f"Whether the difference is smaller than {number(bound)} could not be tested."]
    if e.equivalent:
        said = f"The difference is smaller than {number(bound)} either way, the bound set beforehand"
    else:
        said = f"It is not shown that the difference is smaller than {number(bound)}, the bound set beforehand"
    return [f"{said} (two one-sided tests, {p_value(e.p)}; {level(e.ci)} {between(e.ci, sign=True)}, n = {p.n})."]


def _power(p: Paired) -> list[str]:
    if p.detectable is None or p.sd is None:
        return []
    return [
        f"With {count(p.n, 'prompt')} and this spread (SD {number(p.sd)}) a true difference of {number(p.detectable)} "
        "would be found 8 times in 10."
    ]


def _left_out(analysis: Analysis) -> list[str]:
    said: list[str] = []
    if analysis.left_out:
        reasons = Counter(row.reason for row in analysis.left_out)
        listed = "; ".join(f"{reason.rstrip('.')} ({n})" for reason, n in reasons.most_common(5))
        more = f"; and {len(reasons) - 5} other reasons" if len(reasons) > 5 else ""
        said.append(f"{count(len(analysis.left_out), 'row')} left out of the table: {listed}{more}.")
    first = analysis.primary.checkpoint
    for c in (c for c in analysis.comparisons if c.checkpoint == first):
        reasons = Counter(u.reason for u in c.unpaired)
        if reasons:
            listed = "; ".join(f"{reason} ({n})" for reason, n in reasons.items())
            said.append(
                f"{count(len(c.unpaired), 'prompt')} not in the comparison of {BASELINE!r} and {c.arm!r}: {listed}."
            )
    compared = {BASELINE, *(c.arm for c in analysis.comparisons)}
    for arm in dict.fromkeys(row.arm for row in analysis.left_out if row.arm not in compared):
        said.append(f"{arm!r} has no score at all, and is in no comparison.")
    return said
