"""From votes to a MusicPlan: one value for every musical parameter, each with the votes that gave it.

The person's own music words beat all votes. What the votes leave open comes from the genre.
"""

import hashlib
import random
from collections.abc import Sequence

import numpy as np

from .exclusion import Exclusion
from .genres import MINOR_LIKE, MODERATE_BPM, GenreChoices, target_bpm
from .knowledge import InstrumentSound, Knowledge, MusicStyle
from .knowledge.correspondences import PARAMETERS
from .reasons import reasons_for
from .types import Caption, MusicPlan, Reason, Senses, Stated
from .votes import caption_votes, sense_votes, stated_votes
from .words import Words

__all__ = ["MUSIC_WORDS", "Planner", "music_words", "seed_of"]

_KEYS = {
    True: ("A", "D", "E", "C", "G", "B", "F", "F#", "C#"),  # minor-like
    False: ("C", "G", "D", "F", "A", "Bb", "Eb", "E"),
}
# Moods that may describe music that nobody asked to have that mood; (valence, arousal) come from the knowledge.
_MUSICAL_MOODS = (
    "joyful", "cheerful", "playful", "upbeat", "lively", "triumphant", "energetic", "warm", "hopeful", "serene",
    "calm", "peaceful", "tender", "dreamy", "relaxed", "laid-back", "mellow", "romantic", "nostalgic", "wistful",
    "melancholic", "sombre", "mysterious", "tense", "eerie", "ominous", "dramatic", "restless", "urgent", "fierce",
    "aggressive", "brooding", "dark", "bittersweet", "reflective", "whimsical", "mischievous", "groovy", "carefree",
    "intimate", "majestic", "exhilarating", "gentle", "soothing", "sensual", "quirky", "bold", "gloomy",
)  # fmt: skip


_BESIDE_A_SCENE = 0.4  # of the weight of captions, for the genre
_PHRASES = {
    "tempo": "{} tempo",
    "mode": "{} key",
    "register": "{} pitched",
    "articulation": "{} notes",
    "dynamics": "{} dynamics",
    "harmony": "{} harmony",
}
MUSIC_WORDS = tuple(phrase.format(value) for p, phrase in _PHRASES.items() for value in PARAMETERS[p] or ())
"""Every phrase, moods aside, that `music_words` may give."""


def seed_of(words: Words) -> int:
    """A number from the words alone: what varies between equal choices, always the same for the same words."""
    text = " ".join(t.text for t in words.tokens)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def music_words(votes: Sequence[Reason], moods: Sequence[str]) -> list[str]:
    """The implied music as words, for finding captions."""
    words = list(moods[:2])
    for parameter, phrase in _PHRASES.items():
        value, strength = _winner(votes, parameter)
        if value and strength >= 0.25:
            words.append(phrase.format(value))
    return words


def _totals(votes: Sequence[Reason], parameter: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for vote in votes:
        if vote.parameter == parameter:
            totals[vote.value] = totals.get(vote.value, 0.0) + vote.weight
    return totals


def _winner(votes: Sequence[Reason], parameter: str) -> tuple[str, float]:
    """(the value with most weight, its lead over the next), or ("", 0)."""
    totals = sorted(_totals(votes, parameter).items(), key=lambda t: (-t[1], t[0]))
    if not totals:
        return "", 0.0
    return totals[0][0], totals[0][1] - (totals[1][1] if len(totals) > 1 else 0.0)


class Planner:
    """Plans the music for what was sensed and said."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        known = knowledge.named
        self._choices = GenreChoices(knowledge)
        self._moods = [(m, c) for m in _MUSICAL_MOODS if (c := known.get(("mood", m)))]

    def votes(self, senses: Senses) -> list[Reason]:
        """Votes of the senses; captions vote later."""
        return sense_votes(senses, self._knowledge)

    def moods(self, senses: Senses, *, seed: int) -> tuple[str, ...]:
        """Mood words for the music: the stated ones, else those whose valence and arousal lie nearest."""
        if senses.emotion.stated:
            return senses.emotion.labels[:2]
        valence, arousal = 1.4 * senses.emotion.valence, 1.4 * senses.emotion.arousal
        by_distance = sorted(
            self._moods,
            key=lambda m: ((m[1].valence or 0) - valence) ** 2 + ((m[1].arousal or 0) - arousal) ** 2,
        )
        rng = random.Random(seed)  # noqa: S311 - variety, not secrecy
        nearest = [name for name, _ in by_distance[:7]]
        return tuple(rng.sample(nearest, 2)) if len(nearest) >= 2 else tuple(nearest)

    def plan(
        self,
        *,
        senses: Senses,
        stated: Stated,
        captions: Sequence[Caption],
        votes: Sequence[Reason],
        seed: int,
    ) -> tuple[MusicPlan, tuple[Reason, ...]]:
        """The plan and its reasons, strongest first within each parameter."""
        votes = [*votes, *caption_votes(captions)]
        rng = random.Random(seed)  # noqa: S311 - variety, not secrecy
        exclusion = Exclusion(stated, self._knowledge)
        pace = self._pace(votes, stated)
        genre = self._genre(votes, stated, senses, exclusion, pace, seed)
        style = self._knowledge.genres[genre].style
        assert style is not None
        mode = self._mode(votes, stated, style)
        register = stated.register or _decided(votes, "register", "mid")
        lead, written_lead = self._lead(votes, stated, style, exclusion, register, rng)
        plan = MusicPlan(
            genre=genre,
            moods=self.moods(senses, seed=seed),
            tempo_bpm=_tempo(stated, style, pace, asked=bool(stated.genres)),
            key=stated.key or rng.choice(_KEYS[mode in MINOR_LIKE]),
            mode=mode,
            register=register,
            articulation=stated.articulation or _decided(votes, "articulation", style.articulation),
            dynamics=stated.dynamics or _decided(votes, "dynamics", style.dynamics),
            harmony=stated.harmony or _decided(votes, "harmony", "consonant" if mode not in MINOR_LIKE else "mixed"),
            rhythm=self._rhythm(votes, style, exclusion, pace),
            lead=written_lead,
            accompaniment=self._accompaniment(votes, stated, genre, exclusion, lead, rng),
            timbres=self._timbres(votes, stated, genre, exclusion),
            exclude=tuple(dict.fromkeys(stated.exclude_texts)),
        )
        moods = senses.emotion.labels if senses.emotion.stated else ()
        reasons = reasons_for([*stated_votes(stated), *votes], plan, genre, self._knowledge, stated_moods=moods)
        return plan, reasons

    def _pace(self, votes: Sequence[Reason], stated: Stated) -> float:
        """From -1 (slow) to 1 (fast)."""
        if stated.tempo_bpm:
            return max(-1.0, min(1.0, (stated.tempo_bpm - MODERATE_BPM) / 40))
        if stated.pace:
            return {"slow": -1.0, "moderate": 0.0, "fast": 1.0}[stated.pace]
        totals = _totals(votes, "tempo")
        slow, fast = totals.get("slow", 0.0), totals.get("fast", 0.0)
        return (fast - slow) / (fast + slow + totals.get("moderate", 0.0) + 0.15)

    def _genre(
        self,
        votes: Sequence[Reason],
        stated: Stated,
        senses: Senses,
        exclusion: Exclusion,
        pace: float,
        seed: int,
    ) -> str:
        """The stated genre, else the one that scene and captions vote for and that fits pace and feeling."""
        if stated.genres:
            return stated.genres[0]
        found = [v for v in votes if v.status == "caption"]
        others = [v for v in votes if v.status != "caption"]
        totals = _totals(others, "genre")
        # where the scene suits some genres, what captions near the words happen to be of says less
        share = _BESIDE_A_SCENE if totals else 1.0
        for genre, weight in _totals(found, "genre").items():
            totals[genre] = totals.get(genre, 0.0) + share * weight
        wanted = {p: _winner(votes, p) for p in ("articulation", "dynamics", "mode")}
        wanted |= {p: (v, 1.0) for p, v in (("mode", stated.mode), ("dynamics", stated.dynamics)) if v}
        leads = dict.fromkeys(_totals(found, "lead"), share)
        leads |= dict.fromkeys([*_totals(others, "lead"), *(name for name, _ in stated.instruments)], 1.0)
        scores = self._choices.fit(pace=pace, senses=senses, wanted=wanted)
        scores += self._choices.suit(totals, leads=leads, avoid=_totals(votes, "avoid"))
        scores += 0.1 * np.random.default_rng(seed).random(len(scores))
        if exclusion:
            for i, choice in enumerate(self._choices.genres):
                left_out = sum(exclusion.instrument(name) for name in choice.lead)
                scores[i] -= 9.0 if exclusion.genre(choice.name) else 0.3 * left_out
        return self._choices.genres[int(np.argmax(scores))].name

    def _mode(self, votes: Sequence[Reason], stated: Stated, style: MusicStyle) -> str:
        if stated.mode:
            return stated.mode
        value, lead = _winner(votes, "mode")
        agrees = (value == "minor") == (style.mode in MINOR_LIKE)
        # the genre's own mode stays when it is of the family that the votes ask for, or when they hardly do
        if stated.genres and (agrees or lead < 0.5):
            return style.mode
        return value if value and lead >= 0.08 else style.mode

    def _rhythm(self, votes: Sequence[Reason], style: MusicStyle, exclusion: Exclusion, pace: float) -> str:
        rhythm = style.rhythm
        if exclusion and exclusion.text(rhythm):
            rhythm = (
                "gently flowing pulse" if pace < -0.2 else "driving pulse" if pace > 0.3 else "steady flowing pulse"
            )
        regular = _totals(votes, "rhythm").get("regular", 0.0) >= 0.3
        if regular and any(w in rhythm for w in _IRREGULAR):
            return "steady regular pulse"
        if regular and not any(w in rhythm for w in ("steady", "regular", "even", "four-on-the-floor")):
            return f"regular {rhythm}"
        return rhythm

    def _sound(self, name: str) -> InstrumentSound:
        sound = self._knowledge.instruments[name].sound
        assert sound is not None
        return sound

    def _lead(
        self,
        votes: Sequence[Reason],
        stated: Stated,
        style: MusicStyle,
        exclusion: Exclusion,
        register: str,
        rng: random.Random,
    ) -> tuple[str, str]:
        """(the leading instrument's name, the same as the prompt should call it)."""
        melodic = [(n, w) for n, w in stated.instruments if {"lead", "chords", "bass"} & set(self._sound(n).roles)]
        if melodic:
            return melodic[0]
        totals = _totals(votes, "lead")
        avoided = _totals(votes, "avoid")
        scores: dict[str, float] = {}
        own = 1.0 if stated.genres else 0.45
        for i, name in enumerate(style.lead):
            scores[name] = own - 0.1 * i
        found = _totals([v for v in votes if v.status in {"confirmed", "recalled"}], "lead")
        for name, weight in totals.items():
            # research weighs more than what captions happen to name
            scores[name] = scores.get(name, 0.0) + weight + 0.8 * found.get(name, 0.0)
        for name in scores:
            sound = self._sound(name)
            scores[name] += 0.25 * (sound.register == register) - 0.8 * avoided.get(sound.family, 0.0)
            scores[name] += 0.15 * rng.random() - 9.0 * (exclusion.instrument(name) or not sound.roles)
            scores[name] -= 2.0 * (sound.family == "voice" or sound.roles == ("rhythm",))
        name = max(scores, key=lambda n: (scores[n], n))
        if scores[name] < -1.5:
            name = next((n for n in _ANY_LEAD if not exclusion.instrument(n)), "theremin")
        return name, name

    def _accompaniment(
        self,
        votes: Sequence[Reason],
        stated: Stated,
        genre: str,
        exclusion: Exclusion,
        lead: str,
        rng: random.Random,
    ) -> tuple[str, ...]:
        """The other stated instruments, then the genre's and the captions' until there are two."""
        style = self._knowledge.genres[genre].style
        chosen = [(n, w) for n, w in stated.instruments if n != lead]
        if style is None or genre.startswith("solo "):
            return tuple(written for _, written in chosen)
        scores = {n: 0.6 - 0.06 * i for i, n in enumerate(style.accompaniment)}
        # beside a stated genre a caption's instrument counts where the genre has it too
        share = 0.2 if stated.genres else 0.6
        for name, weight in _totals(votes, "accompaniment").items():
            scores[name] = scores.get(name, 0.0) + share * weight
        avoided = _totals(votes, "avoid")
        for name in scores:
            scores[name] += 0.2 * rng.random() - 0.6 * avoided.get(self._sound(name).family, 0.0)
        most = max(len(chosen), 2)
        for name in sorted(scores, key=lambda n: (-scores[n], n)):
            if len(chosen) >= most:
                break
            sound = self._sound(name)
            if exclusion.instrument(name) or sound.family == "voice" or _alike(name, [lead, *(n for n, _ in chosen)]):
                continue
            if sum(self._sound(n).program is None for n, _ in chosen) and sound.program is None:
                continue  # one kit is enough
            chosen.append((name, name))
        return tuple(written for _, written in chosen)

    def _timbres(self, votes: Sequence[Reason], stated: Stated, genre: str, exclusion: Exclusion) -> tuple[str, ...]:
        totals = _totals(votes, "timbre")
        for i, timbre in enumerate(self._knowledge.genres[genre].timbres):
            totals[timbre] = totals.get(timbre, 0.0) + 0.25 - 0.04 * i
        ranked = sorted(totals, key=lambda t: (-totals[t], t))
        found = [t for t in dict.fromkeys([*stated.timbres, *ranked]) if not exclusion.phrase(t)]
        return tuple(found[: max(2, len(stated.timbres))])


_IRREGULAR = (
    "beatless",
    "pulse",
    "unmetered",
    "free",
    "shifting",
    "odd",
    "rubato",
    "drift",
    "irregular",
    "swell",
    "tone",
)
_ANY_LEAD = (
    "piano",
    "flute",
    "violin",
    "synth pad",
    "acoustic guitar",
    "harp",
    "vibraphone",
    "marimba",
    "kalimba",
)


def _decided(votes: Sequence[Reason], parameter: str, otherwise: str) -> str:
    value, _ = _winner(votes, parameter)
    total = _totals(votes, parameter).get(value, 0.0)
    return value if total >= 0.12 else otherwise


def _tempo(stated: Stated, style: MusicStyle, pace: float, *, asked: bool) -> int:
    """BPM: as stated, else what the pace asks for within the genre's range, stretched a little unless asked for."""
    if stated.tempo_bpm:
        return stated.tempo_bpm
    low, high = style.tempo
    target = target_bpm(pace)
    if stated.pace == "slow":
        target = min(target, low)
    elif stated.pace == "fast":
        target = max(target, high)
    elif asked:
        target = (low + high) / 2 + pace * (high - low) / 2
    else:
        low, high = round(low * 0.92), round(high * 1.08)
        target = max(low, min(high, target))
    if stated.pace == "slow":
        return round(max(min(target, 92), 48))
    if stated.pace == "fast":
        return round(min(max(target, 120), 200))
    return round(target)


def _alike(name: str, others: Sequence[str]) -> bool:
    """Whether the name shares its main word with another: two pianos, two basses."""
    return any(name.split()[-1] == o.split()[-1] or name in o or o in name for o in others)
