"""How much each thing found weighs, and the descriptors, tastes and feeling of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .knowledge import Concept
from .phrases import Phrase, follows_eating
from .types import TASTES, Descriptor, Emotion, Mention, Senses
from .words import Words

__all__ = ["Found", "describe", "heads", "weigh_parts"]


@dataclass(frozen=True, slots=True)
class Found:
    """A mention with what it means and how much it counts."""

    mention: Mention
    concept: Concept  # what is meant; for a mention by nearness, a blend of the nearest
    weight: float  # of its tastes among the others' (a dish's main part against its side)
    first: int  # tokens [first, last)
    last: int
    sure: bool = True  # not an everyday word that merely fits the context


def heads(words: Words, phrase: Phrase, inside: Sequence[Found]) -> bool:
    """Whether the unknown word is the phrase's head: its last word, or its first in Spanish."""
    if words.language == "es":
        return min(f.first for f in inside) > phrase.first
    return max(f.last for f in inside) < phrase.last


_FORMS = frozenset("soup salad stew sandwich noodles dessert rice bread pasta toast omelette".split())
"""Dishes that taste of what they are made of."""
_OF = frozenset("de del al a la el los las".split())
_WITH = frozenset("with con in en on topped over sobre".split())
_AND = frozenset("and y e plus".split())


def weigh_parts(words: Words, found: Sequence[Found]) -> list[Found]:
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
            (head, h), (modifier, m) = ((left, a), (right, b)) if words.language == "es" else ((right, b), (left, a))
            if head.concept.name in _FORMS:  # "arugula salad" tastes of arugula
                weighed[h] = replace(head, weight=0.4 * head.weight)
            else:
                weighed[m] = replace(modifier, weight=0.4 * modifier.weight)
        elif between[0] in _OF and len(between) <= 2 and left.concept.name in _FORMS:
            weighed[a] = replace(left, weight=0.4 * left.weight)  # "ensalada de escarola"
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


def _eaten(words: Words, found: Found) -> bool:
    """Whether the text says right before it that it is eaten, drunk, or on a plate."""
    return found.mention.score >= 0.4 and follows_eating(words, found.first)


def describe(found: Sequence[Found]) -> Senses:
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


def _tastes(found: Sequence[Found]) -> tuple[dict[str, float], list[Descriptor]]:
    """(tastes 0..1, their descriptors): the mean of what is eaten, raised by taste words, lowered by negated ones."""
    eaten = [f for f in found if f.mention.kind in {"food", "drink"} and not f.mention.negated]
    left_out = [f for f in found if f.mention.kind in {"food", "drink"} and f.mention.negated]
    said = [f for f in found if f.mention.kind == "taste"]
    total = sum(f.weight for f in eaten)
    tastes: dict[str, float] = {}
    descriptors: list[Descriptor] = []
    for t in TASTES:
        # the root of the mean square: a strong taste is not drowned by a mild neighbour
        value = (sum(f.weight * f.concept.tastes.get(t, 0.0) ** 2 for f in eaten) / total) ** 0.5 if total else 0.0
        for f in left_out:
            value *= 1 - 0.8 * max(0.0, f.concept.tastes.get(t, 0.0) - 0.5) * 2  # "without salt"
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


def _emotion(live: Sequence[Found], descriptors: Sequence[Descriptor]) -> Emotion:
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
