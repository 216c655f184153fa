"""The parts of a report beside the figures: what people preferred, what nobody measured, how it was done."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from .clips import Clip
from .figures import count, level, mean, percent, percents
from .markup import Markup, el, join, typeset
from .run_folder import RunFolder
from .scores import BASELINE
from .sections import by
from .statistics import Analysis
from .votes import Preference, analyse_votes, order_sentence

__all__ = ["methods_section", "unmeasured_section", "votes_section"]

_LISTED = 50  # rows left out, prompts with votes


def votes_section(run: RunFolder) -> Markup | None:
    """The blind comparisons; None where there are none."""
    if run.votes is None:
        return None
    v = analyse_votes(run.votes)
    groups = [("all", v.preference), ("raw first", v.order.raw_first), ("rewritten first", v.order.rewritten_first)]
    if len(v.by_generator) > 1:
        groups += list(v.by_generator.items())
    listed = list(v.by_prompt.items())[:_LISTED]
    each = f"Each prompt counted once: a share of {mean(v.over_prompts, 2)}. " if v.over_prompts else ""
    bad = f" {count(len(v.bad), 'line')} could not be used." if v.bad else ""
    return join(
        el("h2", "What listeners preferred"),
        el("p", typeset(v.sentence), class_="lead"),
        el("p", typeset(f"{order_sentence(v.order)} {each}{bad}")),
        el("table", el("tbody", (_preferred(name, p) for name, p in groups)), class_="facts"),
        el("details", el("summary", f"By prompt ({len(listed)} of {len(v.by_prompt)})"),
           el("table", el("tbody", (_preferred(words, p) for words, p in listed)))),
    )  # fmt: skip


def _preferred(name: str, p: Preference) -> Markup:
    told = f"{p.rewritten} rewritten, {p.raw} raw, {p.ties} equal"
    if p.share is not None and p.ci is not None:
        told += f": {percent(p.share)} for the rewritten ({level(p.ci)} {percents(p.ci)}, n = {p.rewritten + p.raw})"
    return el("tr", el("th", name, scope="row", dir="auto"), el("td", typeset(told)))


def unmeasured_section(run: RunFolder, analysis: Analysis, clips: Mapping[str, Clip]) -> Markup:
    """What the reader may miss, and the rows left out with their reasons."""
    c = analysis.primary
    said: list[str] = []
    empty = [f"{cell.text} text on the audio of {cell.audio}" for cell in analysis.cells[c.arm, c.checkpoint]
             if cell.mean is None]  # fmt: skip
    if empty:
        said.append(f"Not scored: {'; '.join(empty)}.")
    if not analysis.controls:
        said.append("There is no control with shuffled prompts: whether the scores see what words are about is open.")
    if c.seeds[1] == 1:
        said.append("One seed a prompt: how much a score changes from take to take is not known, and is part of the "
                    "spread.")  # fmt: skip
    if len({x.checkpoint for x in analysis.comparisons}) == 1:
        said.append("One checkpoint scored: whether another would agree is not known.")
    if analysis.bound is None:
        said.append("No bound of equivalence was set beforehand: no difference can be called too small to matter.")
    if run.votes is None:
        said.append("Nobody listened: there are no blind comparisons by people in this folder.")
    if not run.prompts:
        said.append("The words and prompts are not in this folder.")
    silent = sum(not clip.uri for clip in clips.values())
    if not run.audio:
        said.append("The audio is not in this folder.")
    elif silent:
        said.append(f"{count(silent, 'piece')} of the prompts above cannot be played here; each says why.")  # fmt: skip
    said.append("A score is a model's judgement of text against audio. It agrees only weakly with that of people, and "
                "says nothing of how good the music is.")  # fmt: skip
    parts: list[Markup] = [el("h2", "What was not measured"), el("ul", (el("li", line) for line in said))]
    if analysis.left_out:
        rows = [
            el("tr", el("th", row.prompt_id, scope="row"), el("td", f"{row.arm}, seed {row.seed}{by(row.checkpoint)}"),
               el("td", row.reason))
            for row in analysis.left_out[:_LISTED]
        ]  # fmt: skip
        more = f", the first {_LISTED}" if len(analysis.left_out) > _LISTED else ""
        summary = f"{count(len(analysis.left_out), 'row')} left out of the table of scores{more}"
        parts.append(el("details", el("summary", summary), el("table", el("tbody", rows))))
    return join(*parts)


def methods_section(run: RunFolder, analysis: Analysis) -> Markup:
    """How it was computed, with which versions, and the plan."""
    drawn = analysis.sampling
    versions = {"reprompt-eval": version("reprompt-eval"), **analysis.versions, **run.versions}
    arms = ", ".join(dict.fromkeys(c.arm for c in analysis.comparisons))
    points: Sequence[str] = (
        f"Table: {analysis.source}, {count(analysis.prompts, 'prompt')}, arms {BASELINE}, {arms}.",
        "The unit is the prompt. The seeds that both arms have are averaged within it first.",
        "Primary outcome: the person's own text on the audio of the arm, minus the same text on the audio of "
        f"{BASELINE}.",
        f"Intervals of means: BCa bootstrap over prompts, {drawn.resamples:,} resamples, seed {drawn.seed}. Intervals "
        "of shares: Wilson. Of dz: noncentral t. Of r: Fisher's z.",
        "Tests are two-sided. Holm adjusts all arms and checkpoints as one family, and the strata of each column as "
        "one. It is said that rewriting helped, or made it worse, only where the interval excludes zero and the "
        "adjusted t-test is under .05.",
        "Equivalence: two one-sided t-tests. Mixed model: REML, the arm fixed, the prompt random, over all seeds.",
    )
    plan = el("details", el("summary", "The plan"), el("pre", run.plan.text)) if run.plan.text else None
    rows = [el("tr", el("th", name, scope="row"), el("td", told)) for name, told in versions.items()]
    return join(
        el("h2", "Methods"),
        el("ul", (el("li", point) for point in points)),
        el("table", el("caption", "Versions"), el("tbody", rows), class_="facts"),
        plan,
    )
