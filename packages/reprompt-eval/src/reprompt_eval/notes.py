"""The parts of a report beside the figures: what people preferred, what nobody measured, how it was done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from .clips import Clip
from .figures import count, level, mean, percent, percents
from .markup import Markup, el, join, typeset
from .run_folder import Prompt, RunFolder
from .scores import BASELINE
from .sections import by
from .statistics import Analysis
from .votes import Preference, analyse_votes, order_sentence

__all__ = [
    "makers_lines",
    "methods_section",
    "unmeasured_section",
    "unscored_methods_section",
    "unwritten_lines",
    "votes_section",
    "warned_lines",
]

_NAMED = 10  # prompts in a sentence
_LISTED = 50  # rows left out, prompts with votes


def unwritten_lines(prompts: Mapping[str, Prompt]) -> list[str]:
    """A sentence for each arm of which a language model did not write every prompt."""
    lines: list[str] = []
    for arm in dict.fromkeys(arm for p in prompts.values() for arm in p.unwritten):
        lost = [p.id for p in prompts.values() if arm in p.unwritten]
        listed = ", ".join(lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "")
        there = len(prompts) - len(lost)
        then = (
            f"what is said of {arm} is said of the prompts that the model could write"
            if there
            else f"nothing can be said of {arm}"
        )
        lines.append(
            f"The language model wrote {there} of the {count(len(prompts), 'prompt')} of {arm}. For {len(lost)} "
            f"({listed}) its answer could not be used. What the rules would have answered in its place is not "
            f"the model's, and is left out: {then}."
        )
    return lines


def makers_lines(run: RunFolder) -> list[str]:
    """A sentence where the audio was made by more than one model."""
    made = Counter(audio.made_by for audio in run.audio.values() if audio.path and audio.made_by)
    if len(made) < 2:
        return []
    listed = ", ".join(f"{name} ({n})" for name, n in made.most_common())
    return [f"The audio was made by several models: {listed}. A difference between two pieces may be theirs."]


def warned_lines(run: RunFolder) -> list[str]:
    """A sentence where files are of use, but not as they should be."""
    told = Counter(str(item.get("reason")) for item in (run.measures or {}).get("warned", []))
    return [f"{count(n, 'piece')} of audio {'is' if n == 1 else 'are'} {what}, and used." for what, n in told.items()]


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
    said = [*makers_lines(run), *warned_lines(run)]
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
    return join(el("h2", "Methods"), el("ul", (el("li", point) for point in points)), _versions(run, versions))


def unscored_methods_section(run: RunFolder) -> Markup:
    """With which versions a run was made that nothing scored, and its plan."""
    return join(el("h2", "Methods"), _versions(run, {"reprompt-eval": version("reprompt-eval"), **run.versions}))


def _versions(run: RunFolder, versions: Mapping[str, str]) -> Markup:
    rows = [el("tr", el("th", name, scope="row"), el("td", told)) for name, told in versions.items()]
    return join(
        el("table", el("caption", "Versions"), el("tbody", rows), class_="facts"),
        el("details", el("summary", "The plan"), el("pre", run.plan.text)) if run.plan.text else None,
    )
