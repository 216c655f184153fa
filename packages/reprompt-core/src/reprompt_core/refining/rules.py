"""The rules refiner: writes the prompt from the plan. Offline, deterministic, varied between inputs.

Two short sentences of music words. CLAP reads 77 tokens at most; parts are added by importance while they fit.
"""

import random
import re
from collections.abc import Callable, Sequence

from ..types import Brief, MusicPlan, Stated
from .tokens import MAX_TOKENS, estimated_tokens

__all__ = ["write_prompt"]

_REGISTER = {"high": ("high-register", "high-pitched"), "low": ("low-register", "deep low"), "mid": ("",)}
_ARTICULATION = {
    "legato": (
        "smooth legato phrasing",
        "long legato lines",
        "flowing legato notes",
        "connected legato melodies",
    ),
    "staccato": (
        "short staccato notes",
        "crisp staccato phrasing",
        "clipped staccato figures",
        "bouncing staccato lines",
    ),
    "mixed": ("varied articulation", "alternating short and long notes"),
}
_DYNAMICS = {
    "soft": (
        "soft dynamics",
        "played softly at soft volume",
        "a soft, hushed level",
        "soft and restrained dynamics",
    ),
    "loud": ("loud dynamics", "a loud, full sound", "loud and powerful playing", "loud, forceful dynamics"),
    "moderate": ("moderate dynamics", "even, moderate dynamics"),
}
_HARMONY = {
    "consonant": (
        "consonant harmony",
        "clear consonant chords",
        "warm consonant harmony",
        "simple consonant chords",
    ),
    "dissonant": (
        "dissonant harmony",
        "tense dissonant chords",
        "clashing dissonant intervals",
        "sharp dissonant chords",
    ),
    "mixed": ("harmony with some tension", "chords that tighten and resolve"),
}
_OPENINGS: tuple[Callable[[dict[str, str]], str], ...] = (
    lambda p: f"{p['moods']} {p['genre']} at {p['bpm']} BPM{p['key']}, {p['lead']}{p['backing']}",
    lambda p: f"{p['genre']} with {p['a_lead']}{p['backing']}, {p['moods']}, {p['bpm']} BPM{p['key']}",
    lambda p: f"{p['moods']} {p['genre']}{p['key']} led by {p['a_lead']}{p['backing']}, {p['bpm']} BPM",
    lambda p: f"{p['pace']} {p['moods']} {p['genre']} at {p['bpm']} BPM{p['key']} with {p['a_lead']}{p['backing']}",
    lambda p: f"{p['genre']}{p['key']}, {p['moods']}, {p['a_lead']}{p['backing']}, {p['bpm']} BPM",
)
_BACKINGS = (" over {}", " backed by {}", " above {}", " with {} underneath")


def write_prompt(brief: Brief) -> str:
    """The prompt for a brief: English music words, at most 77 CLAP tokens."""
    plan = brief.plan
    rng = random.Random(brief.seed)  # noqa: S311 - variety, not secrecy
    opening = _opening(plan, rng, brief.stated)
    details = _details(plan, rng, stated=brief.stated.dynamics or "")
    prompt = f"{opening}."
    kept: list[str] = []
    for detail in details:
        longer = [*kept, detail]
        if estimated_tokens(f"{opening}. {_sentence(longer)}.") > MAX_TOKENS:
            break
        kept = longer
    return f"{prompt} {_sentence(kept)}." if kept else prompt


def _opening(plan: MusicPlan, rng: random.Random, stated: Stated) -> str:
    lead = _lead(plan, rng)
    pace = "slow" if plan.tempo_bpm <= 88 else "fast" if plan.tempo_bpm >= 126 else "mid-tempo"
    asked = {written for _, written in stated.instruments}
    accompaniment = list(plan.accompaniment[: max(2, sum(a in asked for a in plan.accompaniment))])
    key = stated.key_written or plan.key
    genres = stated.genres[:3] if plan.genre in stated.genres else (plan.genre,)
    parts = {
        "genre": _and(genres),
        "moods": " and ".join(plan.moods) if len(plan.moods) < 3 else ", ".join(plan.moods),
        "bpm": str(plan.tempo_bpm),
        "key": f" in {key} {plan.mode}" if key else f" in a {plan.mode} key",
        "lead": lead,
        "a_lead": _article(lead),
        "backing": rng.choice(_BACKINGS).format(_and(accompaniment)) if accompaniment else "",
        "pace": pace,
    }
    if not plan.moods:
        parts["moods"] = pace
    text = re.sub(r"\s+", " ", rng.choice(_OPENINGS)(parts)).strip(" ,")
    return text[0].upper() + text[1:]


def _lead(plan: MusicPlan, rng: random.Random) -> str:
    """The lead with its timbre and register: "bright high-register piano"."""
    timbre = plan.timbres[0] if plan.timbres and plan.timbres[0] not in plan.lead else ""
    register = rng.choice(_REGISTER[plan.register])
    return " ".join(w for w in (timbre, register, plan.lead) if w)


def _details(plan: MusicPlan, rng: random.Random, *, stated: str) -> list[str]:
    """The second sentence's parts, the most telling first."""
    dynamics = rng.choice(_DYNAMICS[plan.dynamics])
    parts = [
        plan.rhythm,
        rng.choice(_ARTICULATION[plan.articulation]),
        rng.choice(_HARMONY[plan.harmony]),
        dynamics,
        f"{' and '.join(plan.timbres[1:])} sound" if plan.timbres[1:] else "",
    ]
    if plan.dynamics == "moderate" and not stated:
        parts.remove(dynamics)
    if stated:
        parts.remove(dynamics)
        parts.insert(0, dynamics)
    if plan.articulation == "mixed":
        parts = [p for p in parts if p not in _ARTICULATION["mixed"]]
    elif rng.random() < 0.5:
        parts[0], parts[1] = parts[1], parts[0]
    return [p for p in parts if p]


def _sentence(parts: Sequence[str]) -> str:
    text = ", ".join(parts)
    return text[0].upper() + text[1:] if text else ""


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _article(text: str) -> str:
    last = text.split()[-1]
    if last.endswith("s") and not last.endswith(("ss", "us")):
        return text
    return f"{'an' if text[0].lower() in 'aeiou' else 'a'} {text}"
