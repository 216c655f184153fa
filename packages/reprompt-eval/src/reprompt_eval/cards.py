"""The prompts whose words lost most and gained most, with what was written and heard."""

from collections.abc import Mapping

from .clips import Clip, embed
from .figures import count, number, signed
from .markup import Markup, el, join, typeset
from .run_folder import Audio, RunFolder
from .scores import BASELINE
from .sections import pairs_table
from .statistics import Analysis, Pair

__all__ = ["prompts_section"]

_SHOWN = 5  # of each end


def prompts_section(run: RunFolder, analysis: Analysis, budget: int) -> tuple[Markup, dict[str, Clip]]:
    """The prompts that lost most and those that gained most, with their words, prompts and audio."""
    c = analysis.primary
    ordered = sorted(c.pairs, key=lambda p: p.second - p.first)
    worst = [p for p in ordered[:_SHOWN] if p.second < p.first]
    best = [p for p in ordered[::-1][:_SHOWN] if p.second > p.first]
    # the most telling first, so that both ends have audio when there is not room for all
    both = [p for i in range(_SHOWN) for p in (*worst[i : i + 1], *best[i : i + 1])]
    wanted = [a for p in both for arm in (BASELINE, c.arm) if (a := _audio(run, p, arm)) is not None]
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
            parts += [pairs_table(pairs, c.arm)] if bare else [_prompt_card(run, p, c.arm, clips) for p in pairs]
    if not both:
        parts.append(el("p", "No prompt moved."))
    return join(*parts), clips


def _audio(run: RunFolder, pair: Pair, arm: str) -> Audio | None:
    """Of the first seed that both arms have and the manifest names."""
    there = (run.audio.get((pair.prompt_id, arm, seed)) for seed in pair.seeds)
    return next((a for a in there if a is not None), None)


def _prompt_card(run: RunFolder, pair: Pair, arm: str, clips: Mapping[str, Clip]) -> Markup:
    prompt = run.prompts.get(pair.prompt_id)
    difference, n = pair.second - pair.first, len(pair.differences)
    low, high = signed(min(pair.differences)), signed(max(pair.differences))
    stands_on = f"({count(n, 'seed')}, {f'{low} to {high}' if n > 1 else 'so no interval'})"
    words = prompt.words if prompt else "The words are not in the folder."
    written = prompt.prompts.get(arm) if prompt else None

    def side(name: str, text: str, score: float) -> Markup:
        seeds = count(n, "seed")
        return el(
            "div",
            el("h5", f"{name}: {typeset(number(score))} ",
               el("span", f"mean of {seeds}" if n > 1 else seeds, class_="soft")),
            el("p", text, dir="auto"),
            _sound(_audio(run, pair, name), clips, f"Audio of {name}, prompt {pair.prompt_id}"),
            class_="side",
        )  # fmt: skip

    return el(
        "article",
        el("header", el("h4", f"Prompt {pair.prompt_id}"),
           el("span", typeset(signed(difference)), " ", el("span", typeset(stands_on), class_="soft"),
              class_=f"gain {'up' if difference > 0 else 'down'}")),
        el("p", words, class_="words", dir="auto"),
        el("div", side(BASELINE, "The words as they are.", pair.first),
           side(arm, written or "Its prompt is not in the folder.", pair.second), class_="sides"),
        class_="prompt",
    )  # fmt: skip


def _sound(audio: Audio | None, clips: Mapping[str, Clip], label: str) -> Markup:
    clip = clips.get(audio.path) if audio else None
    if audio is None or clip is None:
        return el("p", "No audio in the manifest.", class_="note")
    if not clip.uri:
        return el("p", f"No audio: {clip.note}.", class_="note")
    which = f"Seed {audio.seed or '0'}{f', {clip.note}' if clip.note else ''}."
    return join(
        el("audio", controls=True, preload="metadata", src=clip.uri, aria_label=label), el("p", which, class_="note")
    )
