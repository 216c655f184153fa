"""Layer 1: from words to the concepts they mention, and from those to sensory and emotional descriptors.

Mentions by name come first: the longest alias at each place, everyday words only in a fitting context, and negation
understood. What no alias covers is encoded, phrase by phrase in one batch with the whole text, and matched to the
nearest concepts. Descriptors then weigh what was found: per dimension, with what is stated outranking what is
implied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import cast

import numpy as np

from .encoder import Encoder, Vectors
from .knowledge import Concept, Knowledge, Sense
from .phrases import Phrase, follows_eating, negated_tokens, phrases
from .types import TASTES, Descriptor, Emotion, Mention, Senses
from .vocabulary import CUES, GROUP_OF, NOT_EATEN, PREPOSITIONS
from .words import Token, Words

__all__ = ["Reader", "Reading"]

_NEIGHBOURS = 6
_SHARPNESS = 0.06  # softmax temperature over cosines: small means the nearest neighbour dominates
_NEAR_FOOD = 0.28  # least cosine of an unknown phrase that is clearly eaten or drunk
_NEAR_PART = 0.5  # least cosine of a phrase that holds a food's name: below, the name alone is trusted
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


@dataclass(frozen=True, slots=True)
class _Found:
    mention: Mention
    concept: Concept  # what is meant; for a mention by nearness, a blend of the nearest
    weight: float  # of its tastes among the others' (a dish's main part against its side)
    first: int  # tokens [first, last)
    last: int
    sure: bool = True  # not an everyday word that merely fits the context


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
        named = [self._by_name(words) for words in texts]
        unknown = [self._unknown(words, found) for words, found in zip(texts, named, strict=True)]
        vectors, warnings = self._encode(texts, unknown)
        readings: list[Reading] = []
        for i, words in enumerate(texts):
            of_phrases = [cast("Vectors", self._known(p.text).vector) for p in unknown[i]]
            found = [*named[i], *self._nearest(words, unknown[i], of_phrases, named[i])]
            if not any(f.mention.kind not in {"colour", "texture"} for f in found):
                found += self._nearest_to_all(words, vectors[i])
            found = _weigh_parts(words, sorted(found, key=lambda f: f.first))
            readings.append(Reading(_describe(found), vectors[i], tuple(warnings)))
        return readings

    def _encode(self, texts: Sequence[Words], unknown: Sequence[Sequence[Phrase]]) -> tuple[Vectors, list[str]]:
        """Encodes the texts and those of their phrases that were not met before, in one batch."""
        slots = {p.text: self._known(p.text) for group in unknown for p in group}
        new = [phrase for phrase, slot in slots.items() if slot.vector is None]
        vectors, warnings = self._encoder.encode([*(words.text for words in texts), *new])
        for phrase, vector in zip(new, vectors[len(texts) :], strict=True):
            slots[phrase].vector = vector
        return vectors[: len(texts)], warnings

    # -- by name -------------------------------------------------------------------------------------------------

    def _by_name(self, words: Words) -> list[_Found]:
        tokens = words.tokens
        matches = self._knowledge.lexicon.find(tokens, language=words.language)
        cues = {group for t in tokens for group in CUES.get(t.text, ())}
        sure = [  # the groups that each match certainly speaks of
            {GROUP_OF[self._kind(s)] for s in m.senses if not s.everyday} for m in matches
        ]
        negated = negated_tokens(words, [(m.first, m.last) for m in matches])
        sure_genre = any(self._kind(s) == "genre" and not s.everyday for m in matches for s in m.senses)
        found: list[_Found] = []
        for n, match in enumerate(matches):
            context = cues.union(*(s for i, s in enumerate(sure) if i != n and len(s) == 1))
            before = tokens[match.first - 1].text if match.first else ""
            if before in PREPOSITIONS or (match.first > 1 and tokens[match.first - 2].text in PREPOSITIONS):
                context = context | {"scene"}
            candidates = match.senses
            if not _edible_here(tokens, match.last):
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
            found.append(_Found(mention, concept, 1.0, match.first, match.last, not sense.everyday))
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
            score = 2.0 * fits + 1.0 * (not sense.everyday) + 0.6 * sense.native + 0.8 * (concept.name.lower() == text)
            score -= 0.01 * _KIND_RANK.get(concept.kind, 20)
            if best is None or score > best[0]:
                best = (score, sense)
        return best[1] if best else None

    # -- by nearness ---------------------------------------------------------------------------------------------

    def _unknown(self, words: Words, found: Sequence[_Found]) -> list[Phrase]:
        """The phrases to be understood by nearness: what is eaten always, the rest only where little was named."""
        covered = {i for f in found for i in range(f.first, f.last)}
        edible = {f.first for f in found if f.mention.kind in {"food", "drink"}}
        enough = sum(GROUP_OF[f.mention.kind] != "sense" for f in found) >= 3
        return [
            p
            for p in phrases(words, covered)
            if not enough or p.eaten or any(i in edible for i in range(p.first, p.last))
        ]

    def _nearest(
        self, words: Words, unknown: Sequence[Phrase], vectors: Sequence[Vectors], named: Sequence[_Found]
    ) -> list[_Found]:
        """What the unknown phrases mean: a dish where the text says that it is eaten, else whatever lies near.

        Where nothing says that a phrase is eaten and no dish is named, the phrase likest a dish may be the dish.
        """
        found: list[_Found] = []
        guess: _Found | None = None
        groups = {GROUP_OF[f.mention.kind] for f in named if not f.mention.negated}
        may_guess = not groups & {"food", "music"} and not any("music" in CUES.get(t.text, ()) for t in words.tokens)
        for phrase, vector in zip(unknown, vectors, strict=True):
            inside = [f for f in named if phrase.first <= f.first < phrase.last and f.mention.kind in {"food", "drink"}]
            if phrase.eaten or inside:
                near = self._near(words, phrase, vector, self._edible, _NEAR_PART if inside else _NEAR_FOOD)
                if near and inside and not _heads(words, phrase, inside):
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

    def _near(self, words: Words, phrase: Phrase, vector: Vectors, field: "_Field", least: float) -> _Found | None:
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
        return _Found(mention, concept, 1.0, phrase.first, phrase.last)

    def _nearest_to_all(self, words: Words, vector: Vectors) -> list[_Found]:
        found: list[_Found] = []
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
            found.append(_Found(mention, concept, 0.5, 0, 0))
        return found


def _blend(near: Sequence[tuple[Concept, float]]) -> Concept:
    """A concept between its neighbours: the nearest one with the tastes of all, weighted by softmax of cosine."""
    cosines = np.array([c for _, c in near])
    weights = np.exp((cosines - cosines.max()) / _SHARPNESS)
    weights /= weights.sum()
    tastes = {t: float(sum(w * c.tastes.get(t, 0.0) for w, (c, _) in zip(weights, near, strict=True))) for t in TASTES}
    return replace(near[0][0], tastes=tastes)


def _edible_here(tokens: Sequence[Token], after: int) -> bool:
    """False where the next word turns a food into something else: "banana leaf", "orange light", "cherry trees"."""
    if after >= len(tokens) or tokens[after].clause != tokens[after - 1].clause:
        return True
    return tokens[after].text not in NOT_EATEN


# -- weighing ----------------------------------------------------------------------------------------------------


def _heads(words: Words, phrase: Phrase, inside: Sequence[_Found]) -> bool:
    """Whether the unknown word is the phrase's head: its last word, or its first in Spanish."""
    if words.language == "es":
        return min(f.first for f in inside) > phrase.first
    return max(f.last for f in inside) < phrase.last


_OF = frozenset("de del al a la el los las".split())
_WITH = frozenset("with con in en on topped over sobre".split())
_AND = frozenset("and y e plus".split())


def _weigh_parts(words: Words, found: Sequence[_Found]) -> list[_Found]:
    """Weights of what is eaten: the dish that the text is about counts most, its parts and passing foods less.

    Of foods named side by side the last is the head in English ("lemon cheesecake"), the first in Spanish and before
    "of" or "with" ("helado de limón", "pancakes with syrup").
    """
    weighed = list(found)
    edible = [i for i, f in enumerate(weighed) if f.mention.kind in {"food", "drink"} and not f.mention.negated]
    linked: set[int] = set()
    for a, b in pairwise(edible):
        left, right = weighed[a], weighed[b]
        if words.tokens[left.first].clause != words.tokens[right.first].clause:
            continue
        if right.first < left.last:  # a name inside an unknown phrase
            name, phrase = (left, right) if left.mention.via == "name" else (right, left)
            weighed[a if name is left else b] = replace(name, weight=0.6 if phrase.weight == 1 else 1.0)
            linked |= {a, b}
            continue
        between = [t.text for t in words.tokens[left.last : right.first]]
        if not between:
            modifier, at = (right, b) if words.language == "es" else (left, a)
            weighed[at] = replace(modifier, weight=0.5 * modifier.weight)
        elif len(between) <= 3 and (between[0] in _OF or between[0] in _WITH):
            weighed[b] = replace(right, weight=0.5)
        elif between[0] not in _AND or len(between) > 3:
            continue
        linked |= {a, b}
    if len(edible) > 1:
        main = max(
            edible,
            key=lambda i: (_eaten(words, weighed[i]), weighed[i].sure, i in linked, weighed[i].weight, -i),
        )
        for i in edible:
            if i != main and not (i in linked and main in linked):
                weighed[i] = replace(weighed[i], weight=0.35 * weighed[i].weight)
    return weighed


def _eaten(words: Words, found: _Found) -> bool:
    """Whether the text says right before it that it is eaten, drunk, or on a plate."""
    return found.mention.score >= 0.4 and follows_eating(words, found.first)


def _describe(found: Sequence[_Found]) -> Senses:
    """Descriptors, tastes and emotion of what was found."""
    live = [f for f in found if not f.mention.negated]
    tastes, descriptors = _tastes(found)
    for f in live:
        c = f.concept
        origin = f.mention.text
        weight = round(f.weight * (1.0 if f.mention.via == "name" else f.mention.score), 3)
        for dimension, values in (
            ("texture", c.textures if c.kind != "texture" else (c.name,)),
            ("temperature", (c.temperature or (c.name if c.kind == "temperature" else ""),)),
            ("colour", (c.colour or (c.name if c.kind == "colour" else ""),)),
            ("aroma", c.aroma if c.kind != "aroma" else (c.name,)),
        ):
            descriptors += [Descriptor(dimension, v, weight, origin) for v in values if v]
        for dimension in ("valence", "arousal", "energy", "brightness"):
            value = getattr(c, dimension)
            if value is not None:
                descriptors.append(Descriptor(dimension, value, round(weight * _EMOTION_WEIGHT[c.kind], 3), origin))
    implied = _feeling_of(tastes)
    if any(v > 0.15 for v in tastes.values()):
        descriptors += [Descriptor(d, round(v, 3), 0.2, "the tastes") for d, v in implied.items()]
    return Senses(
        mentions=tuple(f.mention for f in found),
        descriptors=tuple(descriptors),
        tastes=tastes,
        emotion=_emotion(live, descriptors),
    )


# How much a mention of each kind says of the feeling: a stated mood most, a dish's trimmings least.
_EMOTION_WEIGHT = {
    "mood": 1.0,
    "place": 0.5,
    "time": 0.35,
    "weather": 0.5,
    "activity": 0.5,
    "occasion": 0.7,
    "ambience": 0.5,
    "colour": 0.2,
    "aroma": 0.15,
    "texture": 0.1,
    "temperature": 0.15,
    "taste": 0.15,
    "food": 0.2,
    "drink": 0.2,
    "genre": 0.3,
    "instrument": 0.1,
}


def _tastes(found: Sequence[_Found]) -> tuple[dict[str, float], list[Descriptor]]:
    """(tastes 0..1, their descriptors): the mean of what is eaten, raised by taste words, lowered by negated ones."""
    eaten = [f for f in found if f.mention.kind in {"food", "drink"} and not f.mention.negated]
    said = [f for f in found if f.mention.kind == "taste"]
    total = sum(f.weight for f in eaten)
    tastes: dict[str, float] = {}
    descriptors: list[Descriptor] = []
    for t in TASTES:
        # the root of the mean square: a strong taste is not drowned by a mild neighbour
        value = (sum(f.weight * f.concept.tastes.get(t, 0.0) ** 2 for f in eaten) / total) ** 0.5 if total else 0.0
        for f in said:
            word = f.concept.tastes.get(t, 0.0)
            if f.mention.negated:
                value *= 1 - word
            elif word >= 0.2:
                value = 1 - (1 - value) * (1 - (0.7 if total else 1.0) * word)
        tastes[t] = round(value, 3)
        origin = ", ".join(
            dict.fromkeys(
                f.mention.text for f in (*eaten, *said) if not f.mention.negated and f.concept.tastes.get(t, 0) >= 0.15
            )
        )
        if value >= 0.15 and origin:
            descriptors.append(Descriptor(t, round(value, 3), round(value, 3), origin))
    return tastes, descriptors


def _feeling_of(tastes: dict[str, float]) -> dict[str, float]:
    """What tastes suggest of a feeling: sweetness pleases, bitterness does not, sourness and heat excite."""
    valence = 0.7 * tastes["sweet"] + 0.2 * tastes["umami"] - 0.5 * tastes["bitter"] - 0.3 * tastes["sour"]
    arousal = 0.6 * tastes["spicy"] + 0.4 * tastes["sour"] + 0.3 * tastes["salty"] - 0.3 * tastes["sweet"]
    return {
        "valence": max(-1.0, min(1.0, valence)),
        "arousal": max(-1.0, min(1.0, arousal - 0.1 * tastes["bitter"])),
    }


def _emotion(live: Sequence[_Found], descriptors: Sequence[Descriptor]) -> Emotion:
    """Valence and arousal: of the stated moods when there are any (nine tenths), else of everything implied."""
    moods = [f for f in live if f.mention.kind == "mood"]
    stated = [f for f in moods if f.mention.via == "name"]

    def mean(dimension: str) -> float:
        pairs = [(float(d.value), d.weight) for d in descriptors if d.dimension == dimension]
        total = sum(w for _, w in pairs)
        return sum(v * w for v, w in pairs) / total if total else 0.0

    valence, arousal = mean("valence"), mean("arousal")
    if stated:
        valence = 0.1 * valence + 0.9 * sum(f.concept.valence or 0 for f in stated) / len(stated)
        arousal = 0.1 * arousal + 0.9 * sum(f.concept.arousal or 0 for f in stated) / len(stated)
    labels = tuple(dict.fromkeys(f.concept.name for f in (stated or moods)))
    return Emotion(round(valence, 3), round(arousal, 3), labels, bool(stated))
