"""Votes for musical parameters: from published correspondences, from feelings, from the scene, from captions.

A vote is a `Reason`: parameter, value, weight, and where it comes from. Weight = strength of the finding times how
strongly the thing is there. Nothing is decided here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .knowledge import Correspondence, Knowledge
from .types import TASTES, Caption, Reason, Senses, Stated

__all__ = ["caption_votes", "sense_votes", "stated_votes"]

_MOST = 1.4  # weight of a stated feeling's cue: above any taste's
_OUTRANKED = 0.25  # what is left of a taste's vote where a stated feeling votes too
_IMPLIED_TRAIT = 0.35  # a dish's texture, temperature or colour, against one that the person names


def sense_votes(senses: Senses, knowledge: Knowledge) -> list[Reason]:
    """Votes of tastes, textures, temperatures, colours, moods and scenes."""
    votes = _taste_votes(senses, knowledge) + _trait_votes(senses, knowledge)
    felt = _mood_votes(senses, knowledge)
    if senses.emotion.stated:
        parameters = {v.parameter for v in felt}
        votes = [replace(v, weight=round(v.weight * _OUTRANKED, 3)) if v.parameter in parameters else v for v in votes]
    return votes + felt + _implied_votes(senses) + _scene_votes(senses, knowledge)


def _of(found: Correspondence, weight: float, because: str) -> Reason:
    if found.conflict:
        because += f"; sources disagree ({found.conflict})"
    return Reason(
        found.parameter,
        found.value,
        round(found.weight * weight, 3),
        because,
        found.source,
        found.doi,
        found.status,
    )


def _about(attribute: str, knowledge: Knowledge) -> Iterable[Correspondence]:
    return (c for c in knowledge.correspondences if c.attribute == attribute)


def _taste_votes(senses: Senses, knowledge: Knowledge) -> list[Reason]:
    top = max(senses.tastes.values(), default=0.0)
    origins = {d.dimension: d.origin for d in senses.descriptors if d.dimension in TASTES}
    votes: list[Reason] = []
    for taste in TASTES:
        value = senses.tastes[taste]
        if value < 0.15 or taste not in origins:
            continue
        # what stands behind a stronger taste is heard less
        weight = value * (value / top)
        because = f"{taste} {value:.2f} ({origins[taste]})"
        votes += [_of(c, weight, because) for c in _about(taste, knowledge)]
    return votes


def _trait_votes(senses: Senses, knowledge: Knowledge) -> list[Reason]:
    """Votes of textures, temperatures and colours, each attribute once with its strongest mention."""
    named = {m.text for m in senses.of("texture", "temperature", "colour")}
    strongest: dict[str, tuple[float, str]] = {}
    for d in senses.descriptors:
        if d.dimension not in {"texture", "temperature", "colour"}:
            continue
        concept = knowledge.named.get((d.dimension, str(d.value)))
        if concept is None or not concept.attribute or concept.attribute in TASTES:
            continue
        weight = d.weight * (1.0 if d.origin in named else _IMPLIED_TRAIT)
        if d.dimension == "colour":
            weight *= 0.5  # colour acts through emotion
        if weight > strongest.get(concept.attribute, (0.0, ""))[0]:
            origin = d.origin if d.origin == d.value else f"{d.origin}: {d.value}"
            strongest[concept.attribute] = (weight, f"{concept.attribute.replace('-', ' ')} ({origin})")
    return [
        _of(c, weight, because)
        for attribute, (weight, because) in strongest.items()
        for c in _about(attribute, knowledge)
    ]


def _mood_votes(senses: Senses, knowledge: Knowledge) -> list[Reason]:
    """Cues of the moods' families."""
    votes: list[Reason] = []
    moods = senses.of("mood")
    for m in moods:
        concept = knowledge.named.get(("mood", m.concept))
        if concept and concept.family:
            strength = _MOST if m.via == "name" else 0.6 * m.score
            because = f"{m.concept}: {concept.family} (“{m.text}”)"
            votes += [_of(c, strength / len(moods), because) for c in _about(concept.family, knowledge)]
    return votes


def _implied_votes(senses: Senses) -> list[Reason]:
    """What valence and arousal of the whole ask for."""
    votes: list[Reason] = []
    valence, arousal = senses.emotion.valence, senses.emotion.arousal
    share = 0.4 if senses.emotion.stated else 0.55
    if abs(valence) > 0.12:
        mode = "major" if valence > 0 else "minor"
        votes.append(Reason("mode", mode, round(share * abs(valence), 3), f"valence {valence:+.2f} of the whole"))
    if abs(arousal) > 0.12:
        because = f"arousal {arousal:+.2f} of the whole"
        weight = round(share * abs(arousal), 3)
        votes.append(Reason("tempo", "fast" if arousal > 0 else "slow", weight, because))
        votes.append(Reason("dynamics", "loud" if arousal > 0 else "soft", round(0.7 * weight, 3), because))
        if arousal < 0:
            votes.append(Reason("articulation", "legato", round(0.4 * weight, 3), because))
    return votes


def _scene_votes(senses: Senses, knowledge: Knowledge) -> list[Reason]:
    votes: list[Reason] = []
    for m in senses.of("place", "time", "weather", "activity", "occasion", "ambience"):
        concept = knowledge.named.get((m.kind, m.concept))
        if concept is None:
            continue
        weight = {"place": 0.6, "occasion": 0.6, "activity": 0.45}.get(m.kind, 0.35) * m.score
        because = f"suits {m.concept}"
        votes += [Reason("genre", g, round(weight * (1 - 0.15 * i), 3), because) for i, g in enumerate(concept.genres)]
        votes += [Reason("timbre", t, round(0.4 * weight, 3), because) for t in concept.timbres]
        if concept.energy is not None and abs(concept.energy - 0.5) >= 0.2:
            pace = "fast" if concept.energy > 0.5 else "slow"
            pull = round(0.5 * weight * abs(concept.energy - 0.5) * 2, 3)
            votes.append(Reason("tempo", pace, pull, f"energy of {m.concept}"))
    return votes


def caption_votes(captions: Sequence[Caption]) -> list[Reason]:
    """Votes of captions near the words, for genre and instruments."""
    votes: list[Reason] = []
    for rank, caption in enumerate(captions):
        weight = max(0.0, caption.similarity) / (1 + 0.25 * rank)
        because = f"caption near the words: “{caption.text[:70].rsplit(' ', 1)[0]}…”"
        votes += [
            Reason("genre", g, round(0.7 * weight, 3), because, caption.corpus, "", "caption")
            for g in caption.genres[:1]
        ]
        votes += [
            Reason(
                "lead" if i == 0 else "accompaniment",
                name,
                round(0.5 * weight, 3),
                because,
                caption.corpus,
                "",
                "caption",
            )
            for i, name in enumerate(caption.instruments[:4])
        ]
    return votes


def stated_votes(stated: Stated) -> list[Reason]:
    """The person's own music words, as reasons."""
    said = [
        ("tempo", stated.pace),
        ("tempo", f"{stated.tempo_bpm} BPM" if stated.tempo_bpm else None),
        ("key", stated.key),
        ("mode", stated.mode),
        ("register", stated.register),
        ("articulation", stated.articulation),
        ("dynamics", stated.dynamics),
        ("harmony", stated.harmony),
        *(("genre", g) for g in stated.genres),
        *(("instrument", written) for _, written in stated.instruments),
        *(("timbre", t) for t in stated.timbres),
        *(("exclude", t) for t in stated.exclude_texts),
    ]
    return [Reason(p, v, 10.0, "the person's words", status="stated") for p, v in said if v]
