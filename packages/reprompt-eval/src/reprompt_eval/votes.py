"""Blind comparisons of people: which of two pieces, raw or rewritten, fits the words better.

A file has one JSON object a line, as the API exports them: `id`, `words`, `seed`, `order` ("ab": A is the raw one;
"ba": B is), `choice` ("a", "b" or "none": they fit equally well), `preferred` ("raw", "rewritten" or "none"),
`voted_at`, `generator`. A comparison without a choice has not been voted on yet. A line that cannot be used is left
out and named with its number.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import VotesError
from .figures import count, level, p_value, percent, percents
from .json_values import plain_values
from .jsonl import json_object, raw_lines
from .paired import ALPHA, Interval, Mean, Sampling, share, summarize

__all__ = [
    "BadLine",
    "OrderEffect",
    "Preference",
    "Vote",
    "VoteAnalysis",
    "Votes",
    "analyse_votes",
    "order_sentence",
    "read_votes",
]

_CHOICES = ("a", "b", "none")
_PREFERRED = {("ab", "a"): "raw", ("ab", "b"): "rewritten", ("ba", "a"): "rewritten", ("ba", "b"): "raw"}


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's choice."""

    id: str
    words: str
    seed: str
    order: Literal["ab", "ba"]
    choice: Literal["a", "b", "none"]
    preferred: Literal["raw", "rewritten", "none"]
    generator: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no vote, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Votes:
    """A checked file."""

    source: str
    votes: tuple[Vote, ...]
    waiting: int  # comparisons that nobody has voted on yet
    bad: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """How many chose the rewritten one; those for whom both fit equally well are counted apart."""

    rewritten: int
    raw: int
    ties: int
    share: float | None  # of the rewritten, among those who chose
    ci: Interval | None  # Wilson: votes are taken as independent
    p: float | None  # exact, of an even chance


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """Whether the place decides: how many chose A, whichever it was."""

    a: int
    b: int
    share: float | None  # of A, among those who chose
    ci: Interval | None
    p: float | None
    raw_first: Preference  # order "ab"
    rewritten_first: Preference  # order "ba"


@dataclass(frozen=True)
class VoteAnalysis:
    """What the votes say."""

    source: str
    votes: int
    preference: Preference
    over_prompts: Mean | None  # each prompt's share of the rewritten, averaged: one prompt with many votes counts once
    by_prompt: Mapping[str, Preference]  # words -> its votes
    by_generator: Mapping[str, Preference]
    order: OrderEffect
    waiting: int
    bad: tuple[BadLine, ...]

    @property
    def sentence(self) -> str:
        """The answer, with its uncertainty."""
        p = self.preference
        n = p.rewritten + p.raw
        tied = f"; {count(p.ties, 'further vote')} found both equal" if p.ties else ""
        if p.share is None or p.ci is None or p.p is None:
            return f"Nobody preferred either: {count(p.ties, 'vote')} found both equal."
        if p.ci.low > 0.5 and p.p < ALPHA:
            found = "Listeners preferred the rewritten"
        elif p.ci.high < 0.5 and p.p < ALPHA:
            found = "Listeners preferred the music of the words as they are"
        else:
            found = "No evidence that listeners preferred either"
        return (
            f"{found}: {percent(p.share)} of the votes that chose were for the rewritten ({level(p.ci)} "
            f"{percents(p.ci)}, {p.rewritten} of {n}, {p_value(p.p)}{tied})."
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"answer": self.sentence, **plain_values(self)}


def read_votes(path: str | Path) -> Votes:
    """Reads exported votes; lines that cannot be used are named, and the others count.

    Raises:
        VotesError: the file cannot be read or holds no vote that can be used.
    """
    path = Path(path)
    votes: dict[str, Vote] = {}
    lines: dict[str, int] = {}
    bad: list[BadLine] = []
    waiting = 0
    for number, raw in raw_lines(path, VotesError):
        try:
            vote = _vote(raw)
        except ValueError as e:
            bad.append(BadLine(number, str(e)))
            continue
        if vote is None:
            waiting += bool(raw.strip())
        elif vote.id in votes:
            bad.append(BadLine(number, f"the comparison of line {lines[vote.id]} again"))
        else:
            votes[vote.id], lines[vote.id] = vote, number
    if not votes:
        first = f" Line {bad[0].line}: {bad[0].reason}." if bad else ""
        raise VotesError(
            f"{path.name} holds no vote that can be used ({len(bad)} bad lines, {waiting} not voted on yet).{first}"
        )
    return Votes(path.name, tuple(votes.values()), waiting, tuple(bad))


def _vote(raw: bytes) -> Vote | None:
    """A vote; None of an empty line or a comparison without one. ValueError with the reason where it is neither."""
    fields = json_object(raw)
    if fields is None:
        return None
    for name in ("id", "words", "order"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ValueError(f"{name} is missing")
    order, choice = fields["order"], fields.get("choice")
    if order not in ("ab", "ba"):
        raise ValueError(f'order is {_shown(order)}, not "ab" or "ba"')
    if choice is None:
        if fields.get("preferred") is not None:
            raise ValueError("a preference without a choice")
        return None
    if choice not in _CHOICES:
        raise ValueError(f'choice is {_shown(choice)}, not "a", "b" or "none"')
    preferred = _PREFERRED.get((order, choice), "none")
    if fields.get("preferred", preferred) != preferred:
        raise ValueError(
            f"preferred is {_shown(fields['preferred'])}, but order {order} and choice {choice} make it {preferred}"
        )
    return Vote(
        id=fields["id"],
        words=fields["words"],
        seed=str(fields.get("seed", "")),
        order=order,
        choice=choice,
        preferred=preferred,  # pyright: ignore[reportArgumentType] - of _PREFERRED
        generator=str(fields.get("generator") or ""),
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def analyse_votes(votes: Votes, *, sampling: Sampling | None = None) -> VoteAnalysis:
    """The preference for the rewritten, in all, by prompt and by generator, and the effect of the order."""
    of_prompts = _by(votes.votes, lambda v: v.words)
    shares = [p.share for p in of_prompts.values() if p.share is not None]
    chosen = [v for v in votes.votes if v.choice != "none"]
    a = sum(v.choice == "a" for v in chosen)
    rate, ci = share(a, len(chosen))
    order = OrderEffect(
        a=a,
        b=len(chosen) - a,
        share=rate,
        ci=ci,
        p=_even_chance(a, len(chosen)),
        raw_first=_preference(v for v in votes.votes if v.order == "ab"),
        rewritten_first=_preference(v for v in votes.votes if v.order == "ba"),
    )
    return VoteAnalysis(
        source=votes.source,
        votes=len(votes.votes),
        preference=_preference(votes.votes),
        over_prompts=summarize(shares, sampling=sampling) if shares else None,
        by_prompt=of_prompts,
        by_generator=_by(votes.votes, lambda v: v.generator or "not told"),
        order=order,
        waiting=votes.waiting,
        bad=votes.bad,
    )


def order_sentence(order: OrderEffect) -> str:
    """Whether people chose by the place."""
    if order.share is None or order.ci is None or order.p is None:
        return "Nobody chose, so there is nothing to say about the order."
    found = "The place decided, in part" if order.p < ALPHA else "No evidence that the place decided"
    return (
        f"{found}: A was chosen {order.a} of {order.a + order.b} times, {percent(order.share)} "
        f"({level(order.ci)} {percents(order.ci)}, {p_value(order.p)})."
    )


def _preference(votes: Iterable[Vote]) -> Preference:
    preferred = [v.preferred for v in votes]
    rewritten, raw = preferred.count("rewritten"), preferred.count("raw")
    rate, ci = share(rewritten, rewritten + raw)
    p = _even_chance(rewritten, rewritten + raw)
    return Preference(rewritten, raw, preferred.count("none"), rate, ci, p)


def _by(votes: Iterable[Vote], key: Callable[[Vote], str]) -> dict[str, Preference]:
    """By prompt or generator, those with the most votes first."""
    groups: dict[str, list[Vote]] = {}
    for v in votes:
        groups.setdefault(key(v), []).append(v)
    return {name: _preference(group) for name, group in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0]))}


def _even_chance(successes: int, n: int) -> float | None:
    from scipy import stats

    return float(stats.binomtest(successes, n).pvalue) if n else None
