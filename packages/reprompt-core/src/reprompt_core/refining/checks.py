"""What a language model's answer must pass before anybody sees it. All of it is code; none of it asks a model.

A problem has a name, which may be shown, and a sentence for the model, which may quote its answer and is never shown.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..exclusion import Exclusion
from ..knowledge import Knowledge
from ..knowledge.concepts import alias_tokens, singulars
from ..stated import keys_in, said_with, tempos_in
from ..types import Brief, MusicPlan
from ..words import Words, fold
from .prompt_words import PromptWords
from .tokens import MAX_TOKENS, estimated_tokens

__all__ = ["Checks", "Problem"]

_TEMPO = (30, 240)
_PACE = {"slow": (0, 100), "moderate": (76, 132), "fast": (108, 999)}
_COPIED = 7  # words in a row that no two texts share by chance
_MOST_NUMBERS = 4
_CHARACTERS = re.compile(r"[^A-Za-zÀ-ÖØ-öø-ÿ0-9 ,.;:'’()/&#♯♭+–—-]")
_TIME_SIGNATURE = re.compile(r"\b(?:[2-9]|1[0-7])/(?:4|8|16)\b")
_KEY_NOTE = re.compile(
    r"\b[A-G](?:[#♯♭]|b)?(?=(?:[ -](?:flat|sharp))?[ -](?:major|minor|dorian|phrygian|lydian|mixolydian|pentatonic)\b)"
)
_REGISTER = {"high": "high higher soprano treble upper", "low": "low lower deep bass sub", "mid": "mid middle medium"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in an answer that must not be there, or is missing."""

    name: str
    tell: str


class Checks:
    """The checks of one knowledge; `system` is the text that must not be copied."""

    def __init__(self, knowledge: Knowledge, *, system: str) -> None:
        self._knowledge = knowledge
        self._words = PromptWords(knowledge)
        self._system = set(_runs(_plain_words(system)))

    def problems(self, plan: MusicPlan, prompt: str, brief: Brief) -> tuple[Problem, ...]:
        """Everything that is wrong with a plan and its prompt; empty when it may be used."""
        fields = [("prompt", prompt), *_texts(plan)]
        return (
            *_form(prompt),
            *(p for name, text in fields for p in self._vocabulary(name, text, plan)),
            *self._subject(prompt),
            *self._fields(plan),
            *(Problem("copied", f"{n} repeats the system message.") for n, t in fields if self._copies(t)),
            *_agreement(plan, prompt, brief),
            *self._stated(plan, prompt, brief),
            *self._excluded(plan, prompt, brief),
            *self._feeling(plan, brief),
        )

    def _vocabulary(self, name: str, text: str, plan: MusicPlan) -> Iterator[Problem]:
        if strange := sorted(set(_CHARACTERS.findall(text))):
            yield Problem("characters", f"{name} holds characters that no prompt needs: {' '.join(strange)}")
        rest = _TIME_SIGNATURE.sub(" ", text)
        rest = re.sub(rf"\b{plan.tempo_bpm}(?=\s*-?\s*bpm\b)", " ", rest, flags=re.IGNORECASE)
        rest = _KEY_NOTE.sub(" ", rest)
        if strange := self._words.strange(rest):
            yield Problem(
                "words", f"{name} holds words that do not belong in a music prompt: {', '.join(strange[:12])}"
            )
        if len(re.findall(r"\d+", text)) > _MOST_NUMBERS or re.search(r"(?<!\w)[-–—+]\d", text):
            yield Problem("numbers", f"{name} holds more than {_MOST_NUMBERS} numbers, or one with a sign")

    def _fields(self, plan: MusicPlan) -> Iterator[Problem]:
        """Each free text of the plan is what its field is for."""
        for name, text in _texts(plan):
            fits = self._words.tells_character if name in {"moods", "timbres"} else self._words.speaks_of_music
            if not fits(text):
                kind = "moods or qualities of sound" if name in {"moods", "timbres"} else "terms of music"
                yield Problem("music", f"{name} holds something else than {kind}: {text[:60]}")

    def _subject(self, prompt: str) -> Iterator[Problem]:
        """The prompt speaks of music, in English, and names no food and no place."""
        language = Words(prompt).language
        if language not in {"en", "und"}:
            yield Problem("language", "the prompt is not in English")
        if not any(self._knowledge.music_in(prompt)):
            yield Problem("music", "the prompt names neither a genre nor an instrument")
        if silent := [s for s in _sentences(prompt) if not self._words.speaks_of_music(s)]:
            yield Problem("music", f"these words do not speak of music: {silent[0]}")
        if named := self._names(prompt):
            yield Problem("names", f"the prompt names foods or places: {', '.join(named)}")

    def _names(self, text: str) -> list[str]:
        """Foods, drinks and places that a text names; a place of one word also makes sounds: "a club beat"."""
        tokens = Words(text).tokens
        music = {i for m in self._knowledge.music.find(tokens, language="en") for i in range(m.first, m.last)}
        found: list[str] = []
        for match in self._knowledge.lexicon.find(tokens, language="en"):
            kinds = {self._knowledge.concepts[s.concept].kind for s in match.senses if not s.everyday}
            forbidden = {"food", "drink", "place"} if match.last - match.first > 1 else {"food", "drink"}
            if kinds and kinds <= forbidden and not music & set(range(match.first, match.last)):
                found.append(" ".join(t.text for t in tokens[match.first : match.last]))
        return found

    def _copies(self, text: str) -> bool:
        return not self._system.isdisjoint(_runs(_plain_words(text)))

    def _stated(self, plan: MusicPlan, prompt: str, brief: Brief) -> Iterator[Problem]:
        """Every music word of the person is in the prompt, and the plan agrees."""
        stated, missing = brief.stated, list[str]()
        for genre in stated.genres:
            if not self._says(prompt, "genre", genre, genre):
                missing.append(f"the genre {genre}")
        for name, written in stated.instruments:
            if not self._says(prompt, "instrument", name, written):
                missing.append(f"the instrument {written}")
            if not any(self._says(t, "instrument", name, written) for t in (plan.lead, *plan.accompaniment)):
                missing.append(f"{written} as lead or accompaniment of the plan")
        if stated.genres and not any(self._says(plan.genre, "genre", g, g) for g in stated.genres):
            missing.append(f"{stated.genres[0]} as the plan's genre")
        if stated.tempo_bpm and (stated.tempo_bpm not in tempos_in(prompt) or plan.tempo_bpm != stated.tempo_bpm):
            missing.append(f"{stated.tempo_bpm} BPM")
        if stated.pace and not _PACE[stated.pace][0] <= plan.tempo_bpm <= _PACE[stated.pace][1]:
            missing.append(f"a {stated.pace} tempo")
        if stated.key and (stated.key, stated.mode) not in keys_in(prompt):
            missing.append(f"the key {stated.key} {stated.mode}")
        if stated.mode and stated.mode not in _plain_words(prompt):
            missing.append(f"the mode {stated.mode}")
        for parameter in ("dynamics", "articulation", "harmony"):
            value = getattr(stated, parameter)
            if value and not (said_with(parameter, value) & _forms(prompt) and getattr(plan, parameter) == value):
                missing.append(f"{value} {parameter}")
        if stated.register and not (
            set(_REGISTER[stated.register].split()) & _forms(prompt) and plan.register == stated.register
        ):
            missing.append(f"a {stated.register} register")
        missing += [f"the sound {t}" for t in stated.timbres if t not in _forms(prompt)]
        if (stated.key, stated.mode) != (None, None) and (
            (stated.key and plan.key != stated.key) or (stated.mode and plan.mode != stated.mode)
        ):
            missing.append(f"the key {stated.key or ''} {stated.mode or ''} in the plan".replace("  ", " "))
        if missing:
            yield Problem("stated", f"the person asked for these and they are missing: {'; '.join(missing)}")

    def _says(self, text: str, kind: str, name: str, written: str) -> bool:
        """Whether a text names a genre or an instrument: as written, by its name or by an English alias."""
        concept = self._knowledge.named.get((kind, name))
        aliases = [a for a in concept.aliases_en if not a.endswith("?")] if concept else []
        words = _plain_words(text)
        return any(_holds(words, alias_tokens(phrase)) for phrase in (written, name, *aliases))

    def _excluded(self, plan: MusicPlan, prompt: str, brief: Brief) -> Iterator[Problem]:
        exclusion = Exclusion(brief.stated, self._knowledge)
        if not exclusion:
            return
        if any(exclusion.text(t) for t in (prompt, *(t for _, t in _texts(plan)))):
            left_out = ", ".join(dict.fromkeys((*brief.stated.exclude_texts, *brief.stated.exclude)))
            yield Problem("excluded", f"the person wants these left out, and they are there: {left_out}")

    def _feeling(self, plan: MusicPlan, brief: Brief) -> Iterator[Problem]:
        """A stated feeling, or one of its family, is among the plan's moods."""
        emotion = brief.senses.emotion
        if not emotion.stated or not emotion.labels:
            return
        moods = [c for label in emotion.labels if (c := self._knowledge.named.get(("mood", label)))]
        families = {c.family for c in moods if c.family}
        named = self._knowledge.lexicon.names(". ".join(plan.moods))
        found = [self._knowledge.concepts[i] for i in named]
        same = any(c.kind == "mood" and (c.name in emotion.labels or c.family in families) for c in found)
        if not same and not set(emotion.labels) & set(plan.moods):
            yield Problem("feeling", f"the moods must hold what the person feels: {', '.join(emotion.labels[:2])}")


def _texts(plan: MusicPlan) -> list[tuple[str, str]]:
    """The plan's free texts with the names of their fields."""
    several = {"moods": plan.moods, "accompaniment": plan.accompaniment, "timbres": plan.timbres}
    return [
        ("genre", plan.genre),
        ("rhythm", plan.rhythm),
        ("lead", plan.lead),
        *((name, text) for name, texts in several.items() for text in texts),
    ]


def _form(prompt: str) -> Iterator[Problem]:
    sentences = len(_sentences(prompt))
    if sentences > 3:
        yield Problem("sentences", f"the prompt has {sentences} sentences; at most three")
    if len(_plain_words(prompt)) < 5:
        yield Problem("length", "the prompt has fewer than five words")
    if (tokens := estimated_tokens(prompt)) > MAX_TOKENS:
        yield Problem("length", f"the prompt has about {tokens} tokens; at most {MAX_TOKENS}")


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"[.!?;]+(?:\s+|$)", text) if part.strip()]


def _agreement(plan: MusicPlan, prompt: str, brief: Brief) -> Iterator[Problem]:
    """Tempo and key are possible, and the prompt says the same as the plan."""
    if not _TEMPO[0] <= plan.tempo_bpm <= _TEMPO[1] and plan.tempo_bpm != brief.stated.tempo_bpm:
        yield Problem("tempo", f"tempo_bpm is {plan.tempo_bpm}; it must be from {_TEMPO[0]} to {_TEMPO[1]}")
    if wrong := [t for t in tempos_in(prompt) if t != plan.tempo_bpm]:
        yield Problem("agreement", f"the prompt says {wrong[0]} BPM and the plan {plan.tempo_bpm}")
    for key, mode in keys_in(prompt):
        if (key, mode) != (plan.key, plan.mode):
            yield Problem("agreement", f"the prompt says {key} {mode} and the plan {plan.key} {plan.mode}")


def _plain_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", fold(text))


def _forms(text: str) -> set[str]:
    """The words of a text and what they may be the adverb or plural of."""
    words = set(_plain_words(text))
    return words | {w.removesuffix("ly") for w in words} | {form for w in words for form in singulars(w)}


def _holds(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the phrase stands in the words, plurals aside."""
    n = len(phrase)
    return n > 0 and any(
        all(p == w or p in singulars(w) or w in singulars(p) for p, w in zip(phrase, words[i : i + n], strict=True))
        for i in range(len(words) - n + 1)
    )


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + _COPIED]) for i in range(len(words) - _COPIED + 1))
