"""Layer 1: from words to the concepts they mention, and from those to sensory and emotional descriptors.

Mentions by name come first: the longest alias at each place, everyday words only in a fitting context, and negation
understood. What no alias covers is encoded, phrase by phrase in one batch with the whole text, and matched to the
nearest concepts. Descriptors then weigh what was found: per dimension, with what is stated outranking what is
implied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np

from .encoder import Encoder, Vectors
from .knowledge import Concept, Knowledge, Match, Sense
from .phrases import Phrase, negated_tokens, phrases
from .types import TASTES, Mention, Senses
from .vocabulary import CUES, EATING, GROUP_OF, NOT_EATEN, PREPOSITIONS, SOUND_WORDS
from .weighing import Found, describe, heads, weigh_parts
from .words import Token, Words

__all__ = ["Reader", "Reading"]

_NEIGHBOURS = 6
_SHARPNESS = 0.06  # softmax temperature over cosines: small means the nearest neighbour dominates
_NEAR_FOOD = 0.28  # least cosine of an unknown phrase that is clearly eaten or drunk
_NEAR_PART = 0.5  # least cosine of a phrase that holds a food's name: below, the name alone is trusted
_NEAR_BESIDE = 0.4  # the same where a dish is named elsewhere in the text
_NEAR_GUESS = 0.42  # least cosine of the phrase that may be the dish when nothing says so
_NEAR = 0.47  # least cosine of any other unknown phrase
_NEAR_TEXT = 0.30  # least cosine of the whole text when nothing in it was recognised
_KIND_RANK = {k: i for i, k in enumerate("food drink mood instrument genre place time weather taste occasion".split())}


@dataclass(frozen=True, slots=True)
class Reading:
    """The senses, and the encoded text for the steps after."""

    senses: Senses
    vector: Vectors  # [dimensions], of the whole text
    warnings: tuple[str, ...] = ()


class _Field:
    """The concepts of some kinds with their vectors."""

    def __init__(self, knowledge: Knowledge, *kinds: str) -> None:
        rows = knowledge.rows(*kinds)
        self.concepts = [knowledge.concepts[i] for i in rows]
        self._vectors = knowledge.concept_vectors[rows]  # [concepts, dimensions]

    def near(self, vector: Vectors, most: int) -> list[tuple[Concept, float]]:
        """The nearest concepts with their cosines, nearest first."""
        # einsum stays on this thread: a BLAS call would wake threads that fight the encoder's for the same cores
        cosines = np.einsum("cd,d->c", self._vectors, vector)
        top = np.argpartition(-cosines, most)[:most]
        return [(self.concepts[i], float(cosines[i])) for i in top[np.argsort(-cosines[top], kind="stable")]]


class _Slot:
    """Holds the vector of a phrase once it is encoded."""

    __slots__ = ("vector",)

    def __init__(self, _phrase: str) -> None:
        self.vector: Vectors | None = None


class Reader:
    """Reads senses from words."""

    def __init__(self, knowledge: Knowledge, encoder: Encoder) -> None:
        self._knowledge = knowledge
        self._encoder = encoder
        self._edible = _Field(knowledge, "food", "drink")
        self._sensed = _Field(
            knowledge, "food", "drink", "place", "time", "weather", "activity", "occasion", "ambience", "mood"
        )
        self._scenes = _Field(knowledge, "place", "time", "weather", "activity", "occasion", "mood")
        self._known = lru_cache(maxsize=4096)(_Slot)  # phrases come again: sister, water, dusk

    def read(self, words: Words) -> Reading:
        """The senses of one text."""
        return self.read_many([words])[0]

    def read_many(self, texts: Sequence[Words]) -> list[Reading]:
        """The senses of several texts, encoded in one batch."""
        matches = [self._knowledge.lexicon.find(words.tokens, language=words.language) for words in texts]
        named = [self._by_name(words, found) for words, found in zip(texts, matches, strict=True)]
        unknown = [self._unknown(*each) for each in zip(texts, matches, named, strict=True)]
        vectors, cut = self._encode(texts, unknown)
        readings: list[Reading] = []
        for i, words in enumerate(texts):
            of_phrases = [cast("Vectors", self._known(p.text).vector) for p in unknown[i]]
            found = [*named[i], *self._nearest(words, unknown[i], of_phrases, named[i])]
            if not any(f.mention.kind not in {"colour", "texture"} for f in found):
                found += self._nearest_to_all(words, vectors[i])
            found = weigh_parts(words, sorted(found, key=lambda f: f.first))
            readings.append(Reading(describe(found), vectors[i], self._warnings(i in cut)))
        return readings

    def _encode(self, texts: Sequence[Words], unknown: Sequence[Sequence[Phrase]]) -> tuple[Vectors, list[int]]:
        """Encodes the texts and those of their phrases that were not met before, in one batch."""
        slots = {p.text: self._known(p.text) for group in unknown for p in group}
        new = [phrase for phrase, slot in slots.items() if slot.vector is None]
        vectors, cut = self._encoder.encode([*(words.text for words in texts), *new])
        for phrase, vector in zip(new, vectors[len(texts) :], strict=True):
            slots[phrase].vector = vector
        return vectors[: len(texts)], cut

    def _warnings(self, cut: bool) -> tuple[str, ...]:
        most = self._encoder.max_length
        return (f"The words have more than {most} tokens: the encoder read only the first {most}.",) if cut else ()

    # -- by name -------------------------------------------------------------------------------------------------

    def _by_name(self, words: Words, matches: Sequence[Match]) -> list[Found]:
        tokens = words.tokens
        cued = [(i, group) for i, t in enumerate(tokens) for group in CUES.get(t.text, ())]
        sure = [  # the groups that each match certainly speaks of
            {GROUP_OF[self._kind(s)] for s in m.senses if not s.everyday} for m in matches
        ]
        negated = negated_tokens(words, [(m.first, m.last) for m in matches])
        sure_genre = any(self._kind(s) == "genre" and not s.everyday for m in matches for s in m.senses)
        found: list[Found] = []
        for n, match in enumerate(matches):
            cues = {group for i, group in cued if not match.first <= i < match.last}
            context = cues.union(*(s for i, s in enumerate(sure) if i != n and len(s) == 1))
            if match.first in negated:
                context |= {"music"}  # "anything but house": leaving out what is not there does no harm
            if len({t.text for t in tokens}) <= 2:
                context |= {"food", "music", "feeling", "scene"}  # "house", "slow rock": there is nothing else to go by
            before = tokens[match.first - 1].text if match.first else ""
            if before in SOUND_WORDS:
                context = context | {"music"}
            if before in PREPOSITIONS or (match.first > 1 and tokens[match.first - 2].text in PREPOSITIONS):
                context = context | {"scene"}
            candidates = match.senses
            if not _edible_here(tokens, match.first, match.last):
                candidates = tuple(s for s in candidates if self._kind(s) not in {"food", "drink"})
            sense = self._choose(candidates, context, tokens[match.first : match.last])
            if sense is None:
                continue
            concept = self._knowledge.concepts[sense.concept]
            if concept.kind == "genre" and sure_genre and all(s.everyday for s in candidates):
                continue  # "my dad's garage" beside "grunge"
            start, end = tokens[match.first].start, tokens[match.last - 1].end
            mention = Mention(
                text=words.text[start:end],
                concept=concept.name,
                kind=concept.kind,
                score=1.0,
                via="name",
                negated=match.first in negated,
                start=start,
                end=end,
            )
            found.append(Found(mention, concept, 1.0, match.first, match.last, not sense.everyday))
        return found

    def _kind(self, sense: Sense) -> str:
        return self._knowledge.concepts[sense.concept].kind

    def _choose(self, candidates: Iterable[Sense], context: set[str], said: Sequence[Token]) -> Sense | None:
        """The meaning among those that share an alias, or None when only everyday meanings remain."""
        best: tuple[float, Sense] | None = None
        text = " ".join(t.text for t in said)
        for sense in candidates:
            concept = self._knowledge.concepts[sense.concept]
            fits = GROUP_OF[concept.kind] in context
            if sense.everyday and not fits:
                continue
            score = 2.0 * fits + 1.0 * (not sense.everyday) + 0.6 * sense.native
            if concept.name.lower() == text:  # its own name beats another's alias, whatever the context
                score += 0.8 if sense.everyday else 2.5
            score -= 0.01 * _KIND_RANK.get(concept.kind, 20)
            if best is None or score > best[0]:
                best = (score, sense)
        return best[1] if best else None

    # -- by nearness ---------------------------------------------------------------------------------------------

    def _unknown(self, words: Words, matches: Sequence[Match], found: Sequence[Found]) -> list[Phrase]:
        """The phrases to be understood by nearness: what is eaten always, the rest only where little was named.

        A name that was refused (an everyday word, a tree) is no unknown word either, nor is what stands beside it.
        """
        covered = {i for f in found for i in range(f.first, f.last)}
        refused: set[int] = set()
        for match in matches:
            if match.first not in covered:
                refused.update(range(match.first, match.last))
                refused.update(i for i in (match.first - 2, match.last) if _not_eaten(words, i))
        edible = {f.first for f in found if f.mention.kind in {"food", "drink"}}
        enough = sum(GROUP_OF[f.mention.kind] != "sense" for f in found) >= 3
        return [
            p
            for p in phrases(words, covered, refused)
            if not enough or p.eaten or any(i in edible for i in range(p.first, p.last))
        ]

    def _nearest(
        self, words: Words, unknown: Sequence[Phrase], vectors: Sequence[Vectors], named: Sequence[Found]
    ) -> list[Found]:
        """What the unknown phrases mean: a dish where the text says that it is eaten, else whatever lies near.

        Where nothing says that a phrase is eaten and no dish is named, the phrase likest a dish may be the dish.
        """
        found: list[Found] = []
        guess: Found | None = None
        groups = {GROUP_OF[f.mention.kind] for f in named if not f.mention.negated}
        may_guess = not groups & {"food", "music"} and not any("music" in CUES.get(t.text, ()) for t in words.tokens)
        for phrase, vector in zip(unknown, vectors, strict=True):
            inside = [f for f in named if phrase.first <= f.first < phrase.last and f.mention.kind in {"food", "drink"}]
            if phrase.eaten or inside:
                least = _NEAR_PART if inside else _NEAR_BESIDE if "food" in groups else _NEAR_FOOD
                near = self._near(words, phrase, vector, self._edible, least)
                if near and inside and not heads(words, phrase, inside):
                    near = replace(near, weight=0.5)
                found += [near] if near else []
                continue
            near = self._near(words, phrase, vector, self._sensed, _NEAR)
            if near and near.mention.kind not in {"food", "drink"}:
                found.append(near)
            elif may_guess:
                near = self._near(words, phrase, vector, self._edible, _NEAR_GUESS)
                if near and (guess is None or near.mention.score > guess.mention.score):
                    guess = near
        if guess and not any(f.mention.kind in {"food", "drink"} for f in found):
            found.append(guess)
        return found

    def _near(self, words: Words, phrase: Phrase, vector: Vectors, field: "_Field", least: float) -> Found | None:
        near = field.near(vector, _NEIGHBOURS)
        nearest, cosine = near[0]
        if cosine < least:
            return None
        concept = nearest
        if nearest.kind in {"food", "drink"}:
            concept = _blend([n for n in near if n[0].kind in {"food", "drink"}])
        start, end = words.tokens[phrase.first].start, words.tokens[phrase.last - 1].end
        mention = Mention(
            text=words.text[start:end],
            concept=nearest.name,
            kind=nearest.kind,
            score=round(cosine, 4),
            via="nearest",
            negated=phrase.negated,
            start=start,
            end=end,
        )
        return Found(mention, concept, 1.0, phrase.first, phrase.last)

    def _nearest_to_all(self, words: Words, vector: Vectors) -> list[Found]:
        found: list[Found] = []
        for concept, cosine in self._scenes.near(vector, 2):
            if cosine < _NEAR_TEXT:
                break
            mention = Mention(
                text=words.text[:80],
                concept=concept.name,
                kind=concept.kind,
                score=round(cosine, 4),
                via="nearest",
                start=0,
                end=len(words.text),
            )
            found.append(Found(mention, concept, 0.5, 0, 0))
        return found


def _blend(near: Sequence[tuple[Concept, float]]) -> Concept:
    """A concept between its neighbours: the nearest one with the tastes of all, weighted by softmax of cosine."""
    cosines = np.array([c for _, c in near])
    weights = np.exp((cosines - cosines.max()) / _SHARPNESS)
    weights /= weights.sum()
    tastes = {t: float(sum(w * c.tastes.get(t, 0.0) for w, (c, _) in zip(weights, near, strict=True))) for t in TASTES}
    return replace(near[0][0], tastes=tastes)


def _not_eaten(words: Words, i: int) -> bool:
    return 0 <= i < len(words.tokens) and words.tokens[i].text in NOT_EATEN


def _edible_here(tokens: Sequence[Token], first: int, last: int) -> bool:
    """False where a word beside turns a food into something else: "banana leaf", "cherry trees", "hojas de plátano"."""
    if last < len(tokens) and tokens[last].clause == tokens[first].clause and tokens[last].text in NOT_EATEN:
        return False
    before = [t.text for t in tokens[max(first - 2, 0) : first] if t.clause == tokens[first].clause]
    return not (len(before) == 2 and before[0] in NOT_EATEN - EATING and before[1] in {"de", "del", "of"})
