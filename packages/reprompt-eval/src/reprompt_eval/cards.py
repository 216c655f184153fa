"""Prompts with what was written and heard: those that lost and gained most; without scores, as the plan has them."""

from collections.abc import Mapping, Sequence

from .clips import Clip, embed
from .figures import count, number, signed
from .markup import Content, Markup, el, join, typeset
from .run_folder import Audio, Prompt, RunFolder
from .scores import BASELINE
from .sections import pairs_table
from .statistics import Analysis, Pair

__all__ = ["prompts_section", "unscored_prompts_section"]

_SHOWN = 5  # of each end
_SHOWN_UNSCORED = 20


def prompts_section(run: RunFolder, analysis: Analysis, budget: int) -> tuple[Markup, dict[str, Clip]]:
    """The prompts that lost most and those that gained most, with their words, prompts and audio."""
    c = analysis.primary
    ordered = sorted(c.pairs, key=lambda p: p.second - p.first)
    worst = [p for p in ordered[:_SHOWN] if p.second < p.first]
    best = [p for p in ordered[::-1][:_SHOWN] if p.second > p.first]
    # the most telling first, so that both ends have audio when there is not room for all
    both = [p for i in range(_SHOWN) for p in (*worst[i : i + 1], *best[i : i + 1])]
    wanted = [a for p in both for arm in (BASELINE, c.arm) if (a := _audio(run, p.prompt_id, arm, p.seeds)) is not None]
    clips = embed(wanted, run.folder, budget=budget)
    parts: list[Markup] = [
        el("h2", "Worst and best prompts"),
        el("p", "Where the person's own words lost most and gained most. They were picked for being extreme: with "
           "other seeds most of them would lie nearer to the mean."),
    ]  # fmt: skip
    for title, pairs in (("Lost most", worst), ("Gained most", best)):
        if pairs:
            parts.append(el("h3", title))
            # without words and audio a card has nothing on it
            bare = not run.prompts and not run.audio
            parts += [pairs_table(pairs, c.arm)] if bare else [_scored_card(run, p, c.arm, clips) for p in pairs]
    if not both:
        parts.append(el("p", "No prompt moved."))
    return join(*parts), clips


def unscored_prompts_section(run: RunFolder, budget: int) -> Markup:
    """The first prompts of the plan with one audio of each arm; the others in a table. None of them is called best."""
    shown, others = list(run.prompts.values())[:_SHOWN_UNSCORED], list(run.prompts.values())[_SHOWN_UNSCORED:]
    takes = {(p.id, arm): _audio(run, p.id, arm, _seeds(run, p)) for p in shown for arm in p.prompts}
    clips = embed((a for a in takes.values() if a is not None), run.folder, budget=budget)
    which = f"The first {len(shown)} of {count(len(run.prompts), 'prompt')}" if others else "Every prompt"
    cards = [
        _card(p.id, p.words, None, [
            _side(arm, None, _text(p, arm), None if arm in p.unwritten else
                  _sound(takes[p.id, arm], clips, f"Audio of {arm}, prompt {p.id}"))
            for arm in _arms(p)
        ])
        for p in shown
    ]  # fmt: skip
    rows = [
        el("tr", el("th", p.words, scope="row", dir="auto"), el("td", arm, class_="short"),
           el("td", _text(p, arm), dir="auto"))
        for p in others
        for arm in _arms(p)
    ]  # fmt: skip
    return join(
        el("h2", "The prompts"),
        el("p", f"{which}, in the order of the plan, with one take of each arm from the same seed. Nothing scored "
           "them: which fits its words better is for you to hear."),
        *cards,
        el("details", el("summary", f"{count(len(others), 'more prompt')}"),
           el("div", el("table", el("tbody", rows)), class_="scroll", tabindex="0"))
        if others
        else None,
    )  # fmt: skip


def _arms(prompt: Prompt) -> list[str]:
    return list(dict.fromkeys((*prompt.prompts, *prompt.unwritten)))


def _seeds(run: RunFolder, prompt: Prompt) -> list[str]:
    """Those of the manifest, first those of which most arms have audio."""
    made = [(a.seed or "0") for a in run.audio.values() if a.prompt_id == prompt.id and a.path]
    return sorted(dict.fromkeys(made), key=lambda seed: -made.count(seed))


def _text(prompt: Prompt | None, arm: str) -> str:
    """What the arm made of the words, or why there is nothing."""
    if prompt and arm in prompt.unwritten:
        return prompt.unwritten[arm]
    if arm == BASELINE:
        return "The words as they are."
    return (prompt.prompts.get(arm) if prompt else None) or "Its prompt is not in the folder."


def _audio(run: RunFolder, prompt: str, arm: str, seeds: Sequence[str]) -> Audio | None:
    """Of the first of the seeds that the manifest names; one that was made before one that was not."""
    there = [a for seed in seeds if (a := run.audio.get((prompt, arm, seed))) is not None]
    return next((a for a in there if a.path), there[0] if there else None)


def _scored_card(run: RunFolder, pair: Pair, arm: str, clips: Mapping[str, Clip]) -> Markup:
    prompt = run.prompts.get(pair.prompt_id)
    difference, n = pair.second - pair.first, len(pair.differences)
    low, high = signed(min(pair.differences)), signed(max(pair.differences))
    stands_on = f"({count(n, 'seed')}, {f'{low} to {high}' if n > 1 else 'so no interval'})"
    seeds = count(n, "seed")

    def side(name: str, score: float) -> Markup:
        told = (f": {typeset(number(score))} ", el("span", f"mean of {seeds}" if n > 1 else seeds, class_="soft"))
        audio = _audio(run, pair.prompt_id, name, pair.seeds)
        return _side(name, told, _text(prompt, name), _sound(audio, clips, f"Audio of {name}, prompt {pair.prompt_id}"))

    gain = el(
        "span", typeset(signed(difference)), " ", el("span", typeset(stands_on), class_="soft"),
        class_=f"gain {'up' if difference > 0 else 'down'}",
    )  # fmt: skip
    words = prompt.words if prompt else "The words are not in the folder."
    return _card(pair.prompt_id, words, gain, [side(BASELINE, pair.first), side(arm, pair.second)])


def _card(id: str, words: str, gain: Markup | None, sides: Sequence[Markup]) -> Markup:
    return el(
        "article",
        el("header", el("h4", f"Prompt {id}"), gain),
        el("p", words, class_="words", dir="auto"),
        el("div", *sides, class_="sides"),
        class_="prompt",
    )


def _side(name: str, score: Content, text: str, sound: Markup | None) -> Markup:
    return el("div", el("h5", name, score), el("p", text, dir="auto"), sound, class_="side")


def _sound(audio: Audio | None, clips: Mapping[str, Clip], label: str) -> Markup:
    clip = clips.get(audio.key) if audio else None
    if audio is None or clip is None:
        return el("p", "No audio in the manifest.", class_="note")
    if not clip.uri:
        return el("p", f"No audio: {clip.note}.", class_="note")
    which = f"Seed {audio.seed or '0'}{f', {clip.note}' if clip.note else ''}."
    return join(
        el("audio", controls=True, preload="metadata", src=clip.uri, aria_label=label), el("p", which, class_="note")
    )
