"""The parts of a report that show figures: the answer, the four cells, the pairs, arms and strata, the checks."""

from collections import Counter
from collections.abc import Sequence

from .answer import Answer, Verdict, answer, verdict
from .figures import between, count, level, number, p_value, signed, whole
from .lines import lines_of
from .markup import Markup, el, join, typeset
from .paired import Paired
from .plots import Axis, differences, scale, slopes, strip
from .scores import BASELINE
from .statistics import Analysis, Comparison, Pair

__all__ = [
    "answer_section",
    "arms_section",
    "cells_section",
    "checks_section",
    "pairs_section",
    "pairs_table",
    "strata_section",
]

_CHIPS: dict[Verdict, str] = {
    "helped": "Rewriting helped",
    "worse": "Rewriting made it worse",
    "unclear": "Not clear",
    "none": "No evidence",
    "too few": "Too few prompts",
}
_MOST_LISTED = 1000
_MOST_SENTENCES = 4


def by(checkpoint: str) -> str:
    """, by the checkpoint."""
    return f", by {checkpoint}" if checkpoint else ""


def _typeset_whole(p: Paired) -> str:
    return typeset(whole(p.difference, p.ci, p.n, sign=True))


def _named(arm: str, checkpoint: str) -> list[Markup | str]:
    return [arm, el("span", f"by {checkpoint}", class_="soft block")] if checkpoint else [arm]


def axis_of(comparisons: Sequence[Comparison], bound: float | None) -> Axis:
    """One axis for the differences of all of these."""
    values = [0.0, *((bound, -bound) if bound else ())]
    for c in comparisons:
        values += [c.paired.difference, *((c.paired.ci.low, c.paired.ci.high) if c.paired.ci else ())]
    return Axis.around(values)


def answer_section(analysis: Analysis, title: str, also: Sequence[str] = ()) -> Markup:
    """The answer in one sentence, its interval as a picture, and what must be said beside it."""
    found, primary = answer(analysis), analysis.primary
    axis = axis_of([primary], analysis.bound)
    p = primary.paired
    says = f"difference {whole(p.difference, p.ci, p.n, sign=True)}"
    bound = f" The shaded part is the bound of equivalence, ±{analysis.bound:g}." if analysis.bound else ""
    return join(
        el("p", title, class_="eyebrow"),
        el("span", _CHIPS[found.verdict], class_=f"chip {found.verdict.replace(' ', '-')}"),
        el("h1", f"{found.finding}: ", el("span", f"{typeset(found.evidence)}.", class_="evidence")),
        el(
            "figure",
            strip(p.ci, p.difference, axis, says=says, bound=analysis.bound),
            scale(axis),
            el("figcaption", "How far the score of the person's own words moves when the audio is made from the prompt "
               f"of {primary.arm} instead of {BASELINE}{by(primary.checkpoint)}: "
               f"{_typeset_whole(p)}.{bound}"),
        ),
        el("ul", (el("li", typeset(line)) for line in (*also, *_others(analysis, found), *found.further))),
    )  # fmt: skip


def _others(analysis: Analysis, found: Answer) -> Sequence[str]:
    """The other comparisons: a sentence each while they are few, else how many found what."""
    if len(found.others) <= _MOST_SENTENCES:
        return found.others
    of: Counter[Verdict] = Counter(verdict(c) for c in analysis.comparisons[1:])
    told = ", ".join(f"{_CHIPS[v].lower()} ({n})" for v, n in of.most_common())
    return [f"The other {len(found.others)} comparisons, of arms and checkpoints, stand below: {told}."]


def cells_section(analysis: Analysis) -> Markup:
    """Text x audio."""
    c = analysis.primary
    own_raw, own_arm, refined_raw, refined_arm = analysis.cells[c.arm, c.checkpoint]

    def cell(at: object, *, primary: bool = False) -> Markup:
        mean = getattr(at, "mean", None)
        if mean is None:
            return el("td", el("span", "not measured", class_="soft"))
        ci = el("span", typeset(between(mean.ci)), class_="whole") if mean.ci else "no interval"
        said = el("span", f"{typeset(level(mean.ci))} " if mean.ci else None, ci, ", ",
                  el("span", f"n = {mean.n}", class_="whole"), class_="soft")  # fmt: skip
        big = el("span", typeset(number(mean.mean)), class_="figure")
        return el("td", big, said, class_="primary" if primary else None)

    return join(
        el("h2", "Two texts, two audios"),
        el("p", "Mean scores. Along a row the text stays and the audio changes: what rewriting did to the music. "
           "Down a column the audio stays and the text changes: that is no effect on the music at all. From the first "
           "cell to the last both change."),
        el(
            "table",
            el("thead", el("tr", el("td"), el("th", f"Audio of {BASELINE}", scope="col"),
                           el("th", f"Audio of {c.arm}", scope="col"))),
            el("tbody",
               el("tr", el("th", "The person's own words", scope="row"), cell(own_raw, primary=True),
                  cell(own_arm, primary=True)),
               el("tr", el("th", f"The prompt of {c.arm}", scope="row"), cell(refined_raw), cell(refined_arm))),
            class_="cells",
        ),
        el("p", f"Outlined: the comparison that the answer is about{by(c.checkpoint)}. Over the prompts and seeds that "
           "both arms have.", class_="note"),
    )  # fmt: skip


def pairs_section(analysis: Analysis) -> Markup:
    """Every prompt."""
    c = analysis.primary
    p = c.paired
    pairs = [(f"prompt {q.prompt_id}", q.first, q.second) for q in c.pairs]
    seeds = count(c.seeds[1], "seed") if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} to {c.seeds[1]} seeds"
    listed = sorted(c.pairs, key=lambda q: q.second - q.first)[:_MOST_LISTED]
    more = f" (the first {_MOST_LISTED:,} of {p.n:,})" if p.n > _MOST_LISTED else ""
    return join(
        el("h2", "Prompt by prompt"),
        el("p", f"The score of each prompt's own words on both audios, {seeds} each. ",
           el("span", class_="key up"), f" better with {c.arm}: {p.wins.better} of {p.n}; ",
           el("span", class_="key down"), f" worse: {p.wins.worse}; the same: {p.wins.ties}."),
        el(
            "figure",
            slopes(pairs, (BASELINE, c.arm), ((p.first.mean, p.first.ci), (p.second.mean, p.second.ci)),
                   label="Scores of each prompt on both audios"),
            el("div", el("span", f"audio of {BASELINE}"), el("span", f"audio of {c.arm}"), class_="ends"),
            el("figcaption", "The dots are the means with their intervals: "
               + typeset(f"{whole(p.first.mean, p.first.ci, p.n)} and {whole(p.second.mean, p.second.ci, p.n)}.")),
        ),
        el(
            "figure",
            differences([(f"prompt {q.prompt_id}", q.second - q.first) for q in c.pairs], p.difference, p.ci,
                        label="Difference of each prompt"),
            el("figcaption", f"The difference of each prompt, in order. The grey band is the mean with its interval: "
               f"{_typeset_whole(p)}."),
        ),
        el("details", el("summary", f"All prompts as a table{more}"),
           el("div", pairs_table(listed, c.arm), class_="scroll", tabindex="0"),
           class_="unprinted"),
    )  # fmt: skip


def pairs_table(pairs: Sequence[Pair], arm: str) -> Markup:
    """A row for each prompt, its scores with the seeds that they are means of."""
    head = el("tr", *(el("th", name, scope="col") for name in ("prompt", BASELINE, arm, "difference", "seeds")))
    rows = [
        el("tr", el("th", p.prompt_id, scope="row"),
           *(el("td", typeset(text)) for text in (number(p.first), number(p.second), signed(p.second - p.first))),
           el("td", str(len(p.seeds))))
        for p in pairs
    ]  # fmt: skip
    return el("table", el("thead", head), el("tbody", rows))


def _forest(
    comparisons: Sequence[Comparison],
    names: Sequence[Sequence[Markup | str]],
    head: str,
    axis: Axis,
    bound: float | None,
) -> Markup:
    """A row for each comparison, on one axis."""
    rows: list[Markup] = []
    for c, name in zip(comparisons, names, strict=True):
        p = c.paired
        tested = [] if p.t is None else [p_value(p.t.p)]
        tested += [f"Holm {p_value(p.t.p_holm)}"] if p.t and p.t.p_holm is not None else []
        interval = f"{level(p.ci)} {between(p.ci, sign=True)}" if p.ci else "no interval"
        beside = "; ".join([*tested, f"{p.wins.better} of {p.n} better"])
        says = f"{c.stratum[1] if c.stratum else c.arm}: {whole(p.difference, p.ci, p.n, sign=True)}"
        rows.append(
            el("tr", el("th", *name, scope="row"),
               el("td", typeset(signed(p.difference)), *(el("span", typeset(text), class_="soft block") for text in
                  (f"{interval}, n = {p.n}", beside)), class_="of"),
               el("td", strip(p.ci, p.difference, axis, says=says, bound=bound)))
        )  # fmt: skip
    return el(
        "table",
        el("thead", el("tr", el("th", head, scope="col"), el("th", "difference", scope="col"), el("td"))),
        el("tbody", *rows, el("tr", el("td"), el("td"), el("td", scale(axis)), class_="scale-row")),
        class_="forest",
    )


def arms_section(analysis: Analysis) -> Markup | None:
    """All arms and checkpoints against the baseline; None where there is one of each."""
    cs = analysis.comparisons
    if len(cs) < 2:
        return None
    names = [_named(c.arm, c.checkpoint) for c in cs]
    return join(
        el("h2", "All arms and checkpoints"),
        el("p", f"The person's own words, the audio of each arm against that of {BASELINE}. The tests are adjusted for "
           f"each other (Holm, {len(cs)} comparisons)."),
        _forest(cs, names, "arm", axis_of(cs, analysis.bound), analysis.bound),
    )  # fmt: skip


def strata_section(analysis: Analysis) -> Markup | None:
    """Each stratum by itself; None where none was asked for."""
    if not analysis.strata:
        return None
    parts: list[Markup] = [el("h2", "Strata")]
    for name, family in analysis.strata.items():
        kinds = list(dict.fromkeys((c.arm, c.checkpoint) for c in family))
        without = analysis.without_stratum[name]
        left = f" {count(without, 'prompt')} without a value of it." if without else ""
        parts += [
            el("h3", f"By {name}"),
            el("p", "Fewer prompts, wider intervals. All tests of this column are adjusted for each other (Holm, "
               f"{len(family)} comparisons).{left}", class_="note"),
        ]  # fmt: skip
        for arm, checkpoint in kinds:
            rows = [c for c in family if (c.arm, c.checkpoint) == (arm, checkpoint)]
            if len(kinds) > 1:
                parts.append(el("h4", f"{arm}{by(checkpoint)}"))
            values = [[c.stratum[1] if c.stratum else ""] for c in rows]
            parts.append(_forest(rows, values, name, axis_of(family, analysis.bound), analysis.bound))
    return join(*parts)


def checks_section(analysis: Analysis) -> Markup:
    """Everything computed of the primary comparison, the control, and on request the comparison of two changes."""
    c = analysis.primary
    parts: list[Markup] = [
        el("h2", "Every figure"),
        _facts(c.paired, (f"audio of {BASELINE}", f"audio of {c.arm}"), c),
    ]
    if analysis.controls:
        parts += [
            el("h3", "Control: the words of other prompts"),
            el("p", "The score of the prompt's own words minus that of the words of other prompts, on the same audio. "
               "Where it is about zero, the score does not see what the words are about."),
            el("table", el("tbody", (_control(analysis, i) for i in range(len(analysis.controls)))), class_="facts"),
        ]  # fmt: skip
    for both in analysis.two_things:
        d = None
        if both.d is not None:
            told = (
                f"{typeset(whole(both.d, both.d_ci, both.paired.n, 3))}, by the root mean square of the two standard "
            )
            told += "deviations, as if the prompts were not the same"
            d = el("tr", el("th", "d", scope="row"), el("td", told))
        parts += [
            el("h3", f"Refined text on the audio of {both.arm}, against own text on the audio of {BASELINE}"
               f"{by(both.checkpoint)}"),
            el("p", both.label, class_="warning"),
            _facts(both.paired, (f"own text, {BASELINE}", f"refined text, {both.arm}"), None, d),
        ]  # fmt: skip
    return join(*parts)


def _facts(p: Paired, names: tuple[str, str], c: Comparison | None, more: Markup | None = None) -> Markup:
    lines = lines_of(p, names, mixed_model=c.mixed_model if c else None)
    rows = [el("tr", el("th", name, scope="row"), el("td", typeset(value))) for name, value in lines]
    return el("table", el("tbody", *rows, more), class_="facts")


def _control(analysis: Analysis, index: int) -> Markup:
    c = analysis.controls[index]
    told = _typeset_whole(c.matched)
    if c.specific:
        told += f"; that is, compared with {BASELINE}, {_typeset_whole(c.specific)}"
    return el("tr", el("th", *_named(c.arm, c.checkpoint), scope="row"), el("td", told))
