"""The words that a music prompt may hold: a list of base forms, their inflections, and the names of music."""

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources

from ..knowledge import Knowledge
from ..knowledge.concepts import TIMBRES
from ..words import Words, fold

__all__ = ["PromptWords"]

# ending -> what may stand for it in the base form; "*" also undoes a doubled consonant
_ENDINGS = (
    ("ies", ("y",)), ("es", ("", "e")), ("s", ("",)),
    ("ied", ("y",)), ("ed", ("", "e", "*")), ("ing", ("", "e", "*")),
    ("ily", ("y",)), ("ally", ("",)), ("ly", ("", "le", "l")), ("iness", ("y",)), ("ness", ("",)),
    ("ier", ("y",)), ("er", ("", "e", "*")), ("iest", ("y",)), ("est", ("", "e", "*")), ("y", ("", "e", "*")),
)  # fmt: skip
_CHARACTER = (
    "moods", "energy", "timbre", "light", "weight", "shape", "tactile", "temperature", "qualities", "sound qualities",
    "articulation", "dynamics", "era", "tempo", "texture",
)  # fmt: skip
_ADJECTIVE = re.compile(r"(?:y|ic|ing|ed|ful|less|ous|ive|al|ant|ent|sh)$")
_NUMBER = re.compile(
    r"(?:19|20)?[2-9]0s"  # decades
    r"|(?:303|606|707|808|909)s?"  # drum machines
    r"|[1-9]\d?(?:st|nd|rd|th)"
    r"|[1-9]|[12]\d|3[0-2]"  # bars, beats, strings, steps
)
_TOKEN = re.compile(r"[^\W_]+")
_MUSICAL = (
    "tempo", "metre", "harmony", "melody", "form and", "articulation", "dynamics", "italian", "texture and",
    "ensembles", "instruments", "production", "synthesis", "genres", "musical", "sound and", "timbre",
)  # fmt: skip
_SMALL = re.compile(r"['’][sn]\b['’]?")  # "it's" and "drum 'n' bass" hold no words of one letter


def _of_groups(lines: list[str], starts: tuple[str, ...]) -> set[str]:
    """The words of the groups whose names start so."""
    found: set[str] = set()
    inside = False
    for line in lines:
        if line.startswith("#"):
            inside = line[1:].strip().startswith(starts)
        elif inside and not line.startswith("!"):
            found.update(line.split())
    return found


def _bases(word: str, depth: int = 2) -> Iterator[str]:
    """The word and what it may be an inflection of."""
    yield word
    if not depth:
        return
    for ending, stands in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 3:
            continue
        for replacement in stands:
            if replacement != "*":
                yield from _bases(stem + replacement, depth - 1)
            elif stem[-1] == stem[-2]:
                yield from _bases(stem[:-1], depth - 1)


class PromptWords:
    """Tells which words of a text no music prompt would hold."""

    def __init__(self, knowledge: Knowledge) -> None:
        text = (resources.files("reprompt_core.knowledge") / "prompt_words.txt").read_text("utf-8")
        lines = text.splitlines()
        self._known = {word for line in lines if not line.startswith(("#", "!")) for word in line.split()}
        self._musical = _of_groups(lines, _MUSICAL) | {"pulse"}
        self._character = _of_groups(lines, _CHARACTER) | {"a", "and", "of", "the"}
        ours = (*TIMBRES, *(c.name for c in knowledge.concepts if c.kind == "mood"))
        self._character |= {part for name in ours for part in _TOKEN.findall(fold(name))}
        self._never = {word for line in lines if line.startswith("!") for word in line[1:].split()}
        moods = [name for c in knowledge.concepts if c.kind == "mood" for name in (c.name, *c.aliases_en)]
        feelings = {fold(mood) for mood in moods if mood.isalpha()}
        self._known |= feelings
        self._character |= feelings
        self._names = knowledge.music
        # how a genre is played, in our own words: as a whole, not word by word
        rhythms = {g.style.rhythm for g in knowledge.genres.values() if g.style}
        alternatives = "|".join(re.escape(r) for r in sorted(rhythms, key=len, reverse=True))
        self._rhythms = re.compile(rf"\b(?:{alternatives})(?!\w)", re.IGNORECASE)
        self._knows = lru_cache(maxsize=16_384)(self._look_up)

    def _look_up(self, word: str) -> bool:
        return word not in self._never and any(base in self._known for base in _bases(word))

    def speaks_of_music(self, text: str) -> bool:
        """Whether a text names a genre or an instrument, or holds a term of music."""
        if self._rhythms.search(text):
            return True
        words = _TOKEN.findall(fold(text))
        if any(base in self._musical for word in words for base in _bases(word)) or "bpm" in words:
            return True
        return any(sense.native for m in self._names.find(Words(text).tokens, language="en") for sense in m.senses)

    def tells_character(self, text: str) -> bool:
        """Whether every word of a text is a mood or a quality of sound."""
        return all(
            any(base in self._character for base in _bases(word)) or (_ADJECTIVE.search(word) and self._knows(word))
            for word in _TOKEN.findall(fold(text))
        )

    def strange(self, text: str) -> list[str]:
        """The words of a text that are neither vocabulary nor part of an English name of a genre or an instrument.

        Numbers count as words: decades, drum machines, ordinals and small numbers are known, others are strange.
        """
        text = self._rhythms.sub(" . ", text)
        tokens = Words(text).tokens
        named = [
            (tokens[match.first].start, tokens[match.last - 1].end)
            for match in self._names.find(tokens, language="en")
            if any(sense.native for sense in match.senses)
        ]
        found: dict[str, None] = {}
        # all words, also those in an address or a tag, which `tokens` passes over
        for match in _TOKEN.finditer(_SMALL.sub(lambda m: " " * len(m[0]), text)):
            word = fold(match[0])
            known = self._knows(word) if word.isalpha() else _NUMBER.fullmatch(word) is not None
            if not known and not any(start <= match.start() < end for start, end in named):
                found[word] = None
        return list(found)
