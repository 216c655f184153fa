"""Measures of prompts: how much of the words' meaning they keep, how musical their words are, how varied they are."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprompt_core.refining.prompt_words import PromptWords
from reprompt_core.vocabulary import STOP_WORDS
from reprompt_core.words import fold

if TYPE_CHECKING:
    from reprompt_core.encoder import TextEncoder
    from reprompt_core.knowledge import Knowledge

__all__ = ["DEFINITIONS", "TextMeasures", "distinct", "mattr", "measure_texts"]

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_APOSTROPHE = re.compile("['’]")
_WINDOW = 50  # words of the moving average, as usual for short texts

DEFINITIONS = {
    "meaning_kept": (
        "Cosine of the sentence embeddings of the person's words and of the prompt (all-MiniLM-L6-v2; Reimers and "
        "Gurevych 2019, arXiv:1908.10084). 1: the same meaning, as that encoder sees it. A music prompt for a dish is "
        "meant to differ."
    ),
    "music_share": (
        "Share of the prompt's words, function words left out, that are words of music or of its character, by the "
        "word list of reprompt-core."
    ),
    "mattr": (
        "Moving-average type-token ratio over 50 words of an arm's prompts in a row (Covington & McFall 2010, "
        "doi:10.1080/09296171003643098). 1: no word comes twice among 50."
    ),
    "distinct_2": (
        "Distinct pairs of neighbouring words over all such pairs of an arm's prompts (Li et al. 2016, "
        "arXiv:1510.03055)."
    ),
    "tempo": (
        "Tempo estimated from onsets (librosa). It agrees with the plan when it is within 4 % of the planned tempo, or "
        "of its double, half, triple or third (Accuracy 2 of Gouyon et al. 2006, doi:10.1109/TSA.2005.858509)."
    ),
    "register": (
        "Centroid over log frequency of the constant-Q spectrum, C2 to C8, A-weighted, as a MIDI note number: of "
        "everything that plays, not of the lead alone."
    ),
    "roughness": (
        "Sensory dissonance between the 20 strongest partials of each frame (Sethares 1993, doi:10.1121/1.408175), "
        "over their power."
    ),
    "detachment": (
        "Share of the time between onsets in which the sound lies more than 10 dB under its last peak: small for "
        "legato, larger for staccato."
    ),
    "loudness_range": (
        "Loudness range in LU, EBU Tech 3342 (pyloudnorm). In sounds of a few seconds up to 3 LU of it come from the "
        "silence that the last windows reach into."
    ),
}
"""What each measure is, and where it comes from."""


@dataclass(frozen=True, slots=True)
class TextMeasures:
    """Of one prompt."""

    meaning_kept: float  # -1..1
    music_share: float  # 0..1
    words: int


def measure_texts(
    words: Sequence[str], prompts: Sequence[str], *, encoder: "TextEncoder", knowledge: "Knowledge"
) -> list[TextMeasures]:
    """Of each prompt, beside the words that it was made from.

    Args:
        words: what the person said.
        prompts: as many.
        encoder: of sentences; its vectors have length 1.
        knowledge: whose music words count.
    """
    listed = PromptWords(knowledge)
    ours, _ = encoder.encode(list(words))
    theirs, _ = encoder.encode(list(prompts))
    return [
        TextMeasures(float(a @ b), _music_share(prompt, listed), len(_words(prompt)))
        for a, b, prompt in zip(ours, theirs, prompts, strict=True)
    ]


def mattr(texts: Sequence[str]) -> float:
    """The moving-average type-token ratio of texts in a row; of fewer than 50 words their plain type-token ratio."""
    words = [word for text in texts for word in _words(text)]
    if not words:
        return float("nan")
    if len(words) <= _WINDOW:
        return len(set(words)) / len(words)
    ratios = [len(set(words[i : i + _WINDOW])) / _WINDOW for i in range(len(words) - _WINDOW + 1)]
    return sum(ratios) / len(ratios)


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct n-grams of words over all n-grams; none crosses from one text to the next."""
    grams = [tuple(words[i : i + n]) for words in map(_words, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _words(text: str) -> list[str]:
    # an accent that is a character of its own is part of no word
    return [match[0].lower() for match in _WORD.finditer(unicodedata.normalize("NFC", text))]


def _is_stop_word(word: str) -> bool:
    """By the list, which is without accents and holds the parts of "it's"."""
    return all(part in STOP_WORDS for part in _APOSTROPHE.split(fold(word)))


def _music_share(prompt: str, listed: PromptWords) -> float:
    said = [word for word in _words(prompt) if not _is_stop_word(word)]
    music = [word for word in said if listed.speaks_of_music(word) or listed.tells_character(word)]
    return len(music) / len(said) if said else 0.0
